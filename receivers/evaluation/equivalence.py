"""Test of whether two receivers are equivalent: whether their SINR gap lies within a margin.

This is the interval form of two one-sided tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987). The receivers
are equivalent if the whole interval of the gap lies within the margin. They differ if the whole interval lies outside.
Otherwise the slots are too few to decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from receivers.evaluation.required_sinr import (
    NO_GAP,
    Array,
    SinrGap,
    gap_db,
    jackknife,
    paired_gap,
    sinr_at_ber,
    tabulate,
)

Verdict = Literal["equivalent", "different", "undecided"]

BLER_TARGET = 0.1
"""BLER at which coded receivers are compared: the target of link adaptation (TS 38.214, 5.2.2.1)."""


@dataclass(frozen=True)
class Equivalence:
    """Result of the test for one measure and one interference fraction.

    Attributes:
        measure: ``"BER"``, ``"BLER"`` or ``"information loss"``.
        interference_fraction: of the points.
        target: value of the measure at which the gap is taken.
        margin_db: largest gap of equivalent receivers.
        gap: required SINR of the first receiver minus that of the second, with its interval; NaN where a curve does not
            reach the target, and infinite where only the first loses too much information.
    """

    measure: str
    interference_fraction: float
    target: float
    margin_db: float
    gap: SinrGap

    @property
    def verdict(self) -> Verdict:
        """By the interval. A gap without an interval decides nothing.

        Example:
            >>> wide = SinrGap(gap_db=0.01, low_db=-0.01, high_db=0.03)
            >>> Equivalence("BER", 0.0, 1e-2, 0.02, wide).verdict, Equivalence("BER", 0.0, 1e-2, 0.05, wide).verdict
            ('undecided', 'equivalent')
        """
        low, high = self.gap.low_db, self.gap.high_db
        if math.isnan(low):
            return "undecided"
        if -self.margin_db <= low and high <= self.margin_db:
            return "equivalent"
        return "different" if low > self.margin_db or high < -self.margin_db else "undecided"

    @property
    def slots_factor(self) -> float:
        """How many times as many slots would decide, if the gap stays: the interval narrows with their root."""
        margin_left_db = abs(self.margin_db - abs(self.gap.gap_db))
        half_width_db = (self.gap.high_db - self.gap.low_db) / 2
        return (half_width_db / margin_left_db) ** 2 if margin_left_db else math.inf

    def as_json(self) -> dict[str, Any]:
        """All values; those that are not finite become None."""
        values = {**asdict(self), **asdict(self.gap), "verdict": self.verdict}
        del values["gap"]
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def ber_equivalence(counts: pd.DataFrame, names: tuple[str, str], target: float, margin_db: float) -> list[Equivalence]:
    """Test for equal BER, at each interference fraction.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount`.
        names: of the two receivers; both have the same slots.
        target: BER.
        margin_db: largest gap.

    Example:
        >>> rows = [
        ...     {"receiver": name, "interference_fraction": 0.0, "block": block, "sinr_db": sinr_db,
        ...      "bit_errors": errors + block, "bits": 1000}
        ...     for name in ("file", "checkpoint") for block in (0, 1) for sinr_db, errors in ((0.0, 100), (9.0, 1))
        ... ]
        >>> (result,) = ber_equivalence(pd.DataFrame(rows), ("file", "checkpoint"), target=1e-2, margin_db=0.02)
        >>> result.verdict, result.gap.gap_db
        ('equivalent', 0.0)
    """
    return [
        Equivalence("BER", float(str(fraction)), target, margin_db, gap_db(rows, *names, target))
        for fraction, rows in counts.groupby("interference_fraction")
    ]


def bler_equivalence(counts: pd.DataFrame, names: tuple[str, str], margin_db: float) -> list[Equivalence]:
    """As :func:`ber_equivalence`, for the BLER :data:`BLER_TARGET`; empty where no transport blocks were decoded."""
    if not counts["transport_blocks"].any():
        return []
    blocks = counts.assign(bit_errors=counts["block_errors"], bits=counts["transport_blocks"])
    return [
        Equivalence("BLER", float(str(fraction)), BLER_TARGET, margin_db, gap_db(rows, *names, BLER_TARGET))
        for fraction, rows in blocks.groupby("interference_fraction")
    ]


def information_equivalence(
    interference_fraction: float,
    sinr_db: Sequence[float],
    losses_bits: Array,
    bit_errors: Array,
    bits: Array,
    target_ber: float,
    margin_db: float,
) -> Equivalence:
    """Test for equal soft bits: the gap at the information loss that the second receiver has at a BER.

    Args:
        interference_fraction: of the points.
        sinr_db: increasing, ``(points,)``.
        losses_bits: of the two receivers, ``(2, slots, points)``, see
            :func:`receivers.evaluation.information_loss.information_loss_bits`.
        bit_errors: of the second receiver, ``(slots, points)``.
        bits: ``(slots, points)``.
        target_ber: BER of the second receiver.
        margin_db: largest gap.
    """
    points = np.asarray(sinr_db, float)
    required = sinr_at_ber(points, bit_errors.sum(0), bits.sum(0), target_ber)
    if np.isnan(required):
        return Equivalence("information loss", interference_fraction, math.nan, margin_db, NO_GAP)
    mean_losses = losses_bits[1].sum(0) / bits.sum(0)
    target = float(10 ** np.interp(required, points, np.log10(mean_losses)))
    gap = paired_gap(points, losses_bits, np.broadcast_to(bits, losses_bits.shape), target)
    if np.isnan(gap.gap_db):  # the second receiver reaches the target, so the first does not
        gap = SinrGap(math.inf, math.inf, math.inf)
    return Equivalence("information loss", interference_fraction, target, margin_db, gap)


def ber_differences(counts: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """BER of the first receiver minus that of the second, with a jackknife interval over the blocks of slots.

    Args:
        counts, names: as for :func:`ber_equivalence`.

    Returns:
        columns ``interference_fraction, sinr_db, difference, difference_low, difference_high``, one row per point; the
        ends are NaN for one block.
    """
    table = []
    for fraction, rows in counts.groupby("interference_fraction"):
        points, errors, bits = tabulate(rows, names)
        for sinr_db, (first, second), trials in zip(
            points, np.moveaxis(errors, 2, 0), np.moveaxis(bits[0], 1, 0), strict=True
        ):
            surplus, has_block = (first - second)[trials > 0], trials > 0
            total = trials.sum()
            value = float(surplus.sum() / total)
            rest = np.maximum(total - trials[has_block], 1)
            replicates = (surplus.sum() - surplus) / rest
            estimate = jackknife(value, replicates, np.ones((len(surplus), 1), bool))
            table.append((fraction, sinr_db, value, *estimate.interval()))
    columns = ["interference_fraction", "sinr_db", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(table, columns=columns)
