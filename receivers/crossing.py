"""SINR that a receiver needs for a BER, and the gap in dB between two receivers on the same slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """Difference in needed SINR with a paired interval; NaN where a curve does not reach the BER."""

    gap_db: float
    low_db: float
    high_db: float


NO_GAP = Gap(float("nan"), float("nan"), float("nan"))


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


def gap_db(counts: pd.DataFrame, first: str, second: str, target: float, level: float = 0.95) -> Gap:
    """How many dB more ``first`` needs than ``second`` for the BER ``target``, as the curves are drawn.

    Both were counted on the same blocks of slots, which repeat from point to point, so the gap is computed once more
    without each block in turn (the jackknife, J. W. Tukey, 1958): what a block does to both receivers, and to all
    points, cancels in the difference. The interval is the estimate plus or minus Student's t times the spread.
    Points may have stopped after different numbers of blocks: blocks that the same points have are one stratum, and
    the degrees of freedom are F. E. Satterthwaite's (1946) over strata.

    Args:
        counts: rows of :class:`receivers.ber.BlockCount` for one interference share; blocks that only one of the two
            receivers has are left out.
        first, second: receivers.
        target: BER.
        level: confidence level.
    """
    keys = ["sinr_db", "block"]
    columns = [*keys, "bit_errors", "bits"]
    sides = [counts.loc[counts["receiver"] == name, columns] for name in (first, second)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_first", "_second"))
    points, point = np.unique(both["sinr_db"].to_numpy(float), return_inverse=True)
    if len(points) < 2:
        return NO_GAP
    blocks, block = np.unique(both["block"].to_numpy(), return_inverse=True)
    sums = np.zeros((4, len(blocks), len(points)))
    for table, column in zip(sums, ("bit_errors_first", "bits_first", "bit_errors_second", "bits_second"), strict=True):
        table[block, point] = both[column].to_numpy(float)
    return paired_gap(points, sums[0::2], sums[1::2], target, level)


def paired_gap(sinr_db: Array, bit_errors: Array, bits: Array, target: float, level: float = 0.95) -> Gap:
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
    above = np.searchsorted(sinr_db, needed)
    read = np.unique([above - 1, above])  # points that the crossings lie between
    has = bits[0][:, read] > 0
    fewest = int(has.sum(0).min())
    left = np.maximum(trials[:, None] - bits, 1)
    without = sinr_at_ber(sinr_db, errors[:, None] - bit_errors, left, target)
    squares = (without[0] - without[1] - gap) ** 2
    if fewest < 2 or np.isnan(squares).any():
        return Gap(gap, np.nan, np.nan)
    _, stratum = np.unique(has, axis=0, return_inverse=True)
    of_stratum, size = np.bincount(stratum.ravel(), squares), np.bincount(stratum.ravel())
    if not of_stratum.any():
        return Gap(gap, gap, gap)
    kept = 1 - 1 / fewest
    freedom = max(1.0, float(of_stratum.sum() ** 2 / (of_stratum**2 / (size * kept)).sum()))
    half = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(kept * of_stratum.sum()))
    return Gap(gap, gap - half, gap + half)
