"""Federated trainings of digits and of text on several servers, with the energy of receiving, training and serving.

Every phase is metered as one call in the windows of a metering session. The energy of a training is that of a call
times the number of calls. The router is not metered: its energy is its bits times an assumed energy per bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from distillation.federated import FederatedAveraging, FederatedSettings, Round, weighted_mean
from distillation.federated_clients import LocalTraining, SampleClient, accuracy, class_loss, iid_split, sgd_step
from distillation.federated_data import Samples
from distillation.federated_nets import digit_cnn, digit_mlp, text_lstm
from energy.metering.instruments import available
from energy.metering.measurement import Provenance
from energy.metering.session import MeteringProtocol, call_statistics, meter_windows
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.records import Record

PUBLISHED_SERVERS = (1, 3, 5, 7, 9, 11)
PUBLISHED_BATCHES = (1200, 600, 300, 200, 150, 120)
"""Of the article's table, for 60,000 images."""
_PUBLISHED_IMAGES = 60_000
ROUTER_J_PER_BIT = 6.0 / 100e6
"""Assumed: a router of 6 W that carries 100 Mbit/s."""
_SERVED_AT_ONCE = 500
PUBLISHED_TEXT_BATCH = 300
_PUBLISHED_WINDOWS = 3_564_579 // 80
TEXT_CHARACTERS = 125_000
"""Of a text that the LSTM is trained and tested on. The article has 4.4 million."""
TEXT_TARGETS = (0.2, 0.25, 0.3)
TEXT_ROUNDS = 6
TEXT_LEARNING_RATE = 1.0


class FederatedStudySettings(Record):
    """What is trained.

    Attributes:
        servers: numbers of servers.
        targets: accuracies, increasing. A training ends at the last one.
        rounds: at most, of one epoch each.
        learning_rate: of all networks.
        max_gradient_norm: longer gradients are scaled to this norm; no limit if omitted.
        served_samples: of each server, after the training.
        window_s: shortest window of a metered phase.
        seed: of splits and trainings.
    """

    servers: tuple[int, ...] = (1, 3, 5, 10)
    targets: tuple[float, ...] = (0.8, 0.85, 0.9)
    rounds: int = Field(40, ge=1)
    learning_rate: float = Field(0.1, gt=0)
    max_gradient_norm: float | None = Field(None, gt=0)
    served_samples: int = Field(10_000, ge=1)
    window_s: float = Field(1.2, gt=0)
    seed: int = Field(1, ge=0)


@dataclass(frozen=True)
class PhaseEnergy:
    """Joules of one call of each phase of a server and of the coordinator.

    Attributes:
        samples_j: decoding a server's samples.
        weights_j: loading the global weights.
        step_j: a training step.
        serve_j: serving one sample.
        average_j: the coordinator's mean.
        instrument, provenance: of all of them.
    """

    samples_j: float
    weights_j: float
    step_j: float
    serve_j: float
    average_j: float
    instrument: str
    provenance: Provenance


@dataclass(frozen=True)
class FederatedRow:
    """One training.

    Attributes:
        model: its network.
        servers: that train together.
        batch_size: of a step.
        rounds_to: rounds that each target needs, by target; a missing target was not reached.
        accuracy: after the last round.
        steps: of a server in a round.
        samples_bytes: samples that all servers receive, once.
        weights_bytes: that a server receives in a round, and sends.
        targets: accuracies that were aimed at, increasing.
        trained_rounds: up to the last target, or all that were allowed.
        served_samples: of each server, after the training.
        energy: of the phases.
    """

    model: str
    servers: int
    batch_size: int
    rounds_to: dict[float, int]
    accuracy: float
    steps: int
    samples_bytes: int
    weights_bytes: int
    targets: tuple[float, ...]
    trained_rounds: int
    served_samples: int
    energy: PhaseEnergy

    @property
    def last_target(self) -> float:
        """The highest accuracy that was aimed at."""
        return self.targets[-1]

    def rounds_of(self, target: float) -> float:
        """Rounds to a target; NaN if it was not reached."""
        return self.rounds_to.get(target, np.nan)

    @property
    def is_reached(self) -> bool:
        """Whether the training reached its last target."""
        return self.last_target in self.rounds_to

    def stages_j(self, target: float | None = None) -> dict[str, float]:
        """Joules of preparation, development and application up to a target; all NaN if it was not reached.

        Without a target, they are those of all rounds that were trained.
        """
        rounds = float(self.trained_rounds) if target is None else self.rounds_of(target)
        energy, n = self.energy, self.servers
        development = n * (energy.weights_j + self.steps * energy.step_j) + energy.average_j
        router = 8 * ROUTER_J_PER_BIT
        return {
            "preparation": n * energy.samples_j + router * self.samples_bytes + 0 * rounds,
            "development": rounds * (development + router * 2 * n * self.weights_bytes),
            "application": n * self.served_samples * energy.serve_j + 0 * rounds,
        }

    def parties_j(self) -> dict[str, float]:
        """Joules of receiving, training and serving of one server, of the coordinator, and of the router."""
        rounds = self.trained_rounds
        energy = self.energy
        router_bytes = self.samples_bytes + rounds * 2 * self.servers * self.weights_bytes
        return {
            "server, receiving": energy.samples_j + rounds * energy.weights_j,
            "server, training": rounds * self.steps * energy.step_j,
            "server, serving": self.served_samples * energy.serve_j,
            "coordinator": rounds * energy.average_j,
            "router (assumed)": 8 * ROUTER_J_PER_BIT * router_bytes,
        }


def image_batch_size(servers: int, images: int) -> int:
    """The article's batch size in the same proportion to the images; between its rows on a straight line.

    Example:
        >>> [image_batch_size(servers, 4000) for servers in (1, 3, 5, 10)]
        [80, 40, 20, 9]
    """
    published = float(np.interp(servers, PUBLISHED_SERVERS, PUBLISHED_BATCHES))
    return max(1, round(published * images / _PUBLISHED_IMAGES))


def text_batch_size(servers: int, windows: int) -> int:
    """The article's 300 windows in the same proportion to the text, for any number of servers.

    Example:
        >>> text_batch_size(3, 44_557), text_batch_size(1, 1_249)
        (300, 8)
    """
    return max(1, round(PUBLISHED_TEXT_BATCH * windows / _PUBLISHED_WINDOWS))


@dataclass(frozen=True)
class FederatedTask:
    """Samples, and the networks that are trained on them.

    Attributes:
        samples: to train and to test on.
        nets: by name.
        batch_size: of a number of servers and of training samples.
        settings: of the trainings.
    """

    samples: Samples
    nets: Mapping[str, Callable[[], nn.Module]]
    batch_size: Callable[[int, int], int]
    settings: FederatedStudySettings


def digit_task(digits: Samples) -> FederatedTask:
    """MLP and CNN, with the article's targets where there are as many images, and lower ones where there are fewer."""
    settings = FederatedStudySettings()
    if len(digits.train_targets) >= _PUBLISHED_IMAGES:
        settings = FederatedStudySettings(targets=(0.95, 0.965, 0.975))
    return FederatedTask(digits, {"MLP": digit_mlp, "CNN": digit_cnn}, image_batch_size, settings)


def text_task(text: Samples) -> FederatedTask:
    """The LSTM. Its rounds are few, so low targets are stated beside the accuracy that they reach."""
    settings = FederatedStudySettings(
        targets=TEXT_TARGETS, rounds=TEXT_ROUNDS, learning_rate=TEXT_LEARNING_RATE, max_gradient_norm=1.0
    )
    return FederatedTask(text, {"LSTM": text_lstm}, text_batch_size, settings)


class FederatedStudy:
    """All trainings of a task, one after the other. They resume after an interruption.

    Args:
        folder: of checkpoints and results.
        task: what is trained.
    """

    def __init__(self, folder: Path, task: FederatedTask) -> None:
        self.folder, self.task, self.settings = folder, task, task.settings

    def train(self) -> Iterator[tuple[str, Round]]:
        """Train and meter everything that is missing. Yields the name of a training and its last round."""
        for model in self.task.nets:
            for servers in self.settings.servers:
                if not self._path(model, servers).exists():
                    yield from self._train(model, servers)

    def rows(self) -> list[FederatedRow]:
        """Results of all complete trainings.

        Raises:
            UserError: if a file is damaged, or of other settings.
        """
        paths = [self._path(model, servers) for model in self.task.nets for servers in self.settings.servers]
        return [self._read(path) for path in paths if path.exists()]

    def _path(self, model: str, servers: int) -> Path:
        return self.folder / f"{model}-{servers}.json"

    def _description(self) -> dict[str, Any]:
        return {"samples": self.task.samples.name, **self.settings.model_dump(mode="json", exclude={"servers"})}

    def _read(self, path: Path) -> FederatedRow:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            row = {**data["row"], "energy": PhaseEnergy(**data["row"]["energy"])}
            row["targets"] = tuple(row["targets"])
            row["rounds_to"] = {float(target): int(rounds) for target, rounds in row["rounds_to"].items()}
            is_same, result = data["settings"] == self._description(), FederatedRow(**row)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f"{path}: damaged; delete it and train again") from None
        if not is_same:
            raise UserError(f"{path}: of other settings or other samples; delete it, or give another --folder")
        return result

    def _clients(self, servers: int) -> list[SampleClient]:
        samples, settings = self.task.samples, self.settings
        count = len(samples.train_targets)
        training = LocalTraining(
            epochs=1,
            batch_size=self.task.batch_size(servers, count),
            learning_rate=settings.learning_rate,
            max_gradient_norm=settings.max_gradient_norm,
        )
        parts = iid_split(count, servers, settings.seed)
        inputs, targets = samples.train_inputs, samples.train_targets
        return [SampleClient(f"server {i + 1}", inputs[p], targets[p], training) for i, p in enumerate(parts)]

    def _train(self, model: str, servers: int) -> Iterator[tuple[str, Round]]:
        net, clients, samples = self.task.nets[model](), self._clients(servers), self.task.samples

        def score(net: nn.Module) -> float:
            return accuracy(net, samples.test_inputs, samples.test_targets)

        rules = FederatedSettings(rounds=self.settings.rounds, seed=self.settings.seed)
        checkpoint = self.folder / f"{model}-{servers}.safetensors"
        federated = FederatedAveraging(net, clients, rules, score, checkpoint)
        for result in federated.train(target=self.settings.targets[-1]):
            yield f"{model}, {servers} servers", result
        scores = [result.score for result in federated.rounds]
        reached = {t: next((i for i, s in enumerate(scores, 1) if s >= t), 0) for t in self.settings.targets}
        row = FederatedRow(
            model=model,
            servers=servers,
            batch_size=clients[0].training.batch_size,
            rounds_to={target: rounds for target, rounds in reached.items() if rounds},
            accuracy=scores[-1],
            steps=clients[0].training.steps(max(client.samples for client in clients)),
            samples_bytes=len(samples.train_targets) * samples.sample_bytes,
            weights_bytes=federated.bytes_per_round,
            targets=self.settings.targets,
            trained_rounds=len(scores),
            served_samples=self.settings.served_samples,
            energy=self._meter(net, clients),
        )
        text = json.dumps({"settings": self._description(), "row": asdict(row)}, indent=1) + "\n"
        write_atomic(self._path(model, servers), text)
        checkpoint.unlink()

    def _meter(self, net: nn.Module, clients: list[SampleClient]) -> PhaseEnergy:
        """Meter one call of each phase, on one thread."""
        client = clients[0]
        state = {key: value.clone() for key, value in net.state_dict().items()}
        optimizer = torch.optim.SGD(net.parameters(), 1e-9)
        batch, limit = slice(client.training.batch_size), client.training.max_gradient_norm
        stored, decode = _stored(client.inputs)
        served = self.task.samples.test_inputs[:_SERVED_AT_ONCE]

        def serve() -> None:
            with torch.no_grad():
                net(served).argmax(-1)

        calls: dict[str, Callable[[], object]] = {
            "samples": lambda: decode(stored),
            "weights": lambda: net.load_state_dict(state),
            "step": lambda: sgd_step(net, optimizer, class_loss, client.inputs[batch], client.targets[batch], limit),
            "serve": serve,
            "average": lambda: weighted_mean([state] * len(clients), [1] * len(clients)),
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            protocol = MeteringProtocol(min_duration_s=self.settings.window_s, idle_s=0, cool_down_s=0, rounds=1)
            instruments = available(allow_model=True)
            windows = list(meter_windows(calls, instruments, protocol))
        finally:
            torch.set_num_threads(threads)
        best = instruments[-1].name
        energy = {name: call_statistics(windows, name, best) for name in calls}
        joules = {f"{name}_j": value.gross_j for name, value in energy.items()}
        joules["serve_j"] /= len(served)
        return PhaseEnergy(**joules, instrument=best, provenance=energy["step"].provenance)


def _stored(inputs: torch.Tensor) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.uint8]], torch.Tensor]]:
    """Inputs as bytes, and how they are decoded: images as parts of 255, and text as symbols."""
    if inputs.is_floating_point():
        images = (255 * inputs).to(torch.uint8).numpy()
        return images, lambda stored: torch.from_numpy(stored.astype(np.float32) / 255)
    return inputs.to(torch.uint8).numpy(), lambda stored: torch.from_numpy(stored.astype(np.int64))
