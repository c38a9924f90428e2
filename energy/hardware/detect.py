"""Records of the machine at hand: its CPU, and its CUDA devices."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energy.hardware.calibration import calibrate
from energy.hardware.devices import Device, devices
from leanrx_core.errors import UserError


def device(name: str) -> Device:
    """A named record, or ``host`` for the machine at hand.

    Raises:
        UserError: if there is no such device.
    """
    if name == "host":
        return host()
    records = devices()
    if name not in records:
        raise UserError(f"device: '{name}' is not known; devices: host, {', '.join(records)}")
    return records[name]


_FLOPS_PER_CLOCK_OF_SM = {7: 128, 8: 128, 9: 256, 10: 256, 12: 256}  # FP32, by major compute capability; 8.0 has 128

_FLOPS_PER_CLOCK_OF_SM_8X = 256  # 8.6 to 8.9


def gpu_uuid(index: int = 0) -> str:
    """NVML's name of the GPU that torch calls ``cuda:<index>``; their numbers differ under CUDA_VISIBLE_DEVICES."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def nvml_index(index: int = 0) -> int:
    """NVML's number of the GPU that torch calls ``cuda:<index>``.

    Raises:
        UserError: if NVML does not know it.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid(index))))
    except pynvml.NVMLError as error:
        raise UserError(
            f"NVML: does not know cuda:{index} ({error}); update the driver, or write device: cpu"
        ) from None


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
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid(index))
        clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        power_w = 1e-3 * pynvml.nvmlDeviceGetPowerManagementLimit(handle)
    except pynvml.NVMLError as error:
        raise UserError(
            f"device: NVML cannot read clock and power of {properties.name} ({error}); estimates need them"
        ) from None
    newer_8 = properties.major == 8 and properties.minor > 0
    flops = _FLOPS_PER_CLOCK_OF_SM_8X if newer_8 else _FLOPS_PER_CLOCK_OF_SM.get(properties.major, 256)
    plain_name = properties.name.lower().replace(" ", "")
    sheet = next((d for d in devices().values() if d.name.split("-")[0] in plain_name), None)
    sheet_data = sheet.model_dump(include={"peaks_flops_per_s", "memory_bytes_per_s", "caches_bytes"}) if sheet else {}
    data_sheet = f"; memory, caches and other precisions of {sheet.name}" if sheet else ""
    data = {
        "name": properties.name,
        "cores": properties.multi_processor_count,
        "clock_hz": clock_hz,
        "flops_per_clock": flops,
        "power_w": power_w,
        "source": f"driver: {flops} FP32 FLOP per clock and SM by compute capability, highest SM clock, "
        f"power limit{data_sheet}",
    }
    return Device.parse({**data, **sheet_data}, f"NVML: {properties.name}")


@dataclass(frozen=True)
class InstructionSet:
    """What one core computes per clock.

    Attributes:
        fp32, int8: FLOPs, or integer operations, per clock; two per multiply-accumulate.
        assumption: about its units.
    """

    name: str
    fp32: int
    int8: int
    assumption: str


def instruction_set(info: dict[str, Any]) -> InstructionSet:
    """Of the CPU that ``cpuinfo`` describes.

    Intel's AVX-512 server cores have two 512-bit FMA units; AMD's execute AVX-512 on 256-bit units up to Zen 4 (family
    25) and on 512-bit units from Zen 5 (family 26). A VNNI or dot-product instruction does four 8-bit
    multiply-accumulates per 32-bit lane; without it, 8-bit products run at most at twice the rate of fp32.
    """
    flags, vendor = set(info.get("flags") or ()), info.get("vendor_id_raw")
    if "avx512f" in flags:
        narrow = vendor == "AuthenticAMD" and int(info.get("family") or 0) < 26
        fp32, assumption = (32, "two 256-bit FMA units") if narrow else (64, "two 512-bit FMA units assumed")
        dot = {"avx512_vnni", "avx512vnni"} & flags
        return InstructionSet("AVX-512 VNNI" if dot else "AVX-512", fp32, fp32 * (4 if dot else 2), assumption)
    if {"avx2", "fma"} <= flags:
        dot = {"avx_vnni"} & flags
        return InstructionSet("AVX2 VNNI" if dot else "AVX2", 32, 128 if dot else 64, "two 256-bit FMA units assumed")
    if {"asimd", "neon"} & flags or vendor == "ARM":
        dot = {"asimddp"} & flags
        return InstructionSet("NEON", 16, 64 if dot else 32, "two 128-bit FMA units assumed")
    return InstructionSet("no FMA", 8, 8, "no FMA found, two 128-bit units assumed")


def host(power_w: float | None = None, recalibrate: bool = False) -> Device:
    """The cores that torch computes on; their rates of matrix products and copies are timed once and kept in a file.

    Args:
        power_w: of the whole CPU, see :func:`cpu_power`.
        recalibrate: time again although there is a record; a busy machine gives a bad record.

    Raises:
        UserError: if the record is damaged.
    """
    import cpuinfo
    import torch

    info = cpuinfo.get_cpu_info()
    name = info.get("brand_raw", platform.processor() or "unknown CPU")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    cores = min(available, threads)
    nominal_hz = float((info.get("hz_advertised") or info.get("hz_actual") or (0,))[0])
    clock_hz, units = nominal_hz or 3e9, instruction_set(info)
    clock = f"{clock_hz / 1e9:.2f} GHz {'nominal' if nominal_hz else 'assumed'}"
    watts, power_source = cpu_power(power_w)
    if cores < available:
        power_source += f", {cores} of {available} cores used"
    rates = calibrate(f"{name}, {cores} cores, {threads} threads, torch {torch.__version__}", recalibrate)
    return Device(
        name=name,
        cores=cores,
        clock_hz=clock_hz,
        flops_per_clock=units.fp32,
        peaks_flops_per_s={"int8": cores * clock_hz * units.int8},
        power_w=watts * cores / available,
        caches_bytes=_caches(),
        matmul_flops_per_s=rates.matmul_flops_per_s,
        copy_bytes_per_s=rates.copy_bytes_per_s,
        source=f"{units.name}, {units.assumption}, {clock}; {power_source}; "
        f"rates timed {rates.date} on {threads} threads",
    )


def _caches() -> tuple[int, ...]:
    """Data and unified caches that the first core sees, from Linux; none elsewhere."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = set()
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        with contextlib.suppress(OSError, ValueError):
            if (index / "type").read_text().strip() != "Instruction":
                size = (index / "size").read_text().strip()
                sizes.add(int(size.rstrip("KMG")) * units.get(size[-1], 1))
    return tuple(sorted(sizes))


def cpu_power(power_w: float | None) -> tuple[float, str]:
    """Power of the CPU under full load, and a description of its source.

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
