"""Required SINR of a receiver for a target BER, and the SINR gap between two receivers on the same slots."""

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
    """Difference in required SINR with a paired interval; NaN where a curve does not reach the BER.

    Attributes:
        gap_db: required SINR of the first receiver minus that of the second.
        low_db, high_db: ends of the interval.
    """

    gap_db: float
    low_db: float
    high_db: float


NO_GAP = SinrGap(float("nan"), float("nan"), float("nan"))
"""Result where a curve does not reach the BER."""


def sinr_at_ber(sinr_db: Array, bit_errors: Array, bits: Array, target: float) -> Array:
    """SINR at which curves first fall to ``target``, linear in dB over log10(BER).

    A point without errors counts as half an error.

    Args:
        sinr_db: increasing, ``(points,)``.
        bit_errors, bits: ``(..., points)``.
        target: BER.

    Returns:
        Required SINR in dB, ``(...)``; NaN where a curve starts below the target, never falls to it, or is one point.

    Example:
        >>> import numpy as np
        >>> sinr_at_ber(np.array([0.0, 10.0]), np.array([100.0, 1.0]), np.array([1000.0, 1000.0]), target=1e-2).item()
        5.0
    """
    log_ber = np.log10(np.maximum(bit_errors, 0.5) / bits / target)
    if log_ber.shape[-1] < 2:
        return np.full(log_ber.shape[:-1], np.nan)
    falls = (log_ber[..., :-1] > 0) & (log_ber[..., 1:] <= 0)
    first = falls.argmax(-1)
    before = np.take_along_axis(log_ber, first[..., None], -1)[..., 0]
    after = np.take_along_axis(log_ber, first[..., None] + 1, -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = before / (before - after)
        crossing = sinr_db[first] + fraction * (sinr_db[first + 1] - sinr_db[first])
    return np.where(falls.any(-1), crossing, np.nan)


def gap_db(counts: pd.DataFrame, first: str, second: str, target: float, level: float = 0.95) -> SinrGap:
    """SINR in dB that ``first`` needs more than ``second`` for the BER ``target``, from interpolated curves.

    Both receivers were counted on the same blocks of slots, which repeat from point to point. The jackknife (J. W.
    Tukey, 1958) computes the gap again without each block in turn. Effects of a block on both receivers and on all
    points cancel in the difference. The interval is the estimate plus or minus Student's t times the standard error.

    Points may have stopped after different numbers of blocks. Blocks that exist at the same points are one stratum,
    and the degrees of freedom follow F. E. Satterthwaite (1946) over strata.

    Args:
        counts: rows of :class:`receivers.evaluation.error_counts.BlockCount` for one interference fraction; blocks
            that only one of the two receivers has are left out.
        first, second: names of the receivers.
        target: BER.
        level: confidence level.

    Returns:
        The gap; :data:`NO_GAP` where a curve does not reach the BER.

    Example:
        Two receivers, of which one needs 10 dB more, in two equal blocks:

        >>> import pandas as pd
        >>> rows = [
        ...     {"receiver": name, "block": block, "sinr_db": sinr_db, "bit_errors": errors, "bits": 10_000}
        ...     for block in (0, 1)
        ...     for sinr_db, a, b in ((0.0, 10_000, 1_000), (10.0, 1_000, 100), (20.0, 100, 10))
        ...     for name, errors in (("A", a), ("B", b))
        ... ]
        >>> round(gap_db(pd.DataFrame(rows), "A", "B", target=0.05).gap_db, 6)
        10.0
    """
    points, errors, bits = tabulate(counts, [first, second])
    return paired_gap(points, errors, bits, target, level) if len(points) > 1 else NO_GAP


def tabulate(counts: pd.DataFrame, names: Sequence[str]) -> tuple[Array, Array, Array]:
    """Counts of receivers on the blocks that all of them have.

    Args:
        counts: as :func:`gap_db`.
        names: receivers.

    Returns:
        Increasing SINR ``(points,)``; bit errors and bits ``(names, blocks, points)``, 0 where a point has no such
        block.
    """
    unique_names = sorted(set(names))
    rows = counts[counts["receiver"].isin(unique_names)]
    points, point = np.unique(rows["sinr_db"].to_numpy(float), return_inverse=True)
    blocks, block = np.unique(rows["block"].to_numpy(), return_inverse=True)
    sums = np.zeros((2, len(unique_names), len(blocks), len(points)))
    receiver = np.searchsorted(unique_names, rows["receiver"].to_numpy(str))
    for table, column in zip(sums, ("bit_errors", "bits"), strict=True):
        table[receiver, block, point] = rows[column].to_numpy(float)
    common = (sums[1] > 0).all(0)
    sums = (sums * common)[:, [unique_names.index(name) for name in names]][:, :, common.any(1)][..., common.any(0)]
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
    required = sinr_at_ber(sinr_db, errors, trials, target)
    gap = float(required[0] - required[1])
    if np.isnan(gap):
        return NO_GAP
    replicates = jackknife_replicates(sinr_db, bit_errors, bits, target)
    has_block = bits[0][:, bracketing_points(sinr_db, required)] > 0
    low, high = jackknife(gap, replicates[0] - replicates[1], has_block).interval(level)
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


def bracketing_points(sinr_db: Array, required: Array) -> NDArray[np.intp]:
    """Indices of the test points directly below and above each required SINR."""
    above = np.searchsorted(sinr_db, required.ravel())
    return np.unique([above - 1, above])


@dataclass(frozen=True)
class JackknifeEstimate:
    """A value with its sampling variance.

    Attributes:
        value: the estimate.
        variance: sampling variance; NaN where unknown.
        freedom: degrees of freedom of the variance.
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


def jackknife(value: float, replicates: Array, has_block: NDArray[np.bool_]) -> JackknifeEstimate:
    """Sampling variance of a value that depends on blocks of slots, see :func:`gap_db`.

    Args:
        value: from all blocks.
        replicates: the value without each block in turn, ``(blocks,)``.
        has_block: whether each of the points that determine the value has a block, ``(blocks, points)``.
    """
    min_blocks = int(has_block.sum(0).min())
    squares = (replicates - value) ** 2
    if min_blocks < 2 or np.isnan(squares).any():
        return JackknifeEstimate(value, np.nan, np.nan)
    _, stratum = np.unique(has_block, axis=0, return_inverse=True)
    sums, sizes = np.bincount(stratum.ravel(), squares), np.bincount(stratum.ravel())
    if not sums.any():
        return JackknifeEstimate(value, 0.0, np.inf)
    factor = 1 - 1 / min_blocks
    freedom = max(1.0, float(sums.sum() ** 2 / (sums**2 / (sizes * factor)).sum()))
    return JackknifeEstimate(value, float(factor * sums.sum()), freedom)
