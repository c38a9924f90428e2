"""A run: one folder with its configuration, plan, receivers and tables."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from energy.metering.table import ENERGY
from leanrx.experiment.artefacts import check_receivers
from leanrx.experiment.plan import Plan, ReceiverRecord, build_plan
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.messages import echo
from leanrx_core.tables import TableSchema, read_table
from receivers.evaluation.monte_carlo import Shard
from receivers.evaluation.store import COUNTS
from receivers.neural.weights import Card, NeuralReceiver, load

OLD_RECEIVERS = "*-twin*"
"""Folders of scratch baselines in runs of earlier versions."""


class _Instrument(BaseModel):
    name: str
    usable: bool
    detail: str
    remedy: str = ""


class _Environment(BaseModel):
    """What a report reads of ``environment.json``."""

    platform: str
    packages: dict[str, str | None]
    instruments: list[_Instrument]


@dataclass(frozen=True)
class Run:
    """A run folder and its configuration.

    Example:
        >>> import tempfile
        >>> from leanrx.experiment.sweep_config import SweepConfig
        >>> data = {
        ...     "label": "demo",
        ...     "scenario": "tdl-6prb",
        ...     "students": {"receivers": "hybrid-w8-d2"},
        ...     "evaluation": {"sinr_db": [0, 10]},
        ... }
        >>> run = Run(Path(tempfile.mkdtemp()) / "demo", SweepConfig.parse(data, "demo.yaml"))
        >>> run.plan["hybrid-w8-d2-kd"].role
        'student'
        >>> run.receiver_names()  # nothing is trained yet
        []
    """

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
        """Folder of the trained receivers."""
        return self.folder / "receivers"

    @property
    def ber_path(self) -> Path:
        """Table of error counts."""
        return self.folder / "ber.parquet"

    def shard_path(self, shard: Shard) -> Path:
        """Table of error counts of one shard; its folder is locked by the process that counts it."""
        return self.folder / "shards" / f"{shard.index}-of-{shard.count}" / "ber.parquet"

    @property
    def energy_path(self) -> Path:
        """Table of metered and estimated energy."""
        return self.folder / "energy.parquet"

    @property
    def metering_folder(self) -> Path:
        """Folder of the recorded metering windows."""
        return self.folder / "metering"

    @property
    def validation_folder(self) -> Path:
        """Folder of the validation of the estimators."""
        return self.folder / "validation"

    @property
    def ecal_path(self) -> Path:
        """Life cycles of the receivers."""
        return self.folder / "ecal.json"

    @property
    def report_folder(self) -> Path:
        """Folder of the report."""
        return self.folder / "report"

    def receiver_names(self) -> list[str]:
        """Names of the receivers that are trained, in the order of the plan: teachers before students."""
        complete = {p.parent.name for p in self.receivers_folder.glob("*/card.json")}
        return [r.name for r in self.plan.neural if r.name in complete]

    def names_with_weights(self) -> set[str]:
        """Names of the trained receivers whose weights exist. Another receiver has to be trained again."""
        return {n for n in self.receiver_names() if (self.receivers_folder / n / "weights.safetensors").exists()}

    def receiver(self, name: str, device: str = "cpu") -> NeuralReceiver:
        """Load a trained receiver.

        Args:
            name: of the receiver; ``smallest`` is the student with the fewest parameters.
            device: torch device.

        Raises:
            UserError: if it is not in the run or its files are damaged.
        """
        if name == "smallest":
            students = [self.receiver(n).card for n in self.receiver_names() if self.plan[n].role == "student"]
            if not students:
                raise UserError(f"{self.folder}: has no trained student; run: leanrx sweep on its configuration")
            name = min(students, key=lambda card: card.parameters).name
        if name not in [r.name for r in self.plan.neural]:
            raise UserError(
                f"receiver: no '{name}' in {self.folder}; trained receivers: "
                f"{', '.join(self.receiver_names()) or 'none yet'}"
            )
        receiver = load(self.receivers_folder / name, device)
        self._check_card(receiver.card, self.plan[name])
        return receiver

    def _check_card(self, card: Card, record: ReceiverRecord) -> None:
        """Refuse the card of another receiver, or one without the slots and steps that energy is divided by.

        A pretrained teacher brings its own card, which need not say how it was trained.
        """
        path, training = self.receivers_folder / record.name / "card.json", card.training
        if (card.name, card.receiver, card.role) != (record.name, record.spec, record.role):
            raise UserError(f"{path}: is not the card of {record.name}; delete its folder and train it again")
        keys = ["steps", "batch_slots"] if training.get("energy") is not None else []
        if record.role != "teacher" or record.spec not in self.config.teacher.pretrained:
            keys.append("slots")
        values = {f"training.{key}": training.get(key) for key in keys}
        teacher_slots = training.get("teacher_slots", {})
        if not isinstance(teacher_slots, dict):
            raise UserError(f"{path}: training.teacher_slots: {echo(teacher_slots)} is no mapping; train it again")
        values |= {f"training.teacher_slots.{name}": slots for name, slots in teacher_slots.items()}
        for field, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UserError(
                    f"{path}: {field}: {echo(value)} is not a number above 0; delete its folder and train it again"
                )

    def counts(self, path: Path | None = None) -> pd.DataFrame:
        """Error counts of the run, or of the table of a shard.

        Raises:
            UserError: if nothing was evaluated yet, or the table is damaged or of an earlier version.
        """
        return self._table(path or self.ber_path, COUNTS, "leanrx evaluate")

    def energy(self) -> pd.DataFrame:
        """Energy rows.

        Raises:
            UserError: if nothing was metered yet, or the table is damaged or of an earlier version.
        """
        return self._table(self.energy_path, ENERGY, "leanrx energy")

    def input_digests(self) -> dict[str, str]:
        """SHA-256 of the tables that life cycles and report follow from, by file name."""
        paths = [p for p in (self.ber_path, self.energy_path) if p.is_file()]
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}

    def environment(self) -> dict[str, Any]:
        """Packages, hardware and instruments at the time when the run began.

        Raises:
            UserError: if the file is missing or damaged.
        """
        path = self.folder / "environment.json"
        try:
            environment = dict(json.loads(path.read_text(encoding="utf-8")))
            _Environment.model_validate(environment)
        except (OSError, ValueError, TypeError, RecursionError):
            raise UserError(f"{path}: missing or damaged; delete it and run leanrx sweep again") from None
        return environment

    def _table(self, path: Path, schema: TableSchema, command: str) -> pd.DataFrame:
        if not path.exists():
            raise UserError(f"{path}: missing; run: {command} {self.folder}")
        return read_table(path, schema, f"delete it and run: {command} {self.folder}")


def open_run(config: SweepConfig, root: str | Path = "runs") -> Run:
    """Create the folder of a run, or resume an existing run.

    An existing run takes over the configuration if its trained receivers do not depend on what changed.

    Raises:
        UserError: if the folder holds receivers of another configuration, or a run of an earlier version.
    """
    run = Run(Path(root) / config.label, config)
    stored = config.model_copy(update={"search": None})  # a search stores its own settings
    previous = previous_config(run)
    if previous != stored:
        check_receivers(run, previous)
        write_atomic(run.folder / "config.yaml", stored.to_yaml())
    if not (run.folder / "environment.json").exists():
        from energy.hardware.doctor import report

        write_atomic(
            run.folder / "environment.json", json.dumps({"git_commit": _commit(), **report()}, indent=2) + "\n"
        )
    return run


def previous_config(run: Run) -> SweepConfig | None:
    """The configuration that is stored in the folder of a run; none for a new run.

    Raises:
        UserError: if it is damaged, or the folder holds a run of an earlier version.
    """
    return _load_config(run.folder) if (run.folder / "config.yaml").exists() else None


def load_run(folder: str | Path) -> Run:
    """An existing run.

    Raises:
        UserError: if the folder is not a run, or a run of an earlier version.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: not a run folder (no config.yaml); give runs/<label>")
    return Run(folder, _load_config(folder))


def _load_config(folder: Path) -> SweepConfig:
    """The configuration of an existing run. A run of an earlier version is refused, because its files differ."""
    remedy = "keep it for that version; run leanrx sweep with another 'label' for a new run"
    try:
        config = SweepConfig.load(folder / "config.yaml")
    except UserError as error:
        if "renamed to" in str(error):
            reason = str(error).removeprefix(f"{folder}/")
            raise UserError(f"{folder}: a run of an earlier version of leanrx ({reason}); {remedy}") from None
        raise
    old = next((folder / "receivers").glob(OLD_RECEIVERS), None)
    if old is not None:
        raise UserError(f"{folder}: a run of an earlier version of leanrx (it has receivers/{old.name}); {remedy}")
    return config


def _commit() -> str | None:
    """Commit of the source tree, if leanrx runs from a git repository."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    try:
        process = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return process.stdout.strip()
