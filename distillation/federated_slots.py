"""A client of federated averaging that trains a neural receiver on radio slots of its own channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import nn

from channels import Scenario
from channels.mixture_stream import training_stream
from distillation.job import training_conditions
from distillation.losses import bit_loss
from leanrx_core.records import Record
from receivers.neural.network import Network
from receivers.neural.weights import full_precision


class SlotTraining(Record):
    """What a site does in a round: steps of AdamW. Its moments begin anew in every round.

    Attributes:
        steps: of a round.
        batch_slots: slots of a step.
        learning_rate: of the first round, and of all rounds without ``decay_rounds``.
        decay_rounds: rounds over which the learning rate falls to 0 in equal steps.
        max_gradient_norm: longer gradients are scaled to this norm.

    Example:
        >>> training = SlotTraining(learning_rate=4e-3, decay_rounds=4)
        >>> [training.learning_rate_of(number) for number in (1, 2, 4)]
        [0.004, 0.003, 0.001]
    """

    steps: int = Field(10, ge=1)
    batch_slots: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    decay_rounds: int | None = Field(None, ge=1)
    max_gradient_norm: float = Field(1.0, gt=0)

    def learning_rate_of(self, round_number: int) -> float:
        """That of a round, from 1. Rounds after the last one have 0."""
        if self.decay_rounds is None:
            return self.learning_rate
        return self.learning_rate * max(0, self.decay_rounds - round_number + 1) / self.decay_rounds


@dataclass(frozen=True)
class SlotClient:
    """A site. Round *r* trains on slots that no other round has.

    Attributes:
        name: of the site.
        scenario: radio conditions of its slots.
        seed: of the slots.
        training: of a round.

    Example:
        >>> from channels import scenario
        >>> site = SlotClient("site", scenario("tdl-6prb"), 1, SlotTraining(steps=3, batch_slots=4))
        >>> site.samples
        12
    """

    name: str
    scenario: Scenario
    seed: int
    training: SlotTraining

    @property
    def samples(self) -> int:
        """Slots of a round."""
        return self.training.steps * self.training.batch_slots

    @property
    def description(self) -> dict[str, Any]:
        """Conditions, seed and settings."""
        settings = self.training.model_dump(mode="json")
        return {"scenario": training_conditions(self.scenario), "seed": self.seed, "training": settings}

    def train(self, net: nn.Module, round_number: int) -> None:
        """Train in place."""
        assert isinstance(net, Network)
        training = self.training
        stream = training_stream(self.scenario, self.seed, training.batch_slots, purpose="federated")
        optimizer = torch.optim.AdamW(net.parameters(), training.learning_rate_of(round_number))
        begin = (round_number - 1) * training.steps
        for number in range(begin, begin + training.steps):
            slots = stream.block(number)
            with full_precision():
                loss = bit_loss(net(net.features(slots)), slots)
                optimizer.zero_grad()
                loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), training.max_gradient_norm)
            optimizer.step()
