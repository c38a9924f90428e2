"""Grams of CO2 equivalent from joules, offline: named and dated intensities, PUE, and the SCI.

The Software Carbon Intensity (ISO/IEC 21031:2024) is ``SCI = ((E x I) + M) per R``: operational energy E times the
location's intensity I, and the share M of the hardware's embodied emissions, per functional unit R. Here R is a slot, a
decoded bit or a correct transport block.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from pydantic import Field

from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml

JOULES_PER_KWH = 3.6e6
FUNCTIONAL_UNITS = ("slot", "decoded bit", "correct transport block")


class Intensity(Record):
    """Carbon intensity of a place in a year.

    Attributes:
        name: place and year.
        place, year: of the electricity.
        g_per_kwh: gCO2e per kWh.
        source: with the date of its release.
    """

    name: str
    place: str
    year: int = Field(ge=1990)
    g_per_kwh: float = Field(ge=0)
    source: str


@cache
def intensities() -> dict[str, Intensity]:
    """The named sets."""
    records = [
        Intensity.parse(e, "intensities.yaml") for e in read_yaml(str(resources.files("carbon") / "intensities.yaml"))
    ]
    return {r.name: r for r in records}


def intensity(name: str) -> Intensity:
    """A named set.

    Raises:
        UserError: if there is none of that name; nothing is assumed in its place.
    """
    known = intensities()
    if name not in known:
        raise UserError(f"carbon: no intensity '{name}'; there are: {', '.join(known)}")
    return known[name]


class Site(Record):
    """Where and on what software runs.

    Attributes:
        intensity: of its electricity.
        pue: power usage effectiveness of the building, total over IT energy.
        embodied_kg: gCO2e of making the hardware, in kg; 0 leaves M out, and the result says so.
        lifetime_s: over which the hardware is written off.
        share: of the hardware that is reserved for this software.
    """

    intensity: Intensity
    pue: float = Field(1.0, ge=1)
    embodied_kg: float = Field(0.0, ge=0)
    lifetime_s: float = Field(4 * 365.25 * 86400, gt=0)
    share: float = Field(1.0, gt=0, le=1)

    def grams(self, energy_j: float) -> float:
        """Operational emissions, gCO2e, of energy at the plug of the machine."""
        return energy_j / JOULES_PER_KWH * self.pue * self.intensity.g_per_kwh

    def embodied_grams(self, duration_s: float) -> float:
        """The part of the embodied emissions that falls on a duration, gCO2e."""
        return 1e3 * self.embodied_kg * self.share * duration_s / self.lifetime_s


class Sci(Record):
    """``((E x I) + M) per R``.

    Attributes:
        operational_g, embodied_g: of all units.
        units: how many functional units.
        unit: which.
        kind: of the joules: measured, modelled or assumed.
        words: what entered.
    """

    operational_g: float
    embodied_g: float
    units: float = Field(gt=0)
    unit: Literal["slot", "decoded bit", "correct transport block"]
    kind: str
    words: str

    @property
    def g_per_unit(self) -> float:
        return (self.operational_g + self.embodied_g) / self.units

    def line(self) -> str:
        """One line for tables and consoles."""
        return f"SCI {self.g_per_unit:.3g} gCO2e per {self.unit} ({self.kind} energy; {self.words})"


def sci(
    site: Site, energy_j: float, duration_s: float, units: float, unit: str = "slot", kind: str = "modelled"
) -> Sci:
    """The SCI of some work.

    Args:
        energy_j, duration_s: of the work.
        units: functional units that it delivered.
        unit: one of :data:`FUNCTIONAL_UNITS`.
        kind: of the joules.

    Raises:
        UserError: if the unit is unknown, or none was delivered.
    """
    if unit not in FUNCTIONAL_UNITS:
        raise UserError(f"carbon: functional unit '{unit}' is not known; units: {', '.join(FUNCTIONAL_UNITS)}")
    if not units > 0:
        raise UserError(f"carbon: {units:g} {unit}s were delivered; emissions per {unit} need at least one")
    where = site.intensity
    embodied = f"{site.embodied_kg:g} kg embodied" if site.embodied_kg else "embodied emissions left out"
    return Sci(
        operational_g=site.grams(energy_j),
        embodied_g=site.embodied_grams(duration_s),
        units=units,
        unit=unit,
        kind=kind,
        words=f"{where.name} {where.g_per_kwh:g} g/kWh, PUE {site.pue:g}, {embodied}",
    )
