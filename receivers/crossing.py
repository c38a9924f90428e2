"""SINR that a receiver needs for a BER, and the gap in dB between two receivers on the same slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """Difference in needed SINR with a paired bootstrap interval; NaN where a curve does not reach the BER."""

    gap_db: float
    low_db: float
    high_db: float


def sinr_at_ber(sinr_db: Array, ber: Array, target: float) -> Array:
    """SINR at which curves first fall to ``target``, linear in dB over log10(BER).

    Args:
        sinr_db: increasing, ``(points,)``.
        ber: ``(..., points)``; zeros are allowed.
        target: BER.

    Returns:
        ``(...)``; NaN where a curve starts below the target or never falls to it.
    """
    log_ber = np.log10(np.maximum(ber, 1e-12)) - np.log10(target)
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

    Both were counted on the same blocks of slots, so blocks are resampled jointly (paired percentile bootstrap): what
    a block does to both receivers cancels in the difference.

    Args:
        counts: rows of :class:`receivers.ber.BlockCount` for one interference share.
        first, second: receivers.
        target: BER.
        resamples: bootstrap draws.
        level: confidence level.
    """
    points = np.sort(counts["sinr_db"].unique())
    tables = {}
    for name in (first, second):
        rows = counts[counts["receiver"] == name]
        tables[name] = [rows[rows["sinr_db"] == s].sort_values("block") for s in points]
    blocks = [len(t) for t in tables[first]]
    rng = np.random.default_rng(0)
    draws = rng.random((resamples, max(blocks)))
    needed, exact = {}, {}
    for name, rows_by_point in tables.items():
        resampled, plain = np.empty((resamples, len(points))), np.empty(len(points))
        for i, rows in enumerate(rows_by_point):
            errors, bits = rows["bit_errors"].to_numpy(float), rows["bits"].to_numpy(float)
            index = (draws[:, : blocks[i]] * blocks[i]).astype(int)
            resampled[:, i] = errors[index].sum(1) / bits[index].sum(1)
            plain[i] = errors.sum() / bits.sum()
        needed[name] = sinr_at_ber(points, resampled, target)
        exact[name] = float(sinr_at_ber(points, plain, target))
    gaps = needed[first] - needed[second]
    tail = (1 - level) / 2
    if np.isnan(gaps).mean() > tail:
        low, high = float("nan"), float("nan")
    else:
        low, high = (float(q) for q in np.nanquantile(gaps, [tail, 1 - tail]))
    return Gap(exact[first] - exact[second], low, high)
