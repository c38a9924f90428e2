"""CodeCarbon's tracker as one instrument among others; see :mod:`energy.metering.meter` for what it knows where."""

from __future__ import annotations

from energy.metering.measurement import Joules
from energy.metering.meter import Meter

SAMPLING_S = 1.0


class CodeCarbon:
    """CPU, GPU and RAM as CodeCarbon sees them; each marked for itself.

    Args:
        cpu_power_w: for its load model, see :class:`energy.metering.meter.Meter`.
    """

    name, shortest_s = "CodeCarbon", SAMPLING_S

    def __init__(self, cpu_power_w: float | None = None) -> None:
        self._meter = Meter(cpu_power_w)

    def begin(self) -> None:
        """Open a window."""
        self._meter.start()

    def end(self) -> list[Joules]:
        """Close it."""
        reading = self._meter.stop()
        parts = (
            ("cpu", reading.cpu_kind, reading.cpu_j),
            ("gpu", reading.gpu_kind, reading.gpu_j),
            ("ram", reading.ram_kind, reading.ram_j),
        )
        version = reading.instrument.removeprefix("CodeCarbon ")
        return [
            Joules(self.name, version, part, kind, j, j / max(reading.duration_s, SAMPLING_S) * SAMPLING_S)
            for part, kind, j in parts
            if kind != "none"
        ]
