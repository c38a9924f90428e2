"""What a sweep is, as it is written in YAML: the teacher, the students, how they are taught, tested and metered.

A list may stand in place of one receiver, one seed, one scenario (each is a run of its own), one way to distil, and any
figure of ``distillation``: then all combinations are trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from channels.scenarios import NamedScenario
from distillation.job import Training
from distillation.objective import Distillation
from leanrx_core.errors import UserError
from leanrx_core.records import Range, Record, read_yaml
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import parse_spec


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("is empty; name at least one")
    twice = next((v for v in values if values.count(v) > 1), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice")
    return values


def _checked_spec(spec: str) -> str:
    try:
        parse_spec(spec)
    except UserError as error:
        raise ValueError(str(error).removeprefix("receiver: ")) from None
    return spec


def _combinations(value: Any) -> Any:
    return tuple(way for entry in _listed(value) for way in _product(entry))


def _product(entry: Any) -> Iterator[Any]:
    """Every combination of the lists in one way to distil."""
    if not isinstance(entry, dict):
        yield entry
        return
    axes = [values if _is_axis(key, values) else [values] for key, values in entry.items()]
    for combination in itertools.product(*axes):
        yield dict(zip(entry, combination, strict=True))


def _is_axis(key: str, values: Any) -> bool:
    if key == "transfers":  # is a list itself
        return isinstance(values, list) and any(isinstance(v, list) for v in values)
    return isinstance(values, list)


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_listed), AfterValidator(_different)]
Specs = Annotated[
    tuple[Annotated[str, AfterValidator(_checked_spec)], ...], BeforeValidator(_listed), AfterValidator(_different)
]
Ways = Annotated[tuple[Distillation, ...], BeforeValidator(_combinations), AfterValidator(_different)]


class Teacher(Record):
    """The large receiver, or several of them.

    Attributes:
        receiver: spec strings.
        seeds: each receiver is trained once per seed; the run's ``seed`` if not given.
        training: how.
        trained: receivers that are trained already, by spec string: folders, or names in :mod:`receivers.zoo`. They are
            of one seed.
    """

    receiver: Specs = ("deeprx",)
    seeds: Seeds | None = None
    training: Training = Training()
    trained: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _trained_are_named(self) -> Self:
        for spec in self.trained:
            if spec not in self.receiver:
                raise ValueError(f"trained: {spec} is not among the receivers {', '.join(self.receiver)}")
        if self.trained and len(self.seeds or ()) > 1:
            raise ValueError("trained: one receiver would stand for several seeds; write one seed")
        return self


class Students(Record):
    """The compact receivers: each is distilled in every way, and trained once more from scratch as its twin.

    Attributes:
        receivers: spec strings.
        seeds: each receiver is trained once per seed, which fixes its weights and slots; the run's own ``seed`` fixes
            the teacher and the test slots.
        training: of students and twins.
        distillation: ways to distil.
    """

    receivers: Specs
    seeds: Seeds = (1,)
    training: Training = Training()
    distillation: Ways = (Distillation(),)


class Search(Record):
    """What ``leanrx tune`` searches: see :mod:`leanrx.experiment.search`.

    Attributes:
        ranges: lowest and highest value of figures of ``distillation`` and ``training``, by name; drawn uniformly, or
            log-uniformly where the highest is ten times the lowest or more.
        trials: how many trainings.
        receiver: the student, one of the run's; its first if not given. It listens as the first way to distil says, but
            for what is searched, and has the first of the students' seeds.
        steps: of each trial's training; as the run's students if not given.
        sinr_db: validation points; those of the evaluation if not given.
        slots: validation slots per point, a multiple of 32.
    """

    ranges: dict[str, Range] = Field(min_length=1)
    trials: int = Field(20, ge=1)
    receiver: str | None = None
    steps: int | None = Field(None, ge=1)
    sinr_db: tuple[float, ...] | None = Field(None, min_length=1)
    slots: int = Field(512, ge=1, multiple_of=32)

    @model_validator(mode="after")
    def _ranges_are_of_figures(self) -> Self:
        figures = {
            name: record
            for record in (Distillation, Training)
            for name, field in record.model_fields.items()
            if isinstance(field.default, float)
        }
        for name, ends in self.ranges.items():
            if name not in figures:
                raise ValueError(f"ranges: '{name}' cannot be searched; figures: {', '.join(figures)}")
            for end in ends:
                try:
                    figures[name].parse({name: end}, "ranges")
                except UserError as error:
                    raise ValueError(str(error)) from None
        return self


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
    """How a run's life cycles are accounted: see :mod:`leanrx.life_cycle.inventory`.

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
    """A whole run: teachers, their students and their twins, tested, metered and reported."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    scenario: NamedScenario
    seed: Seed = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    teacher: Teacher = Teacher()
    students: Students
    evaluation: Evaluation
    search: Search | None = None
    metering: Metering = Metering()
    ecal: Ecal = Ecal()
    report: Reporting = Reporting()
    recorded: Recorded = Recorded()

    @classmethod
    def load_all(cls, path: str | Path) -> list[Self]:
        """The runs of a YAML file: one, or one per scenario if several are listed.

        Raises:
            UserError: as :meth:`load`.
        """
        data = read_yaml(path)
        if not isinstance(data, dict) or not isinstance(data.get("scenario"), list):
            return [cls.parse(data, str(path))]
        if not data["scenario"]:
            raise UserError(f"{path}: scenario: is empty; name at least one")
        runs = [cls.parse({**data, "scenario": scenario}, str(path)) for scenario in data["scenario"]]
        names = [run.scenario.name for run in runs]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise UserError(f"{path}: scenario: names {twice} twice; give each a name of its own")
        return [run.model_copy(update={"label": f"{run.label}-{run.scenario.name}"}) for run in runs]

    @model_validator(mode="after")
    def _can_train_and_test(self) -> Self:
        for split in ("train", "test"):
            if not getattr(self.scenario.channels, split):
                raise ValueError(f"scenario.channels.{split} is empty; name at least one model")
        return self

    @model_validator(mode="after")
    def _search_has_a_student(self) -> Self:
        if self.search and self.search.receiver not in (None, *self.students.receivers):
            raise ValueError(
                f"search.receiver: {self.search.receiver} is not among the students "
                f"{', '.join(self.students.receivers)}"
            )
        return self

    def torch_device(self) -> str:
        """The device that ``auto`` stands for.

        Raises:
            UserError: if CUDA is asked for and missing.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; write auto or cpu")
        return "cuda:0" if self.device != "cpu" and torch.cuda.is_available() else "cpu"
