"""eCAL: joules per application bit over the life cycle of a model, from collected data to the last inference.

Importing this imports neither torch nor pandas nor pydantic: the metric is arithmetic. Start with :class:`LifeCycle`,
or with the YAML of :mod:`energy.ecal.life_cycle_config`, which brings pydantic.
"""

from energy.ecal.metric import PROCESSORS, STAGES, Ecal, HoldOut, KFold, LifeCycle, Processor, on, preprocessing_flops
from energy.ecal.payback import BreakEven, Cost, break_even, correct_bits
from energy.ecal.storage import Storage
from energy.ecal.transport import (
    EQUATION,
    LAYERS,
    PROTOCOLS,
    STACKS,
    TOOL,
    Hop,
    Protocol,
    Reading,
    hop,
    layer_bits,
    transport_energy_j,
)

__all__ = [
    "EQUATION",
    "LAYERS",
    "PROCESSORS",
    "PROTOCOLS",
    "STACKS",
    "STAGES",
    "TOOL",
    "BreakEven",
    "Cost",
    "Ecal",
    "HoldOut",
    "Hop",
    "KFold",
    "LifeCycle",
    "Processor",
    "Protocol",
    "Reading",
    "Storage",
    "break_even",
    "correct_bits",
    "hop",
    "layer_bits",
    "on",
    "preprocessing_flops",
    "transport_energy_j",
]
