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


def seen_by_receiver(symbols: torch.Tensor, delay_samples: torch.Tensor, grid: Grid) -> torch.Tensor:
    """What the receiver's FFT windows show of a delayed OFDM signal.

    Args:
        symbols: the interferer's subcarriers after its channel, complex64
            ``(batch, num_rx, num_symbols + 1, num_subcarriers)``; the first symbol precedes the slot.
        delay_samples: delay of each slot at ``grid.fft_size`` samples per symbol, int64 ``(batch,)``, from 0 to
            ``fft_size + cyclic_prefix_samples``.

    Returns:
        complex64 ``(batch, num_rx, num_symbols, num_subcarriers)``.
    """
    size, prefix = grid.fft_size, grid.cyclic_prefix_samples
    num_symbols = symbols.shape[2] - 1
    bins = (torch.arange(grid.num_subcarriers, device=symbols.device) - grid.num_subcarriers // 2) % size
    spectrum = symbols.new_zeros(*symbols.shape[:3], size)
    spectrum[..., bins] = symbols
    time = torch.fft.ifft(spectrum, norm="ortho")
    stream = torch.cat([time[..., size - prefix :], time], dim=-1).flatten(2)
    starts = torch.arange(1, num_symbols + 1, device=symbols.device) * (size + prefix) + prefix
    index = starts[:, None] + torch.arange(size, device=symbols.device)
    index = (index - delay_samples[:, None, None]).flatten(1)
    windows = stream.gather(2, index[:, None].expand(-1, stream.shape[1], -1))
    windows = windows.view(*stream.shape[:2], num_symbols, size)
    return torch.fft.fft(windows, norm="ortho")[..., bins]
