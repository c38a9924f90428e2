"""Instruments: each opens a window, closes it, and says how many joules it saw, and how it knows.

None stands in for another: an instrument that cannot be read raises, with the remedy, and is not replaced by a model.
"""

from energy.metering import rapl
from energy.metering.codecarbon import CodeCarbon
from energy.metering.measurement import Instrument, Joules
from energy.metering.nvml import Nvml
from energy.metering.perf import Perf
from energy.metering.power_log import Wattmeter
from energy.metering.rapl import Rapl
from leanrx_core.errors import UserError

__all__ = ["CodeCarbon", "Instrument", "Joules", "Nvml", "Perf", "Rapl", "Wattmeter", "available", "cycle_counter"]


def available(cpu_power_w: float | None = None, modelled: bool = False) -> list[Instrument]:
    """Instruments that see the CPU here: CodeCarbon, then RAPL where the machine shows it.

    Args:
        cpu_power_w: for CodeCarbon's load model where there is no RAPL.
        modelled: do without RAPL, though the machine shows it, where it cannot be read.

    Raises:
        UserError: if RAPL is there and cannot be read, unless ``modelled``.
    """
    found: list[Instrument] = []
    if rapl.shown():
        try:
            found.append(Rapl())
        except UserError as error:
            if not modelled:
                raise UserError(f"{error}; or give --allow-model to use CodeCarbon's model of the CPU") from None
    return [CodeCarbon(cpu_power_w), *found]


def cycle_counter() -> Perf | None:
    """``perf`` where it is installed and the machine shows its counters; else ``leanrx doctor`` says why not."""
    try:
        return Perf()
    except UserError:
        return None
