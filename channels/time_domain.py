"""The time-domain channel: OFDM samples through a time-varying multipath channel.

Each path delays the samples and multiplies them with a gain that changes from sample to sample. The delay is exact: a
phase ramp over the spectrum of all samples. Paths beyond the cyclic prefix cause intersymbol interference, and Doppler
causes intercarrier interference. The frequency-domain channel leaves both out.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len

from channels.grid import NUM_SYMBOLS, Grid
from channels.link_level import Paths
from channels.ofdm import ofdm_modulate_with_cp

LEAD_SYMBOLS = 2
"""Symbols that are sent before the slot. Late paths and late interferers carry them into the slot. Blocks with later
paths send more, see :func:`num_lead_symbols`."""
TAIL_SYMBOLS = 1
"""Symbols that are sent after the slot. A receiver with early timing sees them."""
GAINS_PER_SYMBOL = 4
"""Instants per symbol at which gains are drawn. Gains between them are interpolated linearly. The error of this is
below -50 dB for a Doppler shift of a twentieth of the subcarrier spacing."""

STREAM_SYMBOLS = LEAD_SYMBOLS + NUM_SYMBOLS + TAIL_SYMBOLS
"""Symbols that are sent for one slot."""
NUM_INSTANTS = GAINS_PER_SYMBOL * STREAM_SYMBOLS + 1
"""Instants at which gains are drawn for one slot."""


def sampling_interval_s(grid: Grid) -> float:
    """Return the time in s between the instants of the gains that :func:`apply_time_channel` takes."""
    return (grid.fft_size + grid.cyclic_prefix_samples) / grid.sample_rate_hz / GAINS_PER_SYMBOL


def num_lead_symbols(delays_s: torch.Tensor, grid: Grid) -> int:
    """Return the number of symbols that must be sent before the slot, so that the latest path brings data to its start.

    Args:
        delays_s: delays of the paths, float32 ``(B, P)``.
        grid: resource grid.

    Example:
        >>> grid = Grid(num_prb=1, subcarrier_spacing_hz=120000)
        >>> num_lead_symbols(torch.tensor([[0.0, 2.5e-5]]), grid)  # 2.9 symbols late
        3
    """
    latest = float(delays_s.max()) * grid.sample_rate_hz / (grid.fft_size + grid.cyclic_prefix_samples)
    return max(LEAD_SYMBOLS, math.ceil(latest - 1e-3))  # not a symbol more for a rounded delay


def apply_time_channel(symbols: torch.Tensor, paths: Paths, grid: Grid) -> torch.Tensor:
    """Send a slot through a channel, and return the receiver's FFT windows.

    Args:
        symbols: transmitted subcarriers, complex64 ``(B, lead + 14 + TAIL_SYMBOLS, F)``, with at least LEAD_SYMBOLS
            symbols before the slot. Nothing is sent before the first and after the last symbol.
        paths: gains ``(B, R, NUM_INSTANTS, P)`` and delays ``(B, P)``. Delays are relative to the receiver's timing and
            may be negative.
        grid: resource grid.

    Returns:
        complex64 ``(B, R, 14, fft_size)``.
    """
    symbol_samples = grid.fft_size + grid.cyclic_prefix_samples
    samples = ofdm_modulate_with_cp(symbols, grid)
    length = STREAM_SYMBOLS * symbol_samples
    start = samples.shape[-1] - length  # sample of the first instant of the gains
    lead_samples = start + LEAD_SYMBOLS * symbol_samples
    size = next_fast_len(samples.shape[-1] + _samples_beyond(paths.delays_s, lead_samples, grid))
    spectrum = torch.fft.fft(samples, n=size)
    f_hz = torch.fft.fftfreq(size, 1 / grid.sample_rate_hz, device=symbols.device)
    position = torch.arange(length, device=symbols.device) * GAINS_PER_SYMBOL / symbol_samples
    instant = position.long()
    weight = (position - instant).to(torch.float32)
    received = torch.zeros(*paths.gains.shape[:2], length, dtype=torch.complex64, device=symbols.device)
    for path in range(paths.delays_s.shape[1]):  # one path at a time needs less memory
        cycles = -paths.delays_s[:, path, None] * f_hz
        delayed = torch.fft.ifft(spectrum * torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles))
        gains = paths.gains[..., path]
        gain = torch.lerp(gains[..., instant], gains[..., instant + 1], weight.to(gains.dtype))
        received.addcmul_(gain, delayed[:, None, start : start + length])
    slot = received[..., LEAD_SYMBOLS * symbol_samples : (LEAD_SYMBOLS + NUM_SYMBOLS) * symbol_samples]
    return slot.unflatten(-1, (NUM_SYMBOLS, symbol_samples))[..., grid.cyclic_prefix_samples :]


def _samples_beyond(delays_s: torch.Tensor, lead_samples: int, grid: Grid) -> int:
    """Return the samples of silence that keep delays longer than the sent samples from wrapping around."""
    latest, earliest = (float(delay_s) * grid.sample_rate_hz for delay_s in (delays_s.max(), -delays_s.min()))
    tail_samples = TAIL_SYMBOLS * (grid.fft_size + grid.cyclic_prefix_samples)
    return math.ceil(max(0.0, latest - lead_samples, earliest - tail_samples))


def useful_fraction(delays_s: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the fraction of an FFT window in which a path carries the window's own symbol.

    It is 1 for delays within the cyclic prefix. In the rest of the window, a later path carries the previous symbol,
    and an earlier path carries the next. This rest is interference, so the path's part in the channel is the fraction.

    Args:
        delays_s: delays of the paths, float32 ``(B, P)``.
        grid: resource grid.

    Returns:
        float32 ``(B, P)``.

    Example:
        >>> grid = Grid(num_prb=1)
        >>> delays_s = torch.tensor([-32, 0, 9, 9 + 32, 9 + 128]) / grid.sample_rate_hz
        >>> [round(x, 3) for x in useful_fraction(delays_s, grid).tolist()]
        [0.75, 1.0, 1.0, 0.75, 0.0]
    """
    delay = delays_s * grid.sample_rate_hz
    outside = (delay - grid.cyclic_prefix_samples).clamp_min(0) + (-delay).clamp_min(0)
    return (1 - outside / grid.fft_size).clamp_min(0)


def sample_at_symbols(paths: Paths, grid: Grid) -> Paths:
    """Return the paths in the middle of each of the slot's 14 FFT windows.

    Args:
        paths: gains ``(B, R, NUM_INSTANTS, P)`` and delays ``(B, P)``.
        grid: resource grid.

    Returns:
        gains ``(B, R, 14, P)`` and the same delays.
    """
    middle = (grid.cyclic_prefix_samples + grid.fft_size / 2) / (grid.fft_size + grid.cyclic_prefix_samples)
    symbols = torch.arange(LEAD_SYMBOLS, LEAD_SYMBOLS + NUM_SYMBOLS, device=paths.gains.device)
    position = (symbols + middle) * GAINS_PER_SYMBOL
    instant = position.long()
    weight = (position - instant).to(paths.gains.dtype)[:, None]
    gains = torch.lerp(paths.gains[:, :, instant], paths.gains[:, :, instant + 1], weight)
    return Paths(gains, paths.delays_s)
