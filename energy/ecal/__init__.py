"""eCAL: joules per application bit over the life cycle of a model, from collected data to the last inference.

Importing this imports neither torch nor pandas nor pydantic: the metric is arithmetic. Start with :class:`LifeCycle`,
or with the YAML of :mod:`energy.ecal.life_cycle_config`, which brings pydantic.
"""

from energy.ecal.metric import (
    PROCESSORS,
    STAGES,
    Ecal,
    HoldOut,
    KFold,
    LifeCycle,
    Processor,
    preprocessing_flops,
    same_processor,
)
from energy.ecal.payback import BreakEven, Cost, Outcome, break_even, correct_bits
from energy.ecal.storage import Storage
from energy.ecal.transport import (
    LAYERS,
    PROTOCOLS,
    STACKS,
    AccountingConvention,
    Hop,
    TransportProtocol,
    hop,
    layer_bits,
    transport_energy_j,
)

__all__ = [
    "LAYERS",
    "PROCESSORS",
    "PROTOCOLS",
    "STACKS",
    "STAGES",
    "AccountingConvention",
    "BreakEven",
    "Cost",
    "Ecal",
    "HoldOut",
    "Hop",
    "KFold",
    "LifeCycle",
    "Outcome",
    "Processor",
    "Storage",
    "TransportProtocol",
    "break_even",
    "correct_bits",
    "hop",
    "layer_bits",
    "preprocessing_flops",
    "same_processor",
    "transport_energy_j",
]
