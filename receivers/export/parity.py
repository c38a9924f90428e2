"""Comparison of an exported receiver with the tested one on the same slots."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from channels import Slots, SlotStream
from leanrx_core.errors import UserError
from receivers.base import Receiver

MAX_LLR_DIFFERENCE = 1e-4
"""Largest allowed difference of an LLR, relative to the largest LLR of the slots."""
MAX_DIFFERING_DECISIONS = 1e-4
"""Largest allowed fraction of bits decided differently: such LLRs are close to 0 and carry no information."""


@dataclass(frozen=True)
class Parity:
    """Agreement of two receivers on the same fresh slots.

    Attributes:
        slots, bits: number of slots and data bits compared.
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
        """Whether LLRs agree to :data:`MAX_LLR_DIFFERENCE` and decisions to :data:`MAX_DIFFERING_DECISIONS`."""
        close = self.max_llr_difference <= MAX_LLR_DIFFERENCE * self.max_llr
        return close and self.differing_decisions <= MAX_DIFFERING_DECISIONS * self.bits

    def as_json(self) -> dict[str, Any]:
        """All fields, both BERs and :attr:`equal`, as plain values."""
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
        slots: slots that neither receiver was trained on.
    """
    mask, bits = slots.bit_mask, slots.bits.bool()
    expected, actual = original(slots).cpu(), exported(slots).cpu()
    mask, bits = mask.cpu(), bits.cpu()
    return Parity(
        slots=len(slots),
        bits=int(mask.sum()),
        max_llr_difference=float((expected - actual)[mask].abs().max()),
        max_llr=float(expected[mask].abs().max()),
        differing_decisions=int((((expected > 0) != (actual > 0)) & mask).sum()),
        bit_errors_original=int((((expected > 0) != bits) & mask).sum()),
        bit_errors_exported=int((((actual > 0) != bits) & mask).sum()),
    )


def compare_at_points(
    original: Receiver,
    exported: Receiver,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...],
) -> dict[str, Parity]:
    """Compare two receivers on a block of slots at each point.

    Args:
        original, exported: receivers.
        stream: its block i is used at point i.
        sinr_db, interference_fractions: points; each SINR is combined with each fraction.

    Returns:
        The comparisons by the description of their point.

    Raises:
        UserError: if LLRs or decisions differ at a point.
    """
    points = [(fraction, s) for fraction in interference_fractions for s in sinr_db]
    parities = {
        f"{s:g} dB, interference fraction {fraction:g}": compare(
            original, exported, stream.at_sinr(s, fraction).block(i)
        )
        for i, (fraction, s) in enumerate(points)
    }
    for point, parity in parities.items():
        if not parity.equal:
            raise UserError(
                f"export: {exported.name} differs from the tested receiver at {point}: largest LLR difference "
                f"{parity.max_llr_difference:.3g} of {parity.max_llr:.3g}, {parity.differing_decisions} of "
                f"{parity.bits} bits decided differently; nothing was written"
            )
    return parities


def total_parity(parities: dict[str, Parity]) -> Parity:
    """One comparison over all points."""
    values = list(parities.values())
    return Parity(
        slots=sum(p.slots for p in values),
        bits=sum(p.bits for p in values),
        max_llr_difference=max(p.max_llr_difference for p in values),
        max_llr=max(p.max_llr for p in values),
        differing_decisions=sum(p.differing_decisions for p in values),
        bit_errors_original=sum(p.bit_errors_original for p in values),
        bit_errors_exported=sum(p.bit_errors_exported for p in values),
    )
