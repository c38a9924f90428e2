"""RAPL energy counters of Intel and AMD CPUs through Linux's powercap tree.

::

    /sys/class/powercap/intel-rapl:0/          name: package-0    cores, caches, memory controller
                        intel-rapl:0:0/        name: core         part of the package: not added
                        intel-rapl:0:1/        name: dram         added as RAM where there is one

A counter counts microjoules and begins again at ``max_energy_range_uj``. A thread reads it every :data:`POLL_S` while a
window is open, so that a long window counts every wrap. A counter that went back by no plausible wrap was reset, for
example by a suspend, and is refused. The shorter the time between readings, the surer this is. The counter advances
about every millisecond, in steps of some tens of microjoules. At tens of watts, the joules of a millisecond are larger
than a step, and they are its resolution.

A package of several dies has a domain for each: ``package-0-die-0``, ``package-0-die-1``. On some processors every die
has its own counter, and on others all show the counter of the package. The latter are counted once.
"""

from __future__ import annotations

import platform
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energy.metering.measurement import Measurement, check_power, reading_uncertainty_j
from leanrx_core.errors import UserError

POWERCAP = Path("/sys/class/powercap")
POLL_S = 10.0
"""Time between readings of an open window. A counter of a range of 65 kJ wraps after 131 s at 500 W."""

MOST_W = 1500.0
"""No processor or memory of one socket draws more for long."""

_STEP_J = 61e-6  # 2^-14 J, the usual energy status unit
_UPDATE_S = 1e-3
_SAME_COUNTER_J = 1.0  # two readings of one counter differ by less; two counters hardly ever agree so well
_SAME_ENERGY = 0.02  # of a window; dies with counters of their own do not share the load so evenly
_READINGS = 5  # of which one is undisturbed


@dataclass(frozen=True)
class _Domain:
    """A counter.

    Attributes:
        folder: of its files.
        component: ``cpu`` or ``ram``.
        package: number of the package whose dies have domains of their own; none for a domain of a whole package.
        range_j: where it begins again.
    """

    folder: Path
    component: str
    package: str | None
    range_j: float

    def read_j(self) -> float:
        return 1e-6 * _number(self.folder / "energy_uj")

    def advance_j(self, old_j: float, new_j: float, duration_s: float) -> float:
        """What the counter advanced between two readings, at most one wrap.

        Raises:
            UserError: if it went back by no wrap, or advanced by more than a processor can draw.
        """
        advance_j = new_j - old_j + (self.range_j if new_j < old_j else 0.0)
        reset = f"RAPL: {self.folder.name} went from {old_j:g} J to {new_j:g} J in {duration_s:.3g} s"
        if advance_j < 0 or new_j > self.range_j > 0:
            raise UserError(f"{reset}, beyond its range of {self.range_j:g} J; meter again, or use another instrument")
        check_power(f"{reset}: the counter was reset", advance_j, duration_s, 10 * _UPDATE_S, MOST_W)
        return advance_j


def is_present(root: Path = POWERCAP) -> bool:
    """Whether the machine has a CPU energy counter, readable or not."""
    return any(name.read_text().startswith("package") for name in root.glob("intel-rapl:*/name"))


class Rapl:
    """Packages and DRAM of all sockets.

    Args:
        root: the powercap tree.

    Raises:
        UserError: if there is no counter, or it cannot be read.
    """

    name, shortest_s = "RAPL", 0.1

    def __init__(self, root: Path = POWERCAP) -> None:
        folders = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
        self._domains = [d for f in folders if (d := _domain(f)) is not None]
        if not any(d.component == "cpu" for d in self._domains):
            raise UserError(
                f"RAPL: no CPU energy counter under {root}; usual in virtual machines and on other CPUs; "
                "run on bare metal with an Intel or AMD CPU, or read a wattmeter"
            )
        self._dies = self._mirrored_dies()
        self._open()

    def begin(self) -> None:
        """Read the counters, and keep reading them until :meth:`end`."""
        self._open()
        self._error: UserError | None = None
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, args=(self._closed,), name="RAPL", daemon=True)
        self._poller.start()

    def end(self) -> list[Measurement]:
        """Read them again."""
        self._closed.set()
        self._poller.join()
        if self._error is not None:
            raise self._error
        self._add_energy()
        duration_s = self._before_s - self._begin_s
        energies_j: dict[str, float] = {}
        mirrors = self._mirrors()
        for index, (domain, spent_j) in enumerate(zip(self._domains, self._spent_j, strict=True)):
            if index not in mirrors:
                energies_j[domain.component] = energies_j.get(domain.component, 0.0) + spent_j
        if energies_j["cpu"] == 0:
            raise UserError("RAPL: the CPU counter did not advance; make the window longer (metering.min_duration_s)")
        version = f"powercap, Linux {platform.release()}"
        return [
            Measurement(
                component,
                energy_j,
                "measured",
                self.name,
                version,
                reading_uncertainty_j(max(_STEP_J, energy_j / duration_s * _UPDATE_S)),
                duration_s,
            )
            for component, energy_j in energies_j.items()
        ]

    def _mirrored_dies(self) -> list[list[int]]:
        """Places of the dies of a package that show one counter, by component and package."""
        dies: dict[tuple[str, str], list[int]] = {}
        for index, domain in enumerate(self._domains):
            if domain.package is not None:
                dies.setdefault((domain.component, domain.package), []).append(index)
        groups = [places for places in dies.values() if len(places) > 1]
        readings = [self._read() for _ in range(_READINGS if groups else 0)]
        spread_j = (min(_spread([r[i] for i in places]) for r in readings) for places in groups)
        return [places for places, spread in zip(groups, spread_j, strict=True) if spread <= _SAME_COUNTER_J]

    def _mirrors(self) -> set[int]:
        """Places of domains whose energy in this window another die of the package shows, too."""
        mirrors: set[int] = set()
        for places in self._dies:
            spent_j = [self._spent_j[i] for i in places]
            if _spread(spent_j) <= _SAME_COUNTER_J + _SAME_ENERGY * max(spent_j):
                mirrors.update(places[1:])
        return mirrors

    def _open(self) -> None:
        self._before, self._begin_s = self._read(), time.perf_counter()
        self._before_s, self._spent_j = self._begin_s, [0.0] * len(self._domains)

    def _poll(self, closed: threading.Event) -> None:
        while not closed.wait(POLL_S):
            try:
                self._add_energy()
            except UserError as error:  # for the thread that measures
                self._error = error
                return

    def _add_energy(self) -> None:
        """Add what the counters advanced since the last reading."""
        after, after_s = self._read(), time.perf_counter()
        for i, (domain, old_j, new_j) in enumerate(zip(self._domains, self._before, after, strict=True)):
            self._spent_j[i] += domain.advance_j(old_j, new_j, after_s - self._before_s)
        self._before, self._before_s = after, after_s

    def _read(self) -> list[float]:
        return [d.read_j() for d in self._domains]


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _domain(folder: Path) -> _Domain | None:
    """A package or a DRAM domain; cores and uncore lie inside the package, psys around it."""
    try:
        name = (folder / "name").read_text().strip()
        package_folder = folder.with_name(":".join(folder.name.split(":")[:2]))
        die = re.fullmatch(r"package-(\d+)-die-\d+", (package_folder / "name").read_text().strip())
    except OSError:
        return None
    component = "cpu" if name.startswith("package") else "ram" if name == "dram" else None
    if component is None:
        return None
    return _Domain(folder, component, die[1] if die else None, 1e-6 * _number(folder / "max_energy_range_uj"))


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except PermissionError:
        raise UserError(
            f"RAPL: {path} is readable by root only; sudo chmod a+r /sys/class/powercap/*/energy_uj (after each boot)"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"RAPL: {path} cannot be read ({error}); use another instrument") from None
