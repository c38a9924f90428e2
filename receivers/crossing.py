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
    """Difference in needed SINR with a paired bootstrap interval; NaN where a curve does not reach the BER."""

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


def gap_db(
    counts: pd.DataFrame, first: str, second: str, target: float, resamples: int = 1000, level: float = 0.95
) -> Gap:
    """How many dB more ``first`` needs than ``second`` for the BER ``target``.

    Both were counted on the same blocks of slots, so each block gets one random weight (exponential, the Bayesian
    bootstrap) for both receivers and all SINR points: what a block does to both cancels in the difference. The interval
    is the estimate plus or minus Student's t times the spread of the gap, scaled for the number n of blocks.

    Args:
        counts: rows of :class:`receivers.ber.BlockCount` for one interference share; blocks that only one of the two
            receivers has are left out.
        first, second: receivers.
        target: BER.
        resamples: bootstrap draws.
        level: confidence level.
    """
    keys = ["sinr_db", "block"]
    columns = [*keys, "bit_errors", "bits"]
    sides = [counts.loc[counts["receiver"] == name, columns] for name in (first, second)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_first", "_second")).sort_values(keys)
    points, point = np.unique(both["sinr_db"].to_numpy(float), return_inverse=True)
    if len(points) < 2:
        return NO_GAP
    blocks, block = np.unique(both["block"].to_numpy(), return_inverse=True)
    weights = np.random.default_rng(0).exponential(size=(resamples + 1, len(blocks)))
    weights[0] = 1.0  # the estimate itself
    at_point = np.equal.outer(point, np.arange(len(points))).astype(float)  # (rows, points)
    needed = []
    for side in ("first", "second"):
        errors, bits = (both[f"{c}_{side}"].to_numpy(float) for c in ("bit_errors", "bits"))
        per_row = weights[:, block]
        needed.append(sinr_at_ber(points, (per_row * errors) @ at_point, (per_row * bits) @ at_point, target))
    gaps = needed[0] - needed[1]
    num_blocks = int(at_point.sum(0).min())
    if num_blocks < 2 or np.isnan(gaps).mean() > (1 - level) / 2:
        return Gap(float(gaps[0]), np.nan, np.nan)
    factor = np.sqrt((num_blocks + 1) / (num_blocks - 1)) * stats.t.ppf(0.5 + level / 2, num_blocks - 1)
    half = float(factor * np.nanstd(gaps[1:]))
    return Gap(float(gaps[0]), float(gaps[0]) - half, float(gaps[0]) + half)
