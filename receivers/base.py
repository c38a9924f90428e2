"""The one thing every receiver does: slots in, LLRs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch

from channels import Slots


class Receiver(Protocol):
    """Anything that turns slots into LLRs.

    Attributes:
        name: how tables and figures call it.
        digest: fingerprint of what computes the LLRs; equal digests give equal LLRs.
    """

    name: str
    digest: str

    def __call__(self, slots: Slots) -> torch.Tensor:
        """LLRs log P(bit = 1) / P(bit = 0), float32 ``(B, K, S, F)`` as ``slots.bits``; positive means 1.

        Only entries of ``slots.bit_mask`` have a meaning.
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
