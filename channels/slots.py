"""A batch of received slots, and the definition of its SNR, SIR and SINR."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Slots:
    """A batch of received slots with their transmitted bits, true channels and powers.

    Shapes: B slots, R receive antennas, I interferers, K bits per RE (the maximum of the scenario), S symbols and F
    subcarriers. ``len(slots)`` is B.

    The realised SNR, SIR and SINR of a slot are ratios of the powers of its own samples. Each power is the mean over
    the data REs of the slot and all antennas, before any combining.

    Attributes:
        y: received grid, complex64 ``(B, R, S, F)``.
        pilots: transmitted pilot values, complex64 ``(B, S, F)``; 0 where there is no pilot.
        is_data: REs that carry data, bool ``(B, S, F)``.
        bits: transmitted bits, uint8 ``(B, K, S, F)``; 0 where there are none.
        bits_per_symbol: bits of each slot's modulation, int64 ``(B,)``. A slot uses the first ones of K.
        subcarrier_spacing_hz: subcarrier spacing of each slot, int64 ``(B,)``.
        slot_number: number of the slot in its frame, int64 ``(B,)``; -1 without DMRS.
        n_id: scrambling identity N_ID of the DMRS, 0 to 65535, int64 ``(B,)``; -1 without DMRS.
        n_scid: n_SCID of the DMRS, 0 or 1, int64 ``(B,)``; -1 without DMRS. With these three,
            :func:`channels.pilots.dmrs_sequence` gives the pilots.
        h: true channel of the wanted signal, complex64 ``(B, R, S, F)``.
        h_interference: true channels of the interferers times their amplitudes, complex64 ``(B, I, R, S, F)``. An
            absent interferer has the channel 0.
        noise_var: mean noise power per RE and antenna, float32 ``(B,)``. The mean wanted power is 1.
        interference_var: mean interference power per RE and antenna, float32 ``(B,)``.
        snr_db: realised signal-to-noise ratio of each slot, float32 ``(B,)``.
        sir_db: realised signal-to-interference ratio of each slot, float32 ``(B,)``.
        sinr_db: realised signal-to-interference-plus-noise ratio of each slot, float32 ``(B,)``.

    Example:
        >>> from channels import SlotStream, scenario
        >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=4).block(0)
        >>> slots.y.shape, slots.bits.shape
        (torch.Size([4, 2, 14, 72]), torch.Size([4, 4, 14, 72]))
        >>> int(slots.bit_mask[0].sum())  # 4 bits on 13 symbols of 72 subcarriers; one symbol carries pilots
        3744
    """

    y: torch.Tensor
    pilots: torch.Tensor
    is_data: torch.Tensor
    bits: torch.Tensor
    bits_per_symbol: torch.Tensor
    subcarrier_spacing_hz: torch.Tensor
    slot_number: torch.Tensor
    n_id: torch.Tensor
    n_scid: torch.Tensor
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
        """Mask of the transmitted bits, bool ``(B, K, S, F)``."""
        order = torch.arange(self.bits.shape[1], device=self.bits.device)
        return self.is_data[:, None] & (order < self.bits_per_symbol[:, None])[:, :, None, None]

    @property
    def wanted_power(self) -> torch.Tensor:
        """Mean power of each slot's wanted samples per RE and antenna, float32 ``(B,)``.

        It is the realised SNR times ``noise_var``: the noise power of a slot is close to its mean.
        """
        return self.noise_var * 10 ** (self.snr_db / 10)

    @property
    def unwanted_power(self) -> torch.Tensor:
        """Mean power of each slot's noise and interference per RE and antenna, float32 ``(B,)``."""
        return self.wanted_power / 10 ** (self.sinr_db / 10)

    @property
    def pilot_symbols(self) -> torch.Tensor:
        """Mask of the symbols that carry pilots, bool ``(B, S)``."""
        return (self.pilots != 0).any(-1)


class DataElementEnergy:
    """Computes the energy of signals over the data REs of slots and all antennas.

    Args:
        is_data: REs that carry data, bool ``(B, S, F)``.
    """

    def __init__(self, is_data: torch.Tensor) -> None:
        self._pilot_symbols = torch.nonzero((~is_data).any(-1).any(0))[:, 0]  # symbols with REs that carry no data
        self._is_no_data = (~is_data[:, self._pilot_symbols]).to(torch.float32)[:, None]

    def __call__(self, x: torch.Tensor, part: slice) -> torch.Tensor:
        """Return the energy of ``x``, complex64 ``(b, R, S, F)``, the signal of slots ``part``; float32 ``(b,)``."""
        return _energy(x) - _energy(x.index_select(2, self._pilot_symbols) * self._is_no_data[part])


def _energy(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.view_as_real(x).flatten(1), dim=1).square()
