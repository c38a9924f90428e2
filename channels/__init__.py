"""Where slots come from: the OFDM grid, 3GPP channels, interference, and the SINR axis.

``channels`` knows no receiver. Start with ``scenario("desk")`` and ``SlotStream(...)``.
"""

from channels.blocks import SlotStream
from channels.grid import BITS_PER_SYMBOL, NUM_SYMBOLS, Dmrs, Grid
from channels.records import Record, UserError
from channels.scenario import Channels, Impairments, Interferer, PowerAmplifier, Scenario, presets, scenario
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
    "UserError",
    "presets",
    "scenario",
]
