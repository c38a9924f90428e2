"""Metering a training: windows that follow each other, and the part of them that belongs to one receiver."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from energy.metering.instruments import available, rank
from energy.metering.measurement import Instrument, Measurement, counted, weakest
from energy.metering.power_log import MIN_SAMPLES, Wattmeter
from energy.metering.session import synchronise
from leanrx_core.errors import UserError


@dataclass(frozen=True)
class TrainingWindow:
    """When energy was read, for logs of other clocks.

    Attributes:
        begin_s: seconds since 1970.
        duration_s: wall clock.
        fraction: of the window's energy that belongs to the receiver.
    """

    begin_s: float
    duration_s: float
    fraction: float = 1.0


@dataclass(frozen=True)
class TrainingEnergy:
    """Energy of a training, or of a receiver's part of it.

    Attributes:
        measurements: one per instrument and component.
        windows: when they were read; none for a training whose times are not known.

    Example:
        >>> joules = Measurement("cpu", 10.0, "measured", "RAPL", "powercap", 0.1, 5.0)
        >>> first = TrainingEnergy((joules,), (TrainingWindow(0.0, 5.0),))
        >>> second = TrainingEnergy((joules,), (TrainingWindow(5.0, 5.0),))
        >>> both = first * 0.5 + second
        >>> both.energy_j("RAPL"), [w.fraction for w in both.windows]
        (15.0, [0.5, 1.0])
    """

    measurements: tuple[Measurement, ...]
    windows: tuple[TrainingWindow, ...] = ()

    @property
    def instruments(self) -> list[str]:
        """Names of the instruments that gave energy which is not assumed."""
        return list(dict.fromkeys(m.instrument for m in counted(self.measurements)))

    @property
    def best_instrument(self) -> str | None:
        """The best instrument that measures, else the best one that models; none if nothing was metered."""
        modelled = {n for n in self.instruments if weakest(m.provenance for m in self.by(n)) != "measured"}
        return min(self.instruments, key=lambda n: (n in modelled, rank(n)), default=None)

    def by(self, instrument: str) -> list[Measurement]:
        """Measurements of an instrument that are not assumed."""
        return [m for m in counted(self.measurements) if m.instrument == instrument]

    def energy_j(self, instrument: str) -> float:
        """Energy by an instrument, without what is assumed."""
        return sum(m.energy_j for m in self.by(instrument))

    def __add__(self, other: TrainingEnergy) -> TrainingEnergy:
        """This part of a training and the next one, by the instruments that metered both."""
        later = {(m.instrument, m.component): m for m in other.measurements}
        pairs = [(m, later.get((m.instrument, m.component))) for m in self.measurements]
        return TrainingEnergy(tuple(a + b for a, b in pairs if b is not None), (*self.windows, *other.windows))

    def __mul__(self, fraction: float) -> TrainingEnergy:
        """The part that belongs to one receiver."""
        windows = tuple(replace(w, fraction=fraction * w.fraction) for w in self.windows)
        return TrainingEnergy(tuple(m * fraction for m in self.measurements), windows)

    def by_log(self, log: Wattmeter) -> Measurement | None:
        """The energy by a wattmeter's log; none if the log does not cover all windows or has few samples in them.

        A window ends at a checkpoint and may be shorter than a few samples. The training as a whole may not.

        Raises:
            UserError: if the log has a gap in a window.
        """
        duration_s = sum(w.duration_s for w in self.windows)
        covered = all(log.covers(w.begin_s, w.begin_s + w.duration_s) for w in self.windows)
        if not covered or duration_s < MIN_SAMPLES * log.interval_s:
            return None
        parts = [log.between(w.begin_s, w.begin_s + w.duration_s, min_samples=1) * w.fraction for w in self.windows]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object, source: str) -> Self:
        """Read what :meth:`as_json` made.

        Args:
            data: plain values.
            source: a file, for the error.

        Raises:
            UserError: if it is anything else, such as the energy in a card of an earlier version.
        """
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError:
            raise UserError(
                f"{source}: training energy of an earlier version of leanrx; delete it and train the receiver again"
            ) from None


class TrainingMeter:
    """Instruments around a training, in windows that do not overlap.

    Args:
        instruments: read at both ends of every window.

    Attributes:
        running: whether a window is open.
    """

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments, self.running = instruments, False
        self._begin_s = self._begin = 0.0

    @classmethod
    def of_device(cls, device: str = "cpu", cpu_power_w: float | None = None) -> Self:
        """A meter with the instruments of a device, see :func:`energy.metering.instruments.available`."""
        return cls(available(device, cpu_power_w, allow_model=True))

    def open(self) -> None:
        """Open a window."""
        synchronise()
        self.running = True
        for instrument in self._instruments:
            instrument.begin()
        self._begin_s, self._begin = time.time(), time.perf_counter()

    def close(self) -> TrainingEnergy:
        """Close the window and read it. An instrument for which the window was too short may be missing.

        Raises:
            UserError: if a counter cannot be read.
        """
        synchronise()
        self.running = False  # first, so that an interrupted close is not closed again
        duration_s = time.perf_counter() - self._begin
        measurements = [m for instrument in reversed(self._instruments) for m in _read(instrument, duration_s)]
        window = TrainingWindow(self._begin_s, duration_s)
        return TrainingEnergy(tuple(replace(m, duration_s=duration_s) for m in measurements), (window,))


def _read(instrument: Instrument, duration_s: float) -> list[Measurement]:
    try:
        return instrument.end()
    except UserError:
        if duration_s >= instrument.shortest_s:
            raise
        return []
