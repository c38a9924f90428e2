"""Confidence intervals for error rates counted over slots."""

from __future__ import annotations

import math

from scipy import stats

MIN_SLOTS_DEGENERATE = 30
"""Slots with equal BERs from which on that is taken for a property of the receiver and not for luck."""


def wilson(errors: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (E. B. Wilson, 1927), for slot and block error rates."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    rate = errors / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half) if errors else 0.0, min(1.0, centre + half)


def slot_clustered(
    slots: int, slot_errors: int, bits: int, bit_errors: int, squares: float, cubes: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a BER whose errors cluster in slots.

    Bits of a slot share one channel draw, so slots, not bits, are the independent trials: with ``e_i`` errors in
    ``b_i`` bits of slot *i*, ``p = sum e / sum b`` and residuals ``r_i = e_i - p b_i``, the ratio estimator's variance
    is ``n/(n-1) sum r_i^2 / (sum b)^2`` (W. G. Cochran, Sampling Techniques, 3rd ed., 2.11). Few slots carry most
    errors, so the studentised estimate is skewed; Hall's cubic transformation (P. Hall, J. R. Statist. Soc. B 54,
    1992) takes that out with the residuals' third moment. Its quantiles are Student's t for the slots that err, which
    alone inform the interval.

    With one erring slot or none, or a few slots of equal BER, the interval goes from zero to the Clopper-Pearson upper
    end of the share of slots that err times a BER of 0.5 in those; without any error it is one-sided.

    Args:
        slots, slot_errors, bits, bit_errors: totals.
        squares, cubes: sums over slots of the residuals' second and third powers.
        level: confidence level.
    """
    tail = (1 - level) / 2 if slot_errors else 1 - level
    if slot_errors < 2 or (squares <= 0 and slots < MIN_SLOTS_DEGENERATE):
        erring = float(stats.beta.ppf(1 - tail, slot_errors + 1, slots - slot_errors)) if slot_errors < slots else 1.0
        return 0.0, 0.5 * erring
    rate = bit_errors / bits
    if squares <= 0:  # every slot has the same BER
        return rate, rate
    error = math.sqrt(slots / (slots - 1) * squares) / bits
    skew = cubes / squares**1.5
    quantile = float(stats.t.ppf(1 - tail, slot_errors - 1))
    low, high = rate - error * _unskewed(quantile, skew), rate - error * _unskewed(-quantile, skew)
    return max(0.0, low), min(1.0, high)


def _unskewed(z: float, skew: float) -> float:
    """The T that Hall's ``T + skew T^2/3 + skew^2 T^3/27 + skew/6`` takes to ``z``; ``skew`` is that of the mean."""
    if abs(skew) < 1e-6:
        return z
    return 3 / skew * (math.cbrt(1 + skew * (z - skew / 6)) - 1)
