"""The front end of a hybrid in real arithmetic: channel estimate and white samples.

It is :func:`receivers.neural.hybrid.front_end` as a torch module without complex numbers, in a few large operators, so
that it can be part of an exported graph. The subcarrier spacing and the places of the pilots are
constants; the values of the pilots are inputs.

The grid is kept by resource blocks here: ``(B, N, 2 R, S, 12)`` with real parts of the R antennas, then imaginary
parts. Matrices of each block across antennas, and complex matrices, are real ones of twice the size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from channels import NUM_SYMBOLS, Grid
from channels.grid import SUBCARRIERS_PER_PRB
from channels.pilots import DmrsLayout, pilot_layouts
from leanrx_core.errors import UserError
from receivers.classical.robust_estimation import WINDOW_PRB, frequency_basis, time_basis
from receivers.neural.detection import MIN_GAIN

MAX_RX = 4
"""Largest number of antennas: the Cholesky factor is written out element by element."""

_TINY = 1e-30


class PilotPlaces(nn.Module):
    """Which REs of a slot carry pilots and data, by the pilots' values.

    Args:
        layouts: that a slot can have. Their pilots are on the same subcarriers of each resource block.

    Attributes:
        symbols: OFDM symbols with pilots in any layout, int64 ``(U,)``.
        subcarriers: with pilots in a resource block, int64 ``(V,)``.
        num_layouts: number of layouts L.
        period: subcarriers after which the places of data repeat: 12, or 1 where a symbol has data or none.
        has_empty: whether an RE can carry neither a pilot nor data.
    """

    symbols: torch.Tensor
    subcarriers: torch.Tensor
    _signs: torch.Tensor
    _has_data: torch.Tensor

    def __init__(self, layouts: Sequence[DmrsLayout]) -> None:
        super().__init__()
        union = sorted({s for layout in layouts for s in layout.symbols})
        occupied = torch.zeros(len(layouts), NUM_SYMBOLS, dtype=torch.bool)
        has_data = torch.ones(len(layouts), NUM_SYMBOLS, SUBCARRIERS_PER_PRB)
        for i, layout in enumerate(layouts):
            occupied[i, layout.symbols] = True
            has_data[i, layout.symbols] = torch.tensor(layout.has_data, dtype=torch.float32)
        if (has_data == has_data[..., :1]).all():
            has_data = has_data[..., :1]
        self.num_layouts, self.period = len(layouts), has_data.shape[-1]
        self.has_empty = not all(p or d for x in layouts for p, d in zip(x.has_pilot, x.has_data, strict=True))
        self.register_buffer("symbols", torch.tensor(union))
        self.register_buffer("subcarriers", torch.nonzero(torch.tensor(layouts[0].has_pilot))[:, 0])
        self.register_buffer("_signs", 2 * occupied[:, union].float() - 1)
        self.register_buffer("_has_data", has_data.flatten(1))

    def choose(self, pilots: torch.Tensor) -> torch.Tensor | None:
        """1 for the layout of each slot, and 0 for the others, float32 ``(B, L)``; none if there is one layout.

        Args:
            pilots: float32 ``(B, S, F, 2)``.
        """
        if self.num_layouts == 1:
            return None
        power = pilots.index_select(1, self.symbols).square().sum((2, 3))
        agreement = torch.sign(power - _TINY) @ self._signs.T
        return (agreement > len(self.symbols) - 0.5).float()

    def is_data(self, choice: torch.Tensor | None, pilots: torch.Tensor) -> torch.Tensor:
        """1 on data, else 0, float32 ``(B or 1, 1, S, F or 1)``.

        Args:
            choice: of :meth:`choose`.
            pilots: float32 ``(B, S, F, 2)``. They give the sizes: runtimes would compute those of repeated values.
        """
        values = self._has_data if choice is None else choice @ self._has_data
        if self.period == 1:
            return values.view(-1, 1, NUM_SYMBOLS, 1)
        ones = 1 + 0 * pilots[..., 0].unflatten(2, (-1, self.period))
        return (values.view(-1, NUM_SYMBOLS, 1, self.period) * ones).flatten(2)[:, None]


class HybridFrontEnd(nn.Module):
    """:func:`receivers.neural.hybrid.front_end` in real arithmetic.

    Args:
        grid: antennas, subcarrier spacing and pilots. With fewer than three resource blocks, the module takes slots of
            this number of blocks only; else of three or more.
        places: of the pilots.

    Raises:
        UserError: if the grid has more than :data:`MAX_RX` antennas.
    """

    def __init__(self, grid: Grid, places: PilotPlaces) -> None:
        super().__init__()
        if grid.num_rx > MAX_RX:
            raise UserError(
                f"export: the graph of a hybrid has up to {MAX_RX} antennas, and the grid has {grid.num_rx}"
            )
        self.places, self.num_rx = places, grid.num_rx
        self.estimator = _WindowEstimator(grid, pilot_layouts(grid), places)
        self.whitening = RealWhitening(grid.num_rx)

    def forward(
        self, y: torch.Tensor, pilots: torch.Tensor, var: torch.Tensor, choice: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Whiten the samples and estimate the channel.

        Args:
            y, pilots, var: as of :class:`receivers.export.real_receiver.RealReceiver`.
            choice: of the places of the pilots.

        Returns:
            y and channel after whitening, float32 ``(B, 2 R, S, F)``, and the error power of the channel estimate,
            float32 ``(B, 1, S, F)``.
        """
        symbols = self.places.symbols
        y = y.unflatten(3, (-1, SUBCARRIERS_PER_PRB)).permute(0, 3, 5, 1, 2, 4).flatten(2, 3)  # (B, N, 2 R, S, 12)
        known = pilots.index_select(1, symbols).unflatten(2, (-1, SUBCARRIERS_PER_PRB))
        known = self._at_pilots(known.permute(0, 2, 4, 1, 3))  # (B, N, 2, U, V)
        y_known = self._at_pilots(y.index_select(3, symbols))
        channel, errors, counts = self.estimator(y_known, known, var, choice)
        residual = residual_at_pilots(y_known, self._at_pilots(channel.index_select(3, symbols)), known, self.num_rx)
        white = self.whitening(residual, counts, errors, y, channel, var)
        planes = white.permute(0, 2, 3, 1, 4).flatten(3)  # (B, 4 R + 1, S, F)
        y, channel, error_var = planes.split([2 * self.num_rx, 2 * self.num_rx, 1], 1)
        return y, channel, error_var

    def _at_pilots(self, x: torch.Tensor) -> torch.Tensor:
        """Values at the pilots' subcarriers of each block, the last dimension."""
        subcarriers = self.places.subcarriers
        return x if len(subcarriers) == SUBCARRIERS_PER_PRB else x.index_select(-1, subcarriers)


def residual_at_pilots(y: torch.Tensor, h: torch.Tensor, pilots: torch.Tensor, num_rx: int) -> torch.Tensor:
    """``y - h pilot`` where there is a pilot, else 0; ``(B, N, 2 R, U V)``."""
    (y_re, y_im), (h_re, h_im), (p_re, p_im) = y.split(num_rx, 2), h.split(num_rx, 2), pilots.split(1, 2)
    residual = torch.cat([y_re - h_re * p_re + h_im * p_im, y_im - h_re * p_im - h_im * p_re], 2)
    return (residual * (p_re.square() + p_im.square() > 0)).flatten(3)


class _WindowEstimator(nn.Module):
    """:func:`receivers.classical.robust_lmmse_estimate`.

    Args:
        grid: its subcarrier spacing counts, and whether it has three resource blocks.
        layouts, places: of the pilots.
    """

    _into: torch.Tensor
    _out: torch.Tensor
    _values: torch.Tensor
    _gain: torch.Tensor
    _pilot_gain: torch.Tensor
    _into_t: torch.Tensor
    _out_t: torch.Tensor
    _gain_t: torch.Tensor
    _values_t: torch.Tensor
    _num_symbols: torch.Tensor

    def __init__(self, grid: Grid, layouts: Sequence[DmrsLayout], places: PilotPlaces) -> None:
        super().__init__()
        window_prb = min(WINDOW_PRB, grid.num_prb)
        basis = frequency_basis(tuple(places.subcarriers.tolist()), grid.subcarrier_spacing_hz, window_prb, "cpu")
        self.window_prb, self.rank, self.num_rx = window_prb, len(basis.values), grid.num_rx
        vectors = basis.vectors.unflatten(0, (window_prb, -1))
        into = torch.cat([_columns(vectors.real, -vectors.imag), _columns(vectors.imag, vectors.real)], 1).flatten(0, 1)
        out_re, out_im = basis.out.mT.real, basis.out.mT.imag
        out = torch.cat([_columns(out_re, out_im), _columns(-out_im, out_re)], 1)
        for name, value in {
            "into": into,
            "out": out,
            "values": basis.values,
            "gain": basis.gain.mT,
            "pilot_gain": basis.pilot_gain.mT,
            **_time_bases(layouts, places),
        }.items():
            self.register_buffer(f"_{name}", value.contiguous())

    def forward(
        self, y: torch.Tensor, pilots: torch.Tensor, var: torch.Tensor, choice: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Estimate the channel.

        Args:
            y, pilots: at the pilots, ``(B, N, 2 R, U, V)`` and ``(B, N, 2, U, V)``.
            var: noise-plus-interference power, ``(B,)``.
            choice: of the layout, ``(B, L)``.

        Returns:
            The channel ``(B, N, 2 R, S, 12)``; its errors, see :meth:`_errors`; the number of pilots of a block,
            ``(B or 1, 1, 1)``.
        """
        into_t, out_t, gain_t, values_t, num_symbols = (
            x if choice is None else torch.tensordot(choice, x, 1)
            for x in (self._into_t, self._out_t, self._gain_t, self._values_t, self._num_symbols)
        )
        (y_re, y_im), (p_re, p_im) = y.split(self.num_rx, 2), pilots.split(1, 2)
        power = p_re.square() + p_im.square()
        scale = 1 / power.clamp_min(_TINY)
        raw = torch.cat([(y_re * p_re + y_im * p_im) * scale, (y_im * p_re - y_re * p_im) * scale], -1)
        power_of_prb = power.mean((2, 3, 4))
        mean_power = power_of_prb.mean(1) * power.shape[3] / num_symbols
        var_of_raw = (var / mean_power)[:, None, None]
        inverse = 1 / (values_t[..., None] * self._values + var_of_raw)  # (B, U, Q)
        coefficients = into_t[:, None] @ (_windows(raw.permute(0, 2, 3, 1, 4), self.window_prb) @ self._into).flatten(3)
        coefficients = (
            coefficients.unflatten(3, (-1, 2 * self.rank)) * torch.cat([inverse, inverse], -1)[:, None, :, None]
        )
        parts = self._blocks(coefficients).unflatten(-1, (2, SUBCARRIERS_PER_PRB))  # (B, R, U, N, 2, 12)
        channel = out_t[:, None, None] @ parts.permute(0, 3, 4, 1, 2, 5).flatten(2, 3)
        errors = self._errors(inverse, values_t, gain_t, num_symbols, var_of_raw, mean_power[:, None, None])
        return channel, self._per_prb(errors, power_of_prb[..., None]), num_symbols[:, None, None] * y.shape[-1]

    def _blocks(self, coefficients: torch.Tensor) -> torch.Tensor:
        """From windows ``(B, R, U, windows, 2 Q)`` to resource blocks ``(B, R, U, N, 24)``."""
        if self.window_prb < WINDOW_PRB:
            return torch.cat([coefficients @ matrix for matrix in self._out], 3)
        first, middle, last = self._out
        return torch.cat(
            [coefficients[:, :, :, :1] @ first, coefficients @ middle, coefficients[:, :, :, -1:] @ last], 3
        )

    def _errors(
        self,
        inverse: torch.Tensor,
        values_t: torch.Tensor,
        gain_t: torch.Tensor,
        num_symbols: torch.Tensor,
        var: torch.Tensor,
        power: torch.Tensor,
    ) -> torch.Tensor:
        """The errors by source per position in a window, ``(B, W, 2 + 2 S)``.

        These are gain and error power of the residual, then of the estimate at each symbol.
        """
        sums = gain_t[:, None] @ (torch.stack([inverse, inverse.square()], 1) @ self._gain)  # (B, 2, S, W)
        explained, passed = sums.unbind(1)
        shrinkage = values_t[..., None] * self._values * inverse
        change = (1 - shrinkage).square() - 1
        change = torch.stack([change, change * values_t[..., None] * self._values], 1) @ self._pilot_gain
        residual = 1 + change.sum(2) / num_symbols[:, None, None]  # (B, 2, W)
        parts = [
            residual[:, :1],
            residual[:, 1:].clamp_min(0) * power,
            passed / power,
            (1 - explained - passed * var).clamp_min(0),
        ]
        return torch.cat(parts, 1).transpose(1, 2)

    def _per_prb(self, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """From positions in a window to the resource blocks of ``like``, ``(B, N, 1)``.

        The repetition is a sum, because exporters fix the sizes of an expansion.
        """
        if self.window_prb < WINDOW_PRB:
            return values
        return torch.cat([values[:, :1], values[:, 1:2] + 0 * like[:, 1:-1], values[:, 2:]], 1)


def _columns(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.cat([first, second], -1)


def _windows(blocks: torch.Tensor, window_prb: int) -> torch.Tensor:
    """Windows ``(..., windows, W V)`` of blocks ``(..., N, V)``."""
    if window_prb < WINDOW_PRB:
        return blocks.flatten(-2)[..., None, :]
    return torch.cat([blocks[..., :-2, :], blocks[..., 1:-1, :], blocks[..., 2:, :]], -1)


def _time_bases(layouts: Sequence[DmrsLayout], places: PilotPlaces) -> dict[str, torch.Tensor]:
    """Eigenbases over the symbols of any layout. Symbols without pilots have eigenvalues and vectors of 0."""
    union = places.symbols.tolist()
    into, values = torch.zeros(len(layouts), len(union), len(union)), torch.zeros(len(layouts), len(union))
    out = torch.zeros(len(layouts), NUM_SYMBOLS, len(union))
    for i, layout in enumerate(layouts):
        basis, count = time_basis(tuple(layout.symbols), "cpu"), len(layout.symbols)
        into[i, :count, [union.index(s) for s in layout.symbols]] = basis.vectors.real.mT
        values[i, :count], out[i, :, :count] = basis.values, basis.out.real
    return {
        "into_t": into,
        "out_t": out,
        "gain_t": out.square(),
        "values_t": values,
        "num_symbols": torch.tensor([float(len(layout.symbols)) for layout in layouts]),
    }


class RealWhitening(nn.Module):
    """Whitening of noise and interference across antennas, and the error power of the whitened channel.

    The covariance of a block is the vector ``(C_00, C_11, ..., Re C_10, Re C_20, ..., Im C_10, ...)``.

    Args:
        num_rx: antennas R.

    Attributes:
        identity: the covariance of power 1 that is white, ``(R^2,)``.
    """

    _gather: torch.Tensor
    _scatter: torch.Tensor
    identity: torch.Tensor
    _weights: torch.Tensor

    def __init__(self, num_rx: int) -> None:
        super().__init__()
        self.num_rx, self.pairs = num_rx, [(a, b) for a in range(num_rx) for b in range(a)]
        size, count = 2 * num_rx, num_rx**2
        gather, scatter = np.zeros((size, size, count)), np.zeros((count, size, size))
        for a in range(num_rx):
            for offset in (0, num_rx):
                gather[a + offset, a + offset, a] = scatter[a, a + offset, a + offset] = 1
        for i, (a, b) in enumerate(self.pairs):
            re, im = num_rx + i, num_rx + len(self.pairs) + i
            for offset in (0, num_rx):
                gather[a + offset, b + offset, re] = scatter[re, a + offset, b + offset] = 1
            gather[a + num_rx, b, im], gather[a, b + num_rx, im] = 1, -1
            scatter[im, a + num_rx, b], scatter[im, a, b + num_rx] = 1, -1
        weights = np.r_[np.ones(num_rx), np.full(count - num_rx, 2.0)]
        for name, value in {
            "_gather": gather.reshape(-1, count),
            "_scatter": scatter.reshape(count, -1),
            "identity": (np.arange(count) < num_rx).astype(float),
            "_weights": weights[:, None],
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(
        self,
        residual: torch.Tensor,
        counts: torch.Tensor,
        errors: torch.Tensor,
        y: torch.Tensor,
        channel: torch.Tensor,
        var: torch.Tensor,
    ) -> torch.Tensor:
        """White samples, channel and error power of the channel, ``(B, N, 4 R + 1, S, 12)``."""
        var = var[:, None, None]
        covariance = self.covariance(residual, counts, errors, var) + 1e-6 * var * self.identity
        matrix = self.matrix(covariance, var.sqrt())
        y = (matrix @ y.flatten(3)).unflatten(3, (NUM_SYMBOLS, -1))
        channel = matrix @ channel.flatten(3)
        gain = channel.square().sum(2).clamp_min(MIN_GAIN)
        white_gain = ((matrix.transpose(-1, -2) @ channel).square().sum(2) / gain).unflatten(2, (NUM_SYMBOLS, -1))
        passed, estimation_error = errors[:, :, 2:, None].split(NUM_SYMBOLS, 2)
        error_var = passed * var[..., None] + estimation_error * white_gain
        return torch.cat([y, channel.unflatten(3, (NUM_SYMBOLS, -1)), error_var[:, :, None]], 2)

    def covariance(
        self, residual: torch.Tensor, counts: torch.Tensor, errors: torch.Tensor, var: torch.Tensor
    ) -> torch.Tensor:
        """Shrunk and rescaled covariance, ``(B, N, R^2)``, see :mod:`receivers.classical.combining`.

        Args:
            residual: at the pilots, ``(B, N, 2 R, P)``.
            counts: pilots of a block, ``(B or 1, 1, 1)``.
            errors: gain and error power of the residual, then others, ``(B, N or 1, 2 or more)``.
            var: noise-plus-interference power, ``(B, 1, 1)``.
        """
        sample = (residual @ residual.transpose(-1, -2)).flatten(2) @ self._gather / counts
        trace = sample[..., : self.num_rx].sum(-1, keepdim=True)
        relative = sample / trace.clamp_min(_TINY)
        white = self.identity / self.num_rx
        spread = (relative - white).square() @ self._weights
        shrinkage = (1 - (spread + 1 / self.num_rx) / self.num_rx) / (counts * spread.clamp_min(1.1920929e-07))
        shrinkage = shrinkage.clamp(0, 1)
        power = (trace / self.num_rx).clamp_min(_TINY)
        residual_gain, residual_error = errors[..., :1], errors[..., 1:2]
        scale = ((power - residual_error) / residual_gain.clamp_min(_TINY) / power).clamp_min(1) * trace
        shrunk = scale * (relative + shrinkage * (white - relative))
        informative = residual_gain * var > residual_error
        return torch.where(informative, shrunk, var * self.identity)

    def matrix(self, covariance: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
        """``root`` times the inverse Cholesky factor of ``(..., R^2)``, as a real matrix ``(..., 2 R, 2 R)``."""
        entries = covariance.split(1, -1)
        diagonal, lower = entries[: self.num_rx], entries[self.num_rx :]
        off = dict(zip(self.pairs, zip(lower[: len(self.pairs)], lower[len(self.pairs) :], strict=True), strict=True))
        inverse: list[torch.Tensor] = []  # of the factor's diagonal
        weights: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        for a in range(self.num_rx):
            for b in range(a):
                re, im = off[a, b]
                for k in range(b):  # minus L_ak conj(L_bk)
                    re = re - off[a, k][0] * off[b, k][0] - off[a, k][1] * off[b, k][1]
                    im = im - off[a, k][1] * off[b, k][0] + off[a, k][0] * off[b, k][1]
                off[a, b] = re * inverse[b], im * inverse[b]
            square = diagonal[a]
            for b in range(a):
                square = square - off[a, b][0].square() - off[a, b][1].square()
            inverse.append(square.clamp_min(_TINY).rsqrt())
        for a, b in self.pairs:
            re, im = off[a, b][0] * inverse[b], off[a, b][1] * inverse[b]
            for k in range(b + 1, a):  # plus L_ak W_kb
                (l_re, l_im), (w_re, w_im) = off[a, k], weights[k, b]
                re, im = re + l_re * w_re - l_im * w_im, im + l_re * w_im + l_im * w_re
            weights[a, b] = -re * inverse[a], -im * inverse[a]
        parts = [*inverse, *(weights[pair][0] for pair in self.pairs), *(weights[pair][1] for pair in self.pairs)]
        matrix = (torch.cat(parts, -1) * root) @ self._scatter
        return matrix.unflatten(-1, (2 * self.num_rx, 2 * self.num_rx))
