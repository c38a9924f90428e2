"""Clients of federated averaging with samples of their own, and how samples are split between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from leanrx_core.checks import integer, positive
from leanrx_core.errors import UserError
from leanrx_core.records import Record

Indices = NDArray[np.int64]
_EVALUATION_BATCH = 500


class LocalTraining(Record):
    """What a client does in a round: stochastic gradient descent with a constant learning rate.

    Attributes:
        epochs: passes over its samples.
        batch_size: samples of a step; the last step of an epoch may have fewer.
        learning_rate: of every step.
        momentum: of the gradient. It begins anew in every round.
        max_gradient_norm: longer gradients are scaled to this norm; no limit if omitted.
    """

    epochs: int = Field(5, ge=1, le=10_000)
    batch_size: int = Field(50, ge=1, le=10**6)
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    max_gradient_norm: float | None = Field(None, gt=0)

    def steps(self, samples: int) -> int:
        """Steps of a round."""
        return self.epochs * -(-samples // self.batch_size)


def class_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of class scores.

    Args:
        outputs: float ``(..., classes)``.
        targets: long ``(...)``.

    Returns:
        The loss, a scalar.
    """
    return cross_entropy(outputs.flatten(0, -2), targets.flatten())


@dataclass(frozen=True)
class SampleClient:
    """A server with samples of classes.

    Attributes:
        name: of the server.
        inputs: ``(samples, ...)``.
        targets: classes, long ``(samples, ...)``.
        training: of a round.
        loss: of outputs and targets.

    Raises:
        UserError: if there are no samples, or inputs and targets differ in number.
    """

    name: str
    inputs: torch.Tensor
    targets: torch.Tensor
    training: LocalTraining
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = class_loss

    def __post_init__(self) -> None:
        if not len(self.inputs) or len(self.inputs) != len(self.targets):
            raise UserError(
                f"{self.name}: {len(self.inputs)} inputs and {len(self.targets)} targets; give equally many, at least 1"
            )

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.inputs)

    @property
    def description(self) -> dict[str, Any]:
        """Hash of the samples, and settings."""
        digest = hashlib.sha256(self.inputs.numpy().tobytes())
        digest.update(self.targets.numpy().tobytes())
        return {"sha256": digest.hexdigest(), "training": self.training.model_dump(mode="json")}

    def train(self, net: nn.Module, round_number: int) -> None:
        """Train in place, in a new order of the samples in each epoch."""
        training = self.training
        optimizer = torch.optim.SGD(net.parameters(), training.learning_rate, training.momentum)
        for _ in range(training.epochs):
            for batch in torch.randperm(self.samples).split(training.batch_size):
                sgd_step(net, optimizer, self.loss, self.inputs[batch], self.targets[batch], training.max_gradient_norm)


def sgd_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    max_gradient_norm: float | None = None,
) -> None:
    """Take one step of a client."""
    optimizer.zero_grad()
    loss(net(inputs), targets).backward()
    if max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(net.parameters(), max_gradient_norm)
    optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Part of the targets whose class has the highest score.

    Args:
        net: gives class scores ``(..., classes)``.
        inputs: ``(samples, ...)``.
        targets: long ``(samples, ...)``.
    """
    pairs = zip(inputs.split(_EVALUATION_BATCH), targets.split(_EVALUATION_BATCH), strict=True)
    correct = sum(int((net(x).argmax(-1) == y).sum()) for x, y in pairs)
    return correct / targets.numel()


def iid_split(samples: int, clients: int, seed: int) -> list[Indices]:
    """Split samples at random into parts of equal size, up to one sample.

    Example:
        >>> sorted(len(part) for part in iid_split(10, 3, seed=1))
        [3, 3, 4]
    """
    _check_clients(samples, clients)
    order = np.random.default_rng(seed).permutation(samples)
    return [np.sort(part) for part in np.array_split(order, clients)]


def shard_split(labels: NDArray[Any], clients: int, seed: int, shards_per_client: int = 2) -> list[Indices]:
    """Sort samples by label, cut them into shards, and give each client some shards (McMahan et al., section 3).

    Args:
        labels: class of each sample, ``(samples,)``.
        clients: number of clients.
        seed: of the assignment.
        shards_per_client: a client has at most about as many labels, if a shard is within one label.

    Example:
        >>> labels = np.repeat(np.arange(10), 20)
        >>> [len(set(labels[part])) for part in shard_split(labels, 5, seed=1)]
        [2, 2, 2, 2, 2]
    """
    integer("shards_per_client", shards_per_client, 1)
    _check_clients(len(labels), clients * shards_per_client)
    shards = np.array_split(np.argsort(labels, kind="stable"), clients * shards_per_client)
    order = np.random.default_rng(seed).permutation(len(shards)).reshape(clients, shards_per_client)
    return [np.sort(np.concatenate([shards[index] for index in own])) for own in order]


def dirichlet_split(labels: NDArray[Any], clients: int, seed: int, concentration: float = 0.5) -> list[Indices]:
    """Split each label between clients by a Dirichlet distribution (Hsu et al., 1909.06335).

    Args:
        labels: class of each sample, ``(samples,)``.
        clients: number of clients.
        seed: of the split.
        concentration: of the distribution. A small one gives each client few labels, and a large one all alike.

    Raises:
        UserError: if a client is left without samples.

    Example:
        >>> labels = np.repeat(np.arange(10), 100)
        >>> parts = dirichlet_split(labels, 3, seed=1, concentration=1e6)
        >>> [round(len(part), -2) for part in parts]
        [300, 300, 300]
    """
    positive("concentration", concentration)
    _check_clients(len(labels), clients)
    rng = np.random.default_rng(seed)
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum(rng.dirichlet([concentration] * clients))[:-1] * len(own)).astype(int)
        for part, indices in zip(parts, np.split(own, ends), strict=True):
            part.append(indices)
    result = [np.sort(np.concatenate(part)) for part in parts]
    if not all(len(part) for part in result):
        raise UserError(
            f"concentration: {concentration:g} leaves a client without samples; raise it, or change the seed"
        )
    return result


def _check_clients(samples: int, parts: int) -> None:
    if not 1 <= parts <= samples:
        raise UserError(f"clients: {samples} samples cannot be split into {parts} parts; give 1 to {samples} parts")
