from .accounting import FUNCTIONAL_UNITS as FUNCTIONAL_UNITS
from .accounting import CarbonIntensity as CarbonIntensity
from .accounting import IntensityBasis as IntensityBasis
from .accounting import Site as Site
from .accounting import SoftwareCarbonIntensity as SoftwareCarbonIntensity
from .accounting import carbon_intensities as carbon_intensities
from .accounting import carbon_intensity as carbon_intensity
from .accounting import parse_intensity as parse_intensity
from .accounting import software_carbon_intensity as software_carbon_intensity
from .embodied import EmbodiedCarbon as EmbodiedCarbon
from .embodied import embodied_carbon as embodied_carbon
from .footprint import Emission as Emission
from .footprint import Footprint as Footprint
from .intensity_series import IntensitySeries as IntensitySeries
from .intensity_sets import INTENSITY_SETS as INTENSITY_SETS
from .intensity_sets import intensity_set as intensity_set

__all__ = [
    "FUNCTIONAL_UNITS",
    "INTENSITY_SETS",
    "CarbonIntensity",
    "EmbodiedCarbon",
    "Emission",
    "Footprint",
    "IntensityBasis",
    "IntensitySeries",
    "Site",
    "SoftwareCarbonIntensity",
    "carbon_intensities",
    "carbon_intensity",
    "embodied_carbon",
    "intensity_set",
    "parse_intensity",
    "software_carbon_intensity",
]
