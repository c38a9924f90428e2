"""An interferer whose OFDM symbols are not aligned with the receiver's FFT windows.

The interferer sends its symbols without gaps. They arrive ``d`` samples late::

    interferer   | CP |  symbol -1     | CP |  symbol 0      | CP |  symbol 1      | ...
    receiver          | CP |[   window 0   ]| CP |[   window 1   ]| ...
                      |<-d->

If ``d`` is at most the cyclic prefix, each window holds one whole symbol, and subcarriers stay orthogonal. If ``d`` is
larger, a window holds the end of one symbol and the start of the next. This is the case of an unsynchronised
neighbouring cell.
"""

from __future__ import annotations

import torch

from channels.grid import Grid
from channels.ofdm import ofdm_modulate


def apply_asynchronous_interference(symbols: torch.Tensor, delay_samples: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the receiver's FFT windows of a delayed OFDM signal.

    Args:
        symbols: the interferer's subcarriers after its channel, complex64 ``(B, R, N + 1, F)``. The channel response
            includes the delay. The first symbol precedes the slot.
        delay_samples: delay of each slot in samples of ``grid.sample_rate_hz``, float32 ``(B,)``, from 0 to
            ``fft_size + cyclic_prefix_samples``.
        grid: resource grid.

    Returns:
        complex64 ``(B, R, N, fft_size)``.
    """
    # The response rotates the samples of each symbol by the delay. In a window, the samples of the previous symbol need
    # a delay that is shorter by one cyclic prefix, so they are read from a position that is one prefix later.
    size, prefix = grid.fft_size, grid.cyclic_prefix_samples
    samples = ofdm_modulate(symbols, grid)
    previous, current = samples[:, :, :-1], samples[:, :, 1:]
    is_previous = (torch.arange(size, device=symbols.device) < (delay_samples - prefix)[:, None])[:, None, None]
    windows = torch.empty_like(current)
    for target, source in (
        (slice(0, size - prefix), slice(prefix, size)),
        (slice(size - prefix, size), slice(0, prefix)),
    ):
        torch.where(is_previous[..., target], previous[..., source], current[..., target], out=windows[..., target])
    return windows
