"""Calibration: rates of this machine's CPU as timed, kept in a file."""

from __future__ import annotations

import contextlib
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from leanrx_core.files import write_atomic
from leanrx_core.records import Record


class Calibration(Record):
    """Rates of one machine as timed.

    Attributes:
        machine: processor, cores, threads and torch's version; another one is timed again.
        date: of the timing, ISO 8601.
        matmul_flops_per_s, copy_bytes_per_s: as in :class:`Device`.
    """

    machine: str
    date: str
    matmul_flops_per_s: float = Field(gt=0)
    copy_bytes_per_s: float = Field(gt=0)


def calibration_path() -> Path:
    """File of this machine's rates: ``leanrx/machine.yaml`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    A user without a home directory has it in the folder of temporary files.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        cache = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return cache / "leanrx" / "machine.yaml"


def calibrate(machine: str, recalibrate: bool = False) -> Calibration:
    """The rates of this machine, timed once and kept in a file.

    Args:
        machine: description of the machine; the file of another one is not used.
        recalibrate: time again although there is a file.

    Raises:
        UserError: if the file is damaged.
    """
    path = calibration_path()
    if not recalibrate and os.path.isfile(path) and os.access(path, os.R_OK):
        recorded = Calibration.load(path)
        if recorded.machine == machine:
            return recorded
    calibration = Calibration(
        machine=machine,
        date=datetime.date.today().isoformat(),
        matmul_flops_per_s=_time_matmul(),
        copy_bytes_per_s=_time_copy(),
    )
    # without a writable file, the machine is timed again next time
    with contextlib.suppress(OSError):
        write_atomic(path, calibration.to_yaml())
    return calibration


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


def _median_s(call: Callable[[], object]) -> float:
    """Median time of calls over half a second, after one to warm up."""
    call()
    times: list[float] = []
    while sum(times) < 0.5 or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
