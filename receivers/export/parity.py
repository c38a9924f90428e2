"""Whether an exported receiver does what the tested one did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from channels import Slots
from receivers.base import Receiver

MAX_LLR_DIFFERENCE = 1e-4
"""Largest allowed difference of an LLR, relative to the largest LLR of the slots."""
MAX_DIFFERING_DECISIONS = 1e-4
"""Largest allowed share of bits decided differently: LLRs that close to 0 say nothing about their bit."""


@dataclass(frozen=True)
class Parity:
    """Two receivers on the same fresh slots.

    Attributes:
        slots, bits: how many were compared.
        max_llr_difference: largest absolute difference of an LLR of a data bit.
        max_llr: largest magnitude of an LLR of the original.
        differing_decisions: bits that the two decide differently.
        bit_errors_original, bit_errors_exported: errors against the transmitted bits.
    """

    slots: int
    bits: int
    max_llr_difference: float
    max_llr: float
    differing_decisions: int
    bit_errors_original: int
    bit_errors_exported: int

    @property
    def equal(self) -> bool:
        """LLRs agree to :data:`MAX_LLR_DIFFERENCE` and decisions to :data:`MAX_DIFFERING_DECISIONS`, so BERs do too."""
        close = self.max_llr_difference <= MAX_LLR_DIFFERENCE * self.max_llr
        return close and self.differing_decisions <= MAX_DIFFERING_DECISIONS * self.bits

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "ber_original": self.bit_errors_original / self.bits,
            "ber_exported": self.bit_errors_exported / self.bits,
            "equal": self.equal,
        }


def compare(original: Receiver, exported: Receiver, slots: Slots) -> Parity:
    """Run both receivers on the same slots.

    Args:
        original, exported: receivers; their LLRs ``(B, K, S, F)`` are compared over ``slots.bit_mask``.
        slots: slots that neither was trained on.
    """
    mask, bits = slots.bit_mask, slots.bits.bool()
    ours, theirs = original(slots).cpu(), exported(slots).cpu()
    mask, bits = mask.cpu(), bits.cpu()
    return Parity(
        slots=len(slots),
        bits=int(mask.sum()),
        max_llr_difference=float((ours - theirs)[mask].abs().max()),
        max_llr=float(ours[mask].abs().max()),
        differing_decisions=int((((ours > 0) != (theirs > 0)) & mask).sum()),
        bit_errors_original=int((((ours > 0) != bits) & mask).sum()),
        bit_errors_exported=int((((theirs > 0) != bits) & mask).sum()),
    )
