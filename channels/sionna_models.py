"""Channel models that Sionna draws: UMi, UMa and RMa (TR 38.901, 7.5), and CDL with polarised or directive antennas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from channels.grid import Grid
from channels.link_level import SPEED_OF_LIGHT_M_S, Paths

if TYPE_CHECKING:
    from sionna.phy.channel.tr38901 import PanelArray

NO_PATH_S = 0.5
"""Delays above this mark padding: Sionna pads channels of fewer paths with paths of no power and a delay of 1 s."""


class SystemLevelChannel:
    """The channel of a terminal at a random place in a sector.

    Each draw has its own line-of-sight state, indoor state, delay spread and angular spreads. Path loss and shadowing
    are left out, and the mean power is 1, because a scenario sets the SNR. The scenario's delay spread is not used.
    Terminals are upright, so that no power is lost to polarisation. Delays are relative to the first path.

    Args:
        name: ``UMi``, ``UMa`` or ``RMa``.
        grid: carrier and antennas. The array is horizontal, with elements at half a wavelength.
        max_doppler_hz: range of the maximum Doppler shift, which sets the speed of the terminal.
        device: torch device.
    """

    def __init__(self, name: str, grid: Grid, max_doppler_hz: tuple[float, float], device: str) -> None:
        from sionna.phy.channel import tr38901

        options = {"direction": "uplink", "enable_pathloss": False, "enable_shadow_fading": False, "device": device}
        if name != "RMa":
            options["o2i_model"] = "low"
        self._sionna = getattr(tr38901, name)(
            carrier_frequency=grid.carrier_frequency_hz,
            ut_array=terminal_array(grid, device),
            bs_array=base_array(grid, device),
            **options,
        )
        self._name, self._device = name.lower(), device
        self._speeds_m_s = [f * SPEED_OF_LIGHT_M_S / grid.carrier_frequency_hz for f in max_doppler_hz]

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per slot, see :meth:`channels.link_level.FadingModel.draw`."""
        from sionna.phy.channel import gen_single_sector_topology

        with _sionna_draws_from(generator, self._sionna.device):
            self._sionna.reset_topology()  # otherwise it keeps the indoor distances and batch size of the previous draw
            topology = gen_single_sector_topology(
                len(delay_spread_s),
                1,
                self._name,
                min_ut_velocity=self._speeds_m_s[0],
                max_ut_velocity=self._speeds_m_s[1],
                device=self._device,
            )
            terminal, base, orientation, base_orientation, velocity, indoor = topology
            upright = torch.zeros_like(orientation)
            self._sionna.set_topology(terminal, base, upright, base_orientation, velocity, indoor)
            gains, delays_s = self._sionna(num_instants, 1 / interval_s)
        # (batch, 1, num_rx, 1, 1, paths, instants) -> (batch, num_rx, instants, paths)
        gains, delays_s = gains[:, 0, :, 0, 0].transpose(2, 3), delays_s[:, 0, 0]
        delays_s = delays_s - delays_s.min(1, keepdim=True).values
        return Paths(gains, torch.where(delays_s < NO_PATH_S, delays_s, 0.0))


class PolarisedCdl:
    """CDL (TR 38.901, 7.7.1) with polarised or directive antenna elements.

    The terminal moves in a random direction. A line of sight has the direction of the tables in all draws, and a random
    carrier phase. The mean power depends on the elements.

    Args:
        profile: ``A`` to ``E``.
        grid: carrier and antennas. The array is horizontal, with elements or pairs of them at half a wavelength.
        max_doppler_hz: range of the maximum Doppler shift, which sets the speed of the terminal.
        device: torch device.
    """

    def __init__(self, profile: str, grid: Grid, max_doppler_hz: tuple[float, float], device: str) -> None:
        from sionna.phy.channel.tr38901 import CDL

        speeds_m_s = [f * SPEED_OF_LIGHT_M_S / grid.carrier_frequency_hz for f in max_doppler_hz]
        self._sionna = CDL(
            profile,
            1.0,  # delays relative to the delay spread
            grid.carrier_frequency_hz,
            terminal_array(grid, device),
            base_array(grid, device),
            "uplink",
            min_speed=speeds_m_s[0],
            max_speed=speeds_m_s[1],
            device=device,
        )

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per slot, see :meth:`channels.link_level.FadingModel.draw`."""
        with _sionna_draws_from(generator, self._sionna.device):
            gains, delays = self._sionna(len(delay_spread_s), num_instants, 1 / interval_s)
        phase = 2 * torch.pi * torch.rand(len(gains), 1, 1, 1, device=generator.device, generator=generator)
        gains = gains[:, 0, :, 0, 0].transpose(2, 3) * torch.polar(torch.ones_like(phase), phase)
        return Paths(gains, delays[:, 0, 0] * delay_spread_s[:, None])


def base_array(grid: Grid, device: str) -> PanelArray:
    """Return the base station's array of ``grid.num_rx`` elements."""
    antennas = grid.antennas
    is_single = antennas.polarisation == "V"
    return _panel_array(
        grid,
        grid.num_rx if is_single else grid.num_rx // 2,
        antennas.base_pattern,
        ("single", "V") if is_single else ("dual", antennas.polarisation),
        device,
    )


def terminal_array(grid: Grid, device: str) -> PanelArray:
    """Return the terminal's element."""
    return _panel_array(grid, 1, grid.antennas.terminal_pattern, ("single", "V"), device)


def _panel_array(grid: Grid, columns: int, pattern: str, polarisation: tuple[str, str], device: str) -> PanelArray:
    from sionna.phy.channel.tr38901 import PanelArray

    return PanelArray(
        num_rows_per_panel=1,
        num_cols_per_panel=columns,
        polarization=polarisation[0],
        polarization_type=polarisation[1],
        antenna_pattern=pattern,
        carrier_frequency=grid.carrier_frequency_hz,
        device=device,
    )


@contextmanager
def _sionna_draws_from(generator: torch.Generator, device: str) -> Iterator[None]:
    """Seed Sionna's global random generator from a generator, and restore its state afterwards."""
    from sionna.phy import config

    rng = config.torch_rng(device)
    state = rng.get_state()
    rng.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
    try:
        yield
    finally:
        rng.set_state(state)
