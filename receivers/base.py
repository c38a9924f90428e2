"""The interface of every receiver: slots in, LLRs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch

from channels import Slots


class Receiver(Protocol):
    """A callable from slots to LLRs; classical and learned receivers are such.

    Attributes:
        name: name in tables and figures.
        digest: hash of everything that determines the LLRs; equal digests give equal LLRs.

    Example:
        A receiver of one line, which takes the real part of the first antenna for every bit:

        >>> from channels import SlotStream, scenario
        >>> class FirstAntenna:
        ...     name, digest = "first antenna", "first-antenna/1"
        ...     def __call__(self, slots):
        ...         return slots.y[:, :1].real.expand(slots.bits.shape)
        >>> receiver: Receiver = FirstAntenna()
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").block(0)
        >>> tuple(receiver(slots).shape)
        (2, 4, 14, 72)
    """

    name: str
    digest: str

    def __call__(self, slots: Slots) -> torch.Tensor:
        """Compute LLRs.

        Args:
            slots: received slots ``(B, ...)``.

        Returns:
            log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)`` like ``slots.bits``; positive means 1. Only entries of
            ``slots.bit_mask`` have a meaning.
        """
        ...


@dataclass(frozen=True)
class FormulaCount:
    """Operations of one receiver on one slot, counted by formula.

    Attributes:
        macs: real multiply-accumulates; a complex one is four real ones.
        elements: elements written by operators without MACs, by operator, such as ``{"exp": 2496}``.
    """

    macs: int = 0
    elements: dict[str, int] = field(default_factory=dict)
