"""How a receiver is trained, and everything that determines the weights that come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from channels import Scenario, SlotStream, Stream
from channels.dataset import DatasetStream
from distillation.objective import Distillation
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.base import Receiver
from receivers.evaluation.block_counter import device_name
from receivers.neural.weights import NeuralReceiver


class Training(Record):
    """How a receiver is trained.

    Attributes:
        steps: optimiser steps.
        batch_slots: slots per step (the stream's block).
        optimizer: ``lamb`` (as DeepRx) or ``adamw``.
        learning_rate: after warm-up; held, then falling linearly to 0.
        weight_decay: decoupled.
        warmup_steps: linear rise of the learning rate.
        max_gradient_norm: longer gradients are shortened to it; none are if not given.
        deep_supervision_weight: weight of the mean bit loss of a hybrid's intermediate LLRs, which each block but the
            last has (deep supervision, 1409.5185). Networks without intermediate LLRs ignore it, and their cards say 0.
        decay_start: part of ``steps`` after which the rate falls.
        precision: ``auto`` uses bfloat16 autocast on CUDA devices that have it, ``float32`` never.
        compiled: step through ``torch.compile``, for long trainings on a GPU.
        checkpoint_steps: steps between checkpoints.
    """

    steps: int = Field(30000, ge=1)
    batch_slots: int = Field(80, ge=1)
    optimizer: Literal["lamb", "adamw"] = "lamb"
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(800, ge=0)
    decay_start: float = Field(0.3, ge=0, le=1)
    max_gradient_norm: float | None = Field(None, gt=0)
    deep_supervision_weight: float = Field(0.0, ge=0)
    precision: Literal["auto", "float32"] = "auto"
    compiled: bool = False
    checkpoint_steps: int = Field(200, ge=1)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step (counted from 0)."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        falling = self.steps * (1 - self.decay_start)
        return self.learning_rate * min(warm, (self.steps - step) / falling if falling else 1.0, 1.0)


@dataclass(frozen=True)
class Job:
    """One receiver to train.

    Attributes:
        name, role: as on its card.
        receiver: spec string.
        scenario: training slots.
        training: how.
        seed: of initial weights and of the slots.
        distillation: how it listens to its teachers; none without.
        teachers: whom it listens to.
        recorded: folder of a dataset to train on, in place of slots made for it.
    """

    name: str
    role: str
    receiver: str
    scenario: Scenario
    training: Training
    seed: int
    distillation: Distillation | None = None
    teachers: tuple[Receiver, ...] = ()
    recorded: str | None = None

    def check(self) -> None:
        """Whether teachers and student fit.

        Raises:
            UserError: if there is one without the other, or a teacher receives other slots.
        """
        if bool(self.teachers) != (self.distillation is not None):
            raise UserError(f"{self.name}: distillation needs a teacher, and a teacher needs distillation settings")
        for teacher in self.teachers:
            if isinstance(teacher, NeuralReceiver):
                check_fit(teacher, self.scenario, self.name)

    def stream(self, device: str) -> Stream:
        """Training slots. The teacher has slots of its own, so that students hear it on slots that it does not know.

        Raises:
            UserError: if a dataset does not hold what is wanted.
        """
        if self.recorded is not None:
            recorded = DatasetStream(self.recorded, device)
            return recorded.require(self.scenario, "train", self.training.batch_slots)
        purpose = "teacher" if self.role == "teacher" else ""
        return SlotStream(self.scenario, self.seed, self.training.batch_slots, "train", device, purpose)

    def description(self, device: str, processes: int = 1) -> dict[str, Any]:
        """All that determines the trained weights; a checkpoint of another description is refused."""
        return {
            "device": device_name(device),
            "processes": processes,
            "receiver": self.receiver,
            "scenario": self.scenario.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude={"checkpoint_steps"}),
            "seed": self.seed,
            "distillation": self.distillation.model_dump(mode="json") if self.distillation else None,
            "teachers_sha256": [t.digest for t in self.teachers],
            "dataset_sha256": DatasetStream(self.recorded).digest if self.recorded else None,
        }


def check_fit(teacher: NeuralReceiver, scenario: Scenario, student: str) -> None:
    """Whether a teacher was trained on the slots that a student is to be trained on.

    Raises:
        UserError: if it has another number of antennas or bits, or is of another scenario.
    """
    card = teacher.card
    for field, ours in (("num_rx", scenario.grid.num_rx), ("num_bits", scenario.bits_per_symbol)):
        theirs = getattr(card, field)
        if theirs != ours:
            raise UserError(f"{student}: teacher has {field} {theirs}, student {ours}; they must be equal")
    if (card.scenario, card.channels) != (scenario.name, tuple(scenario.channels.train)):
        raise UserError(
            f"{student}: teacher {card.name} was trained on scenario {card.scenario} ({', '.join(card.channels)}), the "
            f"student's is {scenario.name} ({', '.join(scenario.channels.train)}); take a teacher of the same scenario"
        )
