from .accounting import FUNCTIONAL_UNITS as FUNCTIONAL_UNITS
from .accounting import CarbonIntensity as CarbonIntensity
from .accounting import Site as Site
from .accounting import SoftwareCarbonIntensity as SoftwareCarbonIntensity
from .accounting import carbon_intensities as carbon_intensities
from .accounting import carbon_intensity as carbon_intensity
from .accounting import software_carbon_intensity as software_carbon_intensity

__all__ = [
    "FUNCTIONAL_UNITS",
    "CarbonIntensity",
    "Site",
    "SoftwareCarbonIntensity",
    "carbon_intensities",
    "carbon_intensity",
    "software_carbon_intensity",
]
