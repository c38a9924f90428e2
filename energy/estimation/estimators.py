"""All estimators, from simple to good.

============== ==================================================== ==========================================
estimator      time of a call                                       energy of a call
============== ==================================================== ==========================================
FLOPs/W        energy / power                                       FLOPs / (FLOP/s per W) / utilisation
FLOPs/clock    FLOPs / (FLOPs per clock x clock x cores) / util.    time x load power
roofline       sum over layers of max(FLOPs / rate, bytes / rate),  load power while layers run, idle power in
               and an overhead per layer                            the overheads between them
per operation  none                                                 MACs and bytes at 45 nm, for orientation
============== ==================================================== ==========================================

A new estimator uses the device record alone. ``fitted`` returns one with parameters fitted to metered calls.
"""

from __future__ import annotations

from energy.estimation.estimate import Estimator
from energy.estimation.flops import FlopsPerClock, FlopsPerWatt
from energy.estimation.per_operation import PerOperation
from energy.estimation.roofline import Roofline

ESTIMATORS: tuple[Estimator, ...] = (FlopsPerWatt(), FlopsPerClock(), Roofline(), PerOperation())
"""Before any fit."""

FLOP_ESTIMATORS: tuple[Estimator, ...] = (FlopsPerWatt(), FlopsPerClock())
"""Those of them that need no bytes."""
