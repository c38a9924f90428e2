"""SINR that a receiver needs for a BER, and the gap in dB between two receivers on the same slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SinrGap:
    """Difference in needed SINR with a paired interval; NaN where a curve does not reach the BER."""

    gap_db: float
    low_db: float
    high_db: float


NO_GAP = SinrGap(float("nan"), float("nan"), float("nan"))


def sinr_at_ber(sinr_db: Array, bit_errors: Array, bits: Array, target: float) -> Array:
    """SINR at which curves first fall to ``target``, linear in dB over log10(BER).

    A point without errors counts as half an error.

    Args:
        sinr_db: increasing, ``(points,)``.
        bit_errors, bits: ``(..., points)``.
        target: BER.

    Returns:
        ``(...)``; NaN where a curve starts below the target or never falls to it.
    """
    log_ber = np.log10(np.maximum(bit_errors, 0.5) / bits / target)
    falls = (log_ber[..., :-1] > 0) & (log_ber[..., 1:] <= 0)
    first = falls.argmax(-1)
    before = np.take_along_axis(log_ber, first[..., None], -1)[..., 0]
    after = np.take_along_axis(log_ber, first[..., None] + 1, -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = before / (before - after)
        crossing = sinr_db[first] + share * (sinr_db[first + 1] - sinr_db[first])
    return np.where(falls.any(-1), crossing, np.nan)


def gap_db(counts: pd.DataFrame, first: str, second: str, target: float, level: float = 0.95) -> SinrGap:
    """How many dB more ``first`` needs than ``second`` for the BER ``target``, as the curves are drawn.

    Both were counted on the same blocks of slots, which repeat from point to point, so the gap is computed once more
    without each block in turn (the jackknife, J. W. Tukey, 1958): what a block does to both receivers, and to all
    points, cancels in the difference. The interval is the estimate plus or minus Student's t times the spread.
    Points may have stopped after different numbers of blocks: blocks that the same points have are one stratum, and
    the degrees of freedom are F. E. Satterthwaite's (1946) over strata.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount` for one interference fraction; blocks
            that only one of the two receivers has are left out.
        first, second: receivers.
        target: BER.
        level: confidence level.
    """
    points, errors, bits = tabulate(counts, [first, second])
    return paired_gap(points, errors, bits, target, level) if len(points) > 1 else NO_GAP


def tabulate(counts: pd.DataFrame, names: Sequence[str]) -> tuple[Array, Array, Array]:
    """Counts of receivers on the blocks that all of them have.

    Args:
        counts: as :func:`gap_db`.
        names: receivers.

    Returns:
        increasing SINR ``(points,)``; bit errors and bits ``(names, blocks, points)``, 0 where a point has no such
        block.
    """
    known = sorted(set(names))
    rows = counts[counts["receiver"].isin(known)]
    points, point = np.unique(rows["sinr_db"].to_numpy(float), return_inverse=True)
    blocks, block = np.unique(rows["block"].to_numpy(), return_inverse=True)
    sums = np.zeros((2, len(known), len(blocks), len(points)))
    receiver = np.searchsorted(known, rows["receiver"].to_numpy(str))
    for table, column in zip(sums, ("bit_errors", "bits"), strict=True):
        table[receiver, block, point] = rows[column].to_numpy(float)
    common = (sums[1] > 0).all(0)
    sums = (sums * common)[:, [known.index(name) for name in names]][:, :, common.any(1)][..., common.any(0)]
    return points[common.any(0)], sums[0], sums[1]


def paired_gap(sinr_db: Array, bit_errors: Array, bits: Array, target: float, level: float = 0.95) -> SinrGap:
    """:func:`gap_db` on arrays.

    Args:
        sinr_db: increasing, ``(points,)``.
        bit_errors, bits: of the two receivers, ``(2, blocks, points)``; 0 bits where a point has no such block.
        target: BER.
        level: confidence level.
    """
    errors, trials = bit_errors.sum(1), bits.sum(1)
    needed = sinr_at_ber(sinr_db, errors, trials, target)
    gap = float(needed[0] - needed[1])
    if np.isnan(gap):
        return NO_GAP
    without = jackknife_replicates(sinr_db, bit_errors, bits, target)
    has = bits[0][:, beside(sinr_db, needed)] > 0
    low, high = jackknife(gap, without[0] - without[1], has).interval(level)
    return SinrGap(gap, low, high)


def jackknife_replicates(sinr_db: Array, bit_errors: Array, bits: Array, target: float) -> Array:
    """:func:`sinr_at_ber` without each block in turn.

    Args:
        sinr_db, bit_errors, bits, target: as :func:`paired_gap`, with any leading axes.

    Returns:
        ``(..., blocks)``.
    """
    errors, trials = (x.sum(-2, keepdims=True) - x for x in (bit_errors, bits))
    return sinr_at_ber(sinr_db, errors, np.maximum(trials, 1), target)


def beside(sinr_db: Array, needed: Array) -> NDArray[np.intp]:
    """Points that crossings lie between."""
    above = np.searchsorted(sinr_db, needed.ravel())
    return np.unique([above - 1, above])


@dataclass(frozen=True)
class Estimate:
    """A value with the variance that the luck of its sample leaves it, and the degrees of freedom of that variance.

    The variance is NaN where it is not known.
    """

    value: float
    variance: float
    freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval."""
        if not self.variance:
            return self.value, self.value
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom) * np.sqrt(self.variance))
        return self.value - half, self.value + half


def jackknife(value: float, without: Array, has: NDArray[np.bool_]) -> Estimate:
    """A value that rests on blocks of slots, and how much these leave to luck; see :func:`gap_db`.

    Args:
        value: on all blocks.
        without: the value without each block in turn, ``(blocks,)``.
        has: which blocks each point has that the value is read from, ``(blocks, points)``.
    """
    fewest = int(has.sum(0).min())
    squares = (without - value) ** 2
    if fewest < 2 or np.isnan(squares).any():
        return Estimate(value, np.nan, np.nan)
    _, stratum = np.unique(has, axis=0, return_inverse=True)
    of_stratum, size = np.bincount(stratum.ravel(), squares), np.bincount(stratum.ravel())
    if not of_stratum.any():
        return Estimate(value, 0.0, np.inf)
    kept = 1 - 1 / fewest
    freedom = max(1.0, float(of_stratum.sum() ** 2 / (of_stratum**2 / (size * kept)).sum()))
    return Estimate(value, float(kept * of_stratum.sum()), freedom)
