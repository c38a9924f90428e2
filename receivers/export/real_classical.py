"""LMMSE and LMMSE-IRC in real arithmetic: from received samples to LLRs, as a torch module without complex numbers.

Complex matrices are real ones of twice the size. Errors of the channel estimate are sums of terms above 0, so that
float32 suffices: with eigenvalue v, gain g and noise power n, an error is not ``1 - g / (v + n)``, but
``(1 - g / v) + g / v n / (v + n)``, whose first term is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from channels import NUM_SYMBOLS, Grid
from channels.grid import SUBCARRIERS_PER_PRB
from channels.pilots import DmrsLayout, pilot_layouts
from leanrx_core.errors import UserError
from receivers.classical import LmmseIrcReceiver, LmmseReceiver
from receivers.classical.channel_estimation import LmmseEstimator
from receivers.export.c_front_end import MIN_EIGENVALUE
from receivers.export.real_demapping import RealDemapper
from receivers.export.real_front_end import MAX_RX, PilotPlaces, RealWhitening, residual_at_pilots

_MIN_COMBINING_GAIN = 1e-12
_SMALLEST = 1e-30


class RealClassical(nn.Module):
    """LMMSE or LMMSE-IRC without complex numbers, for the bandwidth of its scenario.

    Args:
        receiver: with exact LLRs.
        grid: that of the receiver's scenario.
        places: of the pilots.

    Raises:
        UserError: if the grid is another one, has no whole resource blocks, or too many antennas for LMMSE-IRC.
    """

    def __init__(self, receiver: LmmseReceiver | LmmseIrcReceiver, grid: Grid, places: PilotPlaces) -> None:
        super().__init__()
        if grid != receiver.scenario.grid:
            raise UserError(f"export: {receiver.name} has the covariance of another grid; give that of its scenario")
        if grid.subcarriers is not None:
            raise UserError(f"export: the graph of {receiver.name} needs whole resource blocks; set num_prb alone")
        self.places, self.num_rx = places, grid.num_rx
        self.estimator = _CovarianceEstimator(receiver.covariance, grid, pilot_layouts(grid), places)
        self.whitening = None
        if isinstance(receiver, LmmseIrcReceiver):
            if grid.num_rx > MAX_RX:
                raise UserError(
                    f"export: the graph of LMMSE-IRC has up to {MAX_RX} antennas, and the grid has {grid.num_rx}"
                )
            self.whitening = RealWhitening(grid.num_rx)
        self.demapper = RealDemapper(receiver.scenario.bits_per_symbol)

    def forward(
        self,
        y: torch.Tensor,
        pilots: torch.Tensor,
        var: torch.Tensor,
        bits_per_symbol: torch.Tensor,
        choice: torch.Tensor | None,
    ) -> torch.Tensor:
        """Compute LLRs.

        Args:
            y, pilots, var, bits_per_symbol: as of :class:`receivers.export.real_receiver.RealReceiver`.
            choice: of the places of the pilots.

        Returns:
            float32 ``(B, K, S, F)``.
        """
        planes, known = y.permute(0, 4, 1, 2, 3).flatten(1, 2), pilots.permute(0, 3, 1, 2)
        channel, errors = self.estimator(self._at_pilots(planes), self._at_pilots(known), var, choice)
        if self.whitening is None:
            power = (var[:, None] + errors.total)[:, None, :, None]
        else:
            power = (1 + errors.gain)[:, None, :, None]
            planes, channel = self._whiten(self.whitening, planes, known, channel, errors, var)
        gain = channel.square().sum(1, keepdim=True).clamp_min(_MIN_COMBINING_GAIN)
        y_re, y_im = planes.split(self.num_rx, 1)
        rotations = torch.stack([planes, torch.cat([y_im, -y_re], 1)], 1)
        z = (rotations * channel[:, None]).sum(2) / gain
        llrs: torch.Tensor = self.demapper(z, gain / power, bits_per_symbol)
        return llrs

    def _at_pilots(self, x: torch.Tensor) -> torch.Tensor:
        """Values at the pilots, ``(B, C, U, N, V)``, of planes ``(B, C, S, F)``."""
        x = x.index_select(2, self.places.symbols).unflatten(3, (-1, SUBCARRIERS_PER_PRB))
        subcarriers = self.places.subcarriers
        return x if len(subcarriers) == SUBCARRIERS_PER_PRB else x.index_select(4, subcarriers)

    def _whiten(
        self,
        whitening: RealWhitening,
        y: torch.Tensor,
        pilots: torch.Tensor,
        channel: torch.Tensor,
        errors: _Errors,
        var: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples and channel in white noise of power 1."""
        samples, estimates, known = (self._at_pilots(x).permute(0, 3, 1, 2, 4) for x in (y, channel, pilots))
        residual = residual_at_pilots(samples, estimates, known, self.num_rx)
        covariance = whitening.covariance(residual, errors.counts, errors.residual, var[:, None, None])
        extra = (errors.estimation / (1 + errors.gain))[:, None, :, None]  # (B, 1, S, 1)
        matrix = whitening.matrix(covariance[:, :, None] + extra * whitening.identity, torch.ones(()))
        return _apply(matrix, y), _apply(matrix, channel)


def _apply(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Multiply planes ``(B, 2 R, S, F)`` by matrices ``(B, N, S, 2 R, 2 R)``."""
    by_prb = x.unflatten(3, (-1, SUBCARRIERS_PER_PRB)).permute(0, 3, 2, 1, 4)
    return (matrix @ by_prb).permute(0, 3, 2, 1, 4).flatten(3)


class _Errors(NamedTuple):
    """Errors of a channel estimate, see :class:`receivers.classical.channel_estimation.ErrorDecomposition`.

    Attributes:
        total: error power in white noise, ``(B, S)``.
        gain, estimation: factor of the noise that passes, and error power without noise, ``(B, S)``.
        residual: gain and error power of the residual, ``(B, 1, 2)``.
        counts: pilots of a resource block, ``(B or 1, 1, 1)``.
    """

    total: torch.Tensor
    gain: torch.Tensor
    estimation: torch.Tensor
    residual: torch.Tensor
    counts: torch.Tensor


class _CovarianceEstimator(nn.Module):
    """:meth:`receivers.classical.LmmseEstimator.estimate`, and the decomposition of its error.

    Args:
        covariance: over time and frequency.
        grid: its bandwidth counts.
        layouts, places: of the pilots.
    """

    _into_f: torch.Tensor
    _out_f: torch.Tensor
    _values_f: torch.Tensor
    _gain_f: torch.Tensor
    _into_t: torch.Tensor
    _out_t: torch.Tensor
    _values_t: torch.Tensor
    _gain_t: torch.Tensor
    _floor: torch.Tensor
    _num_symbols: torch.Tensor

    def __init__(
        self, covariance: LmmseEstimator, grid: Grid, layouts: Sequence[DmrsLayout], places: PilotPlaces
    ) -> None:
        super().__init__()
        prb = torch.arange(grid.num_prb) * SUBCARRIERS_PER_PRB
        pilots = (prb[:, None] + places.subcarriers).flatten()
        values, vectors, out, gain = covariance.frequency_basis(pilots)
        significant = values > MIN_EIGENVALUE
        vectors, out = vectors[:, significant].cpu(), out[:, significant].cpu()
        values, gain = values[significant].cpu(), gain.mean(0)[significant].cpu()
        self.num_rx, self.rank, self.num_pilots = grid.num_rx, len(values), len(pilots)
        gain_f = gain / values
        time = _time_bases(covariance, layouts, places)
        prior = (covariance.time.diagonal() * covariance.frequency.diagonal().mean()).real.cpu()
        floor = (prior - time["gain_t"].sum(-1) * gain_f.sum()).clamp_min(0)
        for name, value in {
            "into_f": _complex_matrix(vectors.conj()),
            "out_f": _complex_matrix(out.mT),
            "values_f": values,
            "gain_f": gain_f[:, None],
            "floor": floor,
            **time,
        }.items():
            self.register_buffer(f"_{name}", value.float().contiguous())

    def forward(
        self, y: torch.Tensor, pilots: torch.Tensor, var: torch.Tensor, choice: torch.Tensor | None
    ) -> tuple[torch.Tensor, _Errors]:
        """Estimate the channel.

        Args:
            y, pilots: at the pilots, ``(B, 2 R, U, N, V)`` and ``(B, 2, U, N, V)``.
            var: noise-plus-interference power, ``(B,)``.
            choice: of the layout, ``(B, L)``.

        Returns:
            The channel ``(B, 2 R, S, F)``, and its errors.
        """
        into_t, out_t, values_t, gain_t, floor, num_symbols = (
            x if choice is None else torch.tensordot(choice, x, 1)
            for x in (self._into_t, self._out_t, self._values_t, self._gain_t, self._floor, self._num_symbols)
        )
        (y_re, y_im), (p_re, p_im) = y.flatten(3).split(self.num_rx, 1), pilots.flatten(3).split(1, 1)
        power = p_re.square() + p_im.square()
        scale = 1 / power.clamp_min(_SMALLEST)
        raw = torch.cat([(y_re * p_re + y_im * p_im) * scale, (y_im * p_re - y_re * p_im) * scale], -1)
        mean_power = power.sum((1, 2, 3)) / (num_symbols * self.num_pilots)
        var_of_raw = (var / mean_power)[:, None, None]
        values = values_t[..., None] * self._values_f  # (B, U, Q)
        inverse = 1 / (values + var_of_raw)
        coefficients = into_t[:, None] @ _stacked(raw @ self._into_f)
        coefficients = coefficients * torch.cat([inverse, inverse], 1)[:, None]
        channel = out_t[:, None] @ _stacked(_side_by_side(coefficients) @ self._out_f)  # (B, R, 2 S, F)
        passed = var_of_raw * inverse
        terms = torch.stack([passed, passed.square(), values * inverse.square() / mean_power[:, None, None]], 1)
        total, estimation, gain = (gain_t[:, None] @ (terms @ self._gain_f))[..., 0].unbind(1)
        changes = torch.stack([passed.square() - 1, passed.square() * values], -1).sum((1, 2))
        residual = changes / (num_symbols * self.num_pilots)[:, None]
        residual_gain, residual_error = residual.split(1, -1)
        residual = torch.cat([1 + residual_gain, residual_error * mean_power[:, None]], -1)[:, None]
        counts = num_symbols[:, None, None] * y.shape[-1]
        errors = _Errors(floor + total, gain, floor + estimation, residual, counts)
        return torch.cat(channel.split(NUM_SYMBOLS, 2), 1), errors


def _complex_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """``(2 M, 2 N)``, which multiplies rows of real parts and then imaginary parts from the right."""
    return torch.cat([torch.cat([matrix.real, matrix.imag], 1), torch.cat([-matrix.imag, matrix.real], 1)])


def _stacked(x: torch.Tensor) -> torch.Tensor:
    """From real and imaginary parts side by side, ``(..., U, 2 Q)``, to one below the other, ``(..., 2 U, Q)``."""
    return torch.cat(x.unflatten(-1, (2, -1)).unbind(-2), -2)


def _side_by_side(x: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`_stacked`."""
    return torch.cat(x.unflatten(-2, (2, -1)).unbind(-3), -1)


def _time_bases(
    covariance: LmmseEstimator, layouts: Sequence[DmrsLayout], places: PilotPlaces
) -> dict[str, torch.Tensor]:
    """Eigenbases over the symbols of any layout. Symbols without pilots have eigenvalues and vectors of 0."""
    union, num_layouts = places.symbols.tolist(), len(layouts)
    size = len(union)
    into = torch.zeros(num_layouts, size, size, dtype=torch.complex64)
    out = torch.zeros(num_layouts, NUM_SYMBOLS, size, dtype=torch.complex64)
    values = torch.zeros(num_layouts, size, dtype=torch.float64)
    gain = torch.zeros(num_layouts, NUM_SYMBOLS, size, dtype=torch.float64)
    for i, layout in enumerate(layouts):
        basis = covariance.time_basis(torch.tensor(layout.symbols))
        eigenvalues, vectors, out_of_basis, gains = (x.cpu() for x in basis)
        count, rows = len(layout.symbols), [union.index(s) for s in layout.symbols]
        into[i, :count, rows] = vectors.mH
        values[i, :count], out[i, :, :count] = eigenvalues, out_of_basis
        gain[i, :, :count] = torch.where(eigenvalues > MIN_EIGENVALUE, gains / eigenvalues.clamp_min(_SMALLEST), 0.0)
    return {
        "into_t": _complex_left(into),
        "out_t": _complex_left(out),
        "values_t": values,
        "gain_t": gain,
        "num_symbols": torch.tensor([float(len(layout.symbols)) for layout in layouts]),
    }


def _complex_left(matrix: torch.Tensor) -> torch.Tensor:
    """``(L, 2 M, 2 N)``, which multiplies columns of real parts and then imaginary parts from the left."""
    upper, lower = torch.cat([matrix.real, -matrix.imag], 2), torch.cat([matrix.imag, matrix.real], 2)
    return torch.cat([upper, lower], 1)
