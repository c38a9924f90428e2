"""The exact optimum of requests: output length and transmit power of least carbon under quality and deadline.

For a given length, the energy per bit ``(A + d P) / R(P)`` has one minimum over the power, and both constraints are a
lower bound on the rate, so on the power. The best power is the minimum, clipped. Without delay in the quality, the
shortest length that satisfies it is optimal. With delay, a longer answer may allow a later arrival at less power, so
all whole lengths are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbon.aolo.ergodic_rate import snr_for_efficiency, snr_of_least_energy
from carbon.aolo.requests import Array, Requests

MAX_CELLS = 2_000_000
"""Requests times lengths that are compared at once. It bounds the memory."""

INFEASIBLE = ("quality", "deadline", "power limit")
"""Constraints that can make a request infeasible."""


@dataclass(frozen=True)
class Optimum:
    """Optimal decisions, one per request.

    Attributes:
        tokens: output lengths; NaN where infeasible.
        power_w: transmit powers; NaN where infeasible.
        footprint_g: emissions; NaN where infeasible.
        binding: what holds the power: ``interior``, ``lowest power``, ``highest power``, ``deadline`` or ``quality``.
            Where infeasible, the constraint that nothing satisfies, one of :data:`INFEASIBLE`.
        feasible: whether any decision satisfies all constraints.
    """

    tokens: Array
    power_w: Array
    footprint_g: Array
    binding: NDArray[np.str_]
    feasible: NDArray[np.bool_]


def solve(requests: Requests) -> Optimum:
    """Solve every request exactly.

    Args:
        requests: of shape ``(requests,)``.

    Returns:
        The decisions of least footprint, lengths in whole tokens.

    Example:
        A link of 110 dB path loss, a noise figure of 9 dB and 10 MHz, with 84 W + 2.8 P and joules in place of grams:

        >>> import numpy as np
        >>> snr_per_w = 10 ** ((30 - 110 + 174 - 9 - 70) / 10)
        >>> optimum = solve(Requests(
        ...     fixed_g=np.zeros(1), token_g=0.0, radio_g_per_j=1.0, fixed_s=0.0, token_s=0.0, token_bits=32.0,
        ...     bandwidth_hz=10e6, snr_per_w=snr_per_w, rayleigh=0, static_w=84.0, slope=2.8, min_power_w=0.1,
        ...     max_power_w=20.0, min_tokens=201, max_tokens=201, token_scale=32.0, min_quality=0.0,
        ... ))
        >>> round(float(optimum.power_w[0]), 4), optimum.binding[0].item()
        (6.8143, 'interior')
    """
    (count,) = requests.shape
    span = int((requests.array("max_tokens") - requests.array("min_tokens")).max(initial=0)) + 1
    step = max(1, MAX_CELLS // span)
    parts = [_solve_block(requests[begin : begin + step]) for begin in range(0, count, step)]
    if not parts:
        empty = np.zeros(0)
        return Optimum(empty, empty, empty, empty.astype(str), empty.astype(bool))
    names = ("tokens", "power_w", "footprint_g", "binding", "feasible")
    return Optimum(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _solve_block(requests: Requests) -> Optimum:
    tokens = _candidate_lengths(requests)
    wide = requests[:, None]
    low_w = lowest_power_w(wide, tokens)
    power = np.clip(least_energy_power_w(wide), np.maximum(low_w, wide.array("min_power_w")), np.inf)
    power = np.minimum(power, wide.array("max_power_w"))
    possible = (tokens <= wide.array("max_tokens")) & (low_w <= wide.array("max_power_w"))
    footprint = np.where(possible, wide.footprint_g(tokens, power), np.inf)
    best = footprint.argmin(1)
    rows = np.arange(len(best))
    feasible = np.isfinite(footprint[rows, best])
    tokens, power, low_w, footprint = (x[rows, best] for x in (tokens, power, low_w, footprint))
    binding = np.where(feasible, _binding(requests, tokens, power, low_w), _impossible(requests))
    tokens, power, footprint = (np.where(feasible, x, np.nan) for x in (tokens, power, footprint))
    return Optimum(tokens, power, footprint, binding, feasible)


def least_energy_power_w(requests: Requests) -> Array:
    """Power of least energy per bit, without any bound."""
    c, slope = requests.array("snr_per_w"), requests.array("slope")
    return snr_of_least_energy(c * requests.array("static_w") / slope, requests.array("rayleigh") > 0) / c


def lowest_power_w(requests: Requests, tokens: Array) -> Array:
    """Lowest power at which an output of some length keeps deadline and quality; infinity if none does."""
    quality, least = requests.length_quality(tokens), requests.array("min_quality")
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed_s = requests.array("free_delay_s") + requests.array("patience_s") * np.log(quality / least)
        waits = (least > 0) & np.isfinite(requests.array("patience_s"))
        limit_s = np.minimum(requests.array("deadline_s"), np.where(waits, allowed_s, np.inf))
        limit_s = np.where(quality >= least * (1 - 1e-12), limit_s, -np.inf)
        sending_s = limit_s - requests.array("fixed_s") - tokens * requests.array("token_s")
        rate = np.where(sending_s > 0, tokens * requests.array("token_bits") / sending_s, np.inf)
    snr = snr_for_efficiency(rate / requests.array("bandwidth_hz"), requests.array("rayleigh") > 0)
    return snr / requests.array("snr_per_w")


def shortest_length(requests: Requests) -> Array:
    """Shortest whole length that reaches the quality without delay."""
    scale = requests.array("token_scale")
    exact = scale * np.expm1(requests.array("min_quality") * np.log1p(requests.array("max_tokens") / scale))
    return np.maximum(np.ceil(exact - 1e-9 * np.maximum(exact, 1)), np.ceil(requests.array("min_tokens")))


def _candidate_lengths(requests: Requests) -> Array:
    """Lengths to compare, ``(requests, lengths)``: one where delay is no part of the quality, else all."""
    shortest = shortest_length(requests)
    if not np.isfinite(requests.array("patience_s")).any():
        return shortest[:, None]
    span = int(np.maximum(requests.array("max_tokens") - shortest, 0).max()) + 1
    return shortest[:, None] + np.arange(span)


def _binding(requests: Requests, tokens: Array, power: Array, low_w: Array) -> NDArray[np.str_]:
    at_low = np.isclose(power, low_w, rtol=1e-9)
    with np.errstate(invalid="ignore"):
        late = np.isclose(requests.time_s(tokens, power), requests.array("deadline_s"), rtol=1e-6)
    conditions = [
        at_low & late,
        at_low,
        power <= requests.array("min_power_w"),
        power >= requests.array("max_power_w"),
    ]
    return np.select(conditions, ["deadline", "quality", "lowest power", "highest power"], "interior")


def _impossible(requests: Requests) -> NDArray[np.str_]:
    """The constraint that no decision satisfies: quality at any speed, time at any power, else the power."""
    shortest = shortest_length(requests)
    too_short = requests.length_quality(requests.array("max_tokens")) < requests.array("min_quality") * (1 - 1e-12)
    too_short |= shortest > requests.array("max_tokens")
    computing_s = requests.array("fixed_s") + shortest * requests.array("token_s")
    return np.select([too_short, computing_s >= requests.array("deadline_s")], INFEASIBLE[:2], INFEASIBLE[2])
