"""What a device can compute per clock and per watt: named records, and the machine at hand."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Literal

from pydantic import Field

from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml


class Device(Record):
    """A device that receivers run on.

    Attributes:
        name: as in tables.
        cores: CPU cores, or streaming multiprocessors of a GPU.
        clock_hz: nominal clock.
        flops_per_clock: FLOPs of one core per clock in ``precision``.
        precision: fp32 except for devices that know integers alone.
        peaks_flops_per_s: FLOP/s (or integer operations per second) in other precisions, by precision, dense.
        power_w: power under load.
        idle_w: power at rest; none if not known.
        memory_bytes_per_s: bandwidth of the main memory, as in the data sheet.
        caches_bytes: sizes from the smallest to the largest, whole device.
        matmul_flops_per_s: large matrix products as timed on the device; none for data-sheet records.
        copy_bytes_per_s: bytes read and written by large copies as timed on the device.
        driver_names: names that its driver gives to a GPU, exactly.
        source: where the values come from.

    Example:
        >>> device = devices()["raspberry-pi-4"]
        >>> f"{device.peak_flops_per_s / 1e9:.0f} GFLOP/s at {device.power_w:g} W"
        '48 GFLOP/s at 6.4 W'
    """

    name: str
    cores: int = Field(ge=1)
    clock_hz: float = Field(gt=0)
    flops_per_clock: float = Field(gt=0)
    precision: Literal["fp32", "int8"] = "fp32"
    peaks_flops_per_s: dict[Literal["bf16", "fp16", "int8"], Annotated[float, Field(gt=0)]] = Field({})
    power_w: float = Field(gt=0)
    idle_w: float | None = Field(None, ge=0)
    memory_bytes_per_s: float | None = Field(None, gt=0)
    caches_bytes: tuple[Annotated[int, Field(gt=0)], ...] = ()
    matmul_flops_per_s: float | None = Field(None, gt=0)
    copy_bytes_per_s: float | None = Field(None, gt=0)
    driver_names: tuple[str, ...] = ()
    source: str

    @property
    def peak_flops_per_s(self) -> float:
        """In :attr:`precision`."""
        return self.cores * self.clock_hz * self.flops_per_clock

    @property
    def flops_per_w(self) -> float:
        """FLOP/s per watt: as timed where that is known, else at the data sheet's peak."""
        return (self.matmul_flops_per_s or self.peak_flops_per_s) / self.power_w

    @property
    def bytes_per_s(self) -> float | None:
        """Memory bandwidth: as timed where that is known, else the data sheet's."""
        return self.copy_bytes_per_s or self.memory_bytes_per_s

    def peak(self, precision: str) -> float:
        """FLOP/s in a precision; one without units of its own runs as fast as fp32.

        Raises:
            UserError: if the device knows integers alone and is asked for floating point.
        """
        if precision in self.peaks_flops_per_s:
            return self.peaks_flops_per_s[precision]
        if self.precision == "int8" and precision != "int8":
            raise UserError(f"device: {self.name} does not compute in {precision}; quantise the receiver to int8")
        return self.peak_flops_per_s


def devices() -> dict[str, Device]:
    """The named records."""
    path = str(resources.files("energy.hardware") / "devices.yaml")
    records = [Device.parse(entry, "devices.yaml") for entry in read_yaml(path)]
    return {d.name: d for d in records}
