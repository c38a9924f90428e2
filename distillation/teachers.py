"""Teachers: one receiver, several of them, or a genie-aided classical receiver.

A teacher assistant and a student of an earlier generation are neural receivers like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import logsigmoid

from channels import Slots
from distillation.feature_transfer import ActivationRecorder, activation_channels
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.neural.weights import NeuralReceiver

MAX_LLR = 1e4
"""Magnitude in nats to which LLRs of teachers are clipped.

LLRs of perfect CSI grow with the SINR without a bound, and the difference of two infinite LLRs is not a number. The
clipping does not change soft bits: at temperatures up to 500, the sigmoid of such LLRs is 0 or 1 in float32.
"""


@dataclass(frozen=True)
class TeacherOutput:
    """Output of a teacher for a block of slots.

    Attributes:
        llrs: float32 ``(B, K, S, F)``.
        activations: activations inside the teacher's network by module path, float32 ``(B, C, S, F)``.
    """

    llrs: torch.Tensor
    activations: dict[str, torch.Tensor] = field(default_factory=dict)


class Teacher:
    """A receiver whose LLRs, and activations if asked for, train students.

    It processes each block of slots once for all students.

    Args:
        receiver: neural or classical.
        paths: modules of a neural receiver whose activations students follow.

    Attributes:
        name: name of the receiver.
        channels: channels of the activations, by module path.

    Raises:
        UserError: if a path is not in the receiver's network, or the receiver has no network.

    Example:
        >>> from channels import SlotStream, scenario
        >>> from receivers.classical import PerfectCsiReceiver
        >>> teacher = Teacher(PerfectCsiReceiver())
        >>> output = teacher(SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2).block(0))
        >>> teacher.name, tuple(output.llrs.shape)
        ('perfect CSI', (2, 4, 14, 72))
    """

    def __init__(self, receiver: Receiver, paths: Iterable[str] = ()) -> None:
        self.name = receiver.name
        self._receiver, self._paths = receiver, tuple(dict.fromkeys(paths))
        self.channels: dict[str, int] = {}
        if self._paths:
            if not isinstance(receiver, NeuralReceiver):
                raise UserError(f"transfers: '{self.name}' has no network to follow; name a neural receiver as teacher")
            self.channels = activation_channels(receiver.net, self._paths, f"teacher '{self.name}'")

    def __call__(self, slots: Slots) -> TeacherOutput:
        """LLRs of a block of slots, clipped to :data:`MAX_LLR`, with the activations of the named modules."""
        activations: dict[str, torch.Tensor] = {}
        if self._paths and isinstance(self._receiver, NeuralReceiver):
            with ActivationRecorder(self._receiver.net, self._paths) as recorder:
                llrs = self._receiver(slots)
                activations = recorder.pop()
        else:
            llrs = self._receiver(slots)
        return TeacherOutput(llrs.clamp(-MAX_LLR, MAX_LLR), activations)


def ensemble_llrs(teacher_outputs: Sequence[TeacherOutput]) -> torch.Tensor:
    """LLRs of the mean of the teachers' bit probabilities.

    1503.02531 names the arithmetic mean of distributions for ensembles. It is computed as
    ``log sum_n sigmoid(l_n) - log sum_n sigmoid(-l_n)``, which is exact for large LLRs too. The LLRs of a single
    teacher are returned unchanged.

    Args:
        teacher_outputs: outputs of the teachers for the same slots.

    Returns:
        float32 ``(B, K, S, F)``.

    Example:
        >>> outputs = [TeacherOutput(torch.tensor([p]).logit()) for p in (0.9, 0.5)]
        >>> ensemble_llrs(outputs).sigmoid()
        tensor([0.7000])
    """
    if len(teacher_outputs) == 1:
        return teacher_outputs[0].llrs
    llrs = torch.stack([output.llrs for output in teacher_outputs])
    return torch.logsumexp(logsigmoid(llrs), 0) - torch.logsumexp(logsigmoid(-llrs), 0)
