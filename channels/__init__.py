"""Where slots come from: the OFDM grid, 3GPP channels, interference, and the SINR axis.

``channels`` knows no receiver. Start with ``scenario("desk")`` and ``SlotStream(...)``. Names are loaded at their first
use, so that what needs only records or errors does not import torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from channels.blocks import SlotStream
    from channels.errors import UserError
    from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Grid
    from channels.records import Record
    from channels.scenario import Channels, Interference, Scenario, presets, scenario
    from channels.slots import Slots

__all__ = [
    "BITS_PER_SYMBOL",
    "NUM_SYMBOLS",
    "Channels",
    "Grid",
    "Interference",
    "Record",
    "Scenario",
    "SlotStream",
    "Slots",
    "UserError",
    "presets",
    "scenario",
]

_HOMES = {
    "blocks": ["SlotStream"],
    "errors": ["UserError"],
    "grid": ["BITS_PER_SYMBOL", "NUM_SYMBOLS", "Grid"],
    "records": ["Record"],
    "scenario": ["Channels", "Interference", "Scenario", "presets", "scenario"],
    "slots": ["Slots"],
}
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        value = getattr(import_module(_HOME[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds submodules here; `scenario` is the function, not the module that holds it.
        if name == "scenario" and isinstance(value, ModuleType):
            value = value.scenario
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
