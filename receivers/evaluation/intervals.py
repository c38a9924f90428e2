"""Confidence intervals for error rates counted over slots."""

from __future__ import annotations

import math

from scipy import stats

_EQUAL_BER = 1e-9
"""Squared coefficient of variation of the slots' BER up to which they count as equal; rounding alone gives 1e-12."""


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
    return max(0.0, centre - half) if errors else 0.0, min(1.0, centre + half) if errors < trials else 1.0


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

    Two cases differ, because the moments say too little:

    * One slot with errors: the interval goes from zero to the Clopper-Pearson upper end of the fraction of slots with
      errors, times the largest BER in them.
    * All slots have one BER, or none has an error. If n slots have the same BER, at least a fraction q of all slots has
      it, with ``q^(n-1) = 1 - level``. Without errors, the BER in question is known before, and ``q^n = 1 - level``.
      The other slots have a BER from zero to the largest one.

    The largest BER of a slot is that of a guess, 0.5. It is 1 where more than half of the bits are wrong. The interval
    always contains the estimate.

    Args:
        slots, slot_errors, bits, bit_errors: totals.
        squares, cubes: sums over slots of the residuals' second and third powers.
        level: confidence level.

    Returns:
        Lower and upper end.
    """
    rate = bit_errors / bits
    if squares <= _EQUAL_BER * bit_errors**2 / slots:
        return _equal_slots(slots, rate, level)
    if slot_errors == 1:
        fraction = float(stats.beta.ppf(0.5 + level / 2, 2, slots - 1))
        return 0.0, max(rate, fraction * _largest_ber(rate * slots))
    error = math.sqrt(slots / (slots - 1) * squares) / bits
    skew = max(-1.0, min(1.0, cubes / squares**1.5))  # it lies within, but for rounding
    quantile = float(stats.t.ppf(0.5 + level / 2, slot_errors - 1))
    low, high = rate - error * _unskewed(quantile, skew), rate - error * _unskewed(-quantile, skew)
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))


def _equal_slots(slots: int, rate: float, level: float) -> tuple[float, float]:
    """Interval of the BER where all slots have the same."""
    trials = slots - 1 if rate else slots
    fraction = (1 - level) ** (1 / trials) if trials else 0.0
    return fraction * rate, min(1.0, fraction * rate + (1 - fraction) * _largest_ber(rate))


def _largest_ber(observed: float) -> float:
    return 0.5 if observed <= 0.5 else 1.0


def _unskewed(z: float, skew: float) -> float:
    """Solve Hall's ``T + skew T^2/3 + skew^2 T^3/27 + skew/6 = z`` for T; ``skew`` is that of the mean."""
    if abs(skew) < 1e-6:
        return z
    return 3 / skew * (math.cbrt(1 + skew * (z - skew / 6)) - 1)
