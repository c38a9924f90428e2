"""Confidence intervals for error rates counted over slots."""

from __future__ import annotations

import math

from scipy import stats


def wilson(errors: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (E. B. Wilson, 1927), for slot error rates."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    rate = errors / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def slot_clustered(
    slots: int,
    bits: int,
    bit_errors: int,
    bit_errors_sq: int,
    bit_errors_x_bits: int,
    bits_sq: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a BER whose errors cluster in slots.

    Bits of a slot share one channel draw, so slots, not bits, are the independent trials: with ``e_i`` errors in
    ``b_i`` bits of slot *i* and ``p = sum e / sum b``, the ratio estimator's variance is
    ``n/(n-1) sum (e_i - p b_i)^2 / (sum b)^2`` (W. G. Cochran, Sampling Techniques, 3rd ed., 2.11). The interval is
    taken on a log scale with Student's t, which keeps it positive.

    Without any error it is one-sided: fewer than ``1 - (1-level)^(1/n)`` of the slots err, and an erring slot has at
    most half of its bits wrong.

    Args:
        slots, bits, bit_errors: totals.
        bit_errors_sq, bit_errors_x_bits, bits_sq: sums over slots of ``e^2``, ``e b`` and ``b^2``.
        level: confidence level.
    """
    if bit_errors == 0:
        return 0.0, 0.5 * (1 - (1 - level) ** (1 / slots))
    rate = bit_errors / bits
    if slots < 2:
        return 0.0, 1.0
    squares = max(0.0, bit_errors_sq - 2 * rate * bit_errors_x_bits + rate**2 * bits_sq)
    deviation = math.sqrt(slots / (slots - 1) * squares) / bits
    factor = math.exp(float(stats.t.ppf(0.5 + level / 2, slots - 1)) * deviation / rate)
    return rate / factor, min(1.0, rate * factor)
