"""Interference covariance from pilots, and the combining that rejects interference with it (LMMSE-IRC)."""

from __future__ import annotations

import torch

from channels import Slots

SUBCARRIERS_PER_ESTIMATE = 12
"""One covariance per physical resource block."""


def residual_covariance(slots: Slots, h: torch.Tensor) -> torch.Tensor:
    """Covariance of noise and interference across antennas, from what the channel estimate leaves at the pilots.

    The residuals ``y conj(pilot) - h`` of the n pilots of a resource block give the sample covariance S of R antennas,
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
    residual = (slots.y * slots.pilots.conj()[:, None] - h) * slots.pilot_symbols[:, None, :, None]
    blocks = residual.unflatten(-1, (-1, SUBCARRIERS_PER_ESTIMATE))  # (B, R, S, num_prb, 12)
    count = slots.pilot_symbols.sum(1).mul(SUBCARRIERS_PER_ESTIMATE)[:, None, None, None]
    sample = torch.einsum("brspk,bqspk->bprq", blocks, blocks.conj()) / count
    trace = sample.diagonal(dim1=-2, dim2=-1).sum(-1).real
    trace_of_square = sample.abs().square().sum((-2, -1))
    spread = (trace_of_square - trace**2 / antennas).clamp_min(1e-20)
    shrinkage = (trace**2 - trace_of_square / antennas) / (count[..., 0, 0] * spread)
    shrinkage = shrinkage.clamp(0, 1)[..., None, None]
    white = torch.eye(antennas, device=h.device) * (trace / antennas)[..., None, None]
    return (1 - shrinkage) * sample + shrinkage * white


def combine_rejecting(
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
