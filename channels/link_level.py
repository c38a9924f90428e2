"""Link-level channel models: TDL and CDL of TR 38.901, the TDL profiles of TS 38.101-4, and flat channels.

Delays, powers and angles are Sionna's tables. The random draws are computed here, several times faster than Sionna's.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch

from channels.grid import Grid

SPEED_OF_LIGHT_M_S = 299_792_458.0


class Paths(NamedTuple):
    """A batch of multipath channels.

    Attributes:
        gains: complex gains of P paths at T instants, complex64 ``(B, R, T, P)``.
        delays_s: delays of the paths, float32 ``(B, P)``.
    """

    gains: torch.Tensor
    delays_s: torch.Tensor


class FadingModel(Protocol):
    """A channel model with unit mean power."""

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        """Draw one channel per entry of ``delay_spread_s``.

        Args:
            delay_spread_s: RMS delay spread of each slot, float32 ``(B,)``. Models with a delay spread of their own
                use only its length.
            generator: source of all random numbers.
            num_instants: number T of instants of the gains.
            interval_s: time between these instants.
        """
        ...


class Flat:
    """One path: a gain of 1 (AWGN), or one complex Gaussian gain per slot and antenna (Rayleigh block fading).

    Args:
        grid: sets the number of antennas.
        rayleigh: whether the gain is complex Gaussian.
        device: torch device.
    """

    def __init__(self, grid: Grid, rayleigh: bool, device: str) -> None:
        self._num_rx, self._rayleigh, self._device = grid.num_rx, rayleigh, device

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        batch = len(delay_spread_s)
        if self._rayleigh:
            gains = _gaussian((batch, self._num_rx, 1, 1), generator)
        else:
            gains = torch.ones(batch, self._num_rx, 1, 1, dtype=torch.complex64, device=self._device)
        return Paths(gains.expand(-1, -1, num_instants, -1), torch.zeros(batch, 1, device=self._device))


class Tdl:
    """Tapped delay line (TR 38.901, 7.7.2): independent Rayleigh taps with Clarke's Doppler spectrum.

    A tap is ``sqrt(p/N) sum_n g_n exp(j 2 pi f_D t cos((n - 1/2) pi / N))`` with complex Gaussian ``g_n``. Therefore it
    is exactly Gaussian. Its autocorrelation is ``J0(2 pi f_D t)`` up to an error of ``2 J_2N``. N is so large that the
    error vanishes over the slot. (A sum of sinusoids with random phases is only approximately Gaussian.) In profiles D
    and E, the first tap has a line of sight with 0.7 of the maximum Doppler shift.

    Args:
        profile: ``A`` to ``E``, or ``A30``, ``B100``, ``C300`` of TS 38.101-4, B.2.1.1.
        grid: carrier and antennas.
        max_doppler_hz: range of the maximum Doppler shift.
        device: torch device.
    """

    def __init__(self, profile: str, grid: Grid, max_doppler_hz: tuple[float, float], device: str) -> None:
        from sionna.phy.channel.tr38901 import TDL

        self._has_normalised_delays = len(profile) == 1  # the profiles of TS 38.101-4 have a fixed delay spread
        table = TDL(profile, 1.0 if self._has_normalised_delays else None, grid.carrier_frequency_hz, device=device)
        self._delays, powers = table.delays.float(), table.mean_powers.float()
        self._los_power = float(table.mean_power_los) if table.los else 0.0
        scattered = powers.clone()
        scattered[0] -= self._los_power
        self._amplitudes = scattered.sqrt()
        self._num_rx, self._device, self._max_doppler_hz = grid.num_rx, device, max_doppler_hz

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        batch, num_paths = len(delay_spread_s), len(self._delays)
        doppler_hz = _uniform(self._max_doppler_hz, (batch, 1), generator)
        time_s = interval_s * torch.arange(num_instants, device=self._device)
        num_nodes = 8 + math.ceil(2 * math.pi * self._max_doppler_hz[1] * interval_s * num_instants)
        nodes = torch.cos((torch.arange(num_nodes, device=self._device) + 0.5) * math.pi / num_nodes)
        cycles = (doppler_hz[:, :, None] * time_s[:, None]) * nodes  # (batch, instants, nodes)
        amplitudes = _gaussian((batch, num_nodes, self._num_rx * num_paths), generator)
        taps = (_phasor(cycles) / math.sqrt(num_nodes)) @ amplitudes
        gains = taps.view(batch, num_instants, self._num_rx, num_paths).transpose(1, 2) * self._amplitudes
        if self._los_power:
            los = _phasor(0.7 * doppler_hz * time_s) * math.sqrt(self._los_power)
            gains[..., 0] += _random_bearing(los[:, None], self._num_rx, generator)
        delays_s = (
            self._delays * delay_spread_s[:, None] if self._has_normalised_delays else self._delays.expand(batch, -1)
        )
        return Paths(gains, delays_s)


class Cdl:
    """Clustered delay line (TR 38.901, 7.7.1): 20 rays per cluster with random coupling and phases.

    The base station has a horizontal half-wavelength array of omnidirectional, vertically polarised elements. The
    terminal has one such element and moves in a random direction.

    Args:
        profile: ``A`` to ``E``.
        grid: carrier and antennas.
        max_doppler_hz: range of the maximum Doppler shift.
        device: torch device.
    """

    def __init__(self, profile: str, grid: Grid, max_doppler_hz: tuple[float, float], device: str) -> None:
        from sionna.phy.channel.tr38901 import CDL, PanelArray

        array = PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=1,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=grid.carrier_frequency_hz,
            device=device,
        )
        table = CDL(profile, 1.0, grid.carrier_frequency_hz, array, array, "uplink", device=device)
        # Sionna has no public access to these tables. A test compares the draws with Sionna's own.
        k_factor = float(table._k_factor)
        self._delays, powers = table._delays, table._powers / (1 + k_factor)
        azimuth, zenith = table._aoa, table._zoa  # at the base station, (clusters, rays)
        self._sin_azimuth, self._sin_zenith = azimuth.sin(), zenith.sin()
        self._ut_azimuth = torch.stack([table._aod.cos(), table._aod.sin()])
        self._ut_zenith = torch.stack([table._zod.sin(), table._zod.cos()])
        self._amplitudes = (powers / azimuth.shape[1]).sqrt()
        self._los: tuple[float, list[float], float] | None = None
        if table._has_los:
            aod, zod, aoa, zoa = (float(a) for a in (table._los_aod, table._los_zod, table._los_aoa, table._los_zoa))
            direction = [math.sin(zod) * math.cos(aod), math.sin(zod) * math.sin(aod), math.cos(zod)]
            self._los = (math.sqrt(k_factor / (1 + k_factor)), direction, math.sin(zoa) * math.sin(aoa))
        self._num_rx, self._device, self._max_doppler_hz = grid.num_rx, device, max_doppler_hz

    def draw(
        self, delay_spread_s: torch.Tensor, generator: torch.Generator, num_instants: int, interval_s: float
    ) -> Paths:
        batch = len(delay_spread_s)
        shape = (batch, *self._sin_azimuth.shape)  # (batch, clusters, rays)
        doppler_hz = self._doppler_vector(batch, generator)
        # Coupling: azimuths at the base station keep their order. The three other angles of the rays are permuted.
        order = torch.rand(3, *shape, device=self._device, generator=generator).argsort(-1)
        sine = self._sin_azimuth * _reordered(self._sin_zenith, order[0])
        sin_zenith, cos_zenith = (_reordered(a, order[1]) for a in self._ut_zenith)
        cos_azimuth, sin_azimuth = (_reordered(a, order[2]) for a in self._ut_azimuth)
        x, y, z = (d[:, None, None] for d in doppler_hz.unbind(1))
        ray_doppler_hz = sin_zenith * (x * cos_azimuth + y * sin_azimuth) + z * cos_zenith
        phase = torch.rand(shape, device=self._device, generator=generator)
        initial = _phasor(phase) * self._amplitudes[:, None]
        ray_gains = _powers(_phasor(ray_doppler_hz * interval_s), num_instants) * initial[..., None]
        steering = _powers(_phasor(sine / 2), self._num_rx)
        gains = steering.transpose(-1, -2) @ ray_gains  # (batch, clusters, antennas, instants)
        gains = gains.permute(0, 2, 3, 1)
        if self._los is not None:
            amplitude, direction, los_sine = self._los
            los_doppler_hz = doppler_hz @ torch.tensor(direction, device=self._device)
            los = _phasor(los_doppler_hz[:, None] * interval_s * torch.arange(num_instants, device=self._device))
            antenna = torch.arange(self._num_rx, device=self._device)[:, None]
            gains[..., 0] += amplitude * los[:, None] * _phasor(antenna * los_sine / 2)
        turn = _random_bearing(
            torch.ones(1, 1, 1, dtype=torch.complex64, device=self._device), self._num_rx, generator, batch
        )
        return Paths(gains * turn[..., None], self._delays * delay_spread_s[:, None])

    def _doppler_vector(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """Draw the maximum Doppler shift times a random direction, ``(batch, 3)``.

        Azimuth and zenith are uniform, as in Sionna.
        """
        magnitude_hz = _uniform(self._max_doppler_hz, (batch,), generator)
        azimuth, zenith = math.pi * torch.rand(2, batch, device=self._device, generator=generator)
        azimuth = 2 * azimuth
        direction = torch.stack([zenith.sin() * azimuth.cos(), zenith.sin() * azimuth.sin(), zenith.cos()], 1)
        return magnitude_hz[:, None] * direction


def _random_bearing(
    los: torch.Tensor, num_rx: int, generator: torch.Generator, batch: int | None = None
) -> torch.Tensor:
    """Give a line of sight a random carrier phase and bearing per draw, complex64 ``(batch, num_rx, instants)``.

    In Sionna's tables, the line of sight has the same direction in all draws, and in CDL also the same phase. A
    receiver could learn both, and an interferer would always share the direction of the wanted signal. In an array with
    half-wavelength spacing, a bearing with sine v rotates the phase of antenna r by ``pi r v``. Here v is uniform in
    -1..1.
    """
    phase, bearing = torch.rand(2, batch or len(los), 1, 1, device=los.device, generator=generator)
    antenna = torch.arange(num_rx, device=los.device)[:, None]
    return los * _phasor(phase + antenna * (bearing - 0.5))


def _phasor(cycles: torch.Tensor) -> torch.Tensor:
    """Return ``exp(j 2 pi cycles)``, complex64."""
    return torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)


def _powers(base: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``1, base, ..., base**(count - 1)`` along a new last axis."""
    powers = torch.empty(*base.shape, count, dtype=base.dtype, device=base.device)
    powers[..., 0] = 1
    length, factor = 1, base
    while length < count:  # each pass doubles the number of powers
        extra = min(length, count - length)
        torch.mul(powers[..., :extra], factor[..., None], out=powers[..., length : length + extra])
        length, factor = length + extra, factor * factor
    return powers


def _reordered(angles: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Permute values ``(clusters, rays)`` by the order of each draw, ``(batch, clusters, rays)``."""
    return angles.expand(order.shape).gather(-1, order)


def _uniform(interval: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return interval[0] + (interval[1] - interval[0]) * torch.rand(shape, device=generator.device, generator=generator)


def _gaussian(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, device=generator.device, generator=generator)
