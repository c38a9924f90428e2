"""Fading channels: draws from Sionna's TR 38.901 models turned into frequency responses.

Sionna draws path gains and delays; the response of subcarrier *k* in symbol *s* is
``h[s, k] = sum_p a[p, s] exp(-j 2 pi f_k tau_p)``. Gains are constant within a symbol, so intercarrier interference
from Doppler is not modelled, nor is intersymbol interference from delays beyond the cyclic prefix; scenarios in which
either would exceed about -23 dB are refused. Each draw has its own carrier phase and bearing, see ``_orientation``.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from channels.grid import Grid
from channels.scenario import ChannelModel

SPEED_OF_LIGHT_M_S = 299_792_458.0
_PROFILE = re.compile(r"(?P<kind>TDL|CDL)-?(?P<name>[A-E]\d*)")


class Fading:
    """Frequency responses of one channel model over one grid.

    Args:
        model: a model of :data:`channels.scenario.ChannelModel`.
        grid: resource grid; sets carrier, antennas, subcarriers and symbol rate.
        max_doppler_hz: range from which Sionna draws each slot's maximum Doppler shift.
        device: torch device on which to draw.
    """

    def __init__(
        self, model: ChannelModel, grid: Grid, max_doppler_hz: tuple[float, float], device: str = "cpu"
    ) -> None:
        self.grid, self.device = grid, device
        self._model = model
        self._frequencies_hz = grid.frequencies_hz(device)
        profile = _PROFILE.fullmatch(model)
        if profile:
            speeds = [f * SPEED_OF_LIGHT_M_S / grid.carrier_frequency_hz for f in max_doppler_hz]
            self._sionna = _sionna_model(profile["kind"], profile["name"], grid, speeds, device)
            self._scales = len(profile["name"]) == 1  # profiles of TS 38.101-4 have a delay spread of their own

    def draw(
        self,
        delay_spread_s: torch.Tensor,
        generator: torch.Generator,
        num_symbols: int,
        delay_s: torch.Tensor | float = 0.0,
    ) -> torch.Tensor:
        """Draw one response per entry of ``delay_spread_s``.

        Args:
            delay_spread_s: RMS delay spread of each slot, float32 ``(batch,)``.
            generator: source of all random numbers.
            num_symbols: consecutive OFDM symbols.
            delay_s: added to every path, float32 ``(batch,)``.

        Returns:
            complex64 ``(batch, num_rx, num_symbols, num_subcarriers)`` of unit mean power.
        """
        batch = len(delay_spread_s)
        delay_s = torch.as_tensor(delay_s, device=self.device).expand(batch)
        if _PROFILE.fullmatch(self._model):
            gains, delays_s = self._draw_paths(delay_spread_s, generator, num_symbols)
        else:
            gains = torch.ones(batch, self.grid.num_rx, 1, 1, dtype=torch.complex64, device=self.device)
            if self._model == "Rayleigh":
                gains = torch.randn(gains.shape, dtype=gains.dtype, device=self.device, generator=generator)
            gains = gains.expand(-1, -1, num_symbols, -1)
            delays_s = torch.zeros(batch, 1, device=self.device)
        cycles = (delays_s + delay_s[:, None])[:, :, None] * self._frequencies_hz
        phases = torch.polar(torch.ones_like(cycles), -2 * math.pi * cycles)  # (batch, paths, subcarriers)
        h = gains.flatten(1, 2) @ phases
        return h.view(batch, self.grid.num_rx, num_symbols, -1)

    def _draw_paths(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_symbols: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from sionna.phy import config

        sionna_rng = config.torch_rng(self._sionna.device)
        state = sionna_rng.get_state()
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        sionna_rng.manual_seed(seed)
        try:
            gains, delays = self._sionna(len(delay_spread_s), num_symbols, 1 / self.grid.symbol_duration_s)
        finally:
            sionna_rng.set_state(state)
        # (batch, 1, num_rx, 1, 1, paths, symbols) -> (batch, num_rx, symbols, paths)
        gains = gains[:, 0, :, 0, 0].transpose(2, 3) * self._orientation(len(delay_spread_s), generator)
        delays = delays[:, 0, 0]
        return gains, delays * delay_spread_s[:, None] if self._scales else delays

    def _orientation(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """A carrier phase and a bearing per draw, complex64 ``(batch, num_rx, 1, 1)``.

        Sionna's line of sight arrives from one direction in all draws, and in CDL with one phase: a receiver could
        learn both, and an interferer would always share the wanted signal's direction. A half-wavelength array seen
        under a bearing with sine v turns antenna r by ``pi r v``; v is uniform on -1..1.
        """
        phase, bearing = torch.rand(2, batch, 1, 1, 1, device=self.device, generator=generator)
        antenna = torch.arange(self.grid.num_rx, device=self.device)[:, None, None]
        turn = 2 * math.pi * phase + math.pi * antenna * (2 * bearing - 1)
        return torch.polar(torch.ones_like(turn), turn)


def _sionna_model(kind: str, profile: str, grid: Grid, speeds: list[float], device: str) -> Any:
    """Sionna's channel model; with a delay spread of one second where the profile scales, to be scaled per slot."""
    if kind == "TDL":
        from sionna.phy.channel.tr38901 import TDL

        return TDL(
            profile, 1.0 if len(profile) == 1 else None, grid.carrier_frequency_hz,
            min_speed=speeds[0], max_speed=speeds[1], num_rx_ant=grid.num_rx, device=device,
        )  # fmt: skip
    from sionna.phy.channel.tr38901 import CDL, PanelArray

    def array(columns: int) -> Any:
        return PanelArray(
            num_rows_per_panel=1, num_cols_per_panel=columns, polarization="single", polarization_type="V",
            antenna_pattern="omni", carrier_frequency=grid.carrier_frequency_hz, device=device,
        )  # fmt: skip

    return CDL(
        profile, 1.0, grid.carrier_frequency_hz, array(1), array(grid.num_rx), "uplink",
        min_speed=speeds[0], max_speed=speeds[1], device=device,
    )  # fmt: skip
