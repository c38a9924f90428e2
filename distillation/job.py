"""Jobs: how a receiver is trained, and everything that determines its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from channels import Scenario, Stream
from channels.dataset import DatasetStream
from channels.mixture_stream import training_stream
from channels.scenarios import MAX_BLOCK_SLOTS
from distillation.objective import Distillation
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.base import Receiver
from receivers.evaluation.block_counter import device_name
from receivers.neural.registry import check_conditions, family_of, parse_spec
from receivers.neural.weights import NeuralReceiver

MAX_STEPS = 10**8
"""Steps of a training; years on any machine."""


class Training(Record):
    """Training settings of a receiver.

    Attributes:
        steps: number of optimiser steps.
        batch_slots: slots per step (a block of the stream).
        optimizer: ``lamb`` (as DeepRx) or ``adamw``.
        learning_rate: learning rate after warm-up. It is constant until ``decay_start`` and then falls linearly to 0.
        weight_decay: decoupled weight decay.
        warmup_steps: steps in which the learning rate rises linearly from 0.
        max_gradient_norm: longer gradients are scaled to this norm; no limit if omitted.
        deep_supervision_weight: weight of the mean bit loss of a hybrid's intermediate LLRs, which each block but the
            last has (deep supervision, 1409.5185). Networks without intermediate LLRs ignore it, and their cards say 0.
        decay_start: part of ``steps`` after which the learning rate falls.
        precision: ``auto`` uses bfloat16 autocast on CUDA devices that support it; ``bfloat16`` uses it on CPUs with
            AVX512-BF16 or AMX instructions too, and on any other device says so and trains in float32; ``float32``
            never uses it.
        compiled: whether to use ``torch.compile``, which pays off in long trainings on a GPU: it compiles for minutes.
            Without a C++ compiler, the training says so and goes on without it.
        weight_bits: bits of a weight of the convolutions, 2 to 8, with a scale for each output channel. The training
            rounds the weights, see :mod:`receivers.neural.weight_quantization`; float32 if omitted.
        checkpoint_steps: steps between checkpoints.

    Example:
        >>> Training(steps=100, learning_rate=0.01, warmup_steps=10).learning_rate_at(0)
        0.001
    """

    renamed_keys: ClassVar = {"early_weight": "deep_supervision_weight", "decay_from": "decay_start"}

    steps: int = Field(30000, ge=1, le=MAX_STEPS)
    batch_slots: int = Field(80, ge=1, le=MAX_BLOCK_SLOTS)
    optimizer: Literal["lamb", "adamw"] = "lamb"
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(800, ge=0, le=MAX_STEPS)
    decay_start: float = Field(0.3, ge=0, le=1)
    max_gradient_norm: float | None = Field(None, gt=0)
    deep_supervision_weight: float = Field(0.0, ge=0)
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    compiled: bool = False
    weight_bits: int | None = Field(None, ge=2, le=8)
    checkpoint_steps: int = Field(200, ge=1, le=MAX_STEPS)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay_steps = self.steps * (1 - self.decay_start)
        return self.learning_rate * min(rise, (self.steps - step) / decay_steps if decay_steps else 1.0, 1.0)


@dataclass(frozen=True)
class Job:
    """One receiver to train.

    Attributes:
        name, role: as on the receiver's card.
        receiver: spec string, such as ``deeprx-w0.25-d5``.
        scenario: scenario of the training slots.
        training: training settings.
        seed: seed of the initial weights and of the slots.
        distillation: distillation settings of a student; ``None`` for a teacher or a scratch baseline.
        teachers: the student's teachers.
        dataset: folder of a dataset with the training slots; if omitted, slots are generated.
        initial: receiver whose weights the training starts from (fine-tuning); random weights if omitted.

    Example:
        >>> from channels import scenario
        >>> training = Training(steps=100, batch_slots=8)
        >>> job = Job("teacher", "teacher", "deeprx-w0.25-d5", scenario("tdl-6prb"), training, seed=1)
        >>> job.stream("cpu").block_slots
        8
    """

    name: str
    role: str
    receiver: str
    scenario: Scenario
    training: Training
    seed: int
    distillation: Distillation | None = None
    teachers: tuple[Receiver, ...] = ()
    dataset: str | None = None
    initial: NeuralReceiver | None = None

    def check(self) -> None:
        """Check that network, scenario, teachers, student and initial weights match.

        Raises:
            UserError: if there are teachers without settings or settings without teachers, or if a teacher was trained
                on another scenario, or if the network cannot receive a member of the scenario's mixture, or if the
                initial weights are those of another network.
        """
        check_conditions(self.receiver, self.scenario)
        if bool(self.teachers) != (self.distillation is not None):
            raise UserError(f"{self.name}: distillation needs a teacher, and a teacher needs distillation settings")
        for teacher in self.teachers:
            if isinstance(teacher, NeuralReceiver):
                check_fit(teacher, self.scenario, self.name)
        if self.initial is not None:
            _check_initial(self.initial, self)

    def stream(self, device: str) -> Stream:
        """Stream of the training slots.

        The teacher's training slots differ from its students'. A student therefore sees the teacher's output for slots
        that the teacher was not trained on.

        Args:
            device: torch device.

        Raises:
            UserError: if the dataset does not match the scenario or the batch size.
        """
        if self.dataset is not None:
            stream = DatasetStream(self.dataset, device)
            return stream.require(self.scenario, "train", self.training.batch_slots)
        purpose = "teacher" if self.role == "teacher" else ""
        return training_stream(self.scenario, self.seed, self.training.batch_slots, device, purpose)

    def description(self, device: str, processes: int = 1) -> dict[str, Any]:
        """Everything that determines the trained weights. A checkpoint with another description is refused.

        Args:
            device: torch device.
            processes: number of processes that train together.
        """
        return {
            "device": device_name(device),
            "processes": processes,
            "receiver": self.receiver,
            "scenario": self.scenario.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude={"checkpoint_steps"}),
            "seed": self.seed,
            "distillation": self.distillation.model_dump(mode="json") if self.distillation else None,
            "teachers_sha256": [teacher.digest for teacher in self.teachers],
            "dataset_sha256": DatasetStream(self.dataset).digest if self.dataset else None,
            "initial_sha256": self.initial.digest if self.initial else None,
        }


def weight_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a job's description that its weights depend on, in a form that can be compared.

    The name of the scenario, the channel models for tests and the number of steps between checkpoints have no effect on
    the weights. Neither have the settings of a loss that the job does not use.

    Args:
        description: as :meth:`Job.description` gives it, or read from a checkpoint.
    """
    settings = dict(description)
    settings["scenario"] = training_conditions(Scenario.model_validate(settings["scenario"]))
    training = Training.model_validate(settings["training"]).model_dump(mode="json", exclude={"checkpoint_steps"})
    if not family_of(settings["receiver"]).network.has_intermediate_llrs:
        training["deep_supervision_weight"] = 0.0
    settings["training"] = training
    if settings["distillation"] is not None:
        settings["distillation"] = Distillation.model_validate(settings["distillation"]).loss_settings()
    return settings


def training_conditions(scenario: Scenario) -> dict[str, Any]:
    """The part of a scenario that training slots depend on: all but its name and its channel models for tests.

    Of a scenario with a mixture, these are the conditions of its members.
    """
    if scenario.mixture is not None:
        return {"mixture": [training_conditions(member) for member in scenario.mixture]}
    conditions = scenario.model_dump(mode="json", exclude={"name": True, "channels": {"test"}, "mixture": True})
    for interferer in conditions["interferers"]:
        if interferer["channels"] is not None:
            del interferer["channels"]["test"]
    return conditions


def difference(previous: Any, current: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first setting in which two sets of nested settings differ: its path and both values; none if they agree.

    Example:
        >>> difference({"grid": {"num_prb": 6}}, {"grid": {"num_prb": 12}})
        ('grid.num_prb', 6, 12)
    """
    if isinstance(previous, Mapping) and isinstance(current, Mapping):
        for key in dict.fromkeys([*previous, *current]):
            path = f"{name}.{key}" if name else str(key)
            result = difference(previous.get(key), current.get(key), path)
            if result is not None:
                return result
        return None
    return None if previous == current else (name, previous, current)


def check_fit(teacher: NeuralReceiver, scenario: Scenario, student: str) -> None:
    """Check that a teacher was trained on the scenario of its student.

    Args:
        teacher: the teacher.
        scenario: scenario of the student.
        student: name of the student, for errors.

    Raises:
        UserError: if the number of antennas, the number of bits, or anything else that training slots depend on
            differs. The card of an earlier version describes the scenario by its name, its channel models and its
            SINR range only.
    """
    card = teacher.card
    for field, student_value in (("num_rx", scenario.grid.num_rx), ("num_bits", scenario.num_bits)):
        teacher_value = getattr(card, field)
        if teacher_value != student_value:
            raise UserError(
                f"{student}: teacher has {field} {teacher_value}, student {student_value}; they must be equal"
            )
    if card.conditions is not None:
        mismatch = difference(training_conditions(card.conditions), training_conditions(scenario))
        if mismatch is not None:
            field, teacher_value, student_value = mismatch
            raise UserError(
                f"{student}: teacher {card.name} was trained with scenario.{field} {teacher_value}, the student has "
                f"{student_value}; take a teacher of the same scenario"
            )
        return
    if tuple(card.trained_sinr_db) != scenario.training_sinr_db:
        raise UserError(
            f"{student}: teacher {card.name} was trained at {card.trained_sinr_db} dB SINR, the student at "
            f"{scenario.training_sinr_db} dB; take a teacher of the same scenario"
        )
    if (card.scenario, card.channels) != (scenario.name, tuple(scenario.channels.train)):
        raise UserError(
            f"{student}: teacher {card.name} was trained on scenario {card.scenario} ({', '.join(card.channels)}), the "
            f"student's is {scenario.name} ({', '.join(scenario.channels.train)}); take a teacher of the same scenario"
        )


def _check_initial(initial: NeuralReceiver, job: Job) -> None:
    network, num_rx, num_bits = parse_spec(job.receiver), job.scenario.grid.num_rx, job.scenario.num_bits
    is_same = parse_spec(initial.card.receiver) == network and initial.card.num_bits == num_bits
    if not is_same or (initial.card.num_rx != num_rx and not network.family.network.takes_any_num_rx):
        card = initial.card
        raise UserError(
            f"{job.name}: initial weights are of {card.receiver} with {card.num_rx} antennas and {card.num_bits} bits, "
            f"the job has {job.receiver} with {num_rx} and {num_bits}; take a receiver of the same network"
        )
