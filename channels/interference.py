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
    size, prefix, half = grid.fft_size, grid.cyclic_prefix_samples, grid.num_subcarriers // 2
    num_symbols = symbols.shape[2] - 1
    spectrum = symbols.new_zeros(*symbols.shape[:3], size)  # negative frequencies last, as the FFT has them
    spectrum[..., size - half :] = symbols[..., :half]
    spectrum[..., : grid.num_subcarriers - half] = symbols[..., half:]
    time = torch.fft.ifft(spectrum, norm="ortho")
    stream = torch.cat([time[..., size - prefix :], time], dim=-1).flatten(2)
    length = num_symbols * (size + prefix)
    starts = (size + prefix - delay_samples).tolist()
    slots = torch.stack([stream[i, :, start : start + length] for i, start in enumerate(starts)])
    windows = slots.unflatten(-1, (num_symbols, size + prefix))[..., prefix:]
    seen = torch.fft.fft(windows, norm="ortho")
    return torch.cat([seen[..., size - half :], seen[..., : grid.num_subcarriers - half]], dim=-1)
