"""Federated averaging of any network: FedAvg (McMahan et al., AISTATS 2017, 1602.05629, algorithm 1).

::

    global weights ---> client 1 trains on its own samples ---+
                   ---> client 2 trains on its own samples ---+--> mean, weighted by samples ---> next round
                   ---> ...                                ---+

Samples never leave a client. A client's training depends on the global weights, the round and the client alone, and
runs on one torch thread. So the weights are the same bit for bit with any number of worker processes, and after a kill.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import torch
from pydantic import Field
from torch import nn

from distillation.federated_workers import Client, dump_weights, trained_weights
from distillation.job import difference
from distillation.trainer import DivergenceError
from leanrx_core.checks import integer
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record
from receivers.evaluation.block_counter import one_thread

MAX_WORKERS = 64


class FederatedSettings(Record):
    """How clients train together.

    Attributes:
        rounds: of communication.
        client_fraction: part of the clients that train in a round, sampled anew in each; at least one does.
        seed: of the sampling of clients, and of their random numbers.
    """

    rounds: int = Field(10, ge=1, le=10**6)
    client_fraction: float = Field(1.0, gt=0, le=1)
    seed: int = Field(1, ge=0, lt=2**31)


@dataclass(frozen=True)
class Round:
    """A round of training.

    Attributes:
        number: of the round, from 1.
        clients: names of those that trained.
        score: of the global network after the round, by the caller's evaluation.
    """

    number: int
    clients: tuple[str, ...]
    score: float


class FederatedAveraging:
    """A network, its clients, and the rounds so far.

    Args:
        net: with its initial weights. It becomes the global network.
        clients: with different names.
        settings: of the rounds.
        evaluate: score of the global network; higher is better.
        checkpoint: file that is replaced after every round; a training resumes from it.
        workers: processes that train clients. With 1, this process does.

    Attributes:
        net: the global network, in evaluation mode after a round.
        rounds: so far.

    Raises:
        UserError: if two clients have one name, or the checkpoint is damaged or of another training.

    Example:
        >>> from distillation.federated_clients import LocalTraining, SampleClient
        >>> inputs = torch.tensor([[0.0], [1.0]])
        >>> training = LocalTraining(epochs=20, batch_size=2, learning_rate=1.0)
        >>> clients = [SampleClient(f"server {i}", inputs, torch.tensor([0, 1]), training) for i in (1, 2)]
        >>> net = nn.Linear(1, 2)
        >>> federated = FederatedAveraging(net, clients, FederatedSettings(rounds=2), lambda net: 0.0)
        >>> [result.number for result in federated.train()], net(inputs).argmax(1).tolist()
        ([1, 2], [0, 1])
    """

    def __init__(
        self,
        net: nn.Module,
        clients: Sequence[Client],
        settings: FederatedSettings,
        evaluate: Callable[[nn.Module], float],
        checkpoint: Path | None = None,
        workers: int = 1,
    ) -> None:
        if len({client.name for client in clients}) < max(1, len(clients)):
            raise UserError("federated: clients need different names, and at least one client is needed")
        self.net, self.clients, self.settings = net, tuple(clients), settings
        self.workers = min(integer("workers", workers, 1, MAX_WORKERS), len(self.clients))
        self.rounds: list[Round] = []
        self._evaluate, self._checkpoint = evaluate, checkpoint
        self._description = {
            "settings": settings.model_dump(mode="json", exclude={"rounds"}),
            "clients": {client.name: {"samples": client.samples, **client.description} for client in clients},
            "initial_sha256": hashlib.sha256(dump_weights(net)).hexdigest(),
        }
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    @property
    def bytes_per_round(self) -> int:
        """Size of the weights that a client receives in a round. It sends as many."""
        return sum(value.numel() * value.element_size() for value in self.net.state_dict().values())

    def train(self, target: float | None = None) -> Iterator[Round]:
        """Train the rounds that are left.

        Args:
            target: score at which training ends early.

        Yields:
            each round after it is saved.

        Raises:
            DivergenceError: if a client's weights are not finite.
            UserError: if a worker process ends.
        """
        with one_thread(), trained_weights(self.net, self.clients, self.workers) as train_clients:
            while len(self.rounds) < self.settings.rounds:
                if target is not None and any(result.score >= target for result in self.rounds):
                    return
                number = len(self.rounds) + 1
                sampled = self._sampled_clients(number)
                weights = dump_weights(self.net)
                tasks = [(index, weights, number, self._seed(number, self.clients[index].name)) for index in sampled]
                states = train_clients(tasks)
                samples = [self.clients[index].samples for index in sampled]
                mean = weighted_mean(states, samples)
                names = tuple(self.clients[index].name for index in sampled)
                _check_finite(mean, number)
                self.net.load_state_dict(mean)
                self.net.eval()
                with torch.no_grad():
                    score = self._evaluate(self.net)
                self.rounds.append(Round(number, names, score))
                self._save()
                yield self.rounds[-1]

    def _sampled_clients(self, number: int) -> list[int]:
        """Indices of the clients of a round, in order."""
        count = max(1, round(self.settings.client_fraction * len(self.clients)))
        generator = random.Random(f"clients {self.settings.seed} {number}")
        return sorted(generator.sample(range(len(self.clients)), count))

    def _seed(self, number: int, name: str) -> int:
        """Seed of a client's random numbers in a round."""
        text = f"federated {self.settings.seed} {number} {name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        metadata = {
            "federated": json.dumps(self._description, sort_keys=True),
            "rounds": json.dumps([asdict(r) for r in self.rounds]),
        }
        write_atomic(self._checkpoint, dump_weights(self.net, metadata))

    def _load(self, path: Path) -> None:
        remedy = "delete it to train from the start"
        try:
            with safetensors.safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            description = json.loads(metadata["federated"])
            rounds = [
                Round(r["number"], tuple(r["clients"]), float(r["score"])) for r in json.loads(metadata["rounds"])
            ]
        except (safetensors.SafetensorError, OSError, ValueError, LookupError, TypeError):
            raise UserError(f"{path}: damaged checkpoint of a federated training; {remedy}") from None
        mismatch = difference(description, json.loads(json.dumps(self._description)))
        if mismatch is not None:
            field, previous, current = mismatch
            raise UserError(
                f"{path}: checkpoint of another federated training: {field} {str(previous)[:80]} there, "
                f"{str(current)[:80]} here; go back, or {remedy}"
            )
        _check_finite(state, len(rounds))
        self.net.load_state_dict(state)
        self.net.eval()
        self.rounds = rounds


def weighted_mean(states: Sequence[Mapping[str, torch.Tensor]], samples: Sequence[int]) -> dict[str, torch.Tensor]:
    """Mean of weights, weighted by samples, summed in double precision in the given order. Whole numbers are rounded.

    Args:
        states: state dictionaries of one network.
        samples: of each.

    Example:
        >>> mean = weighted_mean([{"w": torch.tensor([1.0])}, {"w": torch.tensor([5.0])}], [3, 1])
        >>> mean["w"].tolist()
        [2.0]
    """
    total = sum(samples)
    result = {}
    for key, first in states[0].items():
        mean = sum(state[key].double() * (count / total) for state, count in zip(states, samples, strict=True))
        assert isinstance(mean, torch.Tensor)
        result[key] = (mean if first.is_floating_point() else mean.round()).to(first.dtype)
    return result


def _check_finite(state: Mapping[str, torch.Tensor], number: int) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise DivergenceError(f"federated: weights are not finite after round {number}; lower learning_rate")
