"""Combining the receive antennas: MRC, MMSE-IRC with a covariance from the pilots, and whitening with genie CSI."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from channels import Slots
from receivers.classical.channel_estimation import ErrorDecomposition
from receivers.classical.pilot_groups import pilot_groups
from receivers.classical.slot_sizes import SlotSizes
from receivers.noise_power import check_powers, is_power

SUBCARRIERS_PER_ESTIMATE = 12
"""One covariance per physical resource block."""

_TINY = 1e-30
"""Power below which a quotient of powers has no meaning. It only prevents a division by 0."""


def residual_covariance(slots: Slots, h: torch.Tensor) -> torch.Tensor:
    """Covariance of noise and interference across antennas, from the residuals of the channel estimate at the pilots.

    The residuals ``y - h pilot`` of the n pilots of a resource block give the sample covariance S of R antennas,
    which is shrunk towards white, ``(1 - rho) S + rho tr(S)/R I``. For complex Gaussian residuals, the least expected
    squared error has ``rho = (tr(S)^2 - tr(S^2)/R) / (n (tr(S^2) - tr(S)^2/R))``, limited to 0..1. This is the
    criterion of O. Ledoit and M. Wolf (J. Multivariate Analysis 88, 2004) with the moments of the complex Wishart
    distribution.

    Args:
        slots: received slots.
        h: channel estimate, complex64 ``(B, R, S, F)``.

    Returns:
        complex64 ``(B, num_prb, R, R)``.
    """
    antennas = h.shape[1]
    num_prb = -(-h.shape[-1] // SUBCARRIERS_PER_ESTIMATE)
    sample = h.new_empty(len(h), num_prb, antennas, antennas)
    count = torch.empty(len(h), num_prb, device=h.device)
    for group in pilot_groups(slots):
        residual = group.take(slots.y) - group.take(h) * group.take(slots.pilots)[:, None]
        index, num_pilots = _pilots_of_blocks(group.subcarriers, num_prb)
        if int(num_pilots.min()) < index.shape[1]:
            residual = pad(residual, (0, 1))  # a pilot of power 0, for blocks with fewer pilots
        blocks = residual[..., index.to(h.device)]  # (b, R, P, num_prb, pilots of a block and symbol)
        n = (blocks.shape[2] * num_pilots).clamp_min(1).to(h.device)
        sample[group.indices] = torch.einsum("brspk,bqspk->bprq", blocks, blocks.conj()) / n[:, None, None]
        count[group.indices] = n.float()
    trace = sample.diagonal(dim1=-2, dim2=-1).sum(-1).real
    squared_trace = trace.double().square()  # of a power of 1e-20, so double precision
    trace_of_square = sample.abs().double().square().sum((-2, -1))
    spread = trace_of_square - squared_trace / antennas
    spread = torch.maximum(spread, torch.finfo(torch.float32).eps * squared_trace).clamp_min(_TINY)
    shrinkage = (squared_trace - trace_of_square / antennas) / (count * spread)
    shrinkage = shrinkage.clamp(0, 1).float()[..., None, None]
    white = torch.eye(antennas, device=h.device) * (trace / antennas)[..., None, None]
    return (1 - shrinkage) * sample + shrinkage * white


def _pilots_of_blocks(subcarriers: torch.Tensor, num_prb: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the pilots of each resource block, int64 ``(num_prb, most)``, and their number, int64 ``(num_prb,)``.

    Blocks with fewer than the most pilots are filled with the index after the last pilot.
    """
    block = subcarriers // SUBCARRIERS_PER_ESTIMATE
    num_pilots = torch.bincount(block, minlength=num_prb)
    order = torch.arange(len(subcarriers), device=subcarriers.device)
    index = order.new_full((num_prb, int(num_pilots.max())), len(subcarriers))
    index[block, order - (num_pilots.cumsum(0) - num_pilots)[block]] = order
    return index, num_pilots


def debias_covariance(sample: torch.Tensor, errors: ErrorDecomposition, var: torch.Tensor) -> torch.Tensor:
    """Covariance of noise and interference from the covariance of the residuals.

    The channel estimate fits part of the noise, so the residuals have less power. Mean power p of the residuals stands
    for the power ``(p - residual_error_var) / residual_gain`` of noise and interference. The covariance is scaled by
    the ratio of the two, and never made smaller. At a very high SINR, a channel estimate from few pilots fits all of
    the noise. Where the residuals have more estimation error than noise, they say nothing about the noise. There the
    covariance is white, with the given power.

    Args:
        sample: covariance of the residuals, complex64 ``(B, num_prb, R, R)``.
        errors: error of the channel estimate.
        var: mean noise-plus-interference power, float32 ``(B,)``.

    Returns:
        complex64 ``(B, num_prb, R, R)``.
    """
    var = var[:, None]
    power = sample.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp_min(_TINY)
    scale = ((power - errors.residual_error_var) / errors.residual_gain.clamp_min(_TINY) / power).clamp_min(1)
    informative = errors.residual_gain * var > errors.residual_error_var
    white = var[..., None, None] * torch.eye(sample.shape[-1], device=sample.device)
    return torch.where(informative[..., None, None], sample * scale[..., None, None], white)


def whitening_matrix(covariance: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    """``sqrt(var) L^-1`` with the Cholesky factor L of a covariance: makes noise and interference white, of power var.

    Args:
        covariance: of noise and interference, complex64 ``(B, num_prb, R, R)``. One millionth of var is added to its
            diagonal, so that the factor exists.
        var: noise power after whitening, float32 ``(B,)``.

    Returns:
        Lower triangular matrices, complex64 ``(B, num_prb, R, R)``.
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    factor, _ = torch.linalg.cholesky_ex(covariance + 1e-6 * var[:, None, None, None] * identity)
    return torch.linalg.solve_triangular(factor, var.sqrt()[:, None, None, None] * identity, upper=False)


def apply_per_prb(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Multiply each resource block of a grid by its own matrix across antennas.

    Args:
        weights: complex64 ``(B, num_prb, R, R)``.
        x: complex64 ``(B, R, S, F)``.

    Returns:
        complex64 ``(B, R, S, F)``.
    """
    return torch.einsum("bprq,bqspk->brspk", weights, _blocks(x)).flatten(-2)[..., : x.shape[-1]]


def _blocks(x: torch.Tensor) -> torch.Tensor:
    """Split subcarriers into resource blocks, ``(..., num_prb, 12)``, with zeros in an incomplete last one."""
    missing = -x.shape[-1] % SUBCARRIERS_PER_ESTIMATE
    return (pad(x, (0, missing)) if missing else x).unflatten(-1, (-1, SUBCARRIERS_PER_ESTIMATE))


def per_subcarrier(values: torch.Tensor) -> torch.Tensor:
    """Repeat a value per resource block, ``(..., num_prb)``, for its subcarriers, ``(..., F)``."""
    return values.repeat_interleave(SUBCARRIERS_PER_ESTIMATE, -1)


def mmse_irc_combine(
    y: torch.Tensor, h: torch.Tensor, covariance: torch.Tensor, extra_var: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """MMSE-IRC: combining in coloured noise, scaled to be unbiased, ``z = h^H C^-1 y / (h^H C^-1 h)``.

    Args:
        y, h: received grid and channel estimate, complex64 ``(B, R, S, F)``.
        covariance: of noise and interference, complex64 ``(B, num_prb, R, R)``.
        extra_var: white power to add to it, such as the channel estimate's error, float32 ``(B, S, 1)``.

    Returns:
        symbol estimates complex64 and their error power ``1 / (h^H C^-1 h)`` float32, both ``(B, S, F)``.
    """
    identity = torch.eye(h.shape[1], device=h.device)
    loaded = covariance[:, None] + extra_var[..., None, None] * identity  # (B, S, num_prb, R, R)
    power = loaded.diagonal(dim1=-2, dim2=-1).real.mean((-2, -1)).clamp_min(_TINY)[..., None]  # (B, S, 1)
    inverse = torch.linalg.inv((loaded / power[..., None, None]).to(torch.complex128)).to(torch.complex64)
    num_subcarriers = y.shape[-1]
    y, h = _blocks(y), _blocks(h)  # (B, R, S, num_prb, 12)
    weights = torch.einsum("bqspk,bspqr->brspk", h.conj(), inverse)
    gain = (weights * h).sum(1).real.clamp_min(1e-12)
    z, error_var = ((weights * y).sum(1) / gain).flatten(-2), (1 / gain).flatten(-2) * power
    return z[..., :num_subcarriers], error_var[..., :num_subcarriers]


def whiten_with_genie_csi(slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
    """Whiten the interference across antennas with the true channels of the interferers.

    With the true channels g of the interferers, noise and interference of an RE have covariance
    ``C = noise_var I + sum_i g_i g_i^H``. A square root of ``noise_var C^-1`` is a product of one factor per
    interferer, ``I - g g^H / (noise_var q (1 + q))`` with ``q = sqrt(1 + |g|^2 / noise_var)``. Here g is the channel
    after the earlier factors. So no RE needs a matrix, and strong interference costs half the digits of an inverse.

    Args:
        slots: received slots with the true channels.

    Returns:
        y and h, complex64 ``(B, R, S, F)``, in white noise of power ``noise_var``.

    Raises:
        UserError: if a noise power is not above 0.
    """
    y, h, interferers = slots.y, slots.h, list(slots.h_interference.unbind(1))
    check_powers("noise_var", is_power(slots.noise_var))
    noise_var = slots.noise_var[:, None, None]
    while interferers:
        g = interferers.pop()
        q = (1 + g.abs().square().sum(1) / noise_var).sqrt()
        projection = g / (noise_var * q * (1 + q))[:, None]
        y, h, *interferers = (x - projection * (g.conj() * x).sum(1, keepdim=True) for x in (y, h, *interferers))
    return y, h


def mrc(y: torch.Tensor, h: torch.Tensor, var: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum-ratio combining of the antennas for one layer in white noise, scaled to be unbiased.

    For one transmitted layer, the LMMSE equaliser is maximum-ratio combining up to a real factor. Without that factor,
    ``z = x + e`` with ``E|e|^2 = var / sum_r |h_r|^2``.

    Args:
        y, h: received grid and channel estimate, complex64 ``(B, R, S, F)``.
        var: noise power, broadcastable to ``(B, S, F)``; includes the estimate's error where that is known.

    Returns:
        symbol estimates complex64 and their error power float32, both ``(B, S, F)``.

    Example:
        Two antennas with gains 1 and 2i receive the symbol 1 without noise:

        >>> import torch
        >>> h = torch.tensor([1, 2j]).view(1, 2, 1, 1)
        >>> z, error_var = mrc(h * 1.0, h, torch.tensor(0.5))
        >>> z.item(), round(error_var.item(), 6)
        ((1+0j), 0.1)
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
