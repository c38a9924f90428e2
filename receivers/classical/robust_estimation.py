"""Robust LMMSE channel estimation: a fixed covariance, and a sliding window of resource blocks.

The receiver knows only the range of conditions that it is designed for. Each resource block is estimated from the
pilots of a window of three, itself and its neighbours. So the operations per RE do not depend on the bandwidth, and
the estimator is a few small constant matrices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import toeplitz
from scipy.special import j0

from channels import NUM_SYMBOLS, Grid, Slots
from channels.grid import SUBCARRIERS_PER_PRB
from channels.pilots import dmrs_layouts
from leanrx_core.errors import UserError
from receivers.classical.channel_estimation import ErrorDecomposition, raw_estimate_macs
from receivers.classical.pilot_groups import pilot_groups
from receivers.classical.slot_sizes import SlotSizes
from receivers.noise_power import noise_plus_interference_var

WINDOW_PRB = 3
"""Resource blocks whose pilots estimate one resource block."""

DELAY_SPREAD_S = (10e-9, 300e-9)
"""Range of delay spreads that the covariance is averaged over."""

MAX_DOPPLER = (0.0, 500 / 15e3)
"""Range of maximum Doppler shifts that the covariance is averaged over, in subcarrier spacings: 0..500 Hz at 15 kHz."""

_MIN_EIGENVALUE = 1e-4
"""Smaller eigenvalues of the window's covariance are left out. The mean of all is 1."""


def robust_lmmse_estimate(slots: Slots) -> tuple[torch.Tensor, ErrorDecomposition]:
    """LMMSE channel estimate with a fixed covariance from a sliding window of resource blocks.

    The covariance is ``R_t kron R_f`` with Jakes' Doppler spectrum, ``J_0(2 pi f_d t)``, and an exponential delay
    profile, ``1 / (1 + 2 pi i f tau)``. Both are averaged over a range, :data:`MAX_DOPPLER` and
    :data:`DELAY_SPREAD_S`. A window is :data:`WINDOW_PRB` resource blocks wide, and clipped to the grid: the first and
    the last resource block use the windows of their neighbours.

    In the eigenbases ``U_t D_t U_t^H`` of the pilot symbols and ``U_f D_f U_f^H`` of the window's pilot subcarriers,
    the estimator is ``(R_t(:, pilots) U_t kron R_f(:, pilots) U_f) (D_t kron D_f + var I)^-1 (U_t kron U_f)^H``. There
    ``var`` is the noise-plus-interference power over the power of a pilot.

    Args:
        slots: received slots, whole resource blocks with equal pilots in each of them. Their noise-plus-interference
            power is known.

    Returns:
        The estimate, complex64 ``(B, R, S, F)``, and its error by source, per symbol and resource block.

    Raises:
        UserError: if resource blocks differ in their pilots, the grid is no whole number of them, or a power is not
            above 0.

    Example:
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=64, split="test").at_sinr(10).block(0)
        >>> h, error = robust_lmmse_estimate(slots)
        >>> error_var = error.total_var(slots.noise_var + slots.interference_var)  # (64, 14, 6), per resource block
        >>> 0.8 < float((h - slots.h).abs().square().mean() / error_var.mean()) < 1.2
        True
    """
    num_prb, rest = divmod(slots.y.shape[-1], SUBCARRIERS_PER_PRB)
    if rest:
        raise UserError(f"grid: {slots.y.shape[-1]} subcarriers are not whole resource blocks of {SUBCARRIERS_PER_PRB}")
    h, var_of_slot = torch.empty_like(slots.y), noise_plus_interference_var(slots)
    batch, num_symbols, device = len(slots), h.shape[2], slots.y.device
    gain, estimation_error = torch.empty(2, batch, num_symbols, num_prb, device=device)
    residual_gain, residual_error = torch.empty(2, batch, num_prb, device=device)
    for group in pilot_groups(slots):
        raw, power = group.raw_estimates(slots)
        var = var_of_slot[group.indices] / power
        time = time_basis(tuple(group.symbols.tolist()), str(device))
        frequency = frequency_basis(
            _pilots_of_prb(group.subcarriers, num_prb),
            group.subcarrier_spacing_hz,
            min(WINDOW_PRB, num_prb),
            str(device),
        )
        inverse = 1 / (time.values[:, None] * frequency.values + var[:, None, None])
        h[group.indices] = _estimate(raw, inverse, time, frequency, num_prb)
        errors = _errors(inverse, var, time, frequency)
        position = _position_in_window(num_prb, device)
        gain[group.indices] = (errors.gain / power[:, None, None])[..., position]
        estimation_error[group.indices] = errors.estimation_error_var[..., position]
        residual_gain[group.indices] = errors.residual_gain[..., position]
        residual_error[group.indices] = (errors.residual_error_var * power[:, None])[..., position]
    return h, ErrorDecomposition(gain, estimation_error, residual_gain, residual_error)


def robust_lmmse_macs(grid: Grid) -> int:
    """Complex MACs of :func:`robust_lmmse_estimate` on one slot, for the pilots with the most symbols.

    With P pilot symbols, N windows of V pilots, and Q eigenvalues:

    * the raw estimates;
    * into the eigenbases, per antenna ``N (V P Q + P^2 Q / 2 + P Q / 2)`` (the basis over time is real);
    * out of them, per antenna ``P Q F + S P F / 2``.
    """
    r, s, f, p, _, _ = sizes = SlotSizes.of(grid)
    has_pilot = dmrs_layouts(grid.dmrs)[0].has_pilot if grid.dmrs else [True] * SUBCARRIERS_PER_PRB
    pilots = tuple(i for i, pilot in enumerate(has_pilot) if pilot)
    window_prb = min(WINDOW_PRB, grid.num_prb)
    v, q = frequency_basis(pilots, grid.subcarrier_spacing_hz, window_prb, "cpu").vectors.shape
    into = (grid.num_prb - window_prb + 1) * (v * p * q + p * p * q / 2 + p * q / 2)
    return raw_estimate_macs(sizes) + int(r * (into + p * q * f + s * p * f / 2))


class TimeBasis(NamedTuple):
    """Eigenbasis of the covariance at the pilot symbols.

    Attributes:
        values: float32 ``(P,)``.
        vectors: complex64 ``(P, P)``.
        out: ``R(:, pilots)`` times the vectors, complex64 ``(S, P)``.
        gain: its squared magnitude, float32 ``(S, P)``.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    out: torch.Tensor
    gain: torch.Tensor


class FrequencyBasis(NamedTuple):
    """Eigenbasis of the covariance at the pilot subcarriers of a window of W resource blocks.

    Attributes:
        values: float32 ``(Q,)``.
        vectors: complex64 ``(V, Q)``.
        out: ``R(prb, pilots)`` times the vectors for each resource block of the window, complex64 ``(W, 12, Q)``.
        gain: mean squared magnitude of ``out`` over subcarriers, float32 ``(W, Q)``.
        pilot_gain: mean squared magnitude of the vectors over the pilots of each resource block, float32 ``(W, Q)``.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    out: torch.Tensor
    gain: torch.Tensor
    pilot_gain: torch.Tensor


def _estimate(
    raw: torch.Tensor, inverse: torch.Tensor, time: TimeBasis, frequency: FrequencyBasis, num_prb: int
) -> torch.Tensor:
    """From raw estimates ``(b, R, P, pilots)`` to the estimate ``(b, R, S, F)``."""
    num_pilots, window_prb = raw.shape[-1] // num_prb, len(frequency.out)
    windows = raw.unfold(-1, window_prb * num_pilots, num_pilots)  # (b, R, P, N, V)
    coefficients = torch.einsum("brpnq,pt->brtnq", windows @ frequency.vectors.conj(), time.vectors.conj())
    coefficients = coefficients * inverse[:, None, :, None]
    out = frequency.out.mT
    if window_prb < WINDOW_PRB:
        blocks = [coefficients @ matrix for matrix in out]
    else:
        blocks = [coefficients[..., :1, :] @ out[0], coefficients @ out[1], coefficients[..., -1:, :] @ out[2]]
    return torch.einsum("st,brtf->brsf", time.out, torch.cat(blocks, -2).flatten(-2))


def _errors(inverse: torch.Tensor, var: torch.Tensor, time: TimeBasis, frequency: FrequencyBasis) -> ErrorDecomposition:
    """Errors for pilots of power 1, per position W in the window, which takes the place of the resource block."""
    values = time.values[:, None] * frequency.values
    explained = torch.einsum("st,btq,wq->bsw", time.gain, inverse, frequency.gain)
    passed = torch.einsum("st,btq,wq->bsw", time.gain, inverse.square(), frequency.gain)
    estimation_error = 1 - explained - passed * var[:, None, None]
    shrinkage = values * inverse  # of each coefficient of the raw estimate, at the pilots
    change = (1 - shrinkage).square() - 1
    pilot_gain = frequency.pilot_gain / len(time.values)
    residual_gain = 1 + torch.einsum("btq,wq->bw", change, pilot_gain)
    residual_error = 1 + torch.einsum("btq,wq->bw", change * values, pilot_gain)
    return ErrorDecomposition(passed, estimation_error.clamp_min(0), residual_gain, residual_error.clamp_min(0))


def _position_in_window(num_prb: int, device: torch.device) -> torch.Tensor:
    """Position of each resource block in its window, int64 ``(num_prb,)``."""
    prb = torch.arange(num_prb, device=device)
    return prb - (prb - WINDOW_PRB // 2).clamp(0, max(num_prb - WINDOW_PRB, 0))


def _pilots_of_prb(subcarriers: torch.Tensor, num_prb: int) -> tuple[int, ...]:
    """Subcarriers of a resource block that carry pilots, the same in all of them."""
    first = subcarriers[subcarriers < SUBCARRIERS_PER_PRB]
    expected = (torch.arange(num_prb, device=first.device)[:, None] * SUBCARRIERS_PER_PRB + first).flatten()
    if not torch.equal(subcarriers, expected):
        raise UserError("pilots: the resource blocks of a slot differ in their pilots; robust LMMSE needs equal ones")
    return tuple(first.tolist())


@lru_cache(maxsize=64)
def time_basis(symbols: tuple[int, ...], device: str) -> TimeBasis:
    """Eigenbasis of the fixed covariance at pilot symbols; its vectors are real."""
    covariance = toeplitz(time_lags())
    values, vectors = np.linalg.eigh(covariance[np.ix_(symbols, symbols)])
    out = covariance[:, symbols] @ vectors
    return TimeBasis(
        _real(values.clip(0), device), _complex(vectors, device), _complex(out, device), _real(out**2, device)
    )


@lru_cache(maxsize=64)
def frequency_basis(
    pilots_of_prb: tuple[int, ...], subcarrier_spacing_hz: int, window_prb: int, device: str
) -> FrequencyBasis:
    """Eigenbasis of the fixed covariance at the pilots of a window, cut to the significant eigenvalues."""
    lags = frequency_lags(window_prb * SUBCARRIERS_PER_PRB, subcarrier_spacing_hz)
    covariance = toeplitz(lags, lags.conj())
    pilots = np.add.outer(np.arange(window_prb) * SUBCARRIERS_PER_PRB, pilots_of_prb).ravel()
    values, vectors = np.linalg.eigh(covariance[np.ix_(pilots, pilots)])
    significant = values > _MIN_EIGENVALUE
    values, vectors = values[significant], vectors[:, significant]
    out = (covariance[:, pilots] @ vectors).reshape(window_prb, SUBCARRIERS_PER_PRB, -1)
    at_pilots = vectors.reshape(window_prb, len(pilots_of_prb), -1)
    return FrequencyBasis(
        _real(values, device),
        _complex(vectors, device),
        _complex(out, device),
        _real((abs(out) ** 2).mean(1), device),
        _real((abs(at_pilots) ** 2).mean(1), device),
    )


def time_lags() -> np.ndarray:
    """Autocorrelation of the channel over symbols, float64 ``(S,)``."""
    periods = 15 / NUM_SYMBOLS * np.arange(NUM_SYMBOLS)  # of one subcarrier spacing: a slot of 14 symbols lasts 15
    return j0(2 * np.pi * np.outer(periods, _midpoints(MAX_DOPPLER))).mean(1)


def frequency_lags(count: int, subcarrier_spacing_hz: float) -> np.ndarray:
    """Autocorrelation of the channel over subcarriers, complex128 ``(count,)``."""
    offsets_hz = subcarrier_spacing_hz * np.arange(count)
    return (1 / (1 + 2j * np.pi * np.outer(offsets_hz, _midpoints(DELAY_SPREAD_S)))).mean(1)


def _midpoints(limits: tuple[float, float], count: int = 256) -> np.ndarray:
    """Middles of equal parts of a range, to average over it."""
    return limits[0] + (limits[1] - limits[0]) * (np.arange(count) + 0.5) / count


def _real(values: np.ndarray, device: str) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)


def _complex(values: np.ndarray, device: str) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.complex64, device=device)
