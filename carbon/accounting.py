"""Grams of CO2 equivalent (gCO2e) from joules: carbon intensity of electricity, PUE, and the SCI.

The Software Carbon Intensity (SCI, ISO/IEC 21031:2024) is ``SCI = ((E x I) + M) per R``. E is the operational energy
and I the carbon intensity of the electricity. M is the share of the hardware's embodied emissions. R is the functional
unit: here a slot, a decoded bit or a correct transport block.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Literal, get_args

from pydantic import Field

from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml
from leanrx_core.units import JOULES_PER_KWH, SECONDS_PER_YEAR

FunctionalUnit = Literal["slot", "decoded bit", "correct transport block"]
FUNCTIONAL_UNITS: tuple[str, ...] = get_args(FunctionalUnit)
"""What emissions can be stated per: the R of the SCI."""


class IntensityBasis(Record):
    """What a carbon intensity counts. Intensities of different bases may not be added.

    Attributes:
        place: whether the electricity is that generated in the place, or that consumed there, imports included.
        kind: ``average`` of all plants, or ``marginal``: the plants that follow the load.
        boundary: ``direct`` emissions of the plants, or their ``life cycle`` with fuel and construction.

    Example:
        >>> str(IntensityBasis(place="production", kind="average", boundary="direct"))
        'production, average, direct'
    """

    place: Literal["production", "consumption"]
    kind: Literal["average", "marginal"]
    boundary: Literal["direct", "life cycle"]

    def __str__(self) -> str:
        return f"{self.place}, {self.kind}, {self.boundary}"


class CarbonIntensity(Record):
    """Carbon intensity of the electricity of one place in one year.

    Attributes:
        name: place and year, for example ``DEU-2023``.
        place: country or region.
        year: year of generation; none for a value that a user gives.
        g_per_kwh: yearly mean, gCO2e per kWh.
        source: who published the value, with the date of the release.
        basis: what the value counts; not given where it is not known.
    """

    name: str
    place: str
    year: int | None = Field(None, ge=1990)
    g_per_kwh: float = Field(ge=0)
    source: str
    basis: IntensityBasis | None = None


@cache
def carbon_intensities() -> dict[str, CarbonIntensity]:
    """Read the carbon intensities that come with leanrx, by name."""
    path = resources.files("carbon") / "intensities.yaml"
    basis = {"place": "production", "kind": "average", "boundary": "life cycle"}
    records = [CarbonIntensity.parse({**entry, "basis": basis}, path.name) for entry in read_yaml(str(path))]
    return {record.name: record for record in records}


def carbon_intensity(name: str) -> CarbonIntensity:
    """Return one carbon intensity. There is no default: a value that is not listed is an error.

    Args:
        name: place and year, for example ``"world-2023"``, or an entry of a set in
            :data:`carbon.intensity_sets.INTENSITY_SETS`, for example ``"US-VT-2023"``.

    Raises:
        UserError: if no carbon intensity has this name.

    Example:
        >>> carbon_intensity("FRA-2023").g_per_kwh, carbon_intensity("US-VT-2023").basis.boundary
        (56.0, 'direct')
    """
    from carbon.intensity_sets import INTENSITY_SETS, intensity_set

    intensities = carbon_intensities()
    if name in intensities:
        return intensities[name]
    for set_name in INTENSITY_SETS:
        if name in intensity_set(set_name):
            return intensity_set(set_name)[name]
    raise UserError(
        f"carbon: no carbon intensity '{name}'; choose from {', '.join(intensities)}, "
        f"or an entry of {', '.join(INTENSITY_SETS)}, such as US-VT-2023"
    )


_PLAUSIBLE_G_PER_KWH = (1.0, 3000.0)
"""Plausible values: hydropower has more, and the worst coal plant less. Kilograms per kWh are below."""


def parse_intensity(text: str) -> CarbonIntensity:
    """The carbon intensity of a name, or one that a user gives in gCO2e per kWh.

    Args:
        text: a name as for :func:`carbon_intensity`, or a number.

    Raises:
        UserError: if it is no name, or not a plausible number.

    Example:
        >>> parse_intensity("230").g_per_kwh, parse_intensity("FRA-2023").g_per_kwh
        (230.0, 56.0)
    """
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text.strip(), re.IGNORECASE):
        return carbon_intensity(text)
    lowest, highest = _PLAUSIBLE_G_PER_KWH
    if not lowest <= float(text) <= highest:
        raise UserError(
            f"carbon: an intensity of {text[:20]} is not plausible; give grams per kWh, {lowest:g} to {highest:g}"
        )
    return CarbonIntensity(name="own value", place="a site", g_per_kwh=float(text), source="given by the user")


class Site(Record):
    """The place where software runs: its electricity, its building and its hardware.

    Attributes:
        intensity: carbon intensity of the electricity.
        pue: power usage effectiveness: energy of the whole building over energy of its computers (ISO/IEC 30134-2).
        embodied_kg: emissions of making the hardware, kgCO2e. With 0, M is left out of the SCI, and the summary
            says so.
        lifetime_s: expected lifespan of the hardware, s.
        resource_share: part of the hardware that is reserved for this software, above 0 and up to 1.

    Example:
        >>> site = Site(intensity=carbon_intensity("world-2023"), pue=1.2)
        >>> round(site.operational_g(energy_j=3.6e6), 1)  # 1 kWh
        577.2
    """

    intensity: CarbonIntensity
    pue: float = Field(1.0, ge=1, le=100)
    embodied_kg: float = Field(0.0, ge=0)
    lifetime_s: float = Field(4 * SECONDS_PER_YEAR, gt=0)
    resource_share: float = Field(1.0, gt=0, le=1)

    def operational_g(self, energy_j: float) -> float:
        """Operational emissions, gCO2e, of the energy in J that the computer draws from its socket."""
        return energy_j / JOULES_PER_KWH * self.pue * self.intensity.g_per_kwh

    def embodied_g(self, duration_s: float) -> float:
        """Embodied emissions, gCO2e, of using the hardware for a duration in s."""
        return 1e3 * self.embodied_kg * self.resource_share * duration_s / self.lifetime_s


class SoftwareCarbonIntensity(Record):
    """Emissions per functional unit: ``SCI = ((E x I) + M) per R``.

    Attributes:
        operational_g: E x I of all units together, gCO2e.
        embodied_g: M of all units together, gCO2e.
        units: number of functional units R.
        unit: the functional unit, one of :data:`FUNCTIONAL_UNITS`.
        provenance: of the energy: measured, modelled or assumed.
        assumptions: carbon intensity, PUE and embodied emissions that entered, in one phrase.
    """

    operational_g: float
    embodied_g: float
    units: float = Field(gt=0)
    unit: FunctionalUnit
    provenance: str
    assumptions: str

    @property
    def g_per_unit(self) -> float:
        """The SCI: emissions per functional unit, gCO2e."""
        return (self.operational_g + self.embodied_g) / self.units

    def summary(self) -> str:
        """Describe the result in one line, for tables and the console."""
        return f"SCI {self.g_per_unit:.3g} gCO2e per {self.unit} ({self.provenance} energy; {self.assumptions})"


def software_carbon_intensity(
    site: Site, energy_j: float, duration_s: float, units: float, unit: str = "slot", provenance: str = "modelled"
) -> SoftwareCarbonIntensity:
    """Compute the Software Carbon Intensity of some work (ISO/IEC 21031:2024).

    Args:
        site: where the work runs.
        energy_j: energy of the work, J, at the socket of the computer.
        duration_s: duration of the work, s. It sets the embodied emissions.
        units: number of functional units that the work delivered.
        unit: the functional unit, one of :data:`FUNCTIONAL_UNITS`.
        provenance: of the energy: measured, modelled or assumed.

    Raises:
        UserError: if the unit is not known, or the work delivered none.

    Example:
        >>> site = Site(intensity=carbon_intensity("world-2023"))
        >>> sci = software_carbon_intensity(site, energy_j=36.0, duration_s=5.0, units=10_000)
        >>> sci.summary()
        'SCI 4.81e-07 gCO2e per slot (modelled energy; world-2023 481 g/kWh, PUE 1, embodied emissions left out)'
    """
    if unit not in FUNCTIONAL_UNITS:
        raise UserError(f"carbon: functional unit '{unit}' is not known; choose from {', '.join(FUNCTIONAL_UNITS)}")
    if not units > 0:
        raise UserError(f"carbon: {units:g} {unit}s were delivered; emissions per {unit} need at least one")
    embodied = "embodied emissions left out"
    if site.embodied_kg:
        embodied = f"{site.embodied_kg:g} kg embodied over {site.lifetime_s / SECONDS_PER_YEAR:.3g} years"
        embodied += f", {site.resource_share:.0%} of it" if site.resource_share < 1 else ""
    return SoftwareCarbonIntensity.model_validate(
        {
            "operational_g": site.operational_g(energy_j),
            "embodied_g": site.embodied_g(duration_s),
            "units": units,
            "unit": unit,
            "provenance": provenance,
            "assumptions": f"{site.intensity.name} {site.intensity.g_per_kwh:g} g/kWh, PUE {site.pue:g}, {embodied}",
        }
    )
