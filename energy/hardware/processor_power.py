"""Power of a machine's processors under full load, where no counter can be read."""

from __future__ import annotations

import os
import re
from typing import Any

from energy.hardware.topology import Topology

_THREADS_PER_CORE = 2  # of a server's processor, of which a virtual machine gets threads


def processor_power(power_w: float | None, topology: Topology, info: dict[str, Any]) -> tuple[float, str]:
    """Power of all CPUs of the machine under full load, and a description of its source.

    A virtual machine has some threads of a processor, and that part of its TDP. If the name does not say how many cores
    the processor has, the part is not known.

    Args:
        power_w: as configured, of all CPUs. If not given, it is that of CodeCarbon's table, or its default for a CPU
            that is not in it.
        topology: of the machine.
        info: of ``cpuinfo``.
    """
    if power_w is not None:
        return power_w, f"{power_w:g} W as configured"
    table_w, default_w = _table_w()
    num_cpus, sockets = topology.num_cpus, topology.sockets
    assumed_w = default_w * num_cpus
    if table_w is None:
        return assumed_w, f"{assumed_w:g} W assumed by CodeCarbon for a CPU it does not know ({default_w:g} W a thread)"
    tdp = f"{table_w:g} W TDP of the whole CPU by CodeCarbon's table"
    if "hypervisor" not in (info.get("flags") or ()):
        return table_w * sockets, tdp if sockets == 1 else f"{sockets} sockets of {tdp}"
    cores = re.search(r"(\d+)-Core", str(info.get("brand_raw", "")))
    if cores is None:
        return assumed_w, (
            f"{assumed_w:g} W assumed ({default_w:g} W a thread) for a virtual machine with a part of a CPU of "
            f"{table_w:g} W"
        )
    threads = sockets * _THREADS_PER_CORE * int(cores[1])
    part = min(1.0, num_cpus / threads)
    return table_w * sockets * part, f"{num_cpus} of {threads} threads of {tdp}, a virtual machine"


def _table_w() -> tuple[float | None, float]:
    """TDP of this machine's CPU by CodeCarbon's table, none if it is not in it, and its default for a thread."""
    os.environ.setdefault("CODECARBON_LOG_LEVEL", "error")
    from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE, TDP
    from codecarbon.core.util import count_cpus
    from codecarbon.external.logger import set_logger_level

    set_logger_level("error")
    table_w, default_w = TDP().tdp, float(DEFAULT_POWER_PER_CORE)
    return (float(table_w) if table_w and table_w != default_w * count_cpus() else None), default_w
