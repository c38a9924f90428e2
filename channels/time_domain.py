"""OFDM samples through a time-varying multipath channel: what the frequency domain leaves out.

Each path delays the stream (exactly, by a phase ramp over the spectrum of the whole stream) and weighs it with a gain
that changes from sample to sample. Paths beyond the cyclic prefix bring intersymbol interference, Doppler brings
intercarrier interference.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len

from channels.grid import NUM_SYMBOLS, Grid
from channels.link_level import Paths
from channels.ofdm import ofdm_modulate_with_cp

LEAD_SYMBOLS = 2
"""Symbols sent before the slot, so that late paths and late interferers bring what preceded it."""
TAIL_SYMBOLS = 1
"""Symbols sent after it, for early timing."""
GAINS_PER_SYMBOL = 4
"""Instants per symbol at which gains are drawn; between them they are interpolated linearly (error below -50 dB at a
twentieth of the subcarrier spacing)."""

STREAM_SYMBOLS = LEAD_SYMBOLS + NUM_SYMBOLS + TAIL_SYMBOLS
NUM_INSTANTS = GAINS_PER_SYMBOL * STREAM_SYMBOLS + 1


def sampling_interval_s(grid: Grid) -> float:
    """Time between the instants of the gains that :func:`apply_time_channel` wants."""
    return (grid.fft_size + grid.cyclic_prefix_samples) / grid.sample_rate_hz / GAINS_PER_SYMBOL


def apply_time_channel(symbols: torch.Tensor, paths: Paths, grid: Grid) -> torch.Tensor:
    """The receiver's FFT windows of a slot sent through a channel.

    Args:
        symbols: transmitted subcarriers, complex64 ``(B, STREAM_SYMBOLS, F)``.
        paths: gains at :data:`NUM_INSTANTS` instants ``(B, R, NUM_INSTANTS, P)``, delays relative to the receiver's
            timing ``(B, P)``, which may be negative.

    Returns:
        complex64 ``(B, R, 14, fft_size)``.
    """
    symbol = grid.fft_size + grid.cyclic_prefix_samples
    stream = ofdm_modulate_with_cp(symbols, grid)
    length = stream.shape[-1]
    size = next_fast_len(length)
    spectrum = torch.fft.fft(stream, n=size)
    f_hz = torch.fft.fftfreq(size, 1 / grid.sample_rate_hz, device=symbols.device)
    position = torch.arange(length, device=symbols.device) * GAINS_PER_SYMBOL / symbol
    before = position.long()
    part = (position - before).to(torch.float32)
    received = torch.zeros(*paths.gains.shape[:2], length, dtype=torch.complex64, device=symbols.device)
    for path in range(paths.delays_s.shape[1]):  # one at a time, to bound memory
        turns = -paths.delays_s[:, path, None] * f_hz
        delayed = torch.fft.ifft(spectrum * torch.polar(torch.ones_like(turns), 2 * math.pi * turns))[:, :length]
        gains = paths.gains[..., path]
        gain = torch.lerp(gains[..., before], gains[..., before + 1], part.to(gains.dtype))
        received.addcmul_(gain, delayed[:, None])
    slot = received[..., LEAD_SYMBOLS * symbol : (LEAD_SYMBOLS + NUM_SYMBOLS) * symbol]
    return slot.unflatten(-1, (NUM_SYMBOLS, symbol))[..., grid.cyclic_prefix_samples :]


def sample_at_symbols(paths: Paths, grid: Grid) -> Paths:
    """The paths in the middle of each of the slot's FFT windows."""
    middle = (grid.cyclic_prefix_samples + grid.fft_size / 2) / (grid.fft_size + grid.cyclic_prefix_samples)
    symbols = torch.arange(LEAD_SYMBOLS, LEAD_SYMBOLS + NUM_SYMBOLS, device=paths.gains.device)
    position = (symbols + middle) * GAINS_PER_SYMBOL
    before = position.long()
    part = (position - before).to(paths.gains.dtype)[:, None]
    gains = torch.lerp(paths.gains[:, :, before], paths.gains[:, :, before + 1], part)
    return Paths(gains, paths.delays_s)
