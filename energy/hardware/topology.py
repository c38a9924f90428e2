"""Cores and sockets of this machine, and the part of them that this process may use.

::

    /sys/devices/system/cpu/online                      0-127             hardware threads, which Linux calls CPUs
                            cpu0/topology/core_cpus_list        0,64      the threads of one core
                                          physical_package_id   0         its socket
    sched_getaffinity                                   {0, 1}            threads that this process may use
    /sys/fs/cgroup/.../cpu.max                          200000 100000     CPU time of a container: two CPUs

A core is used if the process may use one of its threads. Two threads of one core share its units and its power.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CPUS = Path("sys/devices/system/cpu")
_EFFICIENCY_CPUS = Path("sys/devices/cpu_atom/cpus")


@dataclass(frozen=True)
class Topology:
    """Cores of a machine.

    Attributes:
        cores: hardware threads of each core, by their numbers.
        sockets: processors of the machine.
        usable: threads that this process may use.
        quota_cpus: CPU time per time that the control groups of this process allow; infinite without a limit.
        parts: implementer and part number of each thread of an Arm processor.
        efficiency: threads of the smaller cores of a hybrid Intel processor.
        caches_bytes: data and unified caches that the usable threads share, all of a level together, first level first.

    Example:
        >>> desktop = Topology((frozenset({0, 2}), frozenset({1, 3})), 1, frozenset({0, 2}))
        >>> desktop.num_busy_cores(threads=4), desktop.busy_fraction(threads=4)
        (1, 0.5)
    """

    cores: tuple[frozenset[int], ...]
    sockets: int
    usable: frozenset[int]
    quota_cpus: float = math.inf
    parts: tuple[tuple[int, tuple[int, int]], ...] = ()
    efficiency: frozenset[int] = frozenset()
    caches_bytes: tuple[int, ...] = ()

    @classmethod
    def read(cls, root: Path = Path("/"), affinity: frozenset[int] | None = None) -> Self:
        """The machine at hand. Where the system does not describe its cores, every CPU is one.

        Args:
            root: of the file system.
            affinity: threads that this process may use; those that the system names if not given.
        """
        online = _cpu_list(root / _CPUS / "online") or frozenset(range(os.cpu_count() or 1))
        cores = {
            _cpu_list(_file(root, cpu, "core_cpus_list", "thread_siblings_list")) or frozenset({cpu}) for cpu in online
        }
        packages = {_text(root / _CPUS / f"cpu{cpu}" / "topology" / "physical_package_id") for cpu in online}
        if affinity is None:
            affinity = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
        usable = (affinity & online) or online
        return cls(
            cores=tuple(sorted((core & online for core in cores), key=min)),
            sockets=len(packages),
            usable=usable,
            quota_cpus=min(_quotas(root), default=math.inf),
            parts=tuple(_parts(root)),
            efficiency=_cpu_list(root / _EFFICIENCY_CPUS) or frozenset(),
            caches_bytes=tuple(_caches_bytes(root, usable)),
        )

    @property
    def num_cpus(self) -> int:
        """Hardware threads of the machine."""
        return sum(map(len, self.cores))

    @property
    def usable_cores(self) -> list[frozenset[int]]:
        """Cores of which this process may use a thread."""
        return [core for core in self.cores if core & self.usable]

    def num_busy_cores(self, threads: int) -> int:
        """Cores that so many busy threads use."""
        return max(1, math.ceil(self._busy(threads)))

    def busy_fraction(self, threads: int) -> float:
        """Part of the machine's cores that so many threads keep busy."""
        return self._busy(threads) / len(self.cores)

    def _busy(self, threads: int) -> float:
        return min(len(self.usable_cores), threads, self.quota_cpus)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _file(root: Path, cpu: int, *names: str) -> Path:
    folder = root / _CPUS / f"cpu{cpu}" / "topology"
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


def _cpu_list(path: Path) -> frozenset[int]:
    """CPUs of a list such as ``0-3,8``; none if there is no such file."""
    cpus: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", _text(path)):
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs' worth of time that each control group of this process allows, version 1 and 2."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        bases = [mount / controllers, mount / "cpu"] if controllers else [mount, mount / "unified"]
        for base in bases:
            folder = base / path.strip("/")
            for group in (folder, *folder.parents[: len(folder.parts) - len(base.parts)]):
                yield from _quota(group)


def _quota(group: Path) -> Iterator[float]:
    limit, _, period = _text(group / "cpu.max").partition(" ")
    if not limit:
        limit, period = (_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    with contextlib.suppress(ValueError, ZeroDivisionError):  # "max", or no such file
        if float(limit) > 0:
            yield float(limit) / float(period)


def _parts(root: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Implementer and part number of each CPU of an Arm processor."""
    for block in _text(root / "proc/cpuinfo").split("\n\n"):
        fields = dict(re.findall(r"^([^\t:]+?)\s*:\s*(\S+)$", block, re.MULTILINE))
        with contextlib.suppress(KeyError, ValueError):
            yield int(fields["processor"]), (int(fields["CPU implementer"], 16), int(fields["CPU part"], 16))


_CACHE_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def _caches_bytes(root: Path, cpus: frozenset[int]) -> Iterator[int]:
    """Size of each level; a cache that several CPUs share counts once."""
    sizes: dict[tuple[str, str], int] = {}
    for cpu in sorted(cpus):
        for cache in (root / _CPUS / f"cpu{cpu}" / "cache").glob("index*"):
            size = re.fullmatch(r"(\d+)([KMG]?)", _text(cache / "size"))
            if size is not None and _text(cache / "type") != "Instruction":
                key = _text(cache / "level"), _text(cache / "shared_cpu_list")
                sizes[key] = int(size[1]) * _CACHE_UNITS.get(size[2], 1)
    for level in sorted({level for level, _ in sizes}):
        yield sum(size for (own_level, _), size in sizes.items() if own_level == level)
