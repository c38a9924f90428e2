"""Rejecting interference: covariance from pilots and combining with it (LMMSE-IRC), whitening with the true one."""

from __future__ import annotations

import torch

from channels import Slots
from receivers.classical.channel_estimation import ErrorDecomposition
from receivers.classical.pilot_groups import pilot_groups
from receivers.classical.slot_sizes import SlotSizes

SUBCARRIERS_PER_ESTIMATE = 12
"""One covariance per physical resource block."""


def residual_covariance(slots: Slots, h: torch.Tensor) -> torch.Tensor:
    """Covariance of noise and interference across antennas, from what the channel estimate leaves at the pilots.

    The residuals ``y - h pilot`` of the n pilots of a resource block give the sample covariance S of R antennas,
    which is shrunk towards white, ``(1 - rho) S + rho tr(S)/R I``, by the rho of least expected squared error for
    complex Gaussian residuals, ``rho = (tr(S)^2 - tr(S^2)/R) / (n (tr(S^2) - tr(S)^2/R))`` cut to 0..1 (the criterion
    of O. Ledoit and M. Wolf, J. Multivariate Analysis 88, 2004, with the moments of the complex Wishart distribution).

    Args:
        slots: received slots.
        h: channel estimate, complex64 ``(B, R, S, F)``.

    Returns:
        complex64 ``(B, num_prb, R, R)``.
    """
    antennas = h.shape[1]
    num_prb = h.shape[-1] // SUBCARRIERS_PER_ESTIMATE
    sample = h.new_empty(len(h), num_prb, antennas, antennas)
    count = torch.empty(len(h), 1, device=h.device)
    for group in pilot_groups(slots):
        residual = group.take(slots.y) - group.take(h) * group.take(slots.pilots)[:, None]
        blocks = residual.unflatten(-1, (num_prb, -1))  # (b, R, P, num_prb, pilots of a block and symbol)
        n = blocks.shape[2] * blocks.shape[4]
        sample[group.chosen] = torch.einsum("brspk,bqspk->bprq", blocks, blocks.conj()) / n
        count[group.chosen] = n
    trace = sample.diagonal(dim1=-2, dim2=-1).sum(-1).real
    trace_of_square = sample.abs().square().sum((-2, -1))
    spread = (trace_of_square - trace**2 / antennas).clamp_min(1e-20)
    shrinkage = (trace**2 - trace_of_square / antennas) / (count * spread)
    shrinkage = shrinkage.clamp(0, 1)[..., None, None]
    white = torch.eye(antennas, device=h.device) * (trace / antennas)[..., None, None]
    return (1 - shrinkage) * sample + shrinkage * white


def debias_covariance(sample: torch.Tensor, parts: ErrorDecomposition) -> torch.Tensor:
    """Covariance of noise and interference from that of the residuals, which the channel estimate has taken part of.

    Each eigenvalue is corrected for what :class:`ErrorDecomposition` says of the residuals, and never made smaller.
    """
    values, vectors = _debiased_eigenvalues(sample, parts)
    return _assemble(values, vectors)


def whitening_matrix(sample: torch.Tensor, parts: ErrorDecomposition, var: torch.Tensor) -> torch.Tensor:
    """``sqrt(var) C^-1/2`` with the C of :func:`debias_covariance`: turns noise and interference into white noise of power var.

    Args:
        sample, parts: as those of :func:`debias_covariance`.
        var: float32 ``(B,)``.

    Returns:
        complex64 ``(B, num_prb, R, R)``.
    """
    values, vectors = _debiased_eigenvalues(sample, parts)
    return _assemble((var[:, None, None] / values.clamp_min(1e-6)).sqrt(), vectors)


def apply_per_prb(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A matrix per resource block, complex64 ``(B, num_prb, R, R)``, times a grid, complex64 ``(B, R, S, F)``."""
    blocks = x.unflatten(-1, (-1, SUBCARRIERS_PER_ESTIMATE))
    return torch.einsum("bprq,bqspk->brspk", weights, blocks).flatten(-2)


def _debiased_eigenvalues(sample: torch.Tensor, parts: ErrorDecomposition) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(sample)
    own, gain = parts.residual_own[:, None, None], parts.residual_gain[:, None, None]
    return torch.maximum((values - own) / gain, values), vectors


def _assemble(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return (vectors * values[..., None, :].to(vectors.dtype)) @ vectors.mH


def mmse_irc_combine(
    y: torch.Tensor, h: torch.Tensor, covariance: torch.Tensor, extra_var: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """LMMSE combining in coloured noise, scaled to be unbiased: ``z = h^H C^-1 y / (h^H C^-1 h)``.

    Args:
        y, h: received grid and channel estimate, complex64 ``(B, R, S, F)``.
        covariance: of noise and interference, complex64 ``(B, num_prb, R, R)``.
        extra_var: white power that is added to it, such as the channel estimate's error, float32 ``(B, S, 1)``.

    Returns:
        symbol estimates complex64 and their error power ``1 / (h^H C^-1 h)`` float32, both ``(B, S, F)``.
    """
    identity = torch.eye(h.shape[1], device=h.device)
    loaded = covariance[:, None] + extra_var[..., None, None] * identity  # (B, S, num_prb, R, R)
    inverse = torch.linalg.inv(loaded)
    y, h = (x.unflatten(-1, (-1, SUBCARRIERS_PER_ESTIMATE)) for x in (y, h))  # (B, R, S, num_prb, 12)
    weights = torch.einsum("bqspk,bspqr->brspk", h.conj(), inverse)
    gain = (weights * h).sum(1).real.clamp_min(1e-12)
    return ((weights * y).sum(1) / gain).flatten(-2), (1 / gain).flatten(-2)


def whiten_with_genie_csi(slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
    """Received grid and wanted channel after a filter across antennas that turns the interference into white noise.

    With the true channels g of the interferers, noise and interference of an RE have covariance
    ``C = noise_var I + sum_i g_i g_i^H``. A square root of ``noise_var C^-1`` is the product of one factor per
    interferer, ``I - g g^H / (noise_var q (1 + q))`` with ``q = sqrt(1 + |g|^2 / noise_var)`` and g as the factors
    before it left it. So no RE needs a matrix, and strong interference costs half of the digits that an inverse would.

    Returns:
        y and h, complex64 ``(B, R, S, F)``, in white noise of power ``noise_var``.
    """
    y, h, interferers = slots.y, slots.h, list(slots.h_interference.unbind(1))
    noise_var = slots.noise_var[:, None, None]
    while interferers:
        g = interferers.pop()
        q = (1 + g.abs().square().sum(1) / noise_var).sqrt()
        towards = g / (noise_var * q * (1 + q))[:, None]
        y, h, *interferers = (x - towards * (g.conj() * x).sum(1, keepdim=True) for x in (y, h, *interferers))
    return y, h


def mrc(y: torch.Tensor, h: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """LMMSE combining of the antennas for one layer in white noise, scaled to be unbiased.

    For one transmitted layer the LMMSE equaliser is maximum-ratio combining up to a real factor; with that factor
    divided out, ``z = x + e`` with ``E|e|^2 = var / sum_r |h_r|^2``.

    Args:
        y, h: received grid and channel estimate, complex64 ``(B, R, S, F)``.
        var: noise power, broadcastable to ``(B, S, F)``; includes the estimate's error where that is known.

    Returns:
        symbol estimates complex64 and their error power float32, both ``(B, S, F)``.
    """
    gain = h.abs().square().sum(1).clamp_min(1e-12)
    return (h.conj() * y).sum(1) / gain, var / gain


def mrc_macs(sizes: SlotSizes) -> float:
    """Complex MACs of :func:`mrc`: ``1.5 R`` per data RE (product and squared magnitude)."""
    return 1.5 * sizes.antennas * sizes.data_res


def residual_covariance_macs(sizes: SlotSizes) -> int:
    """Complex MACs of :func:`residual_covariance`: residuals ``R P Q`` and their products ``R^2 P Q``."""
    r, p, q = sizes.antennas, sizes.pilot_symbols, sizes.pilot_subcarriers
    return r * p * q + r * r * p * q


def mmse_irc_macs(sizes: SlotSizes) -> float:
    """Complex MACs of rejecting interference, on top of :func:`mrc_macs`.

    The residuals' covariance, one inverse ``R^3`` per symbol and resource block, weights ``R^2 + R / 2`` per data RE.
    """
    r = sizes.antennas
    inverses = sizes.symbols * sizes.subcarriers // SUBCARRIERS_PER_ESTIMATE * r**3
    return residual_covariance_macs(sizes) + inverses + (r * r + 0.5 * r) * sizes.data_res


def genie_whitening_macs(sizes: SlotSizes) -> float:
    """Complex MACs of :func:`whiten_with_genie_csi` with one interferer, ``4.5 R`` per data RE.

    These are a squared magnitude, two products and two updates.
    """
    return 4.5 * sizes.antennas * sizes.data_res
