"""OFDM modulation and demodulation, with and without cyclic prefix, and frequency shifts of the samples."""

from __future__ import annotations

import math

import torch

from channels.grid import Grid


def ofdm_modulate(symbols: torch.Tensor, grid: Grid, oversampling: int = 1) -> torch.Tensor:
    """Return the samples of OFDM symbols without cyclic prefix (a unitary inverse FFT).

    Args:
        symbols: subcarriers, complex64 ``(..., F)``.
        grid: resource grid.
        oversampling: samples per sample of ``grid.sample_rate_hz``.

    Returns:
        complex64 ``(..., oversampling * fft_size)``.

    Example:
        >>> grid = Grid(num_prb=1)
        >>> symbols = torch.ones(14, 12, dtype=torch.complex64)
        >>> samples = ofdm_modulate(symbols, grid)
        >>> samples.shape
        torch.Size([14, 128])
        >>> torch.allclose(ofdm_demodulate(samples, grid), symbols, atol=1e-6)
        True
    """
    half, size = grid.dc_subcarrier, oversampling * grid.fft_size
    spectrum = symbols.new_zeros(*symbols.shape[:-1], size)  # the FFT has negative frequencies last
    spectrum[..., size - half :] = symbols[..., :half]
    spectrum[..., : grid.num_subcarriers - half] = symbols[..., half:]
    return torch.fft.ifft(spectrum, norm="ortho")


def ofdm_demodulate(windows: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the subcarriers of FFT windows: the inverse of :func:`ofdm_modulate`.

    Args:
        windows: samples, complex64 ``(..., oversampling * fft_size)``.
        grid: resource grid.

    Returns:
        complex64 ``(..., F)``.
    """
    half, size = grid.dc_subcarrier, windows.shape[-1]
    spectrum = torch.fft.fft(windows, norm="ortho")
    return torch.cat([spectrum[..., size - half :], spectrum[..., : grid.num_subcarriers - half]], dim=-1)


def ofdm_modulate_with_cp(symbols: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the samples of consecutive OFDM symbols with their cyclic prefixes.

    Args:
        symbols: subcarriers of N symbols, complex64 ``(..., N, F)``.
        grid: resource grid.

    Returns:
        complex64 ``(..., N * (fft_size + cyclic_prefix_samples))``.
    """
    windows = ofdm_modulate(symbols, grid)
    return torch.cat([windows[..., grid.fft_size - grid.cyclic_prefix_samples :], windows], dim=-1).flatten(-2)


def frequency_shift(offset_hz: torch.Tensor, num_symbols: int, grid: Grid) -> torch.Tensor:
    """Return the phasor of one frequency offset per slot in consecutive FFT windows.

    Args:
        offset_hz: frequency offset of each slot, float32 ``(B,)``.
        num_symbols: number of FFT windows.
        grid: resource grid.

    Returns:
        complex64 ``(B, num_symbols, fft_size)``, which is 1 at the first sample of the first window.
    """
    symbol = torch.arange(num_symbols, device=offset_hz.device)[:, None] * (grid.fft_size + grid.cyclic_prefix_samples)
    time_s = (symbol + torch.arange(grid.fft_size, device=offset_hz.device)) / grid.sample_rate_hz
    cycles = offset_hz[:, None, None] * time_s
    return torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
