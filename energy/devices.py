"""What a device can compute per clock and per watt: named records, and the machine at hand."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib import resources

from pydantic import Field

from channels import Record, UserError
from channels.records import read_yaml


class Device(Record):
    """A device that receivers run on.

    Attributes:
        name: as in tables.
        cores: CPU cores, or streaming multiprocessors of a GPU.
        clock_hz: nominal clock.
        flops_per_clock: single-precision FLOPs of one core per clock.
        power_w: power under load.
        matmul_flops_per_s: large matrix products as timed on the device; none for data-sheet records.
        source: where the figures come from.
    """

    name: str
    cores: int = Field(ge=1)
    clock_hz: float = Field(gt=0)
    flops_per_clock: float = Field(gt=0)
    power_w: float = Field(gt=0)
    matmul_flops_per_s: float | None = Field(None, gt=0)
    source: str

    @property
    def peak_flops_per_s(self) -> float:
        return self.cores * self.clock_hz * self.flops_per_clock

    @property
    def flops_per_w(self) -> float:
        """FLOP/s per watt: as timed where that is known, else at the data sheet's peak."""
        return (self.matmul_flops_per_s or self.peak_flops_per_s) / self.power_w


def devices() -> dict[str, Device]:
    """The named records."""
    path = str(resources.files("energy") / "devices.yaml")
    records = [Device.parse(entry, "devices.yaml") for entry in read_yaml(path)]
    return {d.name: d for d in records}


def device(name: str) -> Device:
    """A named record, or ``host`` for the machine at hand.

    Raises:
        UserError: if there is no such device.
    """
    if name == "host":
        return host()
    known = devices()
    if name not in known:
        raise UserError(f"device: '{name}' is not known; devices: host, {', '.join(known)}")
    return known[name]


_FLOPS_PER_CLOCK_OF_SM = {7: 128, 8: 128, 9: 256, 10: 256, 12: 256}  # FP32, by major compute capability; 8.0 has 128
_FLOPS_PER_CLOCK_OF_SM_8X = 256  # 8.6 to 8.9


def gpu(index: int = 0) -> Device:
    """A CUDA device as its driver describes it: highest clock and power limit from NVML.

    Raises:
        UserError: if NVML cannot read them.
    """
    import pynvml
    import torch

    properties = torch.cuda.get_device_properties(index)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        power_w = 1e-3 * pynvml.nvmlDeviceGetPowerManagementLimit(handle)
    except pynvml.NVMLError as error:
        raise UserError(
            f"device: NVML cannot read clock and power of {properties.name} ({error}); estimates need them"
        ) from None
    newer_8 = properties.major == 8 and properties.minor > 0
    flops = _FLOPS_PER_CLOCK_OF_SM_8X if newer_8 else _FLOPS_PER_CLOCK_OF_SM.get(properties.major, 256)
    return Device(
        name=properties.name,
        cores=properties.multi_processor_count,
        clock_hz=clock_hz,
        flops_per_clock=flops,
        power_w=power_w,
        source=f"driver: {flops} FP32 FLOP per clock and SM by compute capability, highest SM clock, power limit",
    )


def host(power_w: float | None = None) -> Device:
    """The CPU of this machine, its matrix-product rate timed (about a second).

    Args:
        power_w: see :func:`cpu_power`.
    """
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    known_hz = float((info.get("hz_advertised") or info.get("hz_actual") or (0,))[0])
    clock_hz = known_hz or 3e9
    flops_per_clock, unit = _flops_per_clock(info)
    watts, words = cpu_power(power_w)
    return Device(
        name=info.get("brand_raw", platform.processor() or "unknown CPU"),
        cores=cores,
        clock_hz=clock_hz,
        flops_per_clock=flops_per_clock,
        power_w=watts,
        matmul_flops_per_s=_time_matmul(),
        source=f"{unit}, {clock_hz / 1e9:.2f} GHz {'nominal' if known_hz else 'assumed'}; {words}",
    )


def _flops_per_clock(info: dict[str, object]) -> tuple[int, str]:
    flags = set(info.get("flags") or ())  # type: ignore[call-overload]
    if "avx512f" in flags and info.get("vendor_id_raw") == "GenuineIntel":
        return 64, "AVX-512, two 512-bit FMA units assumed"
    if {"avx2", "fma"} <= flags:
        return 32, "AVX2, two 256-bit FMA units assumed"
    if "asimd" in flags:
        return 16, "NEON, two 128-bit FMA units assumed"
    return 8, "no FMA found, two 128-bit units assumed"


def cpu_power(power_w: float | None) -> tuple[float, str]:
    """Power of the CPU under full load, and in words where it comes from.

    Args:
        power_w: as configured; CodeCarbon's table, or its default for a CPU that is not in it, if not given.
    """
    if power_w is not None:
        return power_w, f"{power_w:g} W as configured"
    os.environ.setdefault("CODECARBON_LOG_LEVEL", "error")
    from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE, TDP
    from codecarbon.external.logger import set_logger_level

    set_logger_level("error")
    table_w, default_w = TDP().tdp, float(DEFAULT_POWER_PER_CORE * (os.cpu_count() or 1))
    if table_w and table_w != default_w:
        return float(table_w), f"{table_w:g} W TDP of the whole CPU by CodeCarbon's table"
    return (
        default_w,
        f"{default_w:g} W assumed by CodeCarbon for a CPU it does not know ({DEFAULT_POWER_PER_CORE} W a core)",
    )


def _time_matmul(size: int = 1024) -> float:
    """FLOP/s of single-precision matrix products on the CPU, the median of runs over half a second."""
    import torch

    a = torch.ones(size, size)
    rates: list[float] = []
    a @ a
    begin = time.perf_counter()
    while time.perf_counter() - begin < 0.5 or len(rates) < 5:
        start = time.perf_counter()
        a @ a
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return statistics.median(rates)
