"""Slots in numbered blocks: block *n* of seed *s* is the same slots on every run of a device.

No block depends on what was asked before it, so a run can resume, be sharded, or be compared slot by slot.
Two streams that differ only in SNR, SIR or SINR draw the same bits, channels and (scaled) noise.
"""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from channels import timedomain
from channels.fading import Fading, frequency_response
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Modulation, constellation
from channels.impairments import amplify, oscillator
from channels.interference import seen_by_receiver
from channels.ofdm import frequency_shift, to_subcarriers, to_windows
from channels.pilots import draw_pilots
from channels.profiles import Paths
from channels.records import UserError
from channels.scenario import Interferer, Scenario, Split
from channels.slots import Slots, energy

NOISE_PARTS = 4
"""Generators that share a block's noise, its dearest random numbers, so that several cores can draw it."""


class Stream(Protocol):
    """Numbered blocks of slots: made as they are asked for (:class:`SlotStream`) or read from a dataset.

    Attributes:
        scenario: what slots are drawn from.
        seed, block_slots, device: as of :class:`SlotStream`.
        name: split and purpose.
    """

    scenario: Scenario
    seed: int
    block_slots: int
    device: str
    name: str

    def at_sinr(self, sinr_db: float, interference_share: float = 0.0) -> Stream:
        """The same slots at a test point."""
        ...

    def block(self, number: int) -> Slots:
        """Block ``number`` (0 or greater)."""
        ...


class SlotStream:
    """An endless, indexable sequence of blocks of slots.

    Args:
        scenario: what to draw from.
        seed: 0 or greater; fixes every random number.
        block_slots: slots in a block.
        split: ``"train"`` or ``"test"``: which of the scenario's channel models, with random numbers of their own.
        device: torch device on which slots are made.
        purpose: separates streams of the same seed and split (for example ``"calibration"``).

    Raises:
        UserError: if the scenario has no channel model for this split.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        block_slots: int,
        split: Split = "train",
        device: str = "cpu",
        purpose: str = "",
    ) -> None:
        self.scenario, self.seed, self.block_slots, self.device = scenario, seed, block_slots, device
        self.name = f"{split}/{purpose}"
        mixture = getattr(scenario.channels, split)
        if not mixture:
            raise UserError(f"scenario {scenario.name}: channels.{split} is empty; name at least one model")
        self._wanted = Fading(mixture, scenario.grid, scenario.max_doppler_hz, device)
        self._interfering = [
            self._wanted
            if interferer.channels is None
            else Fading(getattr(interferer.channels, split), scenario.grid, scenario.max_doppler_hz, device)
            for interferer in scenario.interferers
        ]

    def at_sinr(self, sinr_db: float, interference_share: float = 0.0) -> SlotStream:
        """The same bits, channels and noise at another SINR; see :meth:`Scenario.at_sinr`."""
        other = object.__new__(SlotStream)
        other.__dict__.update(self.__dict__, scenario=self.scenario.at_sinr(sinr_db, interference_share))
        return other

    @torch.no_grad()
    def block(self, number: int) -> Slots:
        """Make block ``number`` (0 or greater)."""
        scenario, grid = self.scenario, self.scenario.grid
        count = 3 + NOISE_PARTS + len(self._interfering)
        entropy = [self.seed, zlib.crc32(self.name.encode()), number]
        seeds = np.random.SeedSequence(entropy).generate_state(count, np.uint64)
        generators = [torch.Generator(self.device).manual_seed(int(s) >> 1) for s in seeds]
        rng_wanted, rng_data, rng_snr, *others = generators
        labels, bits_per_symbol, x = self._draw_data(rng_data, scenario.modulations, NUM_SYMBOLS)
        pilots, is_data = draw_pilots(grid, self.block_slots, rng_data)
        x = torch.where(is_data, x, pilots)
        h, distorted = self._send(rng_wanted, x)
        wanted = h * x[:, None]
        wanted_energy = energy(wanted, is_data)

        snr_db = self._uniform(rng_snr, *scenario.snr_db)
        noise_var = 10 ** (-snr_db / 10)
        unwanted = _gaussian(h.shape, others[:NOISE_PARTS], self.device)
        unwanted *= noise_var.sqrt()[:, None, None, None]
        noise_energy = unwanted_energy = energy(unwanted, is_data)

        interference_var, interference_energy = torch.zeros_like(noise_var), torch.zeros_like(noise_var)
        h_interference = h.new_empty(self.block_slots, 0, *h.shape[1:])
        if scenario.interferers:
            interference, interference_var, h_interference = self._draw_interference(others[NOISE_PARTS:])
            interference_energy = energy(interference, is_data)
            unwanted += interference
            unwanted_energy = energy(unwanted, is_data)
        return Slots(
            y=unwanted.add_(wanted if distorted is None else distorted),
            pilots=pilots,
            is_data=is_data,
            bits=self._bits(labels, bits_per_symbol, is_data),
            bits_per_symbol=bits_per_symbol,
            h=h,
            h_interference=h_interference,
            noise_var=noise_var,
            interference_var=interference_var,
            snr_db=10 * torch.log10(wanted_energy / noise_energy),
            sir_db=10 * torch.log10(wanted_energy / interference_energy),
            sinr_db=10 * torch.log10(wanted_energy / unwanted_energy),
        )

    def _uniform(self, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.block_slots, device=self.device, generator=rng)

    def _choice(self, rng: torch.Generator, count: int) -> torch.Tensor:
        return torch.randint(count, (self.block_slots,), device=self.device, generator=rng)

    def _draw_paths(self, fading: Fading, rng: torch.Generator, num_symbols: int, delay_s: torch.Tensor) -> Paths:
        """Each slot's channel, late by ``delay_s``, once per symbol or as the time domain wants it."""
        grid, delay_spread_s = self.scenario.grid, self._uniform(rng, *self.scenario.delay_spread_s)
        if self.scenario.domain == "time":
            interval_s = timedomain.instant_interval_s(grid)
            gains, delays_s = fading.draw(delay_spread_s, rng, timedomain.NUM_INSTANTS, interval_s)
        else:
            gains, delays_s = fading.draw(delay_spread_s, rng, num_symbols, grid.symbol_duration_s)
        return Paths(gains, delays_s + delay_s[:, None])

    def _send(self, rng: torch.Generator, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The wanted channel, and what arrives if that is not just channel times symbols; both ``(B, R, S, F)``.

        The channel includes the timing offset and the oscillator's mean rotation in each window.
        """
        grid, impairments = self.scenario.grid, self.scenario.impairments
        late_s = self._uniform(rng, *impairments.timing_offset_s)
        paths = self._draw_paths(self._wanted, rng, NUM_SYMBOLS, late_s)
        phasor = oscillator(impairments, self.block_slots, NUM_SYMBOLS, grid, rng)
        sent = x if impairments.amplifier is None else amplify(x, impairments.amplifier, grid)
        windows: torch.Tensor | None = None
        if self.scenario.domain == "time":
            windows = timedomain.windows_through(self._with_neighbours(rng, sent), paths, grid)
            paths = timedomain.at_windows(paths, grid)
        h = frequency_response(paths, grid)
        if windows is None and phasor is None and impairments.amplifier is None:
            return h, None
        if windows is None:
            windows = to_windows(h * sent[:, None], grid)
        if phasor is not None:
            windows = windows * phasor[:, None]
            h = h * phasor.mean(-1)[:, None, :, None]
        return h, to_subcarriers(windows, grid)

    def _with_neighbours(self, rng: torch.Generator, x: torch.Tensor) -> torch.Tensor:
        """The slot's symbols between random ones of the slots before and after."""
        modulations = self.scenario.modulations
        _, _, before = self._draw_data(rng, modulations, timedomain.LEAD_SYMBOLS)
        _, _, after = self._draw_data(rng, modulations, timedomain.TAIL_SYMBOLS)
        return torch.cat([before, x, after], dim=1)

    def _draw_data(
        self, rng: torch.Generator, modulations: tuple[Modulation, ...], num_symbols: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Labels uint8 ``(B, num_symbols, F)``, bits per symbol ``(B,)`` and the QAM symbols of the labels.

        A label's K bits are an RE's; a modulation of fewer bits uses the first of them.
        """
        num_bits = self.scenario.bits_per_symbol
        orders = [BITS_PER_SYMBOL[m] for m in modulations]
        bits_per_symbol = torch.tensor(orders, device=self.device)[self._choice(rng, len(orders))]
        shape = (self.block_slots, num_symbols, self.scenario.grid.num_subcarriers)
        size = math.prod(shape)
        words = torch.empty(-(-size // 8), dtype=torch.int64, device=self.device)  # eight labels in one random number
        words.random_(-(2**63), None, generator=rng)
        labels = words.view(torch.uint8)[:size].view(shape) & (2**num_bits - 1)
        if orders == [num_bits]:
            return labels, bits_per_symbol, constellation(num_bits, self.device)[labels.int()]
        symbols = torch.empty(shape, dtype=torch.complex64, device=self.device)
        for order in sorted(set(orders)):
            chosen = torch.nonzero(bits_per_symbol == order)[:, 0]
            symbols[chosen] = constellation(order, self.device)[(labels[chosen] >> (num_bits - order)).int()]
        return labels, bits_per_symbol, symbols

    def _bits(self, labels: torch.Tensor, bits_per_symbol: torch.Tensor, is_data: torch.Tensor) -> torch.Tensor:
        """The bits that were sent, uint8 ``(B, K, S, F)``; 0 off the data and beyond the modulation."""
        num_bits = self.scenario.bits_per_symbol
        order = torch.arange(num_bits, dtype=torch.uint8, device=self.device)
        bits = (labels * is_data)[:, None] >> (num_bits - 1 - order)[:, None, None] & 1
        if len(self.scenario.modulations) > 1:
            bits *= (order < bits_per_symbol[:, None])[:, :, None, None]
        return bits

    def _draw_interference(self, rngs: list[torch.Generator]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All interferers at the receiver ``(B, R, S, F)``, their mean power ``(B,)``, channels ``(B, I, R, S, F)``."""
        drawn = [
            self._draw_interferer(interferer, fading, rng)
            for interferer, fading, rng in zip(self.scenario.interferers, self._interfering, rngs, strict=False)
        ]
        signals, powers, responses = zip(*drawn, strict=True)
        total = signals[0]
        for signal in signals[1:]:
            total += signal
        response = responses[0][:, None] if len(responses) == 1 else torch.stack(responses, dim=1)
        return total, torch.stack(powers).sum(0), response

    def _draw_interferer(
        self, interferer: Interferer, fading: Fading, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One interferer at the receiver ``(B, R, S, F)``, its mean power ``(B,)`` and its channel as received."""
        grid = self.scenario.grid
        power = 10 ** (-self._uniform(rng, *interferer.sir_db) / 10)
        power = power * (self._uniform(rng, 0, 1) < interferer.probability)
        late_samples = self._uniform(rng, *interferer.timing_offset_symbols)
        late_samples = late_samples * (grid.fft_size + grid.cyclic_prefix_samples)
        offset_hz = self._uniform(rng, *interferer.frequency_offset_hz)
        band = self._draw_band(interferer, rng)
        in_time = self.scenario.domain == "time"
        num_symbols = timedomain.STREAM_SYMBOLS if in_time else NUM_SYMBOLS + 1
        _, _, symbols = self._draw_data(rng, interferer.modulations or self.scenario.modulations, num_symbols)
        gains, delays_s = self._draw_paths(fading, rng, num_symbols, late_samples / grid.sample_rate_hz)
        paths = Paths(gains * power.sqrt()[:, None, None, None], delays_s)
        if in_time:
            sent = symbols if band is None else symbols * band[:, None]
            windows = timedomain.windows_through(sent, paths, grid)
            windows = windows * frequency_shift(offset_hz, NUM_SYMBOLS, grid)[:, None]
            h = frequency_response(timedomain.at_windows(paths, grid), grid)
            return to_subcarriers(windows, grid), power, h if band is None else h * band[:, None, None]
        h = frequency_response(paths, grid)
        if band is not None:
            h *= band[:, None, None]
        return seen_by_receiver(h, symbols, late_samples, offset_hz, grid), power, h[:, :, 1:]

    def _draw_band(self, interferer: Interferer, rng: torch.Generator) -> torch.Tensor | None:
        """Amplitude of a narrow interferer's subcarriers ``(B, F)``: 0 outside its resource blocks, unit mean power."""
        if interferer.bandwidth_share == (1, 1):
            return None
        num_prb = self.scenario.grid.num_prb
        wide = (self._uniform(rng, *interferer.bandwidth_share) * num_prb).round().clamp(1, num_prb)
        first = ((num_prb - wide + 1) * self._uniform(rng, 0, 1)).floor()
        prb = torch.arange(num_prb, device=self.device)
        inside = (prb >= first[:, None]) & (prb < (first + wide)[:, None])
        return (inside * (num_prb / wide).sqrt()[:, None]).repeat_interleave(12, dim=1)


def _gaussian(shape: torch.Size, generators: list[torch.Generator], device: str) -> torch.Tensor:
    """Complex Gaussian numbers of unit power, complex64; each generator makes its part, on a core of its own."""
    numbers = torch.empty(shape, dtype=torch.complex64, device=device)
    parts = torch.view_as_real(numbers).flatten().chunk(len(generators))

    def fill(part: torch.Tensor, generator: torch.Generator) -> None:
        part.normal_(std=math.sqrt(0.5), generator=generator)

    if torch.device(device).type == "cpu" and torch.get_num_threads() > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill, parts, generators))
    else:
        for part, generator in zip(parts, generators, strict=False):
            fill(part, generator)
    return numbers
