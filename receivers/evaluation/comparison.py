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
    Estimate,
    beside,
    jackknife,
    jackknife_replicates,
    sinr_at_ber,
    tabulate,
)

Pairs = Sequence[tuple[str, str]]
"""Names of two receivers, for each seed."""


@dataclass(frozen=True)
class Comparison:
    """A mean over seeds.

    Attributes:
        value: NaN unless there is one for every seed.
        low, high: its interval; NaN where a resample has no value.
        at_least: where the first receiver of some pairs never falls to the BER: the mean with the highest tested SINR
            in their place. NaN where ``value`` is not.
        of_seeds: the value of each pair.
    """

    value: float
    low: float
    high: float
    at_least: float
    of_seeds: tuple[float, ...]

    @property
    def over(self) -> str:
        """What the interval covers."""
        if np.isnan(self.low):
            return "nothing"
        return "slots and seeds" if len(self.of_seeds) > 1 else "slots"


def mean_gap_db(counts: pd.DataFrame, pairs: Pairs, target: float, level: float = 0.95) -> Comparison:
    """How many dB more the first receivers need than the second for the BER ``target``.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount` for one interference share.
        pairs: one for each seed.
        target: BER.
        level: confidence level.
    """
    points, errors, bits = _paired(counts, pairs)
    if len(points) < 2:
        return _unknown(len(pairs))
    needed = sinr_at_ber(points, errors.sum(2), bits.sum(2), target)
    gaps = needed[:, 0] - needed[:, 1]
    if np.isnan(gaps).any():
        never = errors[:, 0, :, -1].sum(1) > target * bits[:, 0, :, -1].sum(1)
        bound = float(np.where(never, points[-1] - needed[:, 1], gaps).mean())
        return Comparison(np.nan, np.nan, np.nan, bound, tuple(gaps.tolist()))
    without = jackknife_replicates(points, errors, bits, target)
    has = bits[0, 0][:, beside(points, needed)] > 0
    low, high = _over_both(gaps, without[:, 0] - without[:, 1], has).interval(level)
    return Comparison(float(gaps.mean()), low, high, np.nan, tuple(gaps.tolist()))


def mean_ratio(counts: pd.DataFrame, pairs: Pairs, sinr_db: float, level: float = 0.95) -> Comparison:
    """BER of the first receivers over that of the second at one SINR, as a geometric mean.

    Args:
        counts, pairs, level: as :func:`mean_gap_db`.
        sinr_db: a tested point.
    """
    _, errors, bits = _paired(counts[counts["sinr_db"] == sinr_db], pairs)
    if not errors.size or not errors.sum((2, 3)).all():
        return _unknown(len(pairs))

    def log_ratio(errors: Array, bits: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_ber = np.log(errors[..., 0]) - np.log(bits[..., 0])
        return log_ber[:, 0] - log_ber[:, 1]

    logs = log_ratio(errors.sum(2), bits.sum(2))
    without = [x.sum(2, keepdims=True) - x for x in (errors, bits)]
    both = np.full((len(pairs), errors.shape[2]), np.nan)
    if errors.shape[2] > 1 and (without[0] > 0).all():
        both = log_ratio(*without)
    low, high = _over_both(logs, both, bits[0, 0] > 0).interval(level)
    value, low, high = (float(x) for x in np.exp([logs.mean(), low, high]))
    return Comparison(value, low, high, np.nan, tuple(np.exp(logs).tolist()))


def _paired(counts: pd.DataFrame, pairs: Pairs) -> tuple[Array, Array, Array]:
    """Points, and errors and bits ``(pairs, 2, blocks, points)``."""
    points, errors, bits = tabulate(counts, [name for pair in pairs for name in pair])
    shape = len(pairs), 2, *errors.shape[1:]
    return points, errors.reshape(shape), bits.reshape(shape)


def _unknown(seeds: int) -> Comparison:
    return Comparison(np.nan, np.nan, np.nan, np.nan, (np.nan,) * seeds)


def _over_both(values: Array, without: Array, has: NDArray[np.bool_]) -> Estimate:
    """The mean over seeds, with the variance that slots and seeds leave it.

    Args:
        values: ``(seeds,)``.
        without: the values without each block in turn, ``(seeds, blocks)``.
        has: as :func:`receivers.evaluation.required_sinr.jackknife`.
    """
    slots = jackknife(float(values.mean()), without.mean(0), has)
    if len(values) == 1 or np.isnan(slots.variance):
        return slots
    parts = [(slots.variance, slots.freedom), (float(values.var(ddof=1)) / len(values), len(values) - 1)]
    variance = sum(v for v, _ in parts)
    squares = sum(v**2 / freedom for v, freedom in parts)
    return Estimate(slots.value, variance, variance**2 / squares if squares else np.inf)
