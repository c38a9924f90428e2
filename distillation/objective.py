"""The objective of one training: the distillation settings, and the loss that they define."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from torch import nn

from channels import Slots
from distillation.feature_transfer import (
    ActivationRecorder,
    FeatureTransfer,
    activation_channels,
    attention_loss,
    channel_adapter,
    feature_loss,
    match_resolution,
)
from distillation.losses import bit_loss, confidence_weights, distillation_loss, regression_loss, sinr_weights
from distillation.teachers import MAX_LLR, Teacher, TeacherOutput, ensemble_llrs
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.neural.network import Network
from receivers.neural.weights import full_precision

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1e3
"""Limits of the temperature. The gradient of soft bits is the difference of two sigmoids near 1/2. In float32 its
relative error grows with the temperature: below 1e-3 at 1e3, several percent at 1e6. From 1e8 the gradient is 0."""


UNUSED_SETTINGS: dict[str, tuple[str, ...]] = {"soft-bits": ("clip",), "regression": ("temperature",)}
"""Settings of :class:`Distillation` that a loss does not use."""


class Schedule(Record):
    """A value that changes linearly from ``start`` to ``end`` during training, and then stays.

    Attributes:
        start, end: first and last value.
        until: part of the steps after which the value is ``end``.

    Example:
        >>> Schedule(start=4.0, end=1.0, until=0.5).value_at(0.25)
        2.5
    """

    start: float
    end: float
    until: float = Field(1.0, gt=0, le=1)

    def value_at(self, progress: float) -> float:
        """The value after the part ``progress`` of the steps, 0 to 1."""
        fraction = min(progress / self.until, 1.0)
        return self.start * (1 - fraction) + self.end * fraction


def _schedule_or_number(value: object) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


Scheduled = Annotated[
    Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")], Discriminator(_schedule_or_number)
]
"""A constant or a schedule. Errors are about the one that the user wrote."""


class Distillation(Record):
    """Distillation settings: which teacher trains a student, and with which loss.

    Attributes:
        teacher: name of a receiver of the run, several names joined by ``+``, or a genie-aided classical receiver
            (``perfect CSI``, ``perfect CSI-IRC``). If omitted, each teacher of the run is used in turn.
        loss: ``soft-bits`` (:func:`distillation.losses.distillation_loss`) or ``regression``
            (:func:`distillation.losses.regression_loss`).
        temperature: temperature of the soft bits, a number or a :class:`Schedule`, from 0.01 to 1,000.
        alpha: weight of the teacher's term against that of the true bits, a number or a :class:`Schedule`.
        clip: LLR magnitude of regression, in nats, from 0.1 to 10,000, where teachers' LLRs are clipped. A bit with
            LLR 8 is wrong once in 3,000.
        weighting: per-bit weights of the teacher's term: ``none``, the teacher's ``confidence`` in each bit, or the
            ``sinr`` of each slot. True bits have equal weights, as in the scratch baseline.
        transfers: pairs of modules for feature and attention transfer.
        generations: number of students in a row, each but the first distilled from the one before (born again,
            1805.04770).

    Example:
        >>> settings = Distillation(teacher="perfect CSI", temperature={"start": 4, "end": 1}, alpha=0.7)
        >>> settings.temperature, settings.loss
        (Schedule(start=4.0, end=1.0, until=1.0), 'soft-bits')
    """

    teacher: str | None = Field(None, min_length=1)
    loss: Literal["soft-bits", "regression"] = "soft-bits"
    temperature: Scheduled = 2.0
    alpha: Scheduled = 0.5
    clip: float = Field(8.0, ge=0.1, le=MAX_LLR)
    weighting: Literal["none", "confidence", "sinr"] = "none"
    transfers: tuple[FeatureTransfer, ...] = ()
    generations: int = Field(1, ge=1, le=100)

    @field_validator("teacher")
    @classmethod
    def _check_teacher(cls, teacher: str | None) -> str | None:
        names = [name.strip() for name in teacher.split("+")] if teacher else []
        if not all(names):
            raise ValueError("write names joined by '+'")
        if len(set(names)) < len(names):
            raise ValueError("names a receiver twice")
        return teacher

    @field_validator("temperature")
    @classmethod
    def _check_temperature(cls, value: float | Schedule) -> float | Schedule:
        if min(_ends(value)) < MIN_TEMPERATURE or max(_ends(value)) > MAX_TEMPERATURE:
            raise ValueError(
                f"must be between {MIN_TEMPERATURE:g} and {MAX_TEMPERATURE:g}, at both ends of a schedule; 'loss: "
                "regression' is the limit of high temperatures"
            )
        return value

    @field_validator("alpha")
    @classmethod
    def _check_alpha(cls, value: float | Schedule) -> float | Schedule:
        if min(_ends(value)) < 0 or max(_ends(value)) > 1:
            raise ValueError("must be between 0 and 1, at both ends of a schedule")
        return value

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        for name in self.settings_without_effect():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: has no effect with loss {self.loss}; remove it or change the loss")
        return self

    def settings_without_effect(self) -> tuple[str, ...]:
        """Names of the settings that the loss does not use."""
        return UNUSED_SETTINGS[self.loss]

    def loss_settings(self) -> dict[str, Any]:
        """The settings that the loss of one student depends on, besides its teacher."""
        unused = {"teacher", "generations", *self.settings_without_effect()}
        if _ends(self.alpha) == (0.0, 0.0):
            unused |= {"loss", "temperature", "clip", "weighting"}
        return self.model_dump(mode="json", exclude=unused)


def value_at(value: float | Schedule, progress: float) -> float:
    """A constant or scheduled setting after the part ``progress`` of the steps."""
    return value.value_at(progress) if isinstance(value, Schedule) else value


def _ends(value: float | Schedule) -> tuple[float, float]:
    return (value.start, value.end) if isinstance(value, Schedule) else (value, value)


class Objective(nn.Module):
    """The loss of one network. Its parameters are the adapters of feature transfers, which train with the network.

    Feature transfers put hooks on the network. They stay until :meth:`remove`, or until the end of a ``with``
    statement.

    Args:
        distillation: settings of a student; ``None`` for a teacher or a scratch baseline, which learn from true bits.
        net: the network to train.
        teachers: the student's teachers. For feature transfers, the one teacher has the ``teacher`` paths of these.
        seed: seed of the adapters' initial weights.

    Raises:
        UserError: if there are settings without teachers or teachers without settings, if feature transfers have
            several teachers, or if a module does not exist.

    Example:
        >>> from channels import SlotStream, scenario
        >>> from receivers.neural.registry import build
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).block(0)
        >>> net = build("deeprx-w0.0625-d3", seed=1)
        >>> objective = Objective(None, net)
        >>> objective(net(net.features(slots)), slots).shape
        torch.Size([])
    """

    def __init__(
        self, distillation: Distillation | None, net: Network, teachers: Sequence[Teacher] = (), seed: int = 0
    ) -> None:
        super().__init__()
        if bool(teachers) != (distillation is not None):
            raise UserError("distillation needs a teacher, and a teacher needs distillation settings")
        self._distillation = distillation
        transfers = distillation.transfers if distillation else ()
        if transfers and len(teachers) > 1:
            names = "+".join(teacher.name for teacher in teachers)
            raise UserError(f"transfers: '{names}' are several networks to follow; name one neural receiver as teacher")
        paths = [transfer.student for transfer in transfers]
        channels = activation_channels(net, paths, "student") if paths else {}
        self._recorder = ActivationRecorder(net, paths)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.adapters = nn.ModuleList(
                channel_adapter(channels[transfer.student], teachers[0].channels[transfer.teacher])
                if transfer.loss == "feature"
                else nn.Identity()
                for transfer in transfers
            )
        self.to(next(net.parameters()).device)

    def forward(
        self,
        llrs: torch.Tensor,
        slots: Slots,
        teacher_outputs: Sequence[TeacherOutput] = (),
        progress: float = 0.0,
    ) -> torch.Tensor:
        """The loss of the network's last forward pass.

        Args:
            llrs: LLRs of the network, float32 ``(B, K, S, F)``.
            slots: the slots of these LLRs.
            teacher_outputs: outputs of the teachers for these slots; empty for a teacher or a scratch baseline.
            progress: part of the steps that are complete, 0 to 1.

        Returns:
            The loss, a scalar.
        """
        settings = self._distillation
        if settings is None:
            return bit_loss(llrs, slots)
        loss = self._llr_loss(settings, llrs, slots, ensemble_llrs(teacher_outputs), progress)
        activations = self._recorder.pop()
        for transfer, adapter in zip(settings.transfers, self.adapters, strict=True):
            distance = feature_loss if transfer.loss == "feature" else attention_loss
            with full_precision():
                student_activation, teacher_activation = match_resolution(
                    activations[transfer.student].float(), teacher_outputs[0].activations[transfer.teacher]
                )
                student_activation = adapter(student_activation)  # in float32: autocast gives bfloat16
            loss = loss + transfer.weight * distance(student_activation, teacher_activation)
        return loss

    @staticmethod
    def _llr_loss(
        settings: Distillation, llrs: torch.Tensor, slots: Slots, teacher_llrs: torch.Tensor, progress: float
    ) -> torch.Tensor:
        weights = None
        if settings.weighting == "confidence":
            weights = confidence_weights(teacher_llrs, slots)
        elif settings.weighting == "sinr":
            weights = sinr_weights(slots)
        alpha = value_at(settings.alpha, progress)
        if settings.loss == "regression":
            return regression_loss(llrs, teacher_llrs, slots, settings.clip, alpha, weights)
        temperature = value_at(settings.temperature, progress)
        return distillation_loss(llrs, teacher_llrs, slots, temperature, alpha, weights)

    def remove(self) -> None:
        """Remove the hooks from the network."""
        self._recorder.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
