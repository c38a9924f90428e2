"""Confidence intervals for error rates counted over slots."""

from __future__ import annotations

import math

from scipy import stats

MIN_SLOTS_DEGENERATE = 30
"""With at least this many slots of equal BER, the interval has zero width; with fewer, that is taken for chance."""


def wilson(errors: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (E. B. Wilson, 1927), for slot and block error rates.

    Args:
        errors, trials: counts.
        level: confidence level.

    Returns:
        Lower and upper end.

    Example:
        >>> low, high = wilson(10, 100)
        >>> round(low, 4), round(high, 4)
        (0.0552, 0.1744)
    """
    z = float(stats.norm.ppf(0.5 + level / 2))
    rate = errors / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half) if errors else 0.0, min(1.0, centre + half)


def slot_clustered(
    slots: int, slot_errors: int, bits: int, bit_errors: int, squares: float, cubes: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a BER whose errors cluster in slots.

    The bits of a slot share one channel draw. So slots, not bits, are the independent trials. With ``e_i`` errors in
    ``b_i`` bits of slot *i*, ``p = sum e / sum b`` and residuals ``r_i = e_i - p b_i``, the variance of the ratio
    estimator is ``n/(n-1) sum r_i^2 / (sum b)^2`` (W. G. Cochran, Sampling Techniques, 3rd ed., 2.11). A few slots have
    most of the errors, so the studentised estimate is skewed. Hall's cubic transformation (P. Hall, J. R. Statist. Soc.
    B 54, 1992) removes the skewness with the third moment of the residuals. Its quantiles are Student's t with the
    number of slots with errors, because only these carry information on the interval.

    Two cases differ: at most one slot with errors, or a few slots of equal BER. Then the interval goes from zero to the
    Clopper-Pearson upper end of the fraction of slots with errors, times a BER of 0.5 in them. Without any error it is
    one-sided.

    Args:
        slots, slot_errors, bits, bit_errors: totals.
        squares, cubes: sums over slots of the residuals' second and third powers.
        level: confidence level.

    Returns:
        Lower and upper end.
    """
    tail = (1 - level) / 2 if slot_errors else 1 - level
    if slot_errors < 2 or (squares <= 0 and slots < MIN_SLOTS_DEGENERATE):
        fraction = float(stats.beta.ppf(1 - tail, slot_errors + 1, slots - slot_errors)) if slot_errors < slots else 1.0
        return 0.0, 0.5 * fraction
    rate = bit_errors / bits
    if squares <= 0:  # every slot has the same BER
        return rate, rate
    error = math.sqrt(slots / (slots - 1) * squares) / bits
    skew = cubes / squares**1.5
    quantile = float(stats.t.ppf(1 - tail, slot_errors - 1))
    low, high = rate - error * _unskewed(quantile, skew), rate - error * _unskewed(-quantile, skew)
    return max(0.0, low), min(1.0, high)


def _unskewed(z: float, skew: float) -> float:
    """Solve Hall's ``T + skew T^2/3 + skew^2 T^3/27 + skew/6 = z`` for T; ``skew`` is that of the mean."""
    if abs(skew) < 1e-6:
        return z
    return 3 / skew * (math.cbrt(1 + skew * (z - skew / 6)) - 1)
