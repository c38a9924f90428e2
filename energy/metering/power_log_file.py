"""Files of wattmeters: separators, decimal signs, columns, units and times.

::

    time,power_w                                  a header names each quantity and its unit
    2026-03-01T10:00:00.0+01:00,41.2

    Datum;Zeit;Spannung [V];Strom [A]             semicolons, decimal commas, direct voltage and current
    01.03.2026;10:00:00;5,062;0,115

    timestamp sample_in_packet voltage_V current_A    spaces, seconds since 1970

A name is a quantity and a unit, such as ``Power (W)``, ``power_kw`` or ``Strom [mA]``. A name that is no quantity of
power, voltage, current, power factor or time is left alone: ``max_act_power`` is not the power. Where the file has no
power, it is voltage times current. On mains, this product is the apparent power, so a power factor is needed.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from leanrx_core.errors import UserError

Quantity = Literal["power", "voltage", "current", "power factor", "interval energy", "time", "date"]

_NAMES: dict[str, Quantity] = {
    **dict.fromkeys(("power", "p", "active power", "real power", "leistung", "wirkleistung"), "power"),
    **dict.fromkeys(("voltage", "u", "v", "vbus", "bus voltage", "spannung"), "voltage"),
    **dict.fromkeys(("current", "i", "ibus", "bus current", "intensity", "strom"), "current"),
    **dict.fromkeys(("power factor", "powerfactor", "pf", "cos phi", "cosphi", "leistungsfaktor"), "power factor"),
    **dict.fromkeys(("time", "timestamp", "datetime", "date time", "unixtime", "unix time", "epoch", "zeit"), "time"),
    **dict.fromkeys(("zeitstempel", "uhrzeit"), "time"),
    **dict.fromkeys(("date", "datum"), "date"),
}
"""Quantities by the words of a column's name, lower case, without its unit."""

_UNITS: dict[str, tuple[Quantity, float]] = {
    "w": ("power", 1.0),
    "watt": ("power", 1.0),
    "watts": ("power", 1.0),
    "mw": ("power", 1e-3),
    "kw": ("power", 1e3),
    "v": ("voltage", 1.0),
    "volt": ("voltage", 1.0),
    "volts": ("voltage", 1.0),
    "mv": ("voltage", 1e-3),
    "kv": ("voltage", 1e3),
    "a": ("current", 1.0),
    "amp": ("current", 1.0),
    "amps": ("current", 1.0),
    "ampere": ("current", 1.0),
    "ma": ("current", 1e-3),
    "s": ("time", 1.0),
    "sec": ("time", 1.0),
    "ms": ("time", 1e-3),
}
"""Quantity and factor to its SI unit, by the unit of a column's name."""

_WITHOUT_UNIT: dict[str, tuple[Quantity, float]] = {
    "apower": ("power", 1.0),
    "act power": ("power", 1.0),
    "total act power": ("power", 1.0),
    "total act energy": ("interval energy", 3600.0),
    "energy power": ("power", 1.0),
    "energy voltage": ("voltage", 1.0),
    "energy current": ("current", 1.0),
    "energy factor": ("power factor", 1.0),
}
"""Names whose unit an API defines: watts, and watt-hours of the interval that begins at the time, of Shelly's meters;
``ENERGY.Power`` and its neighbours of Tasmota's sensor messages."""

_SEPARATORS = (";", "\t", ",", " ")
_HEADER_LINES = 50
"""Lines in which the header is looked for; some meters write their name and settings before it."""

_DIRECT_V = 60.0
"""Direct voltages of computers' supplies are lower; more is mains, where voltage times current is apparent power."""

_UNIT_ERROR = 30.0
"""Power and voltage times current differ by less than this, whatever the power factor and the resolution."""

_OVERLAP_S = 0.1
"""Packets of fast USB meters overlap by some hundredths of a second; an earlier time by more is a changed clock."""

_LATEST_S = 1e11  # since 1970; milliseconds since then are more
_EARLIEST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MOST_W = 30e3  # of one machine; a laptop's milliwatts, taken for watts, are more


class Column(NamedTuple):
    """A column of a log: its place, its name, and the factor to the SI unit; none if the name has no unit."""

    place: int
    name: str
    factor: float | None


@dataclass(frozen=True)
class LogHeader:
    """The header of a log.

    Attributes:
        line: its number in the file, from 1.
        separator: of fields.
        names: all names.
        columns: by quantity.
    """

    line: int
    separator: str
    names: tuple[str, ...]
    columns: dict[Quantity, list[Column]] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: int, separator: str, text: str) -> LogHeader:
        """The columns of a line, whether it is a header or not."""
        names = tuple(name.strip() for name in _fields(text.lstrip("# "), separator))
        header = cls(line, separator, names)
        for place, name in enumerate(names):
            quantity_and_factor = _quantity(name)
            if quantity_and_factor is not None:
                quantity, factor = quantity_and_factor
                header.columns.setdefault(quantity, []).append(Column(place, name, factor))
        return header

    @property
    def is_header(self) -> bool:
        """Whether it has times, and power or what gives it."""
        has = self.columns.keys()
        power = "power" in has or "interval energy" in has or {"voltage", "current"} <= has
        return bool({"time", "date"} & has) and power


def read_power_log(path: Path, utc_offset_h: float | None = None) -> tuple[np.ndarray, np.ndarray, str]:
    """Read the samples of a log.

    Args:
        path: a text file with a header.
        utc_offset_h: of times that carry no offset, hours east of Greenwich.

    Returns:
        times in seconds since 1970, increasing; watts at those times; and how the power comes about.

    Raises:
        UserError: if the file, its columns, units, times or values cannot be understood.
    """
    lines = _lines(path)
    header = _header(path, lines)
    rows = list(_rows(path, lines, header))
    if len(rows) < 2:
        raise UserError(f"{path}: fewer than two samples; give a CSV file with columns time and power_w")
    numbers = _Numbers(path, header.separator)
    times_s = _times(path, header, rows, numbers, utc_offset_h)
    watts, description = _power(path, header, rows, numbers, times_s)
    if "interval energy" in header.columns and "power" not in header.columns:
        times_s = times_s + 0.5 * _interval_s(times_s)
    implausible = np.flatnonzero(~((watts >= 0) & (watts < _MOST_W)))
    if len(implausible):
        line, at = rows[implausible[0]][0], watts[implausible[0]]
        raise UserError(f"{path}: line {line}: a power of {at:g} W is not sensible; check the unit in the header")
    return *_in_time(path, times_s, watts, [line for line, _ in rows]), description


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            text = data.decode("utf-16")
        else:
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:  # of a spreadsheet on Windows: digits and separators are the same
                text = data.decode("cp1252")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a CSV file with columns time and power_w") from None
    if "\0" in text:
        raise UserError(f"{path}: is no text; export the log as CSV with columns time and power_w")
    return text.splitlines()


def _header(path: Path, lines: Sequence[str]) -> LogHeader:
    first: LogHeader | None = None
    for number, line in enumerate(lines[:_HEADER_LINES], 1):
        if not line.strip() or line.lower().startswith("sep="):
            continue
        candidates = [LogHeader.parse(number, s, line) for s in _SEPARATORS]
        header = next((h for h in candidates if h.is_header), None)
        if header is not None:
            return header
        first = first or max(candidates[:-1], key=lambda h: len(h.names))
    if first is None:
        raise UserError(f"{path}: fewer than two samples; give a CSV file with columns time and power_w")
    names = ", ".join(first.names[:12])
    if not {"time", "date"} & first.columns.keys():
        raise UserError(f"{path}: no column of times among {names}; name it 'time'")
    raise UserError(
        f"{path}: no column of watts among {names}; name it 'power_w' (or power_mw, power_kw), "
        "or give voltage_v and current_a"
    )


def _quantity(name: str) -> tuple[Quantity, float | None] | None:
    """Quantity and factor of a column's name.

    >>> _quantity("Power [kW]"), _quantity("Strom (mA)"), _quantity("Power"), _quantity("max_act_power")
    (('power', 1000.0), ('current', 0.001), ('power', None), None)
    """
    words = re.sub(r"[\[\](){}/_.:-]+", " ", name.strip().lower()).split()
    text = " ".join(words)
    if text in _WITHOUT_UNIT:
        return _WITHOUT_UNIT[text]
    if words and words[-1] in _UNITS:
        quantity, factor = _UNITS[words[-1]]
        prefix = " ".join(words[:-1])
        if _NAMES.get(prefix) == quantity or (not prefix and quantity != "time"):
            return quantity, factor
        return None
    quantity_alone = _NAMES.get(text)
    if quantity_alone is None:
        return None
    return quantity_alone, 1.0 if quantity_alone in ("time", "date", "power factor") else None


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])


def _rows(path: Path, lines: Sequence[str], header: LogHeader) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line after the header; a last separator may end a line."""
    width = len(header.names)
    for number, line in enumerate(lines[header.line :], header.line + 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = _fields(line, header.separator)
        if any(f.strip() for f in fields[width:]):
            remedy = (
                "write decimal points, or separate columns by semicolons"
                if header.separator == ","
                else "write as many names as values"
            )
            raise UserError(f"{path}: line {number}: {len(fields)} values for {width} names in the header; {remedy}")
        yield number, [*fields[:width], *[""] * (width - len(fields))]


class _Numbers:
    """Numbers of a file, with one decimal sign: a comma only where it does not separate columns."""

    def __init__(self, path: Path, separator: str) -> None:
        self._path, self._comma_allowed = path, separator != ","

    def column(self, rows: Sequence[tuple[int, list[str]]], column: Column, what: str) -> np.ndarray:
        """The values of a column in the unit of its name."""
        texts = [fields[column.place].strip() for _, fields in rows]
        comma = self._comma_allowed and any("," in text for text in texts)
        values = np.empty(len(texts))
        for index, text in enumerate(texts):
            values[index] = self._number(text, comma, rows[index][0], what)
        return values

    def _number(self, text: str, comma: bool, line: int, what: str) -> float:
        if comma and "." in text:
            raise UserError(
                f"{self._path}: line {line}: '{text}' has a point where others have decimal commas; "
                "write numbers without a sign for thousands"
            )
        try:
            if "_" in text:
                raise ValueError
            return float(text.replace(",", ".") if comma else text)
        except ValueError:
            remedy = "a decimal point" if "," in text else "a number, and the unit in the header"
            raise UserError(f"{self._path}: line {line}: '{text}' is no {what}; write {remedy}") from None


def _power(
    path: Path,
    header: LogHeader,
    rows: Sequence[tuple[int, list[str]]],
    numbers: _Numbers,
    times_s: np.ndarray,
) -> tuple[np.ndarray, str]:
    """Watts of every row, and how they come about."""

    def values(quantity: Quantity) -> np.ndarray:
        column = _only(path, header, quantity)
        if column.factor is None:
            raise UserError(f"{path}: column '{column.name}' names no unit; rename it {_EXAMPLES[quantity]}")
        return column.factor * numbers.column(rows, column, quantity)

    has = header.columns.keys()
    has_product = {"voltage", "current"} <= has
    if "power" in has:
        watts = values("power")
        if has_product and all(c.factor for q in ("voltage", "current") for c in header.columns[q]):
            _check_unit(path, watts, values("voltage") * values("current"))
        return watts, ""
    if "interval energy" in has:
        interval_s = _interval_s(times_s)
        return values("interval energy") / interval_s, f"mean power of {interval_s:g} s"
    volts, amperes = values("voltage"), values("current")
    if "power factor" in has:
        factor = values("power factor")
        if not ((factor >= 0) & (factor <= 1)).all():
            name = _only(path, header, "power factor").name
            raise UserError(f"{path}: power factors must be from 0 to 1; check the column '{name}'")
        return volts * amperes * factor, "voltage x current x power factor"
    if np.nanmax(np.abs(volts)) > _DIRECT_V:
        raise UserError(
            f"{path}: voltages up to {np.nanmax(np.abs(volts)):g} V are mains, where voltage times current is the "
            "apparent power; log power_w or the power factor"
        )
    return volts * amperes, "voltage x current"


_EXAMPLES: dict[Quantity, str] = {
    "power": "power_w, power_mw or power_kw",
    "voltage": "voltage_v or voltage_mv",
    "current": "current_a or current_ma",
}


def _check_unit(path: Path, watts: np.ndarray, volt_amperes: np.ndarray) -> None:
    """Power and voltage times current tell a unit that is wrong by a thousand."""
    positive = (watts > 0) & (volt_amperes > 0)
    if positive.any():
        ratio = float(np.median(watts[positive] / volt_amperes[positive]))
        if not 1 / _UNIT_ERROR < ratio < _UNIT_ERROR:
            raise UserError(f"{path}: power is {ratio:.3g} times voltage times current; check the units in the header")


def _only(path: Path, header: LogHeader, quantity: Quantity) -> Column:
    columns = header.columns[quantity]
    if len(columns) > 1:
        raise UserError(f"{path}: several columns of {quantity}: {', '.join(c.name for c in columns)}; leave one in")
    return columns[0]


def _interval_s(times_s: np.ndarray) -> float:
    return float(np.median(np.diff(times_s)))


def _times(
    path: Path,
    header: LogHeader,
    rows: Sequence[tuple[int, list[str]]],
    numbers: _Numbers,
    utc_offset_h: float | None,
) -> np.ndarray:
    """Seconds since 1970 of every row: of one column, or of a date and a time of day."""
    columns = [_only(path, header, quantity) for quantity in ("date", "time") if quantity in header.columns]
    texts = [" ".join(fields[c.place].strip() for c in columns) for _, fields in rows]
    if not _NUMBER.fullmatch(texts[0]):
        return np.array([_seconds(path, rows[i][0], text, utc_offset_h) for i, text in enumerate(texts)])
    seconds = (columns[0].factor or 1.0) * numbers.column(rows, columns[0], "time")
    wrong = np.flatnonzero(~((seconds >= 0) & (seconds < _LATEST_S)))
    if len(wrong):
        line, text = rows[wrong[0]][0], texts[wrong[0]]
        raise UserError(
            f"{path}: line {line}: {text} are no seconds since 1970; write seconds or ISO 8601, or name the column "
            "time_ms"
        )
    return seconds


_NUMBER = re.compile(r"[-+]?\d+([.,]\d*)?(e[-+]?\d+)?|nan|inf", re.IGNORECASE)


def _seconds(path: Path, line: int, text: str, utc_offset_h: float | None) -> float:
    """Seconds since 1970 of an ISO 8601 time, also with a space before its offset, or of day.month.year."""
    iso = re.sub(r"^(\d{1,2})\.(\d{1,2})\.(\d{4})", lambda m: f"{m[3]}-{int(m[2]):02d}-{int(m[1]):02d}", text)
    iso = re.sub(r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3", iso)
    iso = re.sub(r"\s+(?=[-+]\d{2}:?\d{2}$|Z$)", "", iso.removesuffix(" UTC") + "Z" * iso.endswith(" UTC"))
    try:
        moment = datetime.datetime.fromisoformat(iso)
    except ValueError:
        reason = "has day and month in an unknown order" if re.match(r"\d{1,2}/\d{1,2}/\d{2,4}", text) else "is no time"
        raise UserError(
            f"{path}: line {line}: '{text[:40]}' {reason}; write ISO 8601 (2026-03-01T10:00:00+01:00) or seconds "
            "since 1970"
        ) from None
    if moment.tzinfo is None:
        if utc_offset_h is None:
            raise UserError(
                f"{path}: line {line}: '{text[:40]}' has no time zone; write 2026-03-01T10:00:00+01:00, or give its "
                "offset with --utc-offset"
            )
        moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=utc_offset_h)))
    if moment <= _EARLIEST:
        raise UserError(f"{path}: line {line}: '{text[:40]}' is before 1970; check the clock of the meter")
    return moment.timestamp()


def _in_time(
    path: Path, times_s: np.ndarray, watts: np.ndarray, line_numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples by increasing time. The packets of fast meters overlap; samples of one time are averaged.

    Raises:
        UserError: if time goes back by more than packets overlap, or stands still.
    """
    steps = np.diff(times_s)
    reversals = np.flatnonzero((steps < -_OVERLAP_S) | ((steps <= 0) & (np.max(steps) <= 0)))
    if len(reversals):
        line = line_numbers[int(reversals[0]) + 1]
        raise UserError(f"{path}: time does not increase at line {line}; sort the log, or mend the clock's change")
    increasing_s, places = np.unique(times_s, return_inverse=True)
    return increasing_s, np.bincount(places, watts) / np.bincount(places)
