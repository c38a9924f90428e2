"""Read a network of edge sites from a YAML file, with named intensities, daily traffic, and profiles from CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Tag

from carbon.accounting import CarbonIntensity, IntensityBasis, carbon_intensity
from carbon.deta.edge_network import EdgeNetwork, NetworkLimits, Profile, SiteHardware, profile_form
from carbon.deta.solar import SolarPanel
from carbon.intensity_series import IntensitySeries
from leanrx_core.errors import UserError
from leanrx_core.records import Record

_HOURS = 24.0
MAX_SLOTS = 100_000
_COLUMNS = ("g_per_kwh", "batches", "harvest_kwh")


class DailyTraffic(Record):
    """Batches that follow a cosine over the day: ``mean + amplitude cos(2 pi (hour - peak_hour) / 24)``.

    Attributes:
        mean_batches: mean per slot.
        lowest_over_highest: batches at the lowest hour over those at the peak.
        peak_hour: of the day, local time.

    Example:
        >>> traffic = DailyTraffic(mean_batches=10, lowest_over_highest=0.25, peak_hour=21)
        >>> [round(value, 6) for value in traffic.batches(slots=4, slot_s=6 * 3600)]
        [10.0, 4.0, 10.0, 16.0]
    """

    mean_batches: float = Field(ge=0)
    lowest_over_highest: float = Field(0.25, ge=0, le=1)
    peak_hour: float = Field(20.0, ge=0, lt=_HOURS)

    def batches(self, slots: int, slot_s: float, begin_hour: float = 0.0) -> tuple[float, ...]:
        """Batches of each slot: those of the middle of the slot. The first slot begins at ``begin_hour``."""
        ratio = self.lowest_over_highest
        amplitude = self.mean_batches * (1 - ratio) / (1 + ratio)
        hours = (begin_hour + (slot + 0.5) * slot_s / 3600 for slot in range(slots))
        angles = (2 * math.pi * (hour - self.peak_hour) / _HOURS for hour in hours)
        return tuple(max(0.0, self.mean_batches + amplitude * math.cos(angle)) for angle in angles)


Amount = Annotated[float, Field(ge=0), Tag("number")]
SlotValues = Annotated[Profile, Tag("profile")]


class SiteEntry(SiteHardware):
    """A site as a file describes it.

    Attributes:
        intensity: a name such as ``US-VT-2023``, a number in g/kWh, one number per slot, or a CSV file of a series.
        batches: a number for all slots, one per slot, or a daily traffic.
        harvest_kwh: a number for all slots, one per slot, or a solar panel.
    """

    intensity: (
        Annotated[
            Annotated[str, Tag("name")] | Amount | SlotValues,
            profile_form("a name such as US-VT-2023, a number, one number per slot, or a CSV file"),
        ]
        | None
    ) = None
    batches: (
        Annotated[
            Amount | SlotValues | Annotated[DailyTraffic, Tag("record")],
            profile_form("a number, one per slot, or a daily traffic such as {mean_batches: 100}"),
        ]
        | None
    ) = None
    harvest_kwh: (
        Annotated[
            Amount | SlotValues | Annotated[SolarPanel, Tag("record")],
            profile_form("a number, one per slot, or a panel such as {latitude: 44, longitude: -73, peak_kw: 2}"),
        ]
        | None
    ) = None


class NetworkFile(NetworkLimits):
    """A network as a file describes it.

    Attributes:
        slots: number of slots.
        begin: of the first slot, ISO 8601 with the offset from UTC. Solar panels need it. Traffic begins at its hour,
            or at midnight where it is not given.
        basis: of intensities that are given as numbers.
        profiles: CSV file with the columns ``slot``, ``site``, and any of ``g_per_kwh``, ``batches``, ``harvest_kwh``.
            Slots begin at 1. A column stands for the same field of every site.
        network_intensity: name of the carbon intensity of transport.
        sites: all of them.
    """

    slots: int = Field(ge=1, le=MAX_SLOTS)
    begin: datetime | None = None
    basis: IntensityBasis | None = None
    profiles: str | None = None
    network_intensity: str | None = None
    sites: tuple[SiteEntry, ...] = Field(min_length=1)


def read_network(path: str | Path) -> EdgeNetwork:
    """Read a network from a YAML file. Paths in it are relative to its folder.

    Raises:
        UserError: if a file is missing or wrong, a profile is missing or of another length, or two bases meet.
    """
    file, folder = NetworkFile.load(path), Path(path).parent
    names = [site.name for site in file.sites]
    columns = {} if file.profiles is None else read_profiles(folder / file.profiles, names, file.slots)
    sites = [_site(file, entry, columns.get(entry.name, {}), folder) for entry in file.sites]
    values = file.model_dump(include=set(NetworkLimits.model_fields))
    if file.network_intensity is not None:
        if file.network_g_per_kwh is not None:
            raise UserError(f"{path}: network_intensity and network_g_per_kwh are both given; give one of them")
        transport = carbon_intensity(file.network_intensity)
        bases = {str(site["basis"] or "not stated") for site in sites} | {str(transport.basis or "not stated")}
        if len(bases) > 1:
            raise UserError(f"{path}: network_intensity and sites have two bases: {' and '.join(sorted(bases))}")
        values["network_g_per_kwh"] = transport.g_per_kwh
    return EdgeNetwork.model_validate({"sites": sites, **values})


def _site(file: NetworkFile, entry: SiteEntry, columns: Mapping[str, Profile], folder: Path) -> dict[str, Any]:
    for key, column in (("intensity", "g_per_kwh"), ("batches", "batches"), ("harvest_kwh", "harvest_kwh")):
        if getattr(entry, key) is not None and column in columns:
            raise UserError(f"site {entry.name}: {key} is given here and in {file.profiles}; give it once")
    record, basis, name = site_intensity(entry.name, entry.intensity, file.basis, file.slot_s, folder)
    batches, harvest = entry.batches, entry.harvest_kwh
    if isinstance(batches, DailyTraffic):
        begin_hour = 0.0 if file.begin is None else file.begin.hour + file.begin.minute / 60
        batches = batches.batches(file.slots, file.slot_s, begin_hour)
    if isinstance(harvest, SolarPanel):
        harvest = solar_harvest(entry.name, harvest, file.begin, file.slots, file.slot_s)
    profiles = {"g_per_kwh": record, "batches": batches, "harvest_kwh": harvest}
    values = {key: columns.get(key) or slot_profile(value, file.slots) for key, value in profiles.items()}
    values["harvest_kwh"] = values["harvest_kwh"] or (0.0,) * file.slots
    for key, field in (("g_per_kwh", "intensity"), ("batches", "batches")):
        if values[key] is None:
            raise UserError(f"site {entry.name}: {field} is missing; add it, or a column {key} in a file of profiles")
    for key, profile in values.items():
        if profile is not None and len(profile) != file.slots:
            raise UserError(f"site {entry.name}: {key} has {len(profile)} values; give {file.slots}, one a slot")
    hardware = entry.model_dump(include=set(SiteHardware.model_fields))
    return {**hardware, **values, "basis": basis, "intensity": name}


def slot_profile(value: float | Profile | None, slots: int) -> Profile | None:
    """One value for every slot, if it is one value."""
    return (value,) * slots if isinstance(value, float) else value


def site_intensity(
    site: str, given: str | float | Profile | None, basis: IntensityBasis | None, slot_s: float, folder: Path
) -> tuple[float | Profile | None, IntensityBasis | None, str]:
    """Grams per kWh of a site, their basis and their name.

    Args:
        site: its name.
        given: name of an intensity, number, one number per slot, or CSV file of a series.
        basis: of numbers.
        slot_s: length of a slot.
        folder: of CSV files.
    """
    if not isinstance(given, str):
        return given, basis, "own value"
    if not given.endswith(".csv"):
        record: CarbonIntensity = carbon_intensity(given)
        return record.g_per_kwh, record.basis, record.name
    series = IntensitySeries.read_csv(folder / given, basis)
    if series.step_s != slot_s:
        raise UserError(f"site {site}: {given} has steps of {series.step_s:g} s; slot_s is {slot_s:g}")
    return series.g_per_kwh, series.basis, series.name


def solar_harvest(site: str, panel: SolarPanel, begin: datetime | None, slots: int, slot_s: float) -> Profile:
    """Energy of a panel by slot.

    Raises:
        UserError: if the time of the first slot is not known.
    """
    if begin is None or begin.tzinfo is None:
        raise UserError(
            f"site {site}: a solar panel needs the time of the first slot with its offset from UTC; "
            "add begin, such as 2026-06-21T00:00-05:00"
        )
    return panel.harvest_kwh(begin, slots, slot_s)


def read_profiles(path: str | Path, sites: list[str], slots: int) -> dict[str, dict[str, Profile]]:
    """Read the profiles of all sites from a CSV file.

    Args:
        path: of the file. It has the columns ``slot`` and ``site``, and any of ``g_per_kwh``, ``batches`` and
            ``harvest_kwh``. Slots begin at 1.
        sites: names of the sites. Each needs a row for every slot.
        slots: number of slots.

    Returns:
        profiles by site and column.

    Raises:
        UserError: if the file is missing, a row is missing, twice or wrong, or a value is negative.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, fields = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: cannot be read; give a CSV file with the columns slot,site") from None
    columns = [column for column in _COLUMNS if column in fields]
    unknown = set(fields) - {"slot", "site", *_COLUMNS}
    if not {"slot", "site"} <= set(fields) or not columns or unknown:
        raise UserError(f"{path}: columns {', '.join(fields)[:80]}; give slot, site, and any of {', '.join(_COLUMNS)}")
    values: dict[tuple[str, int], list[float]] = {}
    for number, row in enumerate(rows, start=2):
        place = f"{path}: line {number}"
        key = (row["site"], _slot(row["slot"], slots, place))
        if row["site"] not in sites:
            raise UserError(f"{place}: site '{row['site']}' is not in the network; choose from {', '.join(sites)}")
        if key in values:
            raise UserError(f"{place}: site {key[0]}, slot {key[1]} is there twice; write it once")
        values[key] = [_number(row[column], f"{place}: {column}") for column in columns]
    for site in sites:
        missing = next((slot for slot in range(1, slots + 1) if (site, slot) not in values), None)
        if missing is not None:
            raise UserError(f"{path}: site {site}, slot {missing} is missing; add its row")
    by_slot = {site: [values[site, slot] for slot in range(1, slots + 1)] for site in sites}
    return {site: dict(zip(columns, zip(*rows, strict=True), strict=True)) for site, rows in by_slot.items()}


def _slot(text: str | None, slots: int, place: str) -> int:
    if text is None or not text.strip().isdecimal() or not 1 <= int(text) <= slots:
        raise UserError(f"{place}: slot '{str(text)[:20]}' is not allowed; give a whole number from 1 to {slots}")
    return int(text)


def _number(text: str | None, place: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{place}: '{str(text)[:20]}' is not allowed; give a number of 0 or more")
    return value
