"""What a device can compute per clock and per watt: named records, and the machine at hand."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from channels import Record, UserError
from channels.records import read_yaml, write_atomic


class Device(Record):
    """A device that receivers run on.

    Attributes:
        name: as in tables.
        cores: CPU cores, or streaming multiprocessors of a GPU.
        clock_hz: nominal clock.
        flops_per_clock: FLOPs of one core per clock in ``precision``.
        precision: fp32 except for devices that know integers alone.
        peaks_flops_per_s: FLOP/s (or integer operations per second) in other precisions, by precision, dense.
        power_w: power under load.
        idle_w: power at rest; none if not known.
        memory_bytes_per_s: bandwidth of the main memory, as in the data sheet.
        caches_bytes: sizes from the smallest to the largest, whole device.
        matmul_flops_per_s: large matrix products as timed on the device; none for data-sheet records.
        copy_bytes_per_s: bytes read and written by large copies as timed on the device.
        source: where the figures come from.
    """

    name: str
    cores: int = Field(ge=1)
    clock_hz: float = Field(gt=0)
    flops_per_clock: float = Field(gt=0)
    precision: Literal["fp32", "int8"] = "fp32"
    peaks_flops_per_s: dict[Literal["bf16", "fp16", "int8"], Annotated[float, Field(gt=0)]] = Field({})
    power_w: float = Field(gt=0)
    idle_w: float | None = Field(None, ge=0)
    memory_bytes_per_s: float | None = Field(None, gt=0)
    caches_bytes: tuple[Annotated[int, Field(gt=0)], ...] = ()
    matmul_flops_per_s: float | None = Field(None, gt=0)
    copy_bytes_per_s: float | None = Field(None, gt=0)
    source: str

    @property
    def peak_flops_per_s(self) -> float:
        """In :attr:`precision`."""
        return self.cores * self.clock_hz * self.flops_per_clock

    @property
    def flops_per_w(self) -> float:
        """FLOP/s per watt: as timed where that is known, else at the data sheet's peak."""
        return (self.matmul_flops_per_s or self.peak_flops_per_s) / self.power_w

    @property
    def bytes_per_s(self) -> float | None:
        """Memory bandwidth: as timed where that is known, else the data sheet's."""
        return self.copy_bytes_per_s or self.memory_bytes_per_s

    def peak(self, precision: str) -> float:
        """FLOP/s in a precision; one without units of its own runs as fast as fp32.

        Raises:
            UserError: if the device knows integers alone and is asked for floating point.
        """
        if precision in self.peaks_flops_per_s:
            return self.peaks_flops_per_s[precision]
        if self.precision == "int8" and precision != "int8":
            raise UserError(f"device: {self.name} does not compute in {precision}; quantise the receiver to int8")
        return self.peak_flops_per_s


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


def gpu_uuid(index: int = 0) -> str:
    """NVML's name of the GPU that torch calls ``cuda:<index>``; their numbers differ under CUDA_VISIBLE_DEVICES."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


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
    called = properties.name.lower().replace(" ", "")
    sheet = next((d for d in devices().values() if d.name.split("-")[0] in called), None)
    known = sheet.model_dump(include={"peaks_flops_per_s", "memory_bytes_per_s", "caches_bytes"}) if sheet else {}
    words = f"; memory, caches and other precisions of {sheet.name}" if sheet else ""
    return Device(
        name=properties.name,
        cores=properties.multi_processor_count,
        clock_hz=clock_hz,
        flops_per_clock=flops,
        power_w=power_w,
        source=f"driver: {flops} FP32 FLOP per clock and SM by compute capability, highest SM clock, "
        f"power limit{words}",
        **known,
    )


@dataclass(frozen=True)
class InstructionSet:
    """What one core computes per clock.

    Attributes:
        fp32, int8: FLOPs, or integer operations, per clock; two per multiply-accumulate.
        words: the assumption.
    """

    name: str
    fp32: int
    int8: int
    words: str


def instruction_set(info: dict[str, Any]) -> InstructionSet:
    """Of the CPU that ``cpuinfo`` describes.

    Intel's AVX-512 server cores have two 512-bit FMA units; AMD's execute AVX-512 on 256-bit units up to Zen 4 (family
    25) and on 512-bit units from Zen 5 (family 26). A VNNI or dot-product instruction does four 8-bit
    multiply-accumulates per 32-bit lane; without it, 8-bit products run at most at twice the rate of fp32.
    """
    flags, vendor = set(info.get("flags") or ()), info.get("vendor_id_raw")
    if "avx512f" in flags:
        narrow = vendor == "AuthenticAMD" and int(info.get("family") or 0) < 26
        fp32, words = (32, "two 256-bit FMA units") if narrow else (64, "two 512-bit FMA units assumed")
        dot = {"avx512_vnni", "avx512vnni"} & flags
        return InstructionSet("AVX-512 VNNI" if dot else "AVX-512", fp32, fp32 * (4 if dot else 2), words)
    if {"avx2", "fma"} <= flags:
        dot = {"avx_vnni"} & flags
        return InstructionSet("AVX2 VNNI" if dot else "AVX2", 32, 128 if dot else 64, "two 256-bit FMA units assumed")
    if {"asimd", "neon"} & flags or vendor == "ARM":
        dot = {"asimddp"} & flags
        return InstructionSet("NEON", 16, 64 if dot else 32, "two 128-bit FMA units assumed")
    return InstructionSet("no FMA", 8, 8, "no FMA found, two 128-bit units assumed")


def host(power_w: float | None = None, again: bool = False) -> Device:
    """The cores that torch computes on; their rates of matrix products and copies are timed once and kept in a file.

    Args:
        power_w: of the whole CPU, see :func:`cpu_power`.
        again: time although a record is there; a machine that was busy then is described badly by it.

    Raises:
        UserError: if the record is damaged.
    """
    import cpuinfo
    import torch

    info = cpuinfo.get_cpu_info()
    name = info.get("brand_raw", platform.processor() or "unknown CPU")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    cores = min(there, threads)
    known_hz = float((info.get("hz_advertised") or info.get("hz_actual") or (0,))[0])
    clock_hz, units = known_hz or 3e9, instruction_set(info)
    clock = f"{clock_hz / 1e9:.2f} GHz {'nominal' if known_hz else 'assumed'}"
    watts, words = cpu_power(power_w)
    if cores < there:
        words += f", {cores} of {there} cores used"
    rates = _calibration(f"{name}, {cores} cores, {threads} threads, torch {torch.__version__}", again)
    return Device(
        name=name,
        cores=cores,
        clock_hz=clock_hz,
        flops_per_clock=units.fp32,
        peaks_flops_per_s={"int8": cores * clock_hz * units.int8},
        power_w=watts * cores / there,
        caches_bytes=_caches(),
        matmul_flops_per_s=rates.matmul_flops_per_s,
        copy_bytes_per_s=rates.copy_bytes_per_s,
        source=f"{units.name}, {units.words}, {clock}; {words}; rates timed {rates.date} on {threads} threads",
    )


class Calibration(Record):
    """Rates of one machine as timed.

    Attributes:
        machine: processor, cores, threads and torch's version; another one is timed anew.
        date: of the timing, ISO 8601.
        matmul_flops_per_s, copy_bytes_per_s: as in :class:`Device`.
    """

    machine: str
    date: str
    matmul_flops_per_s: float = Field(gt=0)
    copy_bytes_per_s: float = Field(gt=0)


def calibration_path() -> Path:
    """Where this machine's rates are kept: ``$XDG_CACHE_HOME`` or ``~/.cache``, then ``leanrx/machine.yaml``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leanrx" / "machine.yaml"


def _calibration(machine: str, again: bool) -> Calibration:
    path = calibration_path()
    if path.is_file() and not again:
        known = Calibration.load(path)
        if known.machine == machine:
            return known
    found = Calibration(
        machine=machine,
        date=datetime.date.today().isoformat(),
        matmul_flops_per_s=_time_matmul(),
        copy_bytes_per_s=_time_copy(),
    )
    # without a place to keep it, it is timed again next time
    with contextlib.suppress(OSError):
        write_atomic(path, found.to_yaml())
    return found


def _caches() -> tuple[int, ...]:
    """Data and unified caches that the first core sees, as Linux tells; nothing elsewhere."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    found = set()
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        with contextlib.suppress(OSError, ValueError):
            if (index / "type").read_text().strip() != "Instruction":
                size = (index / "size").read_text().strip()
                found.add(int(size.rstrip("KMG")) * units.get(size[-1], 1))
    return tuple(sorted(found))


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
    """FLOP/s of single-precision matrix products on the CPU."""
    import torch

    a = torch.ones(size, size)
    return 2 * size**3 / _median_s(lambda: a @ a)


def _time_copy(size: int = 2**28) -> float:
    """Bytes per second, read and written together, of copies that no cache holds."""
    import torch

    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    return 2 * size / _median_s(lambda: target.copy_(source))


def _median_s(work: Callable[[], object]) -> float:
    """Median time of calls over half a second, after one to warm up."""
    work()
    times: list[float] = []
    while sum(times) < 0.5 or len(times) < 5:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
