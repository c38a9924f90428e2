"""System-level channel models UMi, UMa and RMa (TR 38.901, 7.5), drawn by Sionna."""

from __future__ import annotations

import torch

from channels.grid import Grid
from channels.link_level import SPEED_OF_LIGHT_M_S, Paths

NO_PATH_S = 0.5
"""Delays above this mark padding: Sionna pads channels of fewer paths with paths of no power and a delay of 1 s."""


class SystemLevelChannel:
    """The channel of a terminal at a random place in a sector.

    Each draw has its own line-of-sight state, indoor state, delay spread and angular spreads. Path loss and shadowing
    are left out, and the mean power is 1, because a scenario sets the SNR. The scenario's delay spread is not used.
    Terminals are upright, so that no power is lost to polarisation. Delays are relative to the first path.

    Args:
        name: ``UMi``, ``UMa`` or ``RMa``.
        grid: carrier and antennas. The array is horizontal, with omnidirectional elements at half a wavelength.
        max_doppler_hz: range of the maximum Doppler shift, which sets the speed of the terminal.
        device: torch device.
    """

    def __init__(self, name: str, grid: Grid, max_doppler_hz: tuple[float, float], device: str) -> None:
        from sionna.phy.channel import tr38901

        def array(columns: int) -> tr38901.PanelArray:
            return tr38901.PanelArray(
                num_rows_per_panel=1,
                num_cols_per_panel=columns,
                polarization="single",
                polarization_type="V",
                antenna_pattern="omni",
                carrier_frequency=grid.carrier_frequency_hz,
                device=device,
            )

        options = {"direction": "uplink", "enable_pathloss": False, "enable_shadow_fading": False, "device": device}
        if name != "RMa":
            options["o2i_model"] = "low"
        self._sionna = getattr(tr38901, name)(
            carrier_frequency=grid.carrier_frequency_hz, ut_array=array(1), bs_array=array(grid.num_rx), **options
        )
        self._name, self._device = name.lower(), device
        self._speeds_m_s = [f * SPEED_OF_LIGHT_M_S / grid.carrier_frequency_hz for f in max_doppler_hz]

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per slot, see :meth:`channels.link_level.FadingModel.draw`."""
        from sionna.phy import config
        from sionna.phy.channel import gen_single_sector_topology

        rng = config.torch_rng(self._sionna.device)
        state = rng.get_state()
        rng.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
        try:
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
        finally:
            rng.set_state(state)
        # (batch, 1, num_rx, 1, 1, paths, instants) -> (batch, num_rx, instants, paths)
        gains, delays_s = gains[:, 0, :, 0, 0].transpose(2, 3), delays_s[:, 0, 0]
        delays_s = delays_s - delays_s.min(1, keepdim=True).values
        return Paths(gains, torch.where(delays_s < NO_PATH_S, delays_s, 0.0))
