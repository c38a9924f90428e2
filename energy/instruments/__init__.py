"""Instruments: each opens a window, closes it, and says how many joules it saw, and how it knows.

None stands in for another: an instrument that cannot be read raises, with the remedy, and is not replaced by a model.
"""

from energy.instruments.codecarbon import CodeCarbon
from energy.instruments.nvml import Nvml
from energy.instruments.perf import Perf
from energy.instruments.rapl import Rapl
from energy.instruments.reading import Instrument, Joules
from energy.instruments.wattmeter import Wattmeter

__all__ = ["CodeCarbon", "Instrument", "Joules", "Nvml", "Perf", "Rapl", "Wattmeter", "available"]


def available(cpu_power_w: float | None = None) -> list[Instrument]:
    """Every energy instrument that can be read here: RAPL and NVML where they are, and CodeCarbon.

    Args:
        cpu_power_w: for CodeCarbon's load model where there is no RAPL.
    """
    from channels import UserError

    found: list[Instrument] = [CodeCarbon(cpu_power_w)]
    for counter in (Rapl, Nvml):
        try:
            found.append(counter())
        except UserError:
            continue  # what is missing, and what would help, is the business of ``leanrx doctor``
    return found
