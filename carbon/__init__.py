"""Carbon emissions of energy, computed offline.

Start with :func:`carbon_intensity` (grams of CO2 equivalent per kWh of a place and year), :class:`Site` (where software
runs) and :func:`software_carbon_intensity` (emissions per unit of useful work, ISO/IEC 21031). Names are loaded at
their first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
