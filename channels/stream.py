"""Slots in numbered blocks: block *n* of seed *s* always holds the same slots on the same type of device.

No block depends on the blocks that were computed before. Therefore a run can be resumed, sharded, or compared slot by
slot. Two streams that differ only in SNR, SIR or SINR have the same bits, channels and (scaled) noise.
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
from channels.fading import Fading, frequency_response
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Modulation
from channels.impairments import oscillator
from channels.link_level import Paths
from channels.links import DataSymbols, InterferingLink, WantedLink
from channels.ofdm import frequency_shift
from channels.pilots import draw_pilots
from channels.scenarios import Interferer, Scenario, Split
from channels.slots import DataElementEnergy, Slots
from leanrx_core.errors import UserError

ELEMENTS_AT_A_TIME = 2**18
"""REs of all antennas that are processed together on a CPU, so that intermediate results stay in its cache."""

NOISE_PARTS = 4
"""Random generators of a block's noise. Noise takes the most time to draw, and several cores can share the work."""

_NOISE_POOL = ThreadPoolExecutor(NOISE_PARTS, thread_name_prefix="noise")


class Stream(Protocol):
    """Numbered blocks of slots, simulated (:class:`SlotStream`) or read from files (``DatasetStream``).

    Attributes:
        scenario: radio conditions of the slots.
        seed: seed of all random numbers.
        block_slots: slots in a block.
        device: torch device of the blocks.
        name: split and purpose, for example ``test/``.
    """

    scenario: Scenario
    seed: int
    block_slots: int
    device: str
    name: str

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> Stream:
        """Return the same slots at a test point."""
        ...

    def block(self, number: int) -> Slots:
        """Return block ``number`` (0 or greater)."""
        ...


class SlotStream:
    """An endless sequence of blocks of simulated slots. Each block can be computed alone.

    Args:
        scenario: radio conditions of the slots.
        seed: 0 or greater. It fixes every random number.
        block_slots: slots in a block.
        split: ``"train"`` or ``"test"``. It selects the scenario's channel models, and has its own random numbers.
        device: torch device on which the slots are computed.
        purpose: gives streams of the same seed and split different random numbers, for example ``"calibration"``.

    Raises:
        UserError: if the scenario has no channel model for this split.

    Example:
        >>> from channels import SlotStream, scenario
        >>> stream = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=8, split="test")
        >>> slots = stream.at_sinr(10.0, interference_fraction=0.5).block(0)
        >>> slots.y.shape  # (slots, antennas, symbols, subcarriers)
        torch.Size([8, 2, 14, 72])
        >>> bool((slots.bits == stream.block(0).bits).all())  # the same bits at another SINR
        True
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
        self._wanted_fading = Fading(mixture, scenario.grid, scenario.max_doppler_hz, device)
        self._interferer_fading = [
            self._wanted_fading
            if interferer.channels is None
            else Fading(getattr(interferer.channels, split), scenario.grid, scenario.max_doppler_hz, device)
            for interferer in scenario.interferers
        ]

    def at_sinr(self, sinr_db: float, interference_fraction: float = 0.0) -> SlotStream:
        """Return the stream with the same bits, channels and noise at another SINR.

        Args:
            sinr_db: mean SINR, see :meth:`channels.scenarios.Scenario.at_sinr`.
            interference_fraction: interference power over interference-plus-noise power, 0 to 1 (excluded).

        Raises:
            UserError: if the fraction is outside its range, or the scenario has no interferer for it.
        """
        stream = object.__new__(SlotStream)
        stream.__dict__.update(self.__dict__, scenario=self.scenario.at_sinr(sinr_db, interference_fraction))
        return stream

    @torch.no_grad()
    def block(self, number: int) -> Slots:
        """Compute block ``number`` (0 or greater)."""
        scenario, grid = self.scenario, self.scenario.grid
        rng_channel, rng_data, rng_snr, *rngs = self._generators(number)
        y, noise_futures = self._start_noise(rngs[:NOISE_PARTS])
        noise_var = 10 ** (-self._uniform(rng_snr, *scenario.snr_db) / 10)
        data = self._draw_data(rng_data, scenario.modulations, NUM_SYMBOLS)
        pilots, is_data, slot_number, n_id, n_scid = draw_pilots(grid, self.block_slots, rng_data)
        wanted_link = self._draw_wanted(rng_channel)
        interferers, interference_var = self._draw_interferers(rngs[NOISE_PARTS:])

        h = torch.empty_like(y)
        responses = [y.new_empty(*y.shape[:2], link.num_response_symbols, y.shape[3]) for link in interferers]
        energy = DataElementEnergy(is_data)
        for future in noise_futures:
            future.result()
        signal_energy, noise_energy, interference_energy, unwanted_energy = torch.zeros(
            4, self.block_slots, device=self.device
        )
        part_slots = self.block_slots if y.device.type != "cpu" else max(1, ELEMENTS_AT_A_TIME // y[0].numel())
        for first in range(0, self.block_slots, part_slots):
            part = slice(first, first + part_slots)
            x = torch.where(is_data[part], data.symbols(part), pilots[part])
            received = wanted_link.receive(part, x, out=h[part])
            signal = h[part] * x[:, None]
            signal_energy[part] = energy(signal, part)
            y[part] *= noise_var[part].sqrt()[:, None, None, None]
            noise_energy[part] = unwanted_energy[part] = energy(y[part], part)
            if interferers:
                signals = (
                    i.receive(part, out=response[part]) for i, response in zip(interferers, responses, strict=True)
                )
                interference = functools.reduce(torch.Tensor.add_, signals)
                interference_energy[part] = energy(interference, part)
                y[part] += interference
                unwanted_energy[part] = energy(y[part], part)
            y[part] += signal if received is None else received
        return Slots(
            y=y,
            pilots=pilots,
            is_data=is_data,
            bits=data.bits(is_data),
            bits_per_symbol=data.bits_per_symbol,
            subcarrier_spacing_hz=torch.full_like(data.bits_per_symbol, grid.subcarrier_spacing_hz),
            slot_number=slot_number,
            n_id=n_id,
            n_scid=n_scid,
            h=h,
            h_interference=_stack_interferers([response[:, :, -NUM_SYMBOLS:] for response in responses], like=h),
            noise_var=noise_var,
            interference_var=interference_var,
            snr_db=10 * torch.log10(signal_energy / noise_energy),
            sir_db=10 * torch.log10(signal_energy / interference_energy),
            sinr_db=10 * torch.log10(signal_energy / unwanted_energy),
        )

    @torch.no_grad()
    def channel(self, number: int) -> Paths:
        """Compute the wanted channel of block ``number`` alone.

        Returns:
            The paths at the 14 symbols. Their :func:`channels.fading.frequency_response` is ``h`` of the block.
        """
        return self._draw_wanted(self._generators(number)[0]).per_symbol()

    def _generators(self, number: int) -> list[torch.Generator]:
        """Return the generators of the wanted channel, the data, the SNR, the noise parts and the interferers."""
        entropy = [self.seed, zlib.crc32(self.name.encode()), number]
        count = 3 + NOISE_PARTS + len(self._interferer_fading)
        seeds = np.random.SeedSequence(entropy).generate_state(count, np.uint64)
        return [torch.Generator(self.device).manual_seed(int(s) >> 1) for s in seeds]

    def _uniform(self, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.block_slots, device=self.device, generator=rng)

    def _draw_data(self, rng: torch.Generator, modulations: tuple[Modulation, ...], num_symbols: int) -> DataSymbols:
        numbers = [BITS_PER_SYMBOL[m] for m in modulations]
        orders = torch.tensor(numbers, device=self.device)
        choice = torch.randint(len(orders), (self.block_slots,), device=self.device, generator=rng)
        shape = (self.block_slots, num_symbols, self.scenario.grid.num_subcarriers)
        size = math.prod(shape)
        random_bytes = torch.empty(-(-size // 8), dtype=torch.int64, device=self.device)  # eight labels in each number
        random_bytes.random_(-(2**63), None, generator=rng)
        return DataSymbols(
            random_bytes.view(torch.uint8)[:size].view(shape), orders[choice], tuple(dict.fromkeys(numbers))
        )

    def _draw_paths(self, fading: Fading, rng: torch.Generator, num_symbols: int, delay_s: torch.Tensor) -> Paths:
        """Draw each slot's channel with an additional delay, at its symbols or at the instants of the time domain."""
        grid, delay_spread_s = self.scenario.grid, self._uniform(rng, *self.scenario.delay_spread_s)
        if self.scenario.domain == "time":
            interval_s = time_domain.sampling_interval_s(grid)
            gains, delays_s = fading.draw(delay_spread_s, rng, time_domain.NUM_INSTANTS, interval_s)
        else:
            gains, delays_s = fading.draw(delay_spread_s, rng, num_symbols, grid.symbol_duration_s)
        paths = Paths(gains, delays_s + delay_s[:, None])
        return paths if self.scenario.channel_normalisation == "ensemble" else self._normalise(paths)

    def _normalise(self, paths: Paths) -> Paths:
        """Give each slot's channel unit mean power over antennas, symbols and subcarriers."""
        grid, gains = self.scenario.grid, paths.gains.clone()
        part_slots = max(1, ELEMENTS_AT_A_TIME // (grid.num_rx * NUM_SYMBOLS * grid.num_subcarriers))
        for part in torch.arange(len(gains), device=gains.device).split(part_slots):
            at_symbols = Paths(paths.gains[part], paths.delays_s[part])
            if self.scenario.domain == "time":
                at_symbols = time_domain.sample_at_symbols(at_symbols, grid)
            power = frequency_response(at_symbols, grid).abs().square().mean((1, 2, 3))
            gains[part] /= power.clamp_min(torch.finfo(power.dtype).tiny).sqrt()[:, None, None, None]
        return Paths(gains, paths.delays_s)

    def _draw_earlier_data(
        self, rng: torch.Generator, modulations: tuple[Modulation, ...], paths: Paths
    ) -> tuple[DataSymbols, ...]:
        """Draw the data that paths bring in whose delay exceeds the usual symbols before the slot, if there are any."""
        count = time_domain.num_lead_symbols(paths.delays_s, self.scenario.grid) - time_domain.LEAD_SYMBOLS
        return (self._draw_data(rng, modulations, count),) if count else ()

    def _draw_wanted(self, rng: torch.Generator) -> WantedLink:
        grid, impairments = self.scenario.grid, self.scenario.impairments
        delay_s = self._uniform(rng, *impairments.timing_offset_s)
        paths = self._draw_paths(self._wanted_fading, rng, NUM_SYMBOLS, delay_s)
        phasor = oscillator(impairments, self.block_slots, NUM_SYMBOLS, grid, rng)
        adjacent_symbols = None
        if self.scenario.domain == "time":
            modulations = self.scenario.modulations
            before = self._draw_data(rng, modulations, time_domain.LEAD_SYMBOLS)
            after = self._draw_data(rng, modulations, time_domain.TAIL_SYMBOLS)
            adjacent_symbols = *self._draw_earlier_data(rng, modulations, paths), before, after
        return WantedLink(grid, paths, phasor, impairments.amplifier, adjacent_symbols)

    def _draw_interferers(self, rngs: list[torch.Generator]) -> tuple[list[InterferingLink], torch.Tensor]:
        """Draw the interferers. Return them and the sum of their mean powers, ``(B,)``."""
        links, total_power = [], torch.zeros(self.block_slots, device=self.device)
        for interferer, fading, rng in zip(self.scenario.interferers, self._interferer_fading, rngs, strict=False):
            link, power = self._draw_interferer(interferer, fading, rng)
            links.append(link)
            total_power += power
        return links, total_power

    def _draw_interferer(
        self, interferer: Interferer, fading: Fading, rng: torch.Generator
    ) -> tuple[InterferingLink, torch.Tensor]:
        grid, uses_time_domain = self.scenario.grid, self.scenario.domain == "time"
        power = 10 ** (-self._uniform(rng, *interferer.sir_db) / 10)
        power = power * (self._uniform(rng, 0, 1) < interferer.probability)
        delay_samples = self._uniform(rng, *interferer.timing_offset_symbols)
        delay_samples = delay_samples * (grid.fft_size + grid.cyclic_prefix_samples)
        phasor = None
        if interferer.frequency_offset_hz != (0, 0):
            phasor = frequency_shift(self._uniform(rng, *interferer.frequency_offset_hz), NUM_SYMBOLS, grid)
        has_whole_band = interferer.bandwidth_fraction == (1, 1) and not grid.empty_subcarriers
        band = None if has_whole_band else self._draw_band(interferer, rng)
        num_symbols = time_domain.STREAM_SYMBOLS if uses_time_domain else NUM_SYMBOLS + 1
        modulations = interferer.modulations or self.scenario.modulations
        data = self._draw_data(rng, modulations, num_symbols)
        gains, delays_s = self._draw_paths(fading, rng, num_symbols, delay_samples / grid.sample_rate_hz)
        paths = Paths(gains * power.sqrt()[:, None, None, None], delays_s)
        earlier_data = self._draw_earlier_data(rng, modulations, paths) if uses_time_domain else ()
        return InterferingLink(grid, data, earlier_data, paths, band, delay_samples, phasor, uses_time_domain), power

    def _draw_band(self, interferer: Interferer, rng: torch.Generator) -> torch.Tensor:
        """Draw the band of a narrow interferer: the amplitude of its subcarriers, float32 ``(B, F)``.

        It is 0 outside the interferer's resource blocks. The mean power over the grid is 1.
        """
        num_prb = self.scenario.grid.num_prb
        width = (self._uniform(rng, *interferer.bandwidth_fraction) * num_prb).round().clamp(1, num_prb)
        first = ((num_prb - width + 1) * self._uniform(rng, 0, 1)).floor()
        prb = torch.arange(num_prb, device=self.device)
        occupied = (prb >= first[:, None]) & (prb < (first + width)[:, None])
        amplitude = (occupied * (num_prb / width).sqrt()[:, None]).repeat_interleave(12, dim=1)
        grid = self.scenario.grid
        if grid.subcarriers is None:
            return amplitude
        is_occupied = amplitude[:, : grid.num_subcarriers] > 0
        is_occupied[:, grid.empty_subcarriers] = False
        num_occupied = is_occupied.sum(1, keepdim=True)
        return is_occupied * ((grid.num_subcarriers - len(grid.empty_subcarriers)) / num_occupied).sqrt()

    def _start_noise(self, generators: list[torch.Generator]) -> tuple[torch.Tensor, list[Future[None]]]:
        """Start to draw complex Gaussian noise of unit power, ``(B, R, S, F)``.

        The noise is complete when the returned futures are done. Each generator fills its part. If torch has several
        threads, a thread pool fills the parts while the caller continues.
        """
        grid = self.scenario.grid
        shape = (self.block_slots, grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers)
        noise = torch.empty(shape, dtype=torch.complex64, device=self.device)
        parts = list(zip(torch.view_as_real(noise).flatten().chunk(len(generators)), generators, strict=False))

        def fill(part: tuple[torch.Tensor, torch.Generator]) -> None:
            part[0].normal_(std=math.sqrt(0.5), generator=part[1])

        if torch.get_num_threads() > 1 and noise.device.type == "cpu":
            return noise, [_NOISE_POOL.submit(fill, part) for part in parts]
        for part in parts:
            fill(part)
        return noise, []


def _stack_interferers(responses: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Stack channels ``(B, R, S, F)`` of I interferers to ``(B, I, R, S, F)``, without a copy if I is 1."""
    if len(responses) == 1:
        return responses[0][:, None]
    return torch.stack(responses, dim=1) if responses else like[:, None][:, :0]
