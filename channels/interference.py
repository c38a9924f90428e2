"""An interferer whose OFDM symbols are not aligned with the receiver's FFT windows.

The interferer sends symbols back to back, late by ``d`` samples::

    interferer   | CP |  symbol -1     | CP |  symbol 0      | CP |  symbol 1      | ...
    receiver          | CP |[   window 0   ]| CP |[   window 1   ]| ...
                      |<-d->

For ``d`` up to the cyclic prefix a window holds one whole symbol and subcarriers stay orthogonal; beyond it the
window holds the end of one symbol and the start of the next, as with an unsynchronised neighbour cell.
"""

from __future__ import annotations

import torch

from channels.grid import Grid
from channels.ofdm import frequency_shift, to_subcarriers, to_windows

SLOTS_AT_A_TIME = 16
"""So that samples stay in the cache of a CPU."""


def seen_by_receiver(
    h: torch.Tensor, symbols: torch.Tensor, delay_samples: torch.Tensor, frequency_offset_hz: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """What the receiver's FFT windows show of a delayed OFDM signal.

    Args:
        h: the interferer's channel, which includes the delay, complex64 ``(B, R, num_symbols + 1, F)``.
        symbols: its subcarriers, complex64 ``(B, num_symbols + 1, F)``; the first symbol precedes the slot.
        delay_samples: the delay at ``grid.fft_size`` samples per symbol, float32 ``(B,)``, from 0 to
            ``fft_size + cyclic_prefix_samples``.
        frequency_offset_hz: carrier frequency relative to the receiver's, float32 ``(B,)``.

    Returns:
        complex64 ``(B, R, num_symbols, F)``.
    """
    seen = torch.empty_like(h[:, :, 1:])
    for at in torch.arange(len(h)).split(SLOTS_AT_A_TIME):
        part = slice(int(at[0]), int(at[-1]) + 1)
        windows = _windows(h[part] * symbols[part, None], delay_samples[part], grid)
        if frequency_offset_hz.any():
            windows = windows * frequency_shift(frequency_offset_hz[part], windows.shape[2], grid)[:, None]
        seen[part] = to_subcarriers(windows, grid)
    return seen


def _windows(symbols: torch.Tensor, delay_samples: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The delay has turned each symbol's samples around; only those of the symbol before are late by a prefix less."""
    prefix = grid.cyclic_prefix_samples
    samples = to_windows(symbols, grid)
    before = samples[:, :, :-1].roll(-prefix, dims=-1)
    is_before = torch.arange(grid.fft_size, device=symbols.device) < (delay_samples - prefix)[:, None]
    return torch.where(is_before[:, None, None], before, samples[:, :, 1:])
