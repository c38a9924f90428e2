from .dataset import Dataset as Dataset
from .dataset import DatasetStream as DatasetStream
from .dataset import write_dataset as write_dataset
from .grid import BITS_PER_SYMBOL as BITS_PER_SYMBOL
from .grid import NUM_SYMBOLS as NUM_SYMBOLS
from .grid import Antennas as Antennas
from .grid import Dmrs as Dmrs
from .grid import Grid as Grid
from .grid import Subcarriers as Subcarriers
from .scenarios import Channels as Channels
from .scenarios import Impairments as Impairments
from .scenarios import Interferer as Interferer
from .scenarios import PowerAmplifier as PowerAmplifier
from .scenarios import Scenario as Scenario
from .scenarios import presets as presets
from .scenarios import scenario as scenario
from .slots import Slots as Slots
from .stream import SlotStream as SlotStream
from .stream import Stream as Stream

__all__ = [
    "BITS_PER_SYMBOL",
    "NUM_SYMBOLS",
    "Antennas",
    "Channels",
    "Dataset",
    "DatasetStream",
    "Dmrs",
    "Grid",
    "Impairments",
    "Interferer",
    "PowerAmplifier",
    "Scenario",
    "SlotStream",
    "Slots",
    "Stream",
    "Subcarriers",
    "presets",
    "scenario",
    "write_dataset",
]
