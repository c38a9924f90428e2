"""Which instruments a machine has.

No instrument stands in for another: one that cannot be read raises, with the remedy, and is not replaced by a model.
"""

from __future__ import annotations

import torch

from energy.hardware.detect import gpu_uuid
from energy.metering import rapl
from energy.metering.codecarbon import CodeCarbon
from energy.metering.measurement import Instrument
from energy.metering.nvml import Nvml
from energy.metering.perf import Perf
from energy.metering.rapl import Rapl
from leanrx_core.errors import UserError

BEST_FIRST = ("wattmeter", "RAPL", "NVML", "CodeCarbon")
"""Instruments in the order in which a run takes its reference, if they measure."""


def rank(name: str) -> int:
    """Place of an instrument in :data:`BEST_FIRST`; others come last."""
    return BEST_FIRST.index(name) if name in BEST_FIRST else len(BEST_FIRST)


def available(device: str = "cpu", cpu_power_w: float | None = None, allow_model: bool = False) -> list[Instrument]:
    """The instruments that see a device: CodeCarbon, then the device's own counter.

    Args:
        device: that computes, in torch's notation. A GPU has NVML's counter, a CPU that of RAPL where there is one.
        cpu_power_w: for CodeCarbon's load model where there is no RAPL.
        allow_model: do without the device's own counter where it cannot be read.

    Raises:
        UserError: if the counter of a GPU, or that of a CPU with RAPL, cannot be read; not with ``allow_model``.
    """
    instruments: list[Instrument] = [CodeCarbon(cpu_power_w, device)]
    try:
        if device != "cpu":
            instruments.append(Nvml(gpu_uuid(torch.device(device).index or 0)))
        elif rapl.is_present():
            instruments.append(Rapl())
    except UserError as error:
        if not allow_model:
            substitute = "CodeCarbon alone" if device != "cpu" else "CodeCarbon's model of the CPU"
            raise UserError(f"{error}; or give --allow-model to use {substitute}") from None
    return instruments


def cycle_counter() -> Perf | None:
    """``perf`` where it is installed and the machine has its counters; else ``leanrx doctor`` gives the reason."""
    try:
        return Perf()
    except UserError:
        return None
