"""What a receiver costs: counting operations, describing devices, metering, estimating, and eCAL.

Start with :func:`count` and :func:`measure`. ``energy`` knows no distillation. Every joule is marked as measured,
modelled or assumed. Names are loaded at their first use, and without other packages, so that :mod:`energy.ecal` needs
nothing but Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from energy.counting.counter import count as count
    from energy.metering.measurement import Measurement as Measurement
    from energy.metering.session import measure as measure

_MODULES = {
    "Measurement": "energy.metering.measurement",
    "count": "energy.counting.counter",
    "measure": "energy.metering.session",
}

__all__ = ["Measurement", "count", "measure"]


def __getattr__(name: str) -> object:
    """Load a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'energy' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
