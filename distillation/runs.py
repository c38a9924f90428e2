"""One run, one folder: its configuration, its files, and what may be resumed."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator

from channels import Record, UserError
from channels.records import TEMPORARY, write_atomic
from channels.scenarios import NamedScenario
from distillation.training import Distillation, Training
from energy.account import EnergyRow
from receivers.ber import BlockCount, Evaluation, Shard
from receivers.spec import parse_spec
from receivers.weights import NeuralReceiver, load

Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _checked_spec(spec: str) -> str:
    try:
        parse_spec(spec)
    except UserError as error:
        raise ValueError(str(error).removeprefix("receiver: ")) from None
    return spec


class Teacher(Record):
    """The large receiver."""

    receiver: str = "deeprx"
    training: Training = Training()

    _spec = field_validator("receiver")(_checked_spec)


class Students(Record):
    """The compact receivers: each is trained from the teacher, and once more from scratch as its twin.

    Attributes:
        receivers: spec strings.
        seeds: each receiver is trained once per seed, which fixes its weights and slots; the run's own ``seed`` fixes
            the teacher and the test slots.
        training, distillation: how.
    """

    receivers: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field((1,), min_length=1)
    training: Training = Training()
    distillation: Distillation = Distillation()

    @field_validator("receivers")
    @classmethod
    def _specs(cls, specs: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(specs)) < len(specs):
            raise ValueError("names a receiver twice")
        return tuple(_checked_spec(s) for s in specs)

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("names a seed twice")
        return seeds


class Metering(Record):
    """How energy is metered.

    Attributes:
        batch_slots: slots per call.
        min_duration_s: shortest window.
        cpu_power_w: power of the CPU cores under full load for models; CodeCarbon's table if not given.
    """

    batch_slots: int = Field(32, ge=1)
    min_duration_s: float = Field(5.0, ge=1)
    cpu_power_w: float | None = Field(None, gt=0)


class Ecal(Record):
    """How a run's life cycles are accounted: see :mod:`distillation.lifecycle`.

    Attributes:
        inferences: slots received in service, at which eCAL is stated.
        hops: generic network hops that received samples cross before inference; 0 for a receiver beside its radio.
        development_hops: hops that training and test slots cross.
        virtualisation: overhead share on everything.
        bits_per_value: of each real and imaginary part.
        overhead, radio: reading of the sum over protocol layers, see :class:`energy.ecal.Reading`.
        teacher: a teacher's energy is ``charged`` to each student in full, or ``shared`` over all students of the run.
    """

    inferences: int = Field(1_000_000, ge=1)
    hops: int = Field(0, ge=0)
    development_hops: int = Field(0, ge=0)
    virtualisation: float = Field(0.0, ge=0, le=1)
    bits_per_value: int = Field(32, ge=1)
    overhead: Literal["truncated", "exact"] = "truncated"
    radio: Literal["all-layers", "physical"] = "all-layers"
    teacher: Literal["charged", "shared"] = "charged"


class Reporting(Record):
    """What the report answers: the SINR of the trade-off figure and the BER that receivers must reach."""

    sinr_db: float = Field(15.0, ge=-50, le=100)
    target_ber: float = Field(1e-2, gt=0, lt=0.5)


class Recorded(Record):
    """Folders of datasets (see :mod:`channels.dataset`) to read slots from, in place of making them.

    Attributes:
        train: all nets train on its blocks, again and again; ``block_slots`` must be ``batch_slots``.
        test: must hold the evaluation's test points.
    """

    train: str | None = None
    test: str | None = None


class Sweep(Record):
    """A whole run: a teacher, its students and their twins, tested, metered and reported."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scenario: NamedScenario
    seed: Seed = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    teacher: Teacher = Teacher()
    students: Students
    evaluation: Evaluation
    metering: Metering = Metering()
    ecal: Ecal = Ecal()
    report: Reporting = Reporting()
    recorded: Recorded = Recorded()

    @model_validator(mode="after")
    def _can_train_and_test(self) -> Self:
        for split in ("train", "test"):
            if not getattr(self.scenario.channels, split):
                raise ValueError(f"scenario.channels.{split} is empty; name at least one model")
        return self

    def torch_device(self) -> str:
        """The device that ``auto`` stands for.

        Raises:
            UserError: if CUDA is asked for and missing.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; write auto or cpu")
        return "cuda:0" if self.device != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Run:
    """A run folder and its configuration."""

    folder: Path
    config: Sweep

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
        return [p.name for p in planned(self.config) if p.name in complete]

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
        if name not in [p.name for p in planned(self.config)]:
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


@dataclass(frozen=True)
class Planned:
    """One learned receiver of a run: its name, role (teacher, student or twin), spec string, and seed."""

    name: str
    role: str
    receiver: str
    seed: int


def planned(config: Sweep) -> list[Planned]:
    """All learned receivers of a run: the teacher, then each student and its twin."""
    found = [Planned("teacher", "teacher", config.teacher.receiver, config.seed)]
    for spec in config.students.receivers:
        for seed in config.students.seeds:
            suffix = f"-s{seed}" if len(config.students.seeds) > 1 else ""
            found.append(Planned(f"{spec}-kd{suffix}", "student", spec, seed))
            found.append(Planned(f"{spec}-twin{suffix}", "twin", spec, seed))
    return found


def twin_of(name: str, config: Sweep) -> str | None:
    """The twin of a student, or none for other receivers."""
    plan = planned(config)
    student = next((p for p in plan if p.name == name and p.role == "student"), None)
    if student is None:
        return None
    return next(p.name for p in plan if (p.role, p.receiver, p.seed) == ("twin", student.receiver, student.seed))


def open_run(config: Sweep, root: str | Path = "runs") -> Run:
    """Create the folder of a run, or go on in it.

    Raises:
        UserError: if the folder holds a run of another configuration.
    """
    folder = Path(root) / config.label
    path = folder / "config.yaml"
    if path.exists():
        there = Sweep.load(path)
        if there != config:
            raise UserError(
                f"{folder}: holds a run with another {_difference(there, config)}; "
                "change 'label' in the configuration or delete the folder"
            )
    else:
        write_atomic(path, config.to_yaml())
    if not (folder / "environment.json").exists():
        from energy.doctor import report

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
    return Run(folder, Sweep.load(folder / "config.yaml"))


def lock(folder: str | Path) -> IO[str]:
    """Hold a run folder for this process as long as the returned file is open; clear what a killed one left behind.

    Raises:
        UserError: if another process holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = (Path(folder) / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{folder}: in use by another process; wait for it or stop it") from None
    for left in Path(folder).rglob(f"{TEMPORARY}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return file


def _difference(there: Sweep, here: Sweep) -> str:
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
    source = Path(__file__).parent.parent
    if not (source / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
