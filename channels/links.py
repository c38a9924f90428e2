"""The random draw of one transmitter, and the signal that the receiver gets from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from channels import time_domain
from channels.asynchronous import apply_asynchronous_interference
from channels.fading import frequency_response
from channels.grid import NUM_SYMBOLS, Grid, constellation
from channels.impairments import amplify
from channels.link_level import Paths
from channels.ofdm import ofdm_demodulate, ofdm_modulate
from channels.scenarios import PowerAmplifier


@dataclass(frozen=True)
class DataSymbols:
    """Random data of a batch of slots.

    Attributes:
        labels: eight random bits per RE, uint8 ``(B, N, F)``. An RE of K bits uses the last K.
        bits_per_symbol: bits of each slot's modulation, int64 ``(B,)``.
        orders: bits of all modulations that slots may have, without repeats. The largest is K of the scenario. A
            modulation of fewer bits uses the first ones of K.
    """

    labels: torch.Tensor
    bits_per_symbol: torch.Tensor
    orders: tuple[int, ...]

    @property
    def num_bits(self) -> int:
        """K of the scenario."""
        return max(self.orders)

    @cached_property
    def _table(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Table of all constellations, first row of each slot's constellation, and its number of unused bits."""
        table = torch.cat([constellation(order, self.labels.device) for order in sorted(self.orders)])
        order = self.bits_per_symbol if len(self.orders) > 1 else self.bits_per_symbol[:1]
        first = torch.stack([2**o * (order > o) for o in self.orders]).sum(0)
        return table, first[:, None, None].int(), (self.num_bits - order)[:, None, None].to(torch.uint8)

    def symbols(self, part: slice) -> torch.Tensor:
        """Return the QAM symbols of some slots, complex64 ``(b, N, F)``."""
        table, first, unused = self._table
        labels = self.labels[part] & (2**self.num_bits - 1)
        if len(self.orders) > 1:
            labels = (labels >> unused[part]) + first[part]
        return table[labels.int()]

    def bits(self, is_data: torch.Tensor) -> torch.Tensor:
        """Return the transmitted bits, uint8 ``(B, K, N, F)``.

        Args:
            is_data: REs that carry data, bool ``(B, N, F)``. Bits are 0 elsewhere, and beyond the modulation's bits.
        """
        order = torch.arange(self.num_bits, dtype=torch.uint8, device=self.labels.device)
        bits = (self.labels * is_data)[:, None] >> (self.num_bits - 1 - order)[:, None, None]
        bits &= 1
        if len(self.orders) > 1:
            bits *= (order < self.bits_per_symbol[:, None])[:, :, None, None]
        return bits


@dataclass(frozen=True)
class WantedLink:
    """The draw of the wanted transmitter.

    Attributes:
        grid: resource grid.
        paths: the channel with the timing offset, at the 14 symbols, or at the instants of :mod:`channels.time_domain`.
        phasor: of the oscillator in the FFT windows, complex64 ``(B, 14, fft_size)``, or ``None`` if it is ideal.
        amplifier: the power amplifier, or ``None`` if it is linear.
        adjacent_symbols: data of the symbols before the slot, in order of time, and last of those after it. ``None``
            in the frequency domain.
    """

    grid: Grid
    paths: Paths
    phasor: torch.Tensor | None
    amplifier: PowerAmplifier | None
    adjacent_symbols: tuple[DataSymbols, ...] | None

    def per_symbol(self, part: slice = slice(None)) -> Paths:
        """Return the paths of some slots at their 14 symbols, with the mean rotation of the oscillator per symbol.

        In the time domain, a path counts with its :func:`channels.time_domain.useful_fraction`.
        """
        paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
        if self.adjacent_symbols is not None:
            paths = time_domain.sample_at_symbols(paths, self.grid)
            fraction = time_domain.useful_fraction(paths.delays_s, self.grid)
            paths = Paths(paths.gains * fraction[:, None, None], paths.delays_s)
        if self.phasor is not None:
            paths = Paths(paths.gains * self.phasor[part].mean(-1)[:, None, :, None], paths.delays_s)
        return paths

    def receive(self, part: slice, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor | None:
        """Write the channel into ``out``, and compute the received signal.

        Args:
            part: the slots.
            x: transmitted symbols of these slots, complex64 ``(b, S, F)``.
            out: tensor for the channel, complex64 ``(b, R, S, F)``.

        Returns:
            The received subcarriers, complex64 ``(b, R, S, F)``, or ``None`` if they are simply channel times symbols.
        """
        frequency_response(self.per_symbol(part), self.grid, out)
        amplified = x if self.amplifier is None else amplify(x, self.amplifier, self.grid)
        if self.adjacent_symbols is not None:
            *before, after = (data.symbols(part) for data in self.adjacent_symbols)
            symbols = torch.cat([*before, amplified, after], dim=1)
            paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
            windows = time_domain.apply_time_channel(symbols, paths, self.grid)
        elif self.phasor is not None or self.amplifier is not None:
            response = frequency_response(Paths(self.paths.gains[part], self.paths.delays_s[part]), self.grid)
            windows = ofdm_modulate(response * amplified[:, None], self.grid)
        else:
            return None
        if self.phasor is not None:
            windows = windows * self.phasor[part, None]
        return ofdm_demodulate(windows, self.grid)


@dataclass(frozen=True)
class InterferingLink:
    """The draw of one interferer.

    Attributes:
        grid: resource grid.
        data: of the symbol before the slot and the slot's 14, or of all symbols of :mod:`channels.time_domain`.
        earlier_data: of symbols before those, for late paths in the time domain; empty if there are none.
        paths: the channel with the interferer's amplitude and delay.
        band: amplitude of the subcarriers of a narrow interferer, float32 ``(B, F)``, or ``None`` for the whole grid.
        delay_samples: delay, float32 ``(B,)``.
        phasor: of the frequency offset in the FFT windows, complex64 ``(B, 14, fft_size)``, or ``None``.
        uses_time_domain: whether samples are sent through the paths.
    """

    grid: Grid
    data: DataSymbols
    earlier_data: tuple[DataSymbols, ...]
    paths: Paths
    band: torch.Tensor | None
    delay_samples: torch.Tensor
    phasor: torch.Tensor | None
    uses_time_domain: bool

    @property
    def num_response_symbols(self) -> int:
        """Number of symbols for which :meth:`receive` writes the channel. The last 14 are those of the slot."""
        return NUM_SYMBOLS if self.uses_time_domain else NUM_SYMBOLS + 1

    def receive(self, part: slice, out: torch.Tensor) -> torch.Tensor:
        """Write the channel into ``out``, and return the received signal.

        Args:
            part: the slots.
            out: tensor for the channel, complex64 ``(b, R, num_response_symbols, F)``.

        Returns:
            received subcarriers, complex64 ``(b, R, S, F)``.
        """
        paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
        symbols = torch.cat([data.symbols(part) for data in (*self.earlier_data, self.data)], dim=1)
        if self.band is not None:
            symbols *= self.band[part, None]
        if self.uses_time_domain:
            windows = time_domain.apply_time_channel(symbols, paths, self.grid)
            frequency_response(time_domain.sample_at_symbols(paths, self.grid), self.grid, out)
        else:
            frequency_response(paths, self.grid, out)
            windows = apply_asynchronous_interference(out * symbols[:, None], self.delay_samples[part], self.grid)
        if self.band is not None:
            out *= self.band[part, None, None]
        if self.phasor is not None:
            windows = windows * self.phasor[part, None]
        return ofdm_demodulate(windows, self.grid)
