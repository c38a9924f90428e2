"""Slots in numbered blocks: block *n* of seed *s* is the same slots on every run of a device.

No block depends on what was asked before it, so a run can resume, be sharded, or be compared slot by slot.
Two streams that differ only in SNR, SIR or SINR draw the same bits, channels and (scaled) noise.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from channels.fading import Fading
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, modulate
from channels.interference import seen_by_receiver
from channels.records import UserError
from channels.scenario import Scenario, Split
from channels.slots import Slots, power_ratio_db


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
        scenario, batch = self.scenario, self.block_slots

        h = self._draw_channel(rng_wanted, NUM_SYMBOLS, torch.zeros(batch, device=self.device))
        bits, bits_per_symbol, symbols = self._draw_data(rng_data, NUM_SYMBOLS)
        pilots, is_data = self._draw_pilots(rng_data)
        bits = bits * is_data[:, None]
        wanted = h * torch.where(is_data, symbols, pilots)[:, None]

        snr_db = self._uniform(rng_noise, *scenario.snr_db)
        noise_var = 10 ** (-snr_db / 10)
        noise = torch.randn(h.shape, dtype=h.dtype, device=self.device, generator=rng_noise)
        noise = noise * noise_var.sqrt()[:, None, None, None]

        interference, interference_var = self._draw_interference(rng_interferer)
        return Slots(
            y=wanted + noise + interference,
            pilots=pilots,
            is_data=is_data,
            bits=bits,
            bits_per_symbol=bits_per_symbol,
            h=h,
            noise_var=noise_var,
            interference_var=interference_var,
            snr_db=power_ratio_db(wanted, noise, is_data),
            sir_db=power_ratio_db(wanted, interference, is_data),
            sinr_db=power_ratio_db(wanted, noise + interference, is_data),
        )

    def _uniform(self, rng: torch.Generator, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.block_slots, device=self.device, generator=rng)

    def _choice(self, rng: torch.Generator, count: int) -> torch.Tensor:
        return torch.randint(count, (self.block_slots,), device=self.device, generator=rng)

    def _draw_channel(self, rng: torch.Generator, num_symbols: int, delay_s: torch.Tensor) -> torch.Tensor:
        """Responses ``(B, R, num_symbols, F)``, each slot with its own model and delay spread."""
        model = self._choice(rng, len(self._fading))
        delay_spread_s = self._uniform(rng, *self.scenario.delay_spread_s)
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
        """Bits ``(B, K, num_symbols, F)``, bits per symbol ``(B,)`` and their QAM symbols."""
        scenario = self.scenario
        orders = [BITS_PER_SYMBOL[m] for m in scenario.modulations]
        bits_per_symbol = torch.tensor(orders, device=self.device)[self._choice(rng, len(orders))]
        shape = (self.block_slots, scenario.bits_per_symbol, num_symbols, scenario.grid.num_subcarriers)
        bits = torch.randint(2, shape, dtype=torch.uint8, device=self.device, generator=rng)
        used = torch.arange(shape[1], device=self.device) < bits_per_symbol[:, None]
        bits = bits * used[:, :, None, None]
        symbols = torch.empty(shape[0], *shape[2:], dtype=torch.complex64, device=self.device)
        for order in sorted(set(orders)):
            chosen = torch.nonzero(bits_per_symbol == order)[:, 0]
            symbols[chosen] = modulate(bits[chosen, :order])
        return bits, bits_per_symbol, symbols

    def _draw_pilots(self, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """QPSK pilots drawn anew for every slot (as scrambling changes them), and the data REs."""
        grid = self.scenario.grid
        patterns = torch.zeros(len(grid.pilot_patterns), NUM_SYMBOLS, dtype=torch.bool, device=self.device)
        for i, pattern in enumerate(grid.pilot_patterns):
            patterns[i, list(pattern)] = True
        is_pilot = patterns[self._choice(rng, len(patterns))][:, :, None].expand(-1, -1, grid.num_subcarriers)
        shape = (self.block_slots, 2, NUM_SYMBOLS, grid.num_subcarriers)
        values = modulate(torch.randint(2, shape, dtype=torch.uint8, device=self.device, generator=rng))
        return values * is_pilot, ~is_pilot

    def _draw_interference(self, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The interferer at the receiver ``(B, R, S, F)`` and its mean power ``(B,)``; zeros where it is off."""
        scenario, grid = self.scenario, self.scenario.grid
        shape = (self.block_slots, grid.num_rx, NUM_SYMBOLS, grid.num_subcarriers)
        if scenario.interference is None:
            zero = torch.zeros(1, dtype=torch.complex64, device=self.device).expand(shape)
            return zero, torch.zeros(self.block_slots, device=self.device)
        present = self._uniform(rng, 0, 1) < scenario.interference.probability
        power = 10 ** (-self._uniform(rng, *scenario.interference.sir_db) / 10) * present
        late = self._uniform(rng, *scenario.interference.timing_offset_symbols)
        late = late * (grid.fft_size + grid.cyclic_prefix_samples)
        whole = late.floor()
        fraction_s = (late - whole) / (grid.fft_size * grid.subcarrier_spacing_hz)
        _, _, symbols = self._draw_data(rng, NUM_SYMBOLS + 1)
        at_receiver = self._draw_channel(rng, NUM_SYMBOLS + 1, fraction_s) * symbols[:, None]
        seen = seen_by_receiver(at_receiver, whole.long(), grid)
        return seen * power.sqrt()[:, None, None, None], power
