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
    slot_errors: int,
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
    taken on a log scale, which keeps it positive, with Student's t for the slots that err, which alone inform it.

    Rare erring slots make that too short above. The upper end is therefore at least the Clopper-Pearson upper end of
    the share of slots that err times the upper end of the mean BER of an erring slot, which is 0.5 where one slot or
    none erred. Without any error the interval is one-sided.

    Args:
        slots, slot_errors, bits, bit_errors: totals.
        bit_errors_sq, bit_errors_x_bits, bits_sq: sums over slots of ``e^2``, ``e b`` and ``b^2``.
        level: confidence level.
    """
    tail = (1 - level) / 2 if slot_errors else 1 - level
    erring = float(stats.beta.ppf(1 - tail, slot_errors + 1, slots - slot_errors)) if slot_errors < slots else 1.0
    if slot_errors < 2:
        return 0.0, 0.5 * erring
    rate, quantile = bit_errors / bits, float(stats.t.ppf(1 - tail, slot_errors - 1))
    squares = max(0.0, bit_errors_sq - 2 * rate * bit_errors_x_bits + rate**2 * bits_sq)
    spread = math.sqrt(slots / (slots - 1) * squares) / bits / rate
    mean = bit_errors / slot_errors
    variance = max(0.0, bit_errors_sq - slot_errors * mean**2) / (slot_errors - 1)
    spread_if_erring = math.sqrt(variance / slot_errors) / mean
    how_badly = mean * slots / bits * math.exp(quantile * spread_if_erring)
    high = max(rate * math.exp(quantile * spread), erring * how_badly)
    return rate * math.exp(-quantile * spread), min(1.0, high)
