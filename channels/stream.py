"""Slots in numbered blocks: block *n* of seed *s* is the same slots on every run of a device.

No block depends on what was asked before it, so a run can resume, be sharded, or be compared slot by slot.
Two streams that differ only in SNR, SIR or SINR draw the same bits, channels and (scaled) noise.
"""

from __future__ import annotations

import functools
import math
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from channels import time_domain
from channels.fading import Fading
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Modulation
from channels.impairments import oscillator
from channels.link_level import Paths
from channels.links import Data, InterferingLink, WantedLink
from channels.ofdm import frequency_shift
from channels.pilots import draw_pilots
from channels.scenarios import Interferer, Scenario, Split
from channels.slots import DataElementEnergy, Slots
from leanrx_core.errors import UserError

ELEMENTS_AT_A_TIME = 2**18
"""REs of all antennas in a part of a block, so that what is between draws and outcome stays in a CPU's cache."""

NOISE_PARTS = 4
"""Generators that share a block's noise, its dearest random numbers, so that several cores can draw it."""


_NOISE_MAKERS = ThreadPoolExecutor(NOISE_PARTS, thread_name_prefix="noise")


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

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> Stream:
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

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> SlotStream:
        """The same bits, channels and noise at another SINR; see :meth:`Scenario.at_sinr`."""
        other = object.__new__(SlotStream)
        other.__dict__.update(self.__dict__, scenario=self.scenario.at_sinr(sinr_db, interference_fraction))
        return other

    @torch.no_grad()
    def block(self, number: int) -> Slots:
        """Make block ``number`` (0 or greater)."""
        scenario, grid = self.scenario, self.scenario.grid
        rng_wanted, rng_data, rng_snr, *others = self._generators(number)
        y, drawing_noise = self._start_noise(others[:NOISE_PARTS])
        noise_var = 10 ** (-self._uniform(rng_snr, *scenario.snr_db) / 10)
        data = self._draw_data(rng_data, scenario.modulations, NUM_SYMBOLS)
        pilots, is_data = draw_pilots(grid, self.block_slots, rng_data)
        wanted_link = self._draw_wanted(rng_wanted)
        interferers, interference_var = self._draw_interferers(others[NOISE_PARTS:])

        h = torch.empty_like(y)
        responses = [y.new_empty(*y.shape[:2], link.num_instants, y.shape[3]) for link in interferers]
        energy = DataElementEnergy(is_data)
        for drawing in drawing_noise:
            drawing.result()
        of_wanted, of_noise, of_interference, of_unwanted = torch.zeros(4, self.block_slots, device=self.device)
        at_a_time = self.block_slots if y.device.type != "cpu" else max(1, ELEMENTS_AT_A_TIME // y[0].numel())
        for first in range(0, self.block_slots, at_a_time):
            part = slice(first, first + at_a_time)
            x = torch.where(is_data[part], data.symbols(part), pilots[part])
            arriving = wanted_link.receive(part, x, out=h[part])
            wanted = h[part] * x[:, None]
            of_wanted[part] = energy(wanted, part)
            y[part] *= noise_var[part].sqrt()[:, None, None, None]
            of_noise[part] = of_unwanted[part] = energy(y[part], part)
            if interferers:
                arrive = (
                    i.receive(part, out=response[part]) for i, response in zip(interferers, responses, strict=True)
                )
                interference = functools.reduce(torch.Tensor.add_, arrive)
                of_interference[part] = energy(interference, part)
                y[part] += interference
                of_unwanted[part] = energy(y[part], part)
            y[part] += wanted if arriving is None else arriving
        return Slots(
            y=y,
            pilots=pilots,
            is_data=is_data,
            bits=data.bits(is_data),
            bits_per_symbol=data.bits_per_symbol,
            h=h,
            h_interference=_stack_interferers([response[:, :, -NUM_SYMBOLS:] for response in responses], like=h),
            noise_var=noise_var,
            interference_var=interference_var,
            snr_db=10 * torch.log10(of_wanted / of_noise),
            sir_db=10 * torch.log10(of_wanted / of_interference),
            sinr_db=10 * torch.log10(of_wanted / of_unwanted),
        )

    @torch.no_grad()
    def channel(self, number: int) -> Paths:
        """The wanted channel of block ``number`` alone, as the paths of its symbols: ``h`` without the responses."""
        return self._draw_wanted(self._generators(number)[0]).per_symbol()

    def _generators(self, number: int) -> list[torch.Generator]:
        """Of the wanted channel, the data, the SNR, the parts of the noise, and the interferers."""
        entropy = [self.seed, zlib.crc32(self.name.encode()), number]
        count = 3 + NOISE_PARTS + len(self._interfering)
        seeds = np.random.SeedSequence(entropy).generate_state(count, np.uint64)
        return [torch.Generator(self.device).manual_seed(int(s) >> 1) for s in seeds]

    def _uniform(self, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.block_slots, device=self.device, generator=rng)

    def _draw_data(self, rng: torch.Generator, modulations: tuple[Modulation, ...], num_symbols: int) -> Data:
        orders = torch.tensor([BITS_PER_SYMBOL[m] for m in modulations], device=self.device)
        choice = torch.randint(len(orders), (self.block_slots,), device=self.device, generator=rng)
        shape = (self.block_slots, num_symbols, self.scenario.grid.num_subcarriers)
        size = math.prod(shape)
        words = torch.empty(-(-size // 8), dtype=torch.int64, device=self.device)  # eight labels in one random number
        words.random_(-(2**63), None, generator=rng)
        return Data(words.view(torch.uint8)[:size].view(shape), orders[choice], int(orders.max()))

    def _draw_paths(self, fading: Fading, rng: torch.Generator, num_symbols: int, delay_s: torch.Tensor) -> Paths:
        """Each slot's channel, late by ``delay_s``, once per symbol or as the time domain wants it."""
        grid, delay_spread_s = self.scenario.grid, self._uniform(rng, *self.scenario.delay_spread_s)
        if self.scenario.domain == "time":
            interval_s = time_domain.sampling_interval_s(grid)
            gains, delays_s = fading.draw(delay_spread_s, rng, time_domain.NUM_INSTANTS, interval_s)
        else:
            gains, delays_s = fading.draw(delay_spread_s, rng, num_symbols, grid.symbol_duration_s)
        return Paths(gains, delays_s + delay_s[:, None])

    def _draw_wanted(self, rng: torch.Generator) -> WantedLink:
        grid, impairments = self.scenario.grid, self.scenario.impairments
        late_s = self._uniform(rng, *impairments.timing_offset_s)
        paths = self._draw_paths(self._wanted, rng, NUM_SYMBOLS, late_s)
        phasor = oscillator(impairments, self.block_slots, NUM_SYMBOLS, grid, rng)
        adjacent_symbols = None
        if self.scenario.domain == "time":
            modulations = self.scenario.modulations
            before = self._draw_data(rng, modulations, time_domain.LEAD_SYMBOLS)
            adjacent_symbols = before, self._draw_data(rng, modulations, time_domain.TAIL_SYMBOLS)
        return WantedLink(grid, paths, phasor, impairments.amplifier, adjacent_symbols)

    def _draw_interferers(self, rngs: list[torch.Generator]) -> tuple[list[InterferingLink], torch.Tensor]:
        """The interferers and their mean power together, ``(B,)``."""
        links, power = [], torch.zeros(self.block_slots, device=self.device)
        for interferer, fading, rng in zip(self.scenario.interferers, self._interfering, rngs, strict=False):
            link, its_power = self._draw_interferer(interferer, fading, rng)
            links.append(link)
            power += its_power
        return links, power

    def _draw_interferer(
        self, interferer: Interferer, fading: Fading, rng: torch.Generator
    ) -> tuple[InterferingLink, torch.Tensor]:
        grid, in_time = self.scenario.grid, self.scenario.domain == "time"
        power = 10 ** (-self._uniform(rng, *interferer.sir_db) / 10)
        power = power * (self._uniform(rng, 0, 1) < interferer.probability)
        delay_samples = self._uniform(rng, *interferer.timing_offset_symbols)
        delay_samples = delay_samples * (grid.fft_size + grid.cyclic_prefix_samples)
        phasor = None
        if interferer.frequency_offset_hz != (0, 0):
            phasor = frequency_shift(self._uniform(rng, *interferer.frequency_offset_hz), NUM_SYMBOLS, grid)
        band = None if interferer.bandwidth_fraction == (1, 1) else self._draw_band(interferer, rng)
        num_symbols = time_domain.STREAM_SYMBOLS if in_time else NUM_SYMBOLS + 1
        data = self._draw_data(rng, interferer.modulations or self.scenario.modulations, num_symbols)
        gains, delays_s = self._draw_paths(fading, rng, num_symbols, delay_samples / grid.sample_rate_hz)
        paths = Paths(gains * power.sqrt()[:, None, None, None], delays_s)
        return InterferingLink(grid, data, paths, band, delay_samples, phasor, in_time), power

    def _draw_band(self, interferer: Interferer, rng: torch.Generator) -> torch.Tensor:
        """Amplitude of a narrow interferer's subcarriers ``(B, F)``: 0 outside its resource blocks, unit mean power."""
        num_prb = self.scenario.grid.num_prb
        wide = (self._uniform(rng, *interferer.bandwidth_fraction) * num_prb).round().clamp(1, num_prb)
        first = ((num_prb - wide + 1) * self._uniform(rng, 0, 1)).floor()
        prb = torch.arange(num_prb, device=self.device)
        inside = (prb >= first[:, None]) & (prb < (first + wide)[:, None])
        return (inside * (num_prb / wide).sqrt()[:, None]).repeat_interleave(12, dim=1)

    def _start_noise(self, generators: list[torch.Generator]) -> tuple[torch.Tensor, list[Future[None]]]:
        """Complex Gaussian noise of unit power ``(B, R, S, F)``, which is there when the futures are done.

        Each generator makes its part; where torch has several threads, beside the one that goes on.
        """
        grid = self.scenario.grid
        shape = (self.block_slots, grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers)
        noise = torch.empty(shape, dtype=torch.complex64, device=self.device)
        parts = list(zip(torch.view_as_real(noise).flatten().chunk(len(generators)), generators, strict=False))

        def fill(part: tuple[torch.Tensor, torch.Generator]) -> None:
            part[0].normal_(std=math.sqrt(0.5), generator=part[1])

        if torch.get_num_threads() > 1 and noise.device.type == "cpu":
            return noise, [_NOISE_MAKERS.submit(fill, part) for part in parts]
        for part in parts:
            fill(part)
        return noise, []


def _stack_interferers(responses: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Stack ``(B, R, S, F)`` to ``(B, I, R, S, F)``, without a copy for one."""
    if len(responses) == 1:
        return responses[0][:, None]
    return torch.stack(responses, dim=1) if responses else like[:, None][:, :0]
