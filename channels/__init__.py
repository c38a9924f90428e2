"""Where slots come from: the OFDM grid, 3GPP channels, interference, and the SINR axis.

``channels`` knows no receiver. Start with ``scenario("desk")`` and ``SlotStream(...)``. Names are loaded at their first
use (PEP 562), so that what needs only records or errors does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from channels.blocks import SlotStream, Stream
    from channels.errors import UserError
    from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Dmrs, Grid
    from channels.records import Record
    from channels.scenarios import Channels, Impairments, Interferer, PowerAmplifier, Scenario, presets, scenario
    from channels.slots import Slots

__all__ = [
    "BITS_PER_SYMBOL",
    "NUM_SYMBOLS",
    "Channels",
    "Dmrs",
    "Grid",
    "Impairments",
    "Interferer",
    "PowerAmplifier",
    "Record",
    "Scenario",
    "SlotStream",
    "Slots",
    "Stream",
    "UserError",
    "presets",
    "scenario",
]

_HOMES = {
    "blocks": ["SlotStream", "Stream"],
    "errors": ["UserError"],
    "grid": ["BITS_PER_SYMBOL", "NUM_SYMBOLS", "Dmrs", "Grid"],
    "records": ["Record"],
    "scenarios": ["Channels", "Impairments", "Interferer", "PowerAmplifier", "Scenario", "presets", "scenario"],
    "slots": ["Slots"],
}
_HOME = {name: f"channels.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'channels' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
