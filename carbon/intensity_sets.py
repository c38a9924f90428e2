"""Sets of carbon intensities: states, provinces, zones and countries, and published balancing areas.

Most come from the data files of CodeCarbon. It is a dependency of leanrx, so its files are there without a network.
They are read without importing it. The others are in ``presets/regions.yaml``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from carbon.accounting import CarbonIntensity, IntensityBasis
from leanrx_core.errors import UserError
from leanrx_core.records import read_yaml

KG_PER_LB = 0.45359237
"""International pound."""

_DIRECT = IntensityBasis(place="production", kind="average", boundary="direct")
_LIFE_CYCLE = IntensityBasis(place="production", kind="average", boundary="life cycle")
_DELIVERED = IntensityBasis(place="consumption", kind="average", boundary="direct")


def _read(path: str) -> Any:
    spec = importlib.util.find_spec("codecarbon")
    if spec is None or spec.origin is None:
        raise UserError("carbon: the data files of CodeCarbon are missing; run: pip install 'codecarbon>=3.3.2,<4'")
    return json.loads((Path(spec.origin).parent / "data" / "private_infra" / path).read_text())


def _states() -> Iterator[CarbonIntensity]:
    data = _read("2023/usa_emissions.json")
    source, year = data["_source"]["name"], data["_source"]["year"]
    for place, entry in data.items():
        if place.startswith("_"):
            continue
        code = "US" if entry["regionCode"] == "usa" else f"US-{entry['regionCode']}"
        g_per_kwh = entry["emissions"] * KG_PER_LB  # lb/MWh -> g/kWh
        yield CarbonIntensity(
            name=f"{code}-{year}", place=place, year=year, g_per_kwh=g_per_kwh, source=source, basis=_DIRECT
        )


def _provinces() -> Iterator[CarbonIntensity]:
    data = _read("2023/china_provincial_emissions.json")
    source = "Ministry of Ecology and Environment of China, announcement 47 of 2025; CO2 only"
    for code, entry in data["data"].items():
        yield _entry(code, entry, source, _DELIVERED)


def _zones() -> Iterator[CarbonIntensity]:
    source = "CodeCarbon from ENTSO-E's generation per type in the year, times life-cycle factors per source"
    for code, entry in _read("nordic_emissions.json")["data"].items():
        yield _entry(code, entry, source, _LIFE_CYCLE)


def _entry(code: str, entry: dict[str, Any], source: str, basis: IntensityBasis) -> CarbonIntensity:
    return CarbonIntensity(
        name=f"{code}-{entry['year']}",
        place=entry["description"],
        year=entry["year"],
        g_per_kwh=entry["emission_factor"],
        source=source,
        basis=basis,
    )


def _countries() -> Iterator[CarbonIntensity]:
    source = "Our World in Data from Ember and Energy Institute, as shipped with CodeCarbon"
    for code, entry in _read("global_energy_mix.json").items():
        if entry["carbon_intensity"] == 0:  # rounded away: no plant emits nothing over its life cycle
            continue
        yield CarbonIntensity(
            name=f"{code}-{entry['year']}",
            place=entry["country_name"],
            year=entry["year"],
            g_per_kwh=entry["carbon_intensity"],
            source=source,
            basis=_LIFE_CYCLE,
        )


def _preset(name: str) -> Iterator[CarbonIntensity]:
    path = resources.files("carbon") / "presets" / "regions.yaml"
    preset = read_yaml(str(path))[name]
    shared = {key: preset.get(key) for key in ("source", "year", "basis")}
    year = "" if shared["year"] is None else f"-{shared['year']}"
    for code, entry in preset["places"].items():
        yield CarbonIntensity.parse({"name": f"{code}{year}", **entry, **shared}, "regions.yaml")


INTENSITY_SETS: dict[str, Callable[[], Iterator[CarbonIntensity]]] = {
    "egrid2023-states": _states,
    "china2023-provinces": _provinces,
    "nordic2025-zones": _zones,
    "owid-countries": _countries,
    "pnas2016-10": partial(_preset, "pnas2016-10"),
    "tableI-ladder": partial(_preset, "tableI-ladder"),
}
"""Names of the sets, and what reads them."""


@cache
def intensity_set(name: str) -> dict[str, CarbonIntensity]:
    """Read a set of carbon intensities.

    Args:
        name: a key of :data:`INTENSITY_SETS`.

    Returns:
        the records by name, such as ``US-VT-2023``.

    Raises:
        UserError: if there is no such set.

    Example:
        >>> states = intensity_set("egrid2023-states")
        >>> len(states), round(states["US-VT-2023"].g_per_kwh, 1)
        (52, 23.7)
    """
    if name not in INTENSITY_SETS:
        raise UserError(f"carbon: no set of intensities '{name}'; choose from {', '.join(INTENSITY_SETS)}")
    return {record.name: record for record in INTENSITY_SETS[name]()}
