"""LLRs of two receivers on a few slots at each point: decisions, and the information that the LLRs lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from channels import Slots, SlotStream
from receivers.base import Receiver
from receivers.evaluation.equivalence import Equivalence, information_equivalence
from receivers.evaluation.error_counts import NonFiniteLlrError
from receivers.evaluation.information_loss import information_loss_bits
from receivers.evaluation.required_sinr import Array


@dataclass(frozen=True)
class Screening:
    """LLRs of an exported file and of its receiver on the same slots.

    Attributes:
        slots, bits: of all points.
        differing_decisions: bits that the two decide differently.
        bit_errors_file, bit_errors_receiver: against the transmitted bits.
        max_llr_difference: largest absolute difference of an LLR of a data bit.
        max_llr: largest magnitude of an LLR of the receiver.
        information: equivalence of the soft bits, by interference fraction.
    """

    slots: int
    bits: int
    differing_decisions: int
    bit_errors_file: int
    bit_errors_receiver: int
    max_llr_difference: float
    max_llr: float
    information: tuple[Equivalence, ...]

    def as_json(self) -> dict[str, Any]:
        """All values."""
        return {**asdict(self), "information": [test.as_json() for test in self.information]}


@dataclass(frozen=True)
class _Point:
    """Both receivers on the slots of one point; the file is the first. Arrays have one value per slot."""

    losses_bits: Array
    bit_errors: Array
    bits: Array
    differing_decisions: int
    max_llr_difference: float
    max_llr: float


def screen(
    receivers: tuple[Receiver, Receiver],
    stream: SlotStream,
    sinr_db: Sequence[float],
    interference_fractions: Sequence[float],
    target_ber: float,
    margin_db: float,
) -> Screening:
    """Compare LLRs on the first block of each point.

    Args:
        receivers: the file and its receiver.
        stream: slots that neither was trained on.
        sinr_db, interference_fractions: points; each SINR is combined with each fraction.
        target_ber: BER of the receiver at whose information loss the gap is taken.
        margin_db: largest gap.

    Raises:
        UserError: if a receiver refuses a slot, or gives LLRs that are not finite.
    """
    sinrs_db = sorted(sinr_db)
    curves = {
        fraction: [_compare(receivers, stream.at_sinr(s, fraction).block(0)) for s in sinrs_db]
        for fraction in interference_fractions
    }
    points = [point for curve in curves.values() for point in curve]
    information = [
        information_equivalence(
            fraction,
            sinrs_db,
            np.stack([point.losses_bits for point in curve], 2),
            np.stack([point.bit_errors[1] for point in curve], 1),
            np.stack([point.bits for point in curve], 1),
            target_ber,
            margin_db,
        )
        for fraction, curve in curves.items()
    ]
    return Screening(
        slots=sum(len(p.bits) for p in points),
        bits=int(sum(p.bits.sum() for p in points)),
        differing_decisions=sum(p.differing_decisions for p in points),
        bit_errors_file=int(sum(p.bit_errors[0].sum() for p in points)),
        bit_errors_receiver=int(sum(p.bit_errors[1].sum() for p in points)),
        max_llr_difference=max(p.max_llr_difference for p in points),
        max_llr=max(p.max_llr for p in points),
        information=tuple(information),
    )


def _compare(receivers: tuple[Receiver, Receiver], slots: Slots) -> _Point:
    mask, bits = slots.bit_mask, slots.bits.bool()
    llrs = [_finite_llrs(receiver, slots) for receiver in receivers]
    decisions = [llr > 0 for llr in llrs]
    return _Point(
        losses_bits=np.stack([information_loss_bits(llr, slots).numpy() for llr in llrs]),
        bit_errors=np.stack([((d != bits) & mask).sum((1, 2, 3)).double().numpy() for d in decisions]),
        bits=mask.sum((1, 2, 3)).double().numpy(),
        differing_decisions=int(((decisions[0] != decisions[1]) & mask).sum()),
        max_llr_difference=float((llrs[0] - llrs[1])[mask].abs().max()),
        max_llr=float(llrs[1][mask].abs().max()),
    )


def _finite_llrs(receiver: Receiver, slots: Slots) -> torch.Tensor:
    with torch.no_grad():
        llrs = receiver(slots)
    if not torch.isfinite(llrs[slots.bit_mask]).all():
        raise NonFiniteLlrError(f"{receiver.name}: LLRs are not finite; the file is damaged, export the receiver again")
    return llrs
