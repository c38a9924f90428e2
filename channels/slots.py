"""The batch of slots that flows through leanrx, and the definition of its SNR, SIR and SINR."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Slots:
    """A batch of received slots with everything that is true about them.

    Shapes: B slots, R receive antennas, K bits per RE (the most of the scenario), S symbols, F subcarriers.

    Attributes:
        y: received grid, complex64 ``(B, R, S, F)``.
        pilots: transmitted pilot values, 0 off the pilots, complex64 ``(B, S, F)``.
        is_data: REs that carry data, bool ``(B, S, F)``.
        bits: transmitted bits, 0 where there are none, uint8 ``(B, K, S, F)``.
        bits_per_symbol: bits that each slot's modulation carries, int64 ``(B,)``; the first ones of K are in use.
        h: true channel of the wanted signal, complex64 ``(B, R, S, F)``.
        h_interference: true channels of the I interferers times their amplitudes, complex64 ``(B, I, R, S, F)``; 0
            where one is absent.
        noise_var: mean noise power per RE and antenna, float32 ``(B,)``.
        interference_var: mean interference power per RE and antenna, float32 ``(B,)``.
        snr_db, sir_db, sinr_db: *realised* ratios of each slot, float32 ``(B,)``: mean power of the slot's own
            wanted, noise and interference samples over its data REs and all antennas, before any combining.
    """

    y: torch.Tensor
    pilots: torch.Tensor
    is_data: torch.Tensor
    bits: torch.Tensor
    bits_per_symbol: torch.Tensor
    h: torch.Tensor
    h_interference: torch.Tensor
    noise_var: torch.Tensor
    interference_var: torch.Tensor
    snr_db: torch.Tensor
    sir_db: torch.Tensor
    sinr_db: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def bit_mask(self) -> torch.Tensor:
        """Bits that were sent, bool ``(B, K, S, F)``."""
        order = torch.arange(self.bits.shape[1], device=self.bits.device)
        return self.is_data[:, None] & (order < self.bits_per_symbol[:, None])[:, :, None, None]

    @property
    def pilot_symbols(self) -> torch.Tensor:
        """Symbols that carry pilots, bool ``(B, S)``."""
        return (self.pilots != 0).any(-1)


class DataElementEnergy:
    """Energy of signals over the data REs of slots and all antennas.

    Args:
        is_data: bool ``(B, S, F)``.
    """

    def __init__(self, is_data: torch.Tensor) -> None:
        self._mixed = torch.nonzero((~is_data).any(-1).any(0))[:, 0]  # symbols that carry something else too
        self._other = (~is_data[:, self._mixed]).to(torch.float32)[:, None]

    def __call__(self, x: torch.Tensor, part: slice) -> torch.Tensor:
        """Energy of ``x``, complex64 ``(b, R, S, F)``, which are the slots ``part``; float32 ``(b,)``."""
        return _energy(x) - _energy(x.index_select(2, self._mixed) * self._other[part])


def _energy(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.view_as_real(x).flatten(1), dim=1).square()
