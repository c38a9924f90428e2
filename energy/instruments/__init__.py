"""Instruments: each opens a window, closes it, and says how many joules it saw, and how it knows.

None stands in for another: an instrument that cannot be read raises, with the remedy, and is not replaced by a model.
"""

import contextlib

from channels import UserError
from energy.instruments.codecarbon import CodeCarbon
from energy.instruments.nvml import Nvml
from energy.instruments.perf import Perf
from energy.instruments.rapl import Rapl
from energy.instruments.reading import Instrument, Joules
from energy.instruments.wattmeter import Wattmeter

__all__ = ["CodeCarbon", "Instrument", "Joules", "Nvml", "Perf", "Rapl", "Wattmeter", "available", "cycle_counter"]


def available(cpu_power_w: float | None = None) -> list[Instrument]:
    """Instruments that see the CPU here: CodeCarbon, then RAPL where it can be read.

    What is missing, and what would help, is the business of ``leanrx doctor``.

    Args:
        cpu_power_w: for CodeCarbon's load model where there is no RAPL.
    """
    found: list[Instrument] = [CodeCarbon(cpu_power_w)]
    with contextlib.suppress(UserError):
        found.append(Rapl())
    return found


def cycle_counter() -> Perf | None:
    """``perf`` where it is installed and the machine shows its counters; else ``leanrx doctor`` says why not."""
    try:
        return Perf()
    except UserError:
        return None
