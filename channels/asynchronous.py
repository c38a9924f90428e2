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
from channels.ofdm import ofdm_modulate


def apply_asynchronous_interference(symbols: torch.Tensor, delay_samples: torch.Tensor, grid: Grid) -> torch.Tensor:
    """What the receiver's FFT windows hold of a delayed OFDM signal.

    Args:
        symbols: the interferer's subcarriers after its channel, whose response includes the delay, complex64
            ``(B, R, N + 1, F)``; the first symbol precedes the slot.
        delay_samples: the delay at ``grid.fft_size`` samples per symbol, float32 ``(B,)``, from 0 to
            ``fft_size + cyclic_prefix_samples``.

    Returns:
        complex64 ``(B, R, N, fft_size)``.
    """
    # The delay has turned each symbol's samples around; only those of the symbol before are late by a prefix less.
    size, prefix = grid.fft_size, grid.cyclic_prefix_samples
    samples = ofdm_modulate(symbols, grid)
    before, current = samples[:, :, :-1], samples[:, :, 1:]
    is_before = (torch.arange(size, device=symbols.device) < (delay_samples - prefix)[:, None])[:, None, None]
    windows = torch.empty_like(current)
    for at, turned in ((slice(0, size - prefix), slice(prefix, size)), (slice(size - prefix, size), slice(0, prefix))):
        torch.where(is_before[..., at], before[..., turned], current[..., at], out=windows[..., at])
    return windows
