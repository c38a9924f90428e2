"""One run, one folder: its configuration, its files, and what may be resumed."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from energy.metering.table import EnergyRow
from leanrx.experiment.plan import Plan, build_plan
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.evaluation.error_counts import BlockCount
from receivers.evaluation.monte_carlo import Shard
from receivers.neural.weights import NeuralReceiver, load


@dataclass(frozen=True)
class Run:
    """A run folder and its configuration."""

    folder: Path
    config: SweepConfig

    @cached_property
    def plan(self) -> Plan:
        """The receivers of the run, computed once.

        Raises:
            UserError: as :func:`leanrx.experiment.plan.build_plan`.
        """
        return build_plan(self.config)

    @property
    def receivers_folder(self) -> Path:
        return self.folder / "receivers"

    @property
    def ber_path(self) -> Path:
        return self.folder / "ber.parquet"

    def shard_path(self, shard: Shard) -> Path:
        """Counts of one shard; its folder is held by the process that counts it."""
        return self.folder / "shards" / f"{shard.index}-of-{shard.count}" / "ber.parquet"

    @property
    def energy_path(self) -> Path:
        return self.folder / "energy.parquet"

    @property
    def agreement_folder(self) -> Path:
        return self.folder / "agreement"

    @property
    def ecal_path(self) -> Path:
        return self.folder / "ecal.json"

    @property
    def report_folder(self) -> Path:
        return self.folder / "report"

    def receiver_names(self) -> list[str]:
        """Learned receivers that are complete, teacher first, in the order of the configuration."""
        complete = {p.parent.name for p in self.receivers_folder.glob("*/card.json")}
        return [r.name for r in self.plan.neural if r.name in complete]

    def receiver(self, name: str, device: str = "cpu") -> NeuralReceiver:
        """Load a learned receiver; ``smallest`` is the distilled student with the fewest parameters.

        Raises:
            UserError: if it is not in the run or its files are damaged.
        """
        if name == "smallest":
            students = [c for n in self.receiver_names() if (c := self.receiver(n).card).role == "student"]
            if not students:
                raise UserError(f"{self.folder}: no student yet; run: leanrx sweep on its configuration")
            name = min(students, key=lambda card: card.parameters).name
        if name not in [r.name for r in self.plan.neural]:
            raise UserError(
                f"receiver: no '{name}' in {self.folder}; there are: {', '.join(self.receiver_names()) or 'none yet'}"
            )
        return load(self.receivers_folder / name, device)

    def counts(self, path: Path | None = None) -> pd.DataFrame:
        """Error counts of the run, or of a shard's table.

        Raises:
            UserError: if nothing was evaluated yet.
        """
        return self._table(path or self.ber_path, BlockCount, "leanrx evaluate")

    def energy(self) -> pd.DataFrame:
        """Energy rows.

        Raises:
            UserError: if nothing was metered yet.
        """
        return self._table(self.energy_path, EnergyRow, "leanrx energy")

    def environment(self) -> dict[str, Any]:
        """Packages, hardware and instruments when the run began.

        Raises:
            UserError: if the file is missing or damaged.
        """
        path = self.folder / "environment.json"
        try:
            found = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            found = {}
        if not {"platform", "packages", "instruments"} <= found.keys():
            raise UserError(f"{path}: missing or damaged; delete it and run leanrx sweep again")
        return found

    def _table(self, path: Path, row: type, command: str) -> pd.DataFrame:
        if not path.exists():
            raise UserError(f"{path}: missing; run: {command} {self.folder}")
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError):
            table = pd.DataFrame()
        if set(table.columns) != {f.name for f in fields(row)}:
            raise UserError(f"{path}: damaged or of another version; delete it and run: {command} {self.folder}")
        return table


def open_run(config: SweepConfig, root: str | Path = "runs") -> Run:
    """Create the folder of a run, or go on in it.

    Raises:
        UserError: if the folder holds a run of another configuration.
    """
    folder = Path(root) / config.label
    path = folder / "config.yaml"
    kept = config.model_copy(update={"search": None})  # a search keeps its settings itself
    if path.exists():
        there = SweepConfig.load(path)
        if there != kept:
            raise UserError(
                f"{folder}: holds a run with another {_difference(there, kept)}; "
                "change 'label' in the configuration or delete the folder"
            )
    else:
        write_atomic(path, kept.to_yaml())
    if not (folder / "environment.json").exists():
        from energy.hardware.doctor import report

        write_atomic(folder / "environment.json", json.dumps({"git_commit": _commit(), **report()}, indent=2) + "\n")
    return Run(folder, config)


def load_run(folder: str | Path) -> Run:
    """An existing run.

    Raises:
        UserError: if the folder is not a run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: not a run folder (no config.yaml); give runs/<label>")
    return Run(folder, SweepConfig.load(folder / "config.yaml"))


def _difference(there: SweepConfig, here: SweepConfig) -> str:
    """The first field in which two configurations differ, with both values."""

    def walk(a: Any, b: Any, name: str) -> str | None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in a.keys() | b.keys():
                found = walk(a.get(key), b.get(key), f"{name}.{key}" if name else key)
                if found:
                    return found
            return None
        return f"{name} ({a!r} there, {b!r} here)" if a != b else None

    return walk(there.model_dump(), here.model_dump(), "") or "configuration"


def _commit() -> str | None:
    """Commit of the source tree, if leanrx runs from one."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
