"""Records of the machine at hand: its CPU, and its CUDA devices."""

from __future__ import annotations

import platform
import statistics
from typing import Any

from energy.hardware.calibration import calibrate
from energy.hardware.devices import Device, devices
from energy.hardware.instruction_sets import InstructionSet, instruction_set
from energy.hardware.processor_power import processor_power
from energy.hardware.topology import Topology
from leanrx_core.errors import UserError
from leanrx_core.messages import echo


def device(name: str) -> Device:
    """A named record, or ``host`` for the machine at hand.

    Raises:
        UserError: if there is no such device.
    """
    if name == "host":
        return host()
    records = devices()
    if name not in records:
        raise UserError(f"device: {echo(name)} is not known; devices: host, {', '.join(records)}")
    return records[name]


_FLOPS_PER_CLOCK_OF_SM = {
    **dict.fromkeys(((6, 0), (7, 0), (7, 2), (7, 5), (8, 0)), 128),
    **dict.fromkeys(((5, 0), (5, 2), (5, 3), (6, 1), (6, 2), (8, 6), (8, 7), (8, 9)), 256),
    **dict.fromkeys(((9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1)), 256),
}
"""FP32 FLOPs by compute capability, from the throughputs in NVIDIA's CUDA programming guide."""

_FLOPS_PER_CLOCK_OF_NEW_SM = 256  # all since 8.6


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
    """A CUDA device as its driver describes it: highest clock, power limit and memory bandwidth from NVML.

    Caches and other precisions are those of the record that names this GPU and has as many multiprocessors. A GPU that
    no record names has none: its estimates in other precisions are those of fp32.

    Raises:
        UserError: if NVML cannot read them, or the device is a slice of a GPU.
    """
    import pynvml
    import torch

    properties = torch.cuda.get_device_properties(index)
    if " MIG " in properties.name:
        raise UserError(
            f"device: {properties.name} is a slice of a GPU, and NVML knows the power of the whole GPU alone; "
            "estimates need a whole GPU"
        )
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid(index))
        clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        power_w = 1e-3 * pynvml.nvmlDeviceGetPowerManagementLimit(handle)
    except pynvml.NVMLError as error:
        raise UserError(
            f"device: NVML cannot read clock and power of {properties.name} ({error}); estimates need them"
        ) from None
    capability = properties.major, properties.minor
    flops = _FLOPS_PER_CLOCK_OF_SM.get(capability, _FLOPS_PER_CLOCK_OF_NEW_SM)
    units = "by" if capability in _FLOPS_PER_CLOCK_OF_SM else "assumed for"
    sheet = gpu_record(properties.name, properties.multi_processor_count)
    if sheet is not None:
        sheet_data = sheet.model_dump(include={"peaks_flops_per_s", "memory_bytes_per_s", "caches_bytes"})
        data_sheet = f"memory, caches and other precisions of {sheet.name}"
    else:
        sheet_data = {"memory_bytes_per_s": _memory_bytes_per_s(handle)}
        data_sheet = "memory by its clock and bus; no record names this GPU, so other precisions are taken as fp32"
    data = {
        "name": properties.name,
        "cores": properties.multi_processor_count,
        "clock_hz": clock_hz,
        "flops_per_clock": flops,
        "power_w": power_w,
        "source": f"driver: {flops} FP32 FLOP per clock and SM {units} compute capability "
        f"{capability[0]}.{capability[1]}, highest SM clock, power limit; {data_sheet}",
    }
    return Device.parse({**data, **sheet_data}, f"NVML: {properties.name}")


def gpu_record(name: str, multiprocessors: int) -> Device | None:
    """The record of a GPU by the exact name that its driver gives, if it has as many multiprocessors.

    >>> gpu_record("NVIDIA GeForce RTX 4090", 128).name
    'rtx4090'
    >>> gpu_record("NVIDIA GeForce RTX 4090 D", 114) is None
    True
    """
    records = devices().values()
    return next((d for d in records if name in d.driver_names and d.cores == multiprocessors), None)


def _memory_bytes_per_s(handle: Any) -> float | None:
    """Two transfers per memory clock over the whole bus; none if NVML does not say."""
    import pynvml

    try:
        clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
        return 2 * clock_hz * pynvml.nvmlDeviceGetMemoryBusWidth(handle) / 8 or None
    except pynvml.NVMLError:
        return None


def host(power_w: float | None = None, recalibrate: bool = False) -> Device:
    """The cores that torch computes on; their rates of matrix products and copies are timed once and kept in a file.

    Args:
        power_w: of all CPUs of the machine, see :func:`energy.hardware.processor_power.processor_power`.
        recalibrate: time again although there is a record; a busy machine gives a bad record.

    Raises:
        UserError: if the record is damaged.
    """
    import torch

    info, topology, threads = _cpu_info(), Topology.read(), torch.get_num_threads()
    name = info.get("brand_raw", platform.processor() or "unknown CPU")
    cores = topology.num_busy_cores(threads)
    nominal_hz = float((info.get("hz_advertised") or info.get("hz_actual") or (0,))[0])
    clock_hz = nominal_hz or 3e9
    clock = f"{clock_hz / 1e9:.2f} GHz {'nominal' if nominal_hz else 'assumed'}"
    units = _units(info, topology)
    watts, power_source = processor_power(power_w, topology, info)
    if topology.busy_fraction(threads) < 1:
        power_source += f", {_busy_part(topology, threads)}"
    rates = calibrate(f"{name}, {cores} cores, {threads} threads, torch {torch.__version__}", recalibrate)
    return Device(
        name=name,
        cores=cores,
        clock_hz=clock_hz,
        flops_per_clock=statistics.fmean(u.fp32 for u in units),
        peaks_flops_per_s={"int8": cores * clock_hz * statistics.fmean(u.int8 for u in units)},
        power_w=watts * topology.busy_fraction(threads),
        caches_bytes=topology.caches_bytes,
        matmul_flops_per_s=rates.matmul_flops_per_s,
        copy_bytes_per_s=rates.copy_bytes_per_s,
        source=f"{' and '.join(dict.fromkeys(f'{u.name}, {u.assumption}' for u in units))}, {clock}; {power_source}; "
        f"rates timed {rates.date} on {threads} threads",
    )


def host_power(power_w: float | None = None) -> tuple[float, str]:
    """Power of all CPUs of this machine and its source, see :mod:`energy.hardware.processor_power`."""
    return processor_power(power_w, Topology.read(), _cpu_info())


def _cpu_info() -> dict[str, Any]:
    import cpuinfo

    return dict(cpuinfo.get_cpu_info())


def _units(info: dict[str, Any], topology: Topology) -> list[InstructionSet]:
    """What each core that this process may use computes per clock."""
    parts = dict(topology.parts)
    return [
        instruction_set(info, parts.get(min(core)), efficiency=bool(core & topology.efficiency))
        for core in topology.usable_cores
    ]


def _busy_part(topology: Topology, threads: int) -> str:
    part = f"{topology.num_busy_cores(threads)} of {len(topology.cores)} cores used"
    if topology.quota_cpus < min(threads, len(topology.usable_cores)):
        part += f" by a quota of {topology.quota_cpus:g} CPUs"
    return part
