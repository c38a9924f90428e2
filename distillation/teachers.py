"""What a student listens to: one teacher, several of them, or a classical receiver that knows the channel.

An assistant between teacher and student, or a student of an earlier generation, is a learned receiver like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from channels import Slots
from distillation.feature_transfer import Taps, channels_at
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.neural.weights import NeuralReceiver

MAX_LLR = 1e4
"""LLRs of teachers are cut to this magnitude in nats. Those of perfect CSI grow with the SINR without end, and a
difference of infinite ones is no number; at temperatures up to 500, sigmoid is 0 or 1 in float32 long before."""


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher says about a block of slots.

    Attributes:
        llrs: float32 ``(B, K, S, F)``.
        taps: activations inside of its net by module path, float32 ``(B, C, S, F)``.
    """

    llrs: torch.Tensor
    taps: dict[str, torch.Tensor]


class Teacher:
    """A receiver that teaches: it receives a block once, whatever the number of students that listen.

    Args:
        receiver: learned or classical.
        paths: modules of a learned receiver whose activations students want.

    Attributes:
        name: of the receiver.
        channels: of the activations, by path.

    Raises:
        UserError: if a path is not in the receiver's net, or it has none.
    """

    def __init__(self, receiver: Receiver, paths: Iterable[str] = ()) -> None:
        self.name = receiver.name
        self._receiver, self._paths = receiver, tuple(dict.fromkeys(paths))
        self.channels: dict[str, int] = {}
        if self._paths:
            if not isinstance(receiver, NeuralReceiver):
                raise UserError(f"transfers: '{self.name}' has no net to follow; name a learned teacher")
            self.channels = channels_at(receiver.net, self._paths, f"teacher '{self.name}'")

    def __call__(self, slots: Slots) -> TeacherOutput:
        taps: dict[str, torch.Tensor] = {}
        if self._paths and isinstance(self._receiver, NeuralReceiver):
            with Taps(self._receiver.net, self._paths) as tapped:
                llrs = self._receiver(slots)
                taps = tapped.take()
        else:
            llrs = self._receiver(slots)
        return TeacherOutput(llrs.clamp(-MAX_LLR, MAX_LLR), taps)


def ensemble_llrs(told: Sequence[TeacherOutput]) -> torch.Tensor:
    """What teachers say together: the LLR of the mean of their probabilities.

    It is the arithmetic mean of distributions that 1503.02531 names for ensembles, as
    ``log sum_n sigmoid(l_n) - log sum_n sigmoid(-l_n)``, in which certain bits stay certain. One teacher's LLRs are
    returned as they are.

    Args:
        told: what each of them says about the same slots.

    Returns:
        float32 ``(B, K, S, F)``.
    """
    if len(told) == 1:
        return told[0].llrs
    llrs = torch.stack([t.llrs for t in told])
    return torch.logsumexp(logsigmoid(llrs), 0) - torch.logsumexp(logsigmoid(-llrs), 0)
