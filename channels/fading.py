"""Fading channels: a mixture of models, and the frequency response of their paths.

The response of subcarrier *k* at instant *t* is ``h[t, k] = sum_p a[p, t] exp(-j 2 pi f_k tau_p)``.
"""

from __future__ import annotations

import math

import torch

from channels.grid import Grid
from channels.link_level import Cdl, Flat, Model, Paths, Tdl
from channels.scenarios import ChannelModel, Mixture
from channels.system_level import SystemLevelChannel


def channel_model(name: ChannelModel, grid: Grid, max_doppler_hz: tuple[float, float], device: str = "cpu") -> Model:
    """A channel model by name."""
    if name in ("AWGN", "Rayleigh"):
        return Flat(grid, name == "Rayleigh", device)
    if name in ("UMi", "UMa", "RMa"):
        return SystemLevelChannel(name, grid, max_doppler_hz, device)
    profile = name.removeprefix("TDL").removeprefix("CDL").removeprefix("-")
    return (Tdl if name.startswith("TDL") else Cdl)(profile, grid, max_doppler_hz, device)


class Fading:
    """Draws from a mixture of channel models.

    Args:
        mixture: models and their weights.
        grid: resource grid; sets carrier and antennas.
        max_doppler_hz: range from which each draw's maximum Doppler shift comes.
        device: torch device on which to draw.
    """

    def __init__(self, mixture: Mixture, grid: Grid, max_doppler_hz: tuple[float, float], device: str = "cpu") -> None:
        self._models = [channel_model(name, grid, max_doppler_hz, device) for name in mixture]
        self._weights = torch.tensor(list(mixture.values()), dtype=torch.float32, device=device)

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per entry of ``delay_spread_s``, each from a model of its own.

        Args:
            delay_spread_s: RMS delay spread of each slot, float32 ``(B,)``; flat models, drops and the profiles of
                TS 38.101-4 have their own.
            generator: source of all random numbers.
            num_instants, interval_s: the instants at which gains are wanted.

        Returns:
            gains complex64 ``(B, R, num_instants, P)`` of unit mean power, delays ``(B, P)``; paths that a draw
            lacks have gain 0.
        """
        if len(self._models) == 1:
            return self._models[0].draw(delay_spread_s, generator, num_instants, interval_s)
        batch = len(delay_spread_s)
        of_slot = torch.multinomial(self._weights, batch, replacement=True, generator=generator)
        drawn: list[tuple[torch.Tensor, Paths]] = []
        for i, model in enumerate(self._models):
            chosen = torch.nonzero(of_slot == i)[:, 0]
            if len(chosen):
                drawn.append((chosen, model.draw(delay_spread_s[chosen], generator, num_instants, interval_s)))
        most = max(paths.delays_s.shape[1] for _, paths in drawn)
        _, num_rx, *_ = drawn[0][1].gains.shape
        gains = delay_spread_s.new_zeros(batch, num_rx, num_instants, most, dtype=torch.complex64)
        delays_s = delay_spread_s.new_zeros(batch, most)
        for chosen, paths in drawn:
            num_paths = paths.delays_s.shape[1]
            gains[chosen, ..., :num_paths] = paths.gains
            delays_s[chosen, :num_paths] = paths.delays_s
        return Paths(gains, delays_s)


def frequency_response(paths: Paths, grid: Grid, out: torch.Tensor | None = None) -> torch.Tensor:
    """Response of every subcarrier, complex64 ``(B, R, T, F)``; written into ``out`` if that is given."""
    batch, num_rx, num_instants, _ = paths.gains.shape
    if out is None:
        shape = (batch, num_rx, num_instants, grid.num_subcarriers)
        out = torch.empty(shape, dtype=torch.complex64, device=paths.gains.device)
    torch.bmm(paths.gains.flatten(1, 2), _phases(paths.delays_s, grid), out=out.flatten(1, 2))
    return out


def _phases(delays_s: torch.Tensor, grid: Grid) -> torch.Tensor:
    """``exp(-j 2 pi f_k tau)``, complex64 ``(B, P, F)``: resource blocks times the 12 subcarriers in one."""
    f_hz = grid.frequencies_hz(delays_s.device)
    of_prb, in_prb = (
        torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
        for turns in (delays_s[..., None] * f_hz[::12], delays_s[..., None] * (f_hz[:12] - f_hz[0]))
    )
    return (of_prb[..., None] * in_prb[..., None, :]).flatten(2)
