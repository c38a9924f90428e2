"""The log of an external wattmeter as the measurement. :mod:`energy.metering.power_log_file` reads its file.

Power between samples is taken as linear. Where samples are missing, the log has a gap: more than five usual intervals.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from energy.metering.measurement import Measurement, reading_uncertainty_j
from energy.metering.power_log_file import read_power_log
from leanrx_core.errors import UserError

WATTMETER = "wattmeter"
"""Name of the instrument."""

MIN_SAMPLES = 5
"""Samples that a window must have at least."""

_LARGEST_GAP = 5  # usual intervals
_FIRST_S = 1e8  # since 1970; times of a log that begins at zero are less


@dataclass(frozen=True)
class Wattmeter:
    """The log of a wattmeter that metered the whole machine.

    Attributes:
        name: of the file.
        times_s: seconds since 1970, increasing.
        watts: at those times.
        power: how the power comes about, if it is not a column of the file.

    Example:
        >>> log = Wattmeter("log.csv", np.arange(0.0, 20.0), np.full(20, 5.0))
        >>> measurement = log.between(2.0, 12.0)
        >>> measurement.energy_j, measurement.component, measurement.provenance
        (50.0, 'whole', 'measured')
    """

    name: str
    times_s: np.ndarray
    watts: np.ndarray
    power: str = ""

    @classmethod
    def read(cls, path: str | Path, utc_offset_h: float | None = None) -> Wattmeter:
        """Read a log.

        Args:
            path: a text file with a header, see :mod:`energy.metering.power_log_file`.
            utc_offset_h: of times that carry no offset, hours east of Greenwich.

        Raises:
            UserError: if the file, its columns, unit, times or values cannot be understood.
        """
        if utc_offset_h is not None and not -14 <= utc_offset_h <= 14:
            raise UserError(f"utc_offset: {utc_offset_h:g} h is no time zone; give hours east of Greenwich, -14 to 14")
        times_s, watts, power = read_power_log(Path(path), utc_offset_h)
        return cls(Path(path).name, times_s, watts, power)

    @cached_property
    def interval_s(self) -> float:
        """The usual time between samples, their median."""
        return float(np.median(np.diff(self.times_s)))

    @cached_property
    def _gaps(self) -> np.ndarray:
        """Places of the samples before which the log has a gap."""
        return np.flatnonzero(np.diff(self.times_s) > _LARGEST_GAP * self.interval_s) + 1

    def between(self, begin_s: float, end_s: float) -> Measurement:
        """Energy of a window.

        Args:
            begin_s, end_s: seconds since 1970.

        Raises:
            UserError: if the log does not cover the window, has a gap in it, or was sampled too rarely for it.
        """
        if not self.covers(begin_s, end_s):
            raise UserError(self._not_covered(begin_s, end_s))
        first = int(np.searchsorted(self.times_s, begin_s, side="right")) - 1
        last = int(np.searchsorted(self.times_s, end_s))
        for gap in self._gaps[(self._gaps > first) & (self._gaps <= last)]:
            raise UserError(
                f"{self.name}: a gap of {self.times_s[gap] - self.times_s[gap - 1]:.3g} s after "
                f"{_time(self.times_s[gap - 1])} lies in a window; samples come every {self.interval_s:.3g} s; "
                "meter that window again"
            )
        if last - first < MIN_SAMPLES:
            raise UserError(
                f"{self.name}: {last - first} samples in a window of {end_s - begin_s:.3g} s; "
                "sample faster or make the window longer (metering.min_duration_s)"
            )
        return self._measurement(self._energy_j(begin_s, end_s), end_s - begin_s)

    def covered_part(self, begin_s: float, end_s: float) -> Measurement:
        """Energy of the part of a window that the log covers, without its gaps. Its duration is that of the part.

        Args:
            begin_s, end_s: seconds since 1970.
        """
        energy_j = duration_s = 0.0
        starts_s = self.times_s[np.append(0, self._gaps)]
        ends_s = self.times_s[np.append(self._gaps, len(self.times_s)) - 1]
        overlapping = slice(int(np.searchsorted(ends_s, begin_s)), int(np.searchsorted(starts_s, end_s)))
        for start_s, stop_s in zip(starts_s[overlapping], ends_s[overlapping], strict=True):
            first_s, last_s = max(begin_s, float(start_s)), min(end_s, float(stop_s))
            if first_s < last_s:
                energy_j += self._energy_j(first_s, last_s)
                duration_s += last_s - first_s
        return self._measurement(energy_j, duration_s)

    def _energy_j(self, begin_s: float, end_s: float) -> float:
        """Energy between two times that the log covers."""
        first, last = np.searchsorted(self.times_s, (begin_s, end_s), side="right")
        inside = slice(int(first), int(last))
        ends_w = np.interp((begin_s, end_s), self.times_s, self.watts)
        times_s = np.array([begin_s, *self.times_s[inside], end_s])
        return float(np.trapezoid([ends_w[0], *self.watts[inside], ends_w[1]], times_s))

    def _measurement(self, energy_j: float, duration_s: float) -> Measurement:
        usual_s = self.interval_s
        resolution_j = energy_j / duration_s * usual_s if duration_s else 0.0
        version = f"{self.name}, every {usual_s:.3g} s" + (f", {self.power}" if self.power else "")
        return Measurement(
            "whole", energy_j, "measured", WATTMETER, version, reading_uncertainty_j(resolution_j), duration_s
        )

    def covers(self, begin_s: float, end_s: float) -> bool:
        """Whether the log begins before a window and ends after it."""
        return bool(self.times_s[0] <= begin_s and end_s <= self.times_s[-1])

    def _not_covered(self, begin_s: float, end_s: float) -> str:
        text = (
            f"{self.name}: covers {_time(self.times_s[0])} to {_time(self.times_s[-1])}, "
            f"the window is {_time(begin_s)} to {_time(end_s)}"
        )
        if self.times_s[-1] < _FIRST_S <= begin_s:
            return f"{text}; its times are no seconds since 1970: mend them, or give the log of that time"
        for quarters in sorted(range(-56, 57), key=abs):
            shift = 900 * quarters
            if quarters and self.times_s[0] <= begin_s + shift and end_s + shift <= self.times_s[-1]:
                return f"{text}; a time zone of {quarters / 4:+g} h would explain it: write times with their offset"
        return f"{text}; give the log of that time"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
