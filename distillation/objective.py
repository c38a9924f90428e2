"""What one student is trained on: the settings of its distillation, and the loss they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Discriminator, Field, Tag, field_validator
from torch import nn

from channels import Slots
from distillation.feature_transfer import (
    Taps,
    Transfer,
    adapter,
    attention_loss,
    channels_at,
    feature_loss,
    on_one_grid,
)
from distillation.losses import bit_loss, confidence_weights, distillation_loss, regression_loss, sinr_weights
from distillation.teachers import Teacher, TeacherOutput, ensemble_llrs
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.neural.network import Network
from receivers.neural.weights import full_precision


class Schedule(Record):
    """A value that goes in a straight line from ``start`` to ``end`` in the part ``until`` of the steps, and stays."""

    start: float
    end: float
    until: float = Field(1.0, gt=0, le=1)

    def at(self, progress: float) -> float:
        """The value after the part ``progress`` of the steps."""
        share = min(progress / self.until, 1.0)
        return self.start * (1 - share) + self.end * share


def _kind(value: object) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


Scheduled = Annotated[Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")], Discriminator(_kind)]
"""A constant or a schedule; a mistake is told of the one that was written."""


class Distillation(Record):
    """How a student listens to its teacher.

    Attributes:
        teacher: name of a receiver of the run, several joined by ``+``, or a classical bound (``perfect CSI``,
            ``perfect CSI-IRC``); each teacher of the run in turn if not given.
        loss: ``soft-bits`` (:func:`distillation.losses.distillation_loss`) or ``regression``
            (:func:`distillation.losses.regression_loss`).
        temperature: of soft bits.
        alpha: weight of the teacher against the true bits.
        clip: LLR magnitude of regression, in nats; a bit with LLR 8 is wrong once in 3,000.
        weighting: of the teacher's words: all alike, by its ``confidence`` in each bit, or by each slot's ``sinr``. The
            true bits weigh alike, as for the twin.
        transfers: modules that follow the teacher's.
        generations: students in a row, each but the first taught by the one before (born again, 1805.04770).
    """

    teacher: str | None = Field(None, min_length=1)
    loss: Literal["soft-bits", "regression"] = "soft-bits"
    temperature: Scheduled = 2.0
    alpha: Scheduled = 0.5
    clip: float = Field(8.0, gt=0)
    weighting: Literal["none", "confidence", "sinr"] = "none"
    transfers: tuple[Transfer, ...] = ()
    generations: int = Field(1, ge=1)

    @field_validator("teacher")
    @classmethod
    def _names(cls, teacher: str | None) -> str | None:
        names = [name.strip() for name in teacher.split("+")] if teacher else []
        if not all(names):
            raise ValueError("write names joined by '+'")
        if len(set(names)) < len(names):
            raise ValueError("names a receiver twice")
        return teacher

    @field_validator("temperature")
    @classmethod
    def _positive(cls, value: float | Schedule) -> float | Schedule:
        if min(_ends(value)) <= 0:
            raise ValueError("must be above 0, at both ends of a schedule")
        return value

    @field_validator("alpha")
    @classmethod
    def _share(cls, value: float | Schedule) -> float | Schedule:
        if min(_ends(value)) < 0 or max(_ends(value)) > 1:
            raise ValueError("must be between 0 and 1, at both ends of a schedule")
        return value


def at(value: float | Schedule, progress: float) -> float:
    """A setting after the part ``progress`` of the steps."""
    return value.at(progress) if isinstance(value, Schedule) else value


def _ends(value: float | Schedule) -> tuple[float, float]:
    return (value.start, value.end) if isinstance(value, Schedule) else (value, value)


class Objective(nn.Module):
    """The loss of one net. Its parameters are the adapters of transfers, which are trained with the net.

    Taps stay on the net until :meth:`remove`; it is best used in a ``with`` statement.

    Args:
        distillation: settings of a student; none for a teacher or a twin, which learn from true bits alone.
        net: what is trained.
        teachers: what the student listens to; one that it follows is made with the ``teacher`` paths of its transfers.
        seed: of the adapters' initial weights.

    Raises:
        UserError: if settings come without teachers or the other way round, several teachers are to be followed, or a
            module to follow is not there.
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
            raise UserError(f"transfers: '{names}' are several nets to follow; name one learned teacher")
        paths = [transfer.student for transfer in transfers]
        channels = channels_at(net, paths, "student") if paths else {}
        self._taps = Taps(net, paths)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.adapters = nn.ModuleList(
                adapter(channels[transfer.student], teachers[0].channels[transfer.teacher])
                if transfer.kind == "feature"
                else nn.Identity()
                for transfer in transfers
            )
        self.to(next(net.parameters()).device)

    def forward(self, llrs: torch.Tensor, slots: Slots, told: Sequence[TeacherOutput], progress: float) -> torch.Tensor:
        """The loss of the forward pass just made, a scalar.

        Args:
            llrs: of the net, float32 ``(B, K, S, F)``.
            slots: the slots they belong to.
            told: what each of the teachers says about these slots; nothing for a teacher or a twin.
            progress: part of the steps that were made, 0 to 1.
        """
        settings = self._distillation
        if settings is None:
            return bit_loss(llrs, slots)
        teacher_llrs = ensemble_llrs(told)
        weights = None
        if settings.weighting == "confidence":
            weights = confidence_weights(teacher_llrs, slots)
        elif settings.weighting == "sinr":
            weights = sinr_weights(slots)
        alpha = at(settings.alpha, progress)
        if settings.loss == "regression":
            loss = regression_loss(llrs, teacher_llrs, slots, settings.clip, alpha, weights)
        else:
            loss = distillation_loss(llrs, teacher_llrs, slots, at(settings.temperature, progress), alpha, weights)
        found = self._taps.take()
        for transfer, adapt in zip(settings.transfers, self.adapters, strict=True):
            distance = feature_loss if transfer.kind == "feature" else attention_loss
            with full_precision():
                ours, theirs = on_one_grid(found[transfer.student].float(), told[0].taps[transfer.teacher])
                ours = adapt(ours)  # in float32: autocast leaves bfloat16
            loss = loss + transfer.weight * distance(ours, theirs)
        return loss

    def remove(self) -> None:
        """Take the taps off the net."""
        self._taps.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
