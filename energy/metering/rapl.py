"""RAPL energy counters of Intel and AMD CPUs through Linux's powercap tree.

::

    /sys/class/powercap/intel-rapl:0/          name: package-0    cores, caches, memory controller
                        intel-rapl:0:0/        name: core         part of the package: not added
                        intel-rapl:0:1/        name: dram         added as RAM where there is one

A counter counts microjoules and begins again at ``max_energy_range_uj``. A thread reads it every :data:`POLL_S` while a
window is open, so that a long window counts every wrap. The counter advances about every millisecond, in steps of some
tens of microjoules. At tens of watts, the joules of a millisecond are larger than a step, and they are its resolution.
"""

from __future__ import annotations

import platform
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from energy.metering.measurement import Measurement, reading_uncertainty_j
from leanrx_core.errors import UserError

POWERCAP = Path("/sys/class/powercap")
POLL_S = 60.0
"""Time between readings of an open window. A counter of the usual range, 262 kJ, wraps after 262 s at 1 kW."""
_STEP_J = 61e-6  # 2^-14 J, the usual energy status unit
_UPDATE_S = 1e-3


@dataclass(frozen=True)
class _Domain:
    folder: Path
    component: str
    range_j: float

    def read_j(self) -> float:
        return 1e-6 * _number(self.folder / "energy_uj")


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
        self._open()

    def begin(self) -> None:
        """Read the counters, and keep reading them until :meth:`end`."""
        self._open()
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, args=(self._closed,), name="RAPL", daemon=True)
        self._poller.start()

    def end(self) -> list[Measurement]:
        """Read them again."""
        self._closed.set()
        self._poller.join()
        duration_s = time.perf_counter() - self._begin_s
        self._add_energy()
        energies_j: dict[str, float] = {}
        for domain, spent_j in zip(self._domains, self._spent_j, strict=True):
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

    def _open(self) -> None:
        self._before, self._begin_s = self._read(), time.perf_counter()
        self._spent_j = [0.0] * len(self._domains)

    def _poll(self, closed: threading.Event) -> None:
        while not closed.wait(POLL_S):
            try:
                self._add_energy()
            except UserError:  # the last reading raises it in the thread that measures
                return

    def _add_energy(self) -> None:
        """Add what the counters advanced since the last reading, at most one wrap each."""
        after = self._read()
        for i, (domain, old_j, new_j) in enumerate(zip(self._domains, self._before, after, strict=True)):
            self._spent_j[i] += new_j - old_j + (domain.range_j if new_j < old_j else 0.0)
        self._before = after

    def _read(self) -> list[float]:
        return [d.read_j() for d in self._domains]


def _domain(folder: Path) -> _Domain | None:
    """A package or a DRAM domain; cores and uncore lie inside the package, psys around it."""
    try:
        name = (folder / "name").read_text().strip()
    except OSError:
        return None
    component = "cpu" if name.startswith("package") else "ram" if name == "dram" else None
    if component is None:
        return None
    return _Domain(folder, component, 1e-6 * _number(folder / "max_energy_range_uj"))


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except PermissionError:
        raise UserError(
            f"RAPL: {path} is readable by root only; sudo chmod a+r /sys/class/powercap/*/energy_uj (after each boot)"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"RAPL: {path} cannot be read ({error}); use another instrument") from None
