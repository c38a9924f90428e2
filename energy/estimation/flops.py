"""Time and energy estimated from counted FLOPs, the two ways of the DeepRx energy case study (arXiv 2507.10409).

The abstract names FLOPs/clock and FLOPs/Watt; the forms below are the usual reading of the two, since the paper's own
equations were not available to us. Both assume that the device computes all the time at the given rate: they see
neither memory traffic nor idle time.
"""

from __future__ import annotations

from dataclasses import dataclass

from energy.hardware.devices import Device


@dataclass(frozen=True)
class Estimate:
    """Modelled time and energy of some work on a device.

    Attributes:
        method: ``FLOPs/clock`` or ``FLOPs/W``.
        duration_s: time at the assumed rate.
        energy_j: energy at the assumed power; always *modelled*.
        assumption: the assumption in words.
        relative_sd: how far observed calls lay from the estimate, as far as that was learnt; none for a bound.
    """

    method: str
    duration_s: float
    energy_j: float
    assumption: str
    relative_sd: float | None = None


def flops_per_clock(flops: float, device: Device, precision: str | None = None) -> Estimate:
    """``time = FLOPs / (FLOPs per clock x clock x cores)``, ``energy = time x power``.

    Args:
        precision: of the FLOPs, the device's own if not given.

    Raises:
        UserError: if the device does not compute in it.
    """
    peak = device.peak(precision or device.precision)
    duration_s = flops / peak
    per_clock = peak / device.cores / device.clock_hz
    return Estimate(
        "FLOPs/clock",
        duration_s,
        duration_s * device.power_w,
        f"{per_clock:g} FLOP/clock x {device.clock_hz / 1e9:.2f} GHz x {device.cores} cores, "
        f"{device.power_w:g} W, fully used",
    )


def flops_per_watt(flops: float, device: Device) -> Estimate:
    """``energy = FLOPs / (FLOP/s per W)``, ``time = energy / power``."""
    energy_j = flops / device.flops_per_w
    rate = "timed on matrix products" if device.matmul_flops_per_s else "at the peak of the data sheet"
    return Estimate(
        "FLOPs/W",
        energy_j / device.power_w,
        energy_j,
        f"{device.flops_per_w / 1e9:.3g} GFLOP/s per W, {rate}",
    )


def estimates(flops: float, device: Device) -> list[Estimate]:
    """Both estimates."""
    return [flops_per_clock(flops, device), flops_per_watt(flops, device)]
