"""OFDM symbols as samples: FFT windows, their place in time, and the stream with cyclic prefixes."""

from __future__ import annotations

import math

import torch

from channels.grid import Grid


def ofdm_modulate(symbols: torch.Tensor, grid: Grid, oversampling: int = 1) -> torch.Tensor:
    """Samples of OFDM symbols without cyclic prefix; ``(..., F)`` to ``(..., oversampling * fft_size)``, unitary."""
    half, size = grid.num_subcarriers // 2, oversampling * grid.fft_size
    spectrum = symbols.new_zeros(*symbols.shape[:-1], size)  # negative frequencies last, as the FFT has them
    spectrum[..., size - half :] = symbols[..., :half]
    spectrum[..., : grid.num_subcarriers - half] = symbols[..., half:]
    return torch.fft.ifft(spectrum, norm="ortho")


def ofdm_demodulate(windows: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The grid's subcarriers of FFT windows; ``(..., size)`` to ``(..., F)``, the inverse of :func:`ofdm_modulate`."""
    half, size = grid.num_subcarriers // 2, windows.shape[-1]
    spectrum = torch.fft.fft(windows, norm="ortho")
    return torch.cat([spectrum[..., size - half :], spectrum[..., : grid.num_subcarriers - half]], dim=-1)


def ofdm_modulate_with_cp(symbols: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Consecutive symbols with their cyclic prefixes; ``(..., N, F)`` to ``(..., N (fft_size + prefix))``."""
    windows = ofdm_modulate(symbols, grid)
    return torch.cat([windows[..., grid.fft_size - grid.cyclic_prefix_samples :], windows], dim=-1).flatten(-2)


def frequency_shift(offset_hz: torch.Tensor, num_symbols: int, grid: Grid) -> torch.Tensor:
    """Phasor of a frequency offset per slot over consecutive FFT windows.

    Args:
        offset_hz: float32 ``(B,)``.

    Returns:
        complex64 ``(B, num_symbols, fft_size)``, 1 where the first window begins.
    """
    symbol = torch.arange(num_symbols, device=offset_hz.device)[:, None] * (grid.fft_size + grid.cyclic_prefix_samples)
    time_s = (symbol + torch.arange(grid.fft_size, device=offset_hz.device)) / grid.sample_rate_hz
    turns = offset_hz[:, None, None] * time_s
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)
