"""The log of an external wattmeter as the measurement: a CSV with a column of times and one of watts.

::

    time,power_w
    2026-03-01T10:00:00.0+01:00,41.2
    2026-03-01T10:00:00.5+01:00,57.9

Times are ISO 8601 with an offset, or seconds since 1970 (UTC). The header names the unit: watts, mW or kW. Power
between samples is taken as linear.
"""

from __future__ import annotations

import csv
import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from energy.metering.measurement import Measurement, reading_uncertainty_j
from leanrx_core.errors import UserError

WATTMETER = "wattmeter"
"""Name of the instrument."""

_UNITS = {"w": 1.0, "watt": 1.0, "watts": 1.0, "power_w": 1.0, "mw": 1e-3, "power_mw": 1e-3, "kw": 1e3, "power_kw": 1e3}
_TIMES = ("time", "timestamp", "time_s", "date", "datetime")
MIN_SAMPLES = 5
"""Samples that a window must have at least."""

_LARGEST_GAP = 5  # usual intervals
_LATEST_S = 1e11  # since 1970; milliseconds since then are more
_MOST_W = 30e3  # of one machine; a laptop's milliwatts, taken for watts, are more


@dataclass(frozen=True)
class Wattmeter:
    """The log of a wattmeter that metered the whole machine.

    Attributes:
        name: of the file.
        times_s: seconds since 1970, increasing.
        watts: at those times.

    Example:
        >>> log = Wattmeter("log.csv", np.arange(0.0, 20.0), np.full(20, 5.0))
        >>> measurement = log.between(2.0, 12.0)
        >>> measurement.energy_j, measurement.component, measurement.provenance
        (50.0, 'whole', 'measured')
    """

    name: str
    times_s: np.ndarray
    watts: np.ndarray

    @classmethod
    def read(cls, path: str | Path, utc_offset_h: float | None = None) -> Wattmeter:
        """Read a log.

        Args:
            path: a CSV file with a header.
            utc_offset_h: of times that carry no offset, hours east of Greenwich.

        Raises:
            UserError: if the file, its columns, unit, times or values cannot be understood.
        """
        path = Path(path)
        if utc_offset_h is not None and not -14 <= utc_offset_h <= 14:
            raise UserError(f"utc_offset: {utc_offset_h:g} h is no time zone; give hours east of Greenwich, -14 to 14")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); give a CSV file with columns time and power_w"
            ) from None
        if len(rows) < 2:
            raise UserError(f"{path}: fewer than two samples; give a CSV file with columns time and power_w")
        time_column, power_column, factor = _columns(path, list(rows[0]))
        times = np.array([_seconds(path, i, r[time_column], utc_offset_h) for i, r in enumerate(rows, 2)])
        watts = np.array([_watts(path, i, r[power_column], factor) for i, r in enumerate(rows, 2)])
        steps = np.diff(times)
        if (steps <= 0).any():
            line = int(np.argmax(steps <= 0)) + 3
            raise UserError(f"{path}: time does not increase at line {line}; sort the log, or mend the clock's change")
        return cls(path.name, times, watts)

    @property
    def interval_s(self) -> float:
        """The usual time between samples, their median."""
        return float(np.median(np.diff(self.times_s)))

    def between(self, begin_s: float, end_s: float, min_samples: int = MIN_SAMPLES) -> Measurement:
        """Energy of a window.

        Args:
            begin_s, end_s: seconds since 1970.
            min_samples: that the window must have.

        Raises:
            UserError: if the log does not cover the window, has a gap in it, or was sampled too rarely for it.
        """
        if not self.covers(begin_s, end_s):
            raise UserError(self._not_covered(begin_s, end_s))
        first = int(np.searchsorted(self.times_s, begin_s, side="right")) - 1
        last = int(np.searchsorted(self.times_s, end_s))
        steps, usual = np.diff(self.times_s[first : last + 1]), self.interval_s
        if steps.max() > _LARGEST_GAP * usual:
            at = first + int(steps.argmax())
            raise UserError(
                f"{self.name}: a gap of {steps.max():.3g} s after {_time(self.times_s[at])} lies in a window; "
                f"samples come every {usual:.3g} s; meter that window again"
            )
        if last - first < min_samples:
            raise UserError(
                f"{self.name}: {last - first} samples in a window of {end_s - begin_s:.3g} s; "
                "sample faster or make the window longer (metering.min_duration_s)"
            )
        inside = self.times_s[(self.times_s > begin_s) & (self.times_s < end_s)]
        times = np.array([begin_s, *inside, end_s])
        energy_j = float(np.trapezoid(np.interp(times, self.times_s, self.watts), times))
        resolution_j = energy_j / (end_s - begin_s) * usual
        return Measurement(
            "whole",
            energy_j,
            "measured",
            WATTMETER,
            f"{self.name}, every {usual:.3g} s",
            reading_uncertainty_j(resolution_j),
            end_s - begin_s,
        )

    def covers(self, begin_s: float, end_s: float) -> bool:
        """Whether the log begins before a window and ends after it."""
        return bool(self.times_s[0] <= begin_s and end_s <= self.times_s[-1])

    def _not_covered(self, begin_s: float, end_s: float) -> str:
        text = (
            f"{self.name}: covers {_time(self.times_s[0])} to {_time(self.times_s[-1])}, "
            f"the window is {_time(begin_s)} to {_time(end_s)}"
        )
        for quarters in sorted(range(-56, 57), key=abs):
            shift = 900 * quarters
            if quarters and self.times_s[0] <= begin_s + shift and end_s + shift <= self.times_s[-1]:
                return f"{text}; a time zone of {quarters / 4:+g} h would explain it: write times with their offset"
        return f"{text}; give the log of that time"


def _columns(path: Path, header: list[str]) -> tuple[str, str, float]:
    plain = {(name or "").strip().lower().replace("[", "").replace("]", "").replace(" ", "_"): name for name in header}
    time_column = next((plain[t] for t in _TIMES if t in plain), None)
    unit = next((u for u in _UNITS if u in plain), None)
    if time_column is None:
        raise UserError(f"{path}: no column of times among {', '.join(plain)}; name it 'time'")
    if unit is None:
        raise UserError(
            f"{path}: no column of watts among {', '.join(plain)}; name it 'power_w' (or power_mw, power_kw)"
        )
    return time_column, plain[unit], _UNITS[unit]


def _seconds(path: Path, line: int, text: str | None, utc_offset_h: float | None) -> float:
    text = (text or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not 0 <= seconds < _LATEST_S:
            raise UserError(f"{path}: line {line}: {text} are no seconds since 1970; write seconds or ISO 8601")
        return seconds
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{path}: line {line}: '{text}' is no time; write ISO 8601 or seconds since 1970") from None
    if moment.tzinfo is None:
        if utc_offset_h is None:
            raise UserError(
                f"{path}: line {line}: '{text}' has no time zone; write 2026-03-01T10:00:00+01:00, or give its offset"
            )
        moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=utc_offset_h)))
    return moment.timestamp()


def _watts(path: Path, line: int, text: str | None, factor: float) -> float:
    try:
        watts = factor * float(text or "")
    except ValueError:
        raise UserError(
            f"{path}: line {line}: '{text or ''}' is no power; write a number, and the unit in the header"
        ) from None
    if not 0 <= watts < _MOST_W:
        raise UserError(f"{path}: line {line}: a power of {watts:g} W is not sensible; check the unit in the header")
    return watts


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
