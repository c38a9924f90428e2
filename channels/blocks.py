"""Slots in numbered blocks: block *n* of seed *s* is the same slots on every run of a device.

No block depends on what was asked before it, so a run can resume, be sharded, or be compared slot by slot.
Two streams that differ only in SNR, SIR or SINR draw the same bits, channels and (scaled) noise.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from channels.fading import Fading
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, constellation
from channels.interference import seen_by_receiver
from channels.records import UserError
from channels.scenario import Scenario, Split
from channels.slots import Slots, energy


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
        models = getattr(scenario.channels, split)
        if not models:
            raise UserError(f"scenario {scenario.name}: channels.{split} is empty; name at least one model")
        self._fading = [Fading(m, scenario.grid, scenario.max_doppler_hz, device) for m in models]

    def at_sinr(self, sinr_db: float, interference_share: float = 0.0) -> SlotStream:
        """The same bits, channels and noise at another SINR; see :meth:`Scenario.at_sinr`."""
        other = object.__new__(SlotStream)
        other.__dict__.update(self.__dict__, scenario=self.scenario.at_sinr(sinr_db, interference_share))
        return other

    @torch.no_grad()
    def block(self, number: int) -> Slots:
        """Make block ``number`` (0 or greater)."""
        seeds = np.random.SeedSequence([self.seed, zlib.crc32(self.name.encode()), number]).generate_state(4, np.uint64)
        rng_wanted, rng_data, rng_interferer, rng_noise = (
            torch.Generator(self.device).manual_seed(int(s) >> 1) for s in seeds
        )
        h = self._draw_channel(rng_wanted, NUM_SYMBOLS, torch.zeros(self.block_slots, device=self.device))
        labels, bits_per_symbol, x = self._draw_data(rng_data, NUM_SYMBOLS)
        pilots, is_data = self._draw_pilots(rng_data)
        x = torch.where(is_data, x, pilots)
        wanted = h * x[:, None]

        snr_db = self._uniform(rng_noise, *self.scenario.snr_db)
        noise_var = 10 ** (-snr_db / 10)
        noise = torch.randn(h.shape, dtype=h.dtype, device=self.device, generator=rng_noise)
        noise *= noise_var.sqrt()[:, None, None, None]
        wanted_energy, noise_energy = energy(wanted, is_data), energy(noise, is_data)

        interference, interference_var, h_interference = self._draw_interference(rng_interferer)
        unwanted, unwanted_energy, interference_energy = noise, noise_energy, torch.zeros_like(noise_energy)
        if interference is not None:
            interference_energy = energy(interference, is_data)
            unwanted = interference.add_(noise)
            unwanted_energy = energy(unwanted, is_data)
        return Slots(
            y=wanted.add_(unwanted),
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

    def _draw_channel(self, rng: torch.Generator, num_symbols: int, delay_s: torch.Tensor) -> torch.Tensor:
        """Responses ``(B, R, num_symbols, F)``, each slot with its own model and delay spread."""
        model = self._choice(rng, len(self._fading))
        delay_spread_s = self._uniform(rng, *self.scenario.delay_spread_s)
        if len(self._fading) == 1:
            return self._fading[0].draw(delay_spread_s, rng, num_symbols, delay_s)
        grid = self.scenario.grid
        h = torch.empty(
            self.block_slots, grid.num_rx, num_symbols, grid.num_subcarriers,
            dtype=torch.complex64, device=self.device,
        )  # fmt: skip
        for i, fading in enumerate(self._fading):
            chosen = torch.nonzero(model == i)[:, 0]
            if len(chosen):
                h[chosen] = fading.draw(delay_spread_s[chosen], rng, num_symbols, delay_s[chosen])
        return h

    def _draw_data(self, rng: torch.Generator, num_symbols: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Labels uint8 ``(B, num_symbols, F)``, bits per symbol ``(B,)`` and the QAM symbols of the labels.

        A label's K bits are an RE's; a modulation of fewer bits uses the first of them.
        """
        scenario, num_bits = self.scenario, self.scenario.bits_per_symbol
        orders = [BITS_PER_SYMBOL[m] for m in scenario.modulations]
        bits_per_symbol = torch.tensor(orders, device=self.device)[self._choice(rng, len(orders))]
        shape = (self.block_slots, num_symbols, scenario.grid.num_subcarriers)
        labels = torch.randint(2**num_bits, shape, dtype=torch.uint8, device=self.device, generator=rng)
        if len(orders) == 1:
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

    def _draw_pilots(self, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """QPSK pilots drawn anew for every slot (as scrambling changes them), and the data REs, both ``(B, S, F)``."""
        grid = self.scenario.grid
        most = max(len(p) for p in grid.pilot_patterns)
        labels = torch.randint(
            4, (self.block_slots, most, grid.num_subcarriers), dtype=torch.uint8, device=self.device, generator=rng
        )  # fmt: skip
        values = constellation(2, self.device)[labels.int()]
        pilots = values.new_zeros(self.block_slots, NUM_SYMBOLS, grid.num_subcarriers)
        is_data = torch.ones(pilots.shape, dtype=torch.bool, device=self.device)
        of_slot = self._choice(rng, len(grid.pilot_patterns))
        for i, pattern in enumerate(grid.pilot_patterns):
            chosen, at = torch.nonzero(of_slot == i), torch.tensor(pattern, device=self.device)
            pilots[chosen, at] = values[chosen[:, 0], : len(pattern)]
            is_data[chosen, at] = False
        return pilots, is_data

    def _draw_interference(self, rng: torch.Generator) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """The interferer at the receiver ``(B, R, S, F)`` or none, its mean power ``(B,)``, its channel."""
        scenario, grid = self.scenario, self.scenario.grid
        if scenario.interference is None:
            shape = (self.block_slots, 0, grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers)
            nothing = torch.zeros(shape, dtype=torch.complex64, device=self.device)
            return None, torch.zeros(self.block_slots, device=self.device), nothing
        present = self._uniform(rng, 0, 1) < scenario.interference.probability
        power = 10 ** (-self._uniform(rng, *scenario.interference.sir_db) / 10) * present
        late = self._uniform(rng, *scenario.interference.timing_offset_symbols)
        late = late * (grid.fft_size + grid.cyclic_prefix_samples)
        whole = late.floor()
        fraction_s = (late - whole) / (grid.fft_size * grid.subcarrier_spacing_hz)
        _, _, symbols = self._draw_data(rng, NUM_SYMBOLS + 1)
        h = self._draw_channel(rng, NUM_SYMBOLS + 1, fraction_s).mul_(power.sqrt()[:, None, None, None])
        return seen_by_receiver(h * symbols[:, None], whole.long(), grid), power, h[:, None, :, 1:]
