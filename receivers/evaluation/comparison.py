"""Differences between two receivers, each trained with several seeds, on the same test slots.

A difference is the mean over seeds of the difference within each seed's pair. It has two sources of sampling error: the
test slots, which all seeds share, and the seeds. The first is the jackknife's variance of the mean over blocks of slots
(:func:`receivers.evaluation.required_sinr.jackknife`). The second is the variance between seeds over their number.

The interval rests on the sum of the two variances, as for two-way clustering (A. C. Cameron, J. B. Gelbach, D. L.
Miller, J. Bus. Econ. Stat. 29, 2011), with the degrees of freedom of F. E. Satterthwaite (1946). The interaction of a
slot with one seed is part of both variances, so the interval is conservative. With one seed it covers the slots only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from receivers.evaluation.required_sinr import (
    Array,
    JackknifeEstimate,
    bracketing_points,
    jackknife,
    jackknife_replicates,
    sinr_at_ber,
    tabulate,
)

Pairs = Sequence[tuple[str, str]]
"""Names of the first and second receiver, for each seed."""


@dataclass(frozen=True)
class Comparison:
    """A mean over seeds with its interval.

    Attributes:
        value: NaN unless every seed has a value.
        low, high: its interval; NaN where a jackknife replicate has no value.
        lower_bound: the mean with the highest tested SINR for first receivers that never fall to the BER; NaN where
            ``value`` is a number.
        per_seed: the value of each pair.
    """

    value: float
    low: float
    high: float
    lower_bound: float
    per_seed: tuple[float, ...]

    @property
    def interval_scope(self) -> str:
        """Sources of sampling error that the interval covers."""
        if np.isnan(self.low):
            return "nothing"
        return "slots and seeds" if len(self.per_seed) > 1 else "slots"


def mean_gap_db(counts: pd.DataFrame, pairs: Pairs, target: float, level: float = 0.95) -> Comparison:
    """SINR in dB that the first receivers need more than the second for the BER ``target``, mean over seeds.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount` for one interference fraction.
        pairs: one for each seed.
        target: BER.
        level: confidence level.

    Example:
        Two seeds, whose first receivers need 10 dB more:

        >>> import pandas as pd
        >>> rows = [
        ...     {"receiver": f"{name}{seed}", "block": block, "sinr_db": sinr_db, "bit_errors": errors, "bits": 10_000}
        ...     for seed in (1, 2)
        ...     for block in (0, 1)
        ...     for sinr_db, a, b in ((0.0, 10_000, 1_000), (10.0, 1_000, 100), (20.0, 100, 10))
        ...     for name, errors in (("A", a), ("B", b))
        ... ]
        >>> gap = mean_gap_db(pd.DataFrame(rows), [("A1", "B1"), ("A2", "B2")], target=0.05)
        >>> round(gap.value, 6), gap.interval_scope
        (10.0, 'slots and seeds')
    """
    points, errors, bits = _paired(counts, pairs)
    if len(points) < 2:
        return _unknown(len(pairs))
    required = sinr_at_ber(points, errors.sum(2), bits.sum(2), target)
    gaps = required[:, 0] - required[:, 1]
    if np.isnan(gaps).any():
        never = errors[:, 0, :, -1].sum(1) > target * bits[:, 0, :, -1].sum(1)
        bound = float(np.where(never, points[-1] - required[:, 1], gaps).mean())
        return Comparison(np.nan, np.nan, np.nan, bound, tuple(gaps.tolist()))
    replicates = jackknife_replicates(points, errors, bits, target)
    has_block = bits[0, 0][:, bracketing_points(points, required)] > 0
    low, high = _mean_over_seeds(gaps, replicates[:, 0] - replicates[:, 1], has_block).interval(level)
    return Comparison(float(gaps.mean()), low, high, np.nan, tuple(gaps.tolist()))


def mean_ratio(counts: pd.DataFrame, pairs: Pairs, sinr_db: float, level: float = 0.95) -> Comparison:
    """BER of the first receivers over that of the second at one SINR, as a geometric mean.

    Args:
        counts, pairs, level: as for :func:`mean_gap_db`.
        sinr_db: a test point.
    """
    _, errors, bits = _paired(counts[counts["sinr_db"] == sinr_db], pairs)
    if not errors.size or not errors.sum((2, 3)).all():
        return _unknown(len(pairs))

    def log_ratio(errors: Array, bits: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_ber = np.log(errors[..., 0]) - np.log(bits[..., 0])
        return log_ber[:, 0] - log_ber[:, 1]

    logs = log_ratio(errors.sum(2), bits.sum(2))
    sums_without = [x.sum(2, keepdims=True) - x for x in (errors, bits)]
    replicates = np.full((len(pairs), errors.shape[2]), np.nan)
    if errors.shape[2] > 1 and (sums_without[0] > 0).all():
        replicates = log_ratio(*sums_without)
    low, high = _mean_over_seeds(logs, replicates, bits[0, 0] > 0).interval(level)
    value, low, high = (float(x) for x in np.exp([logs.mean(), low, high]))
    return Comparison(value, low, high, np.nan, tuple(np.exp(logs).tolist()))


def _paired(counts: pd.DataFrame, pairs: Pairs) -> tuple[Array, Array, Array]:
    """Points, and errors and bits ``(pairs, 2, blocks, points)``."""
    points, errors, bits = tabulate(counts, [name for pair in pairs for name in pair])
    shape = len(pairs), 2, *errors.shape[1:]
    return points, errors.reshape(shape), bits.reshape(shape)


def _unknown(seeds: int) -> Comparison:
    return Comparison(np.nan, np.nan, np.nan, np.nan, (np.nan,) * seeds)


def _mean_over_seeds(values: Array, replicates: Array, has_block: NDArray[np.bool_]) -> JackknifeEstimate:
    """The mean over seeds, with its sampling variance over slots and seeds.

    Args:
        values: ``(seeds,)``.
        replicates: the values without each block in turn, ``(seeds, blocks)``.
        has_block: as for :func:`receivers.evaluation.required_sinr.jackknife`.
    """
    slots = jackknife(float(values.mean()), replicates.mean(0), has_block)
    if len(values) == 1 or np.isnan(slots.variance):
        return slots
    parts = [(slots.variance, slots.freedom), (float(values.var(ddof=1)) / len(values), len(values) - 1)]
    variance = sum(v for v, _ in parts)
    squares = sum(v**2 / freedom for v, freedom in parts)
    return JackknifeEstimate(slots.value, variance, variance**2 / squares if squares else np.inf)
