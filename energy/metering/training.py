"""Metering a training: windows that follow each other, and the part of them that belongs to one receiver."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from energy.metering.instruments import available, rank
from energy.metering.measurement import Instrument, Measurement, counted, weakest
from energy.metering.power_log import MIN_SAMPLES, Wattmeter
from energy.metering.session import synchronise
from leanrx_core.errors import UserError

MIN_COVERAGE = 0.95
"""Part of a training's time that an instrument must have metered. The rest is taken at the same mean power."""

_ROUNDING = 1e-6  # of sums of durations


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
    def duration_s(self) -> float:
        """Time of the training; that of the longest measurement if its windows are not known."""
        if not self.windows:
            return max((m.duration_s for m in self.measurements), default=0.0)
        return sum(w.fraction * w.duration_s for w in self.windows)

    @property
    def instruments(self) -> list[str]:
        """Names of the instruments that gave energy which is not assumed, over :data:`MIN_COVERAGE` of the time."""
        names = dict.fromkeys(m.instrument for m in counted(self.measurements))
        return [n for n in names if all(self._coverage(m) >= MIN_COVERAGE for m in self._counted_by(n))]

    @property
    def best_instrument(self) -> str | None:
        """The best instrument that measures, else the best one that models; none if nothing was metered."""
        modelled = {n for n in self.instruments if weakest(m.provenance for m in self.by(n)) != "measured"}
        return min(self.instruments, key=lambda n: (n in modelled, rank(n)), default=None)

    def by(self, instrument: str) -> list[Measurement]:
        """Measurements of an instrument that are not assumed, each of the whole training.

        Where the instrument missed windows, their energy is that of the same mean power. The version says so, and the
        uncertainty includes it.
        """
        return [self._of_whole(m) for m in self._counted_by(instrument)]

    def energy_j(self, instrument: str) -> float:
        """Energy by an instrument, without what is assumed."""
        return sum(m.energy_j for m in self.by(instrument))

    def _counted_by(self, instrument: str) -> list[Measurement]:
        return [m for m in counted(self.measurements) if m.instrument == instrument]

    def _coverage(self, measurement: Measurement) -> float:
        """Part of the training's time that a measurement covers."""
        coverage = measurement.duration_s / self.duration_s if self.duration_s else 1.0
        return 1.0 if coverage > 1 - _ROUNDING else coverage

    def _of_whole(self, measurement: Measurement) -> Measurement:
        """A measurement with the energy of the time that it does not cover, at its mean power.

        The missing energy is uniform between none and twice that of the mean power.
        """
        coverage = self._coverage(measurement)
        if coverage in (0.0, 1.0):
            return measurement
        whole = measurement * (1 / coverage)
        missing_j = (1 - coverage) * whole.energy_j
        return replace(
            whole,
            uncertainty_j=math.hypot(whole.uncertainty_j, missing_j / math.sqrt(3)),
            instrument_version=f"{measurement.instrument_version}; metered {coverage:.1%} of the time, "
            "the rest at the same mean power",
        )

    def __add__(self, other: TrainingEnergy) -> TrainingEnergy:
        """This part of a training and the next one. An instrument that missed one of them covers the other alone."""
        own, later = ({(m.instrument, m.component): m for m in e.measurements} for e in (self, other))
        summed = [m + later[key] if key in later else m for key, m in own.items()]
        only_later = [m for key, m in later.items() if key not in own]
        return TrainingEnergy((*summed, *only_later), (*self.windows, *other.windows))

    def __mul__(self, fraction: float) -> TrainingEnergy:
        """The part that belongs to one receiver."""
        windows = tuple(replace(w, fraction=fraction * w.fraction) for w in self.windows)
        return TrainingEnergy(tuple(m * fraction for m in self.measurements), windows)

    def log_coverage(self, log: Wattmeter) -> float:
        """Part of the training's time that a wattmeter's log covers, without its gaps."""
        return self._coverage(self._by_log_alone(log)) if self.windows else 0.0

    def by_log(self, log: Wattmeter) -> Measurement | None:
        """The energy by a wattmeter's log; none if it covers less than :data:`MIN_COVERAGE`, or has few samples.

        A window ends at a checkpoint and may be shorter than a few samples. The training as a whole may not. Gaps of
        the log are not covered, and count as windows that an instrument missed, see :meth:`by`.
        """
        few_samples = sum(w.duration_s for w in self.windows) < MIN_SAMPLES * log.interval_s
        if few_samples or self.log_coverage(log) < MIN_COVERAGE:
            return None
        return self._of_whole(self._by_log_alone(log))

    def _by_log_alone(self, log: Wattmeter) -> Measurement:
        """What a log says about the parts of the windows that it covers."""
        parts = (log.covered_part(w.begin_s, w.begin_s + w.duration_s) * w.fraction for w in self.windows)
        return functools.reduce(operator.add, parts)

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
        num_trainings: number of trainings on this machine at the time of the call. They bear equal parts of what an
            instrument reads of the whole machine.

    Attributes:
        running: whether a window is open.
    """

    def __init__(self, instruments: Sequence[Instrument], num_trainings: Callable[[], int] = lambda: 1) -> None:
        self._instruments, self._num_trainings, self.running = instruments, num_trainings, False
        self._open_instruments: list[Instrument] = []
        self._trainings_at_begin = 1
        self._begin_s = self._begin = 0.0

    @classmethod
    def of_device(
        cls, device: str = "cpu", cpu_power_w: float | None = None, num_trainings: Callable[[], int] = lambda: 1
    ) -> Self:
        """A meter with the instruments of a device, see :func:`energy.metering.instruments.available`."""
        return cls(available(device, cpu_power_w, allow_model=True), num_trainings)

    def open(self) -> None:
        """Open a window, by the instruments that can be read."""
        synchronise()
        self._open_instruments = []
        self.running, self._trainings_at_begin = True, self._num_trainings()
        for instrument in self._instruments:
            with contextlib.suppress(UserError):
                instrument.begin()
                self._open_instruments.append(instrument)
        self._begin_s, self._begin = time.time(), time.perf_counter()

    def close(self) -> TrainingEnergy:
        """Close the window and read it.

        An instrument is missing that cannot be read, for example because the window was too short for it. It covers
        the other windows, and the training goes on.
        """
        synchronise()
        self.running = False  # first, so that an interrupted close is not closed again
        duration_s = time.perf_counter() - self._begin
        measurements = [m for instrument in reversed(self._open_instruments) for m in _read(instrument)]
        fraction = 2 / (self._trainings_at_begin + self._num_trainings())
        window = TrainingWindow(self._begin_s, duration_s, fraction)
        measurements = [m * fraction if m.of_whole_machine else m for m in measurements]
        return TrainingEnergy(tuple(replace(m, duration_s=fraction * duration_s) for m in measurements), (window,))


def _read(instrument: Instrument) -> list[Measurement]:
    try:
        return instrument.end()
    except UserError:
        return []
