"""Fading channels: mixtures of channel models, and the frequency response of their paths.

The frequency response of subcarrier *k* at instant *t* is ``h[t, k] = sum_p a[p, t] exp(-j 2 pi f_k tau_p)``.
"""

from __future__ import annotations

import math

import torch

from channels.grid import Antennas, Grid
from channels.link_level import Cdl, FadingModel, Flat, Paths, Tdl
from channels.scenarios import SYSTEM_LEVEL_MODELS, ChannelModel, Mixture
from channels.sionna_models import PolarisedCdl, SystemLevelChannel


def channel_model(
    name: ChannelModel, grid: Grid, max_doppler_hz: tuple[float, float], device: str = "cpu"
) -> FadingModel:
    """Return a channel model by name.

    Args:
        name: one of :data:`channels.scenarios.ChannelModel`.
        grid: carrier and antennas.
        max_doppler_hz: range of the maximum Doppler shift.
        device: torch device.
    """
    if name in ("AWGN", "Rayleigh"):
        return Flat(grid, name == "Rayleigh", device)
    if name in SYSTEM_LEVEL_MODELS:
        return SystemLevelChannel(name, grid, max_doppler_hz, device)
    if name.startswith("CDL") and grid.antennas != Antennas():
        return PolarisedCdl(name.removeprefix("CDL-"), grid, max_doppler_hz, device)
    profile = name.removeprefix("TDL").removeprefix("CDL").removeprefix("-")
    return (Tdl if name.startswith("TDL") else Cdl)(profile, grid, max_doppler_hz, device)


class Fading:
    """A mixture of channel models. Each slot draws one model, and then a channel from it.

    Args:
        mixture: models and their weights.
        grid: carrier and antennas.
        max_doppler_hz: range of the maximum Doppler shift; each draw has its own.
        device: torch device.

    Example:
        >>> fading = Fading({"Rayleigh": 1.0}, Grid(num_prb=1), (0.0, 0.0))
        >>> paths = fading.draw(torch.zeros(8), torch.Generator().manual_seed(1), num_instants=14, interval_s=7e-5)
        >>> paths.gains.shape, frequency_response(paths, Grid(num_prb=1)).shape
        (torch.Size([8, 2, 14, 1]), torch.Size([8, 2, 14, 12]))
    """

    def __init__(self, mixture: Mixture, grid: Grid, max_doppler_hz: tuple[float, float], device: str = "cpu") -> None:
        self._models = [channel_model(name, grid, max_doppler_hz, device) for name in mixture]
        self._weights = torch.tensor(list(mixture.values()), dtype=torch.float32, device=device)

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per slot.

        Args:
            delay_spread_s: RMS delay spread of each slot, float32 ``(B,)``. Flat models, system-level models and the
                profiles of TS 38.101-4 do not use it.
            generator: source of all random numbers.
            num_instants: number of instants of the gains.
            interval_s: time between these instants.

        Returns:
            Gains of unit mean power, complex64 ``(B, R, num_instants, P)``, and delays, float32 ``(B, P)``. P is the
            largest number of paths. The other draws are padded with paths of gain 0.
        """
        if len(self._models) == 1:
            return self._models[0].draw(delay_spread_s, generator, num_instants, interval_s)
        batch = len(delay_spread_s)
        model_index = torch.multinomial(self._weights, batch, replacement=True, generator=generator).cpu()
        draws: list[tuple[torch.Tensor, Paths]] = []
        for i, model in enumerate(self._models):
            slots = torch.nonzero(model_index == i)[:, 0].to(delay_spread_s.device)
            if len(slots):
                draws.append((slots, model.draw(delay_spread_s[slots], generator, num_instants, interval_s)))
        max_paths = max(paths.delays_s.shape[1] for _, paths in draws)
        _, num_rx, *_ = draws[0][1].gains.shape
        gains = delay_spread_s.new_zeros(batch, num_rx, num_instants, max_paths, dtype=torch.complex64)
        delays_s = delay_spread_s.new_zeros(batch, max_paths)
        for slots, paths in draws:
            num_paths = paths.delays_s.shape[1]
            gains[slots, ..., :num_paths] = paths.gains
            delays_s[slots, :num_paths] = paths.delays_s
        return Paths(gains, delays_s)


def frequency_response(paths: Paths, grid: Grid, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return the frequency response of the paths.

    Args:
        paths: gains ``(B, R, T, P)`` and delays ``(B, P)``.
        grid: resource grid.
        out: tensor for the result, or ``None`` for a new one.

    Returns:
        complex64 ``(B, R, T, F)``.
    """
    batch, num_rx, num_instants, _ = paths.gains.shape
    if out is None:
        shape = (batch, num_rx, num_instants, grid.num_subcarriers)
        out = torch.empty(shape, dtype=torch.complex64, device=paths.gains.device)
    torch.bmm(paths.gains.flatten(1, 2), _phases(paths.delays_s, grid), out=out.flatten(1, 2))
    return out


def _phases(delays_s: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return ``exp(-j 2 pi f_k tau)``, complex64 ``(B, P, F)``.

    The product of one factor per resource block and one per subcarrier of a block needs fewer exponentials.
    """
    f_hz = grid.frequencies_hz(delays_s.device)
    prb_phase, subcarrier_phase = (
        torch.polar(torch.ones_like(cycles), -2 * math.pi * cycles)
        for cycles in (delays_s[..., None] * f_hz[::12], delays_s[..., None] * (f_hz[:12] - f_hz[0]))
    )
    return (prb_phase[..., None] * subcarrier_phase[..., None, :]).flatten(2)[..., : grid.num_subcarriers]
