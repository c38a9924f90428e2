"""One transmitter as it was drawn, and what of it arrives at the receiver."""

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
class Data:
    """Drawn data.

    Attributes:
        labels: eight random bits, of which an RE of K bits uses the last K, uint8 ``(B, N, F)``.
        bits_per_symbol: of each slot's modulation, int64 ``(B,)``.
        num_bits: K of the scenario; a modulation of fewer bits uses the first ones of K.
    """

    labels: torch.Tensor
    bits_per_symbol: torch.Tensor
    num_bits: int

    @cached_property
    def _table(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Constellations one after the other, where that of each slot begins, and the bits that it does not use."""
        orders = self.bits_per_symbol.unique().tolist()
        table = torch.cat([constellation(order, self.labels.device) for order in orders])
        of_slot = self.bits_per_symbol if len(orders) > 1 else self.bits_per_symbol[:1]
        first = torch.stack([2**o * (of_slot > o) for o in orders]).sum(0)
        return table, first[:, None, None].int(), (self.num_bits - of_slot)[:, None, None].to(torch.uint8)

    def symbols(self, part: slice) -> torch.Tensor:
        """QAM symbols of some slots, complex64 ``(b, N, F)``."""
        table, first, unused = self._table
        labels = self.labels[part] & (2**self.num_bits - 1)
        if len(first) > 1:
            labels = (labels >> unused[part]) + first[part]
        elif int(unused):
            labels = labels >> unused
        return table[labels.int()]

    def bits(self, is_data: torch.Tensor) -> torch.Tensor:
        """The bits that were sent, uint8 ``(B, K, N, F)``; 0 off the data and beyond the modulation."""
        order = torch.arange(self.num_bits, dtype=torch.uint8, device=self.labels.device)
        bits = (self.labels * is_data)[:, None] >> (self.num_bits - 1 - order)[:, None, None]
        bits &= 1
        if (self.bits_per_symbol < self.num_bits).any():
            bits *= (order < self.bits_per_symbol[:, None])[:, :, None, None]
        return bits


@dataclass(frozen=True)
class WantedLink:
    """The wanted transmitter's draw.

    Attributes:
        paths: per symbol, or as :mod:`channels.time_domain` wants them; with the timing offset.
        phasor: of the oscillator over the FFT windows, or none if it is ideal.
        amplifier: or none.
        neighbours: data of the symbols before and after the slot, in the time domain.
    """

    grid: Grid
    paths: Paths
    phasor: torch.Tensor | None
    amplifier: PowerAmplifier | None
    adjacent_symbols: tuple[Data, Data] | None

    def per_symbol(self, part: slice = slice(None)) -> Paths:
        """The paths of some slots in each of their 14 symbols, with the oscillator's mean rotation in each window."""
        paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
        if self.adjacent_symbols is not None:
            paths = time_domain.sample_at_symbols(paths, self.grid)
        if self.phasor is not None:
            paths = Paths(paths.gains * self.phasor[part].mean(-1)[:, None, :, None], paths.delays_s)
        return paths

    def receive(self, part: slice, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor | None:
        """Write the channel into ``out``, and give what arrives if that is not just channel times symbols.

        Args:
            part: slots.
            x: what they send, complex64 ``(b, S, F)``.
            out: for the channel, complex64 ``(b, R, S, F)``.
        """
        frequency_response(self.per_symbol(part), self.grid, out)
        sent = x if self.amplifier is None else amplify(x, self.amplifier, self.grid)
        if self.adjacent_symbols is not None:
            before, after = self.adjacent_symbols
            stream = torch.cat([before.symbols(part), sent, after.symbols(part)], dim=1)
            paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
            windows = time_domain.apply_time_channel(stream, paths, self.grid)
        elif self.phasor is not None or self.amplifier is not None:
            response = frequency_response(Paths(self.paths.gains[part], self.paths.delays_s[part]), self.grid)
            windows = ofdm_modulate(response * sent[:, None], self.grid)
        else:
            return None
        if self.phasor is not None:
            windows = windows * self.phasor[part, None]
        return ofdm_demodulate(windows, self.grid)


@dataclass(frozen=True)
class InterferingLink:
    """An interferer's draw.

    Attributes:
        data: of the symbol before the slot and its 14, or of the stream that the time domain wants.
        paths: with its amplitude and its delay.
        band: amplitude of its subcarriers if it is narrow, float32 ``(B, F)``.
        late_samples: its delay, float32 ``(B,)``.
        phasor: of its frequency offset over the FFT windows, or none.
        in_time: whether samples are sent through the paths.
    """

    grid: Grid
    data: Data
    paths: Paths
    band: torch.Tensor | None
    delay_samples: torch.Tensor
    phasor: torch.Tensor | None
    in_time: bool

    @property
    def num_instants(self) -> int:
        """Symbols for which :meth:`receive` writes the channel; the last 14 are the slot's."""
        return NUM_SYMBOLS if self.in_time else NUM_SYMBOLS + 1

    def receive(self, part: slice, out: torch.Tensor) -> torch.Tensor:
        """Write the channel into ``out``, ``(b, R, num_instants, F)``, and give what arrives, ``(b, R, S, F)``."""
        paths = Paths(self.paths.gains[part], self.paths.delays_s[part])
        symbols = self.data.symbols(part)
        if self.band is not None:
            symbols *= self.band[part, None]
        if self.in_time:
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
