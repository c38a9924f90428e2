"""The configuration of a sweep, as it is written in YAML: teacher, students, evaluation, metering, life cycle, report.

A list may stand in place of one receiver, one seed, one scenario, one distillation setting, or one value in
``distillation``. All combinations are then trained. Each scenario becomes a run of its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from channels.scenarios import MAX_BLOCK_SLOTS, NamedScenario
from distillation.job import MAX_STEPS, Training
from distillation.objective import UNUSED_SETTINGS, Distillation
from energy.ecal.life_cycle_config import ConventionConfig
from leanrx_core.checks import MAX_COUNT
from leanrx_core.errors import UserError
from leanrx_core.records import PathComponent, Range, Record, read_yaml
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import check_conditions, family_of, parse_spec


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _check_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("is empty; name at least one")
    repeated = next((v for v in values if values.count(v) > 1), None)
    if repeated is not None:
        raise ValueError(f"names {repeated} twice; name it once")
    return values


def _check_spec(spec: str) -> str:
    try:
        parse_spec(spec)
    except UserError as error:
        raise ValueError(str(error).removeprefix("receiver: ")) from None
    return spec


def _expand_settings(value: Any) -> Any:
    return tuple(setting for entry in _as_tuple(value) for setting in _combinations(entry))


def _combinations(entry: Any) -> Iterator[Any]:
    """Every combination of the lists in one entry of ``distillation``.

    Where losses are listed, each has only the settings that it uses, and equal combinations are trained once.
    """
    if not isinstance(entry, dict):
        yield entry
        return
    axes = [values if _is_axis(key, values) else [values] for key, values in entry.items()]
    reduced: list[dict[str, Any]] = []
    for combination in itertools.product(*axes):
        setting = dict(zip(entry, combination, strict=True))
        unused = UNUSED_SETTINGS.get(str(setting.get("loss")), ()) if isinstance(entry.get("loss"), list) else ()
        if unused_keys := [key for key in unused if key in setting]:
            for key in unused_keys:
                del setting[key]
            if setting in reduced:
                continue
            reduced.append(setting)
        yield setting


def _is_axis(key: str, values: Any) -> bool:
    if key == "transfers":  # one value of this key is a list already
        return isinstance(values, list) and any(isinstance(v, list) for v in values)
    return isinstance(values, list)


def _absolute(path: str) -> str:
    """An absolute path, so that a run finds its files from any working directory and after it was moved."""
    return str(Path(path).absolute())


def _absolute_folder(name_or_path: str) -> str:
    """The absolute path of a folder; a name in the zoo stays."""
    is_folder = os.sep in name_or_path or Path(name_or_path).is_dir()
    return _absolute(name_or_path) if is_folder else name_or_path


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_as_tuple), AfterValidator(_check_unique)]
Specs = Annotated[
    tuple[Annotated[str, AfterValidator(_check_spec)], ...], BeforeValidator(_as_tuple), AfterValidator(_check_unique)
]
DistillationSettings = Annotated[
    tuple[Distillation, ...], BeforeValidator(_expand_settings), AfterValidator(_check_unique)
]


class TeacherConfig(Record):
    """The large receiver, or several of them.

    Attributes:
        receiver: spec strings.
        seeds: each receiver is trained once per seed. The default is the run's ``seed``.
        training: training settings.
        pretrained: receivers that are trained already, by spec string: a folder, or a name in :mod:`receivers.zoo`.
            They allow one seed only.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"trained": "pretrained"}

    receiver: Specs = ("deeprx",)
    seeds: Seeds | None = None
    training: Training = Training()
    pretrained: dict[str, Annotated[str, AfterValidator(_absolute_folder)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        for spec in self.pretrained:
            if spec not in self.receiver:
                raise ValueError(
                    f"pretrained: {spec} is not among the receivers {', '.join(self.receiver)}; name one of them"
                )
        if self.pretrained and len(self.seeds or ()) > 1:
            raise ValueError("pretrained: one receiver would stand for several seeds; write one seed")
        return self


class StudentsConfig(Record):
    """The compact receivers. Each is distilled in every setting, and trained once more as its scratch baseline.

    Attributes:
        receivers: spec strings.
        seeds: each receiver is trained once per seed, which sets its weights and slots. The run's own ``seed`` sets the
            teacher and the test slots.
        training: training settings of students and scratch baselines.
        distillation: distillation settings.
    """

    receivers: Specs
    seeds: Seeds = (1,)
    training: Training = Training()
    distillation: DistillationSettings = (Distillation(),)

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        """Refuse students that would equal their scratch baseline, and settings that train equal students."""
        previous: list[tuple[str | None, int, dict[str, Any]]] = []
        for index, setting in enumerate(self.distillation):
            if setting.alpha == 0 and not setting.transfers:
                raise ValueError(
                    f"distillation.{index}.alpha: 0 gives the teacher no weight, and the student would equal its "
                    "scratch baseline, which is trained anyway; write a number above 0"
                )
            key = setting.teacher, setting.generations, setting.loss_settings()
            if key in previous:
                raise ValueError(
                    f"distillation.{index}: trains the same student as distillation.{previous.index(key)}, because "
                    "what differs has no effect; remove one of them"
                )
            previous.append(key)
        return self


class SearchConfig(Record):
    """The hyper-parameter search of ``leanrx tune``, see :mod:`leanrx.experiment.search`.

    Attributes:
        ranges: lowest and highest value of each hyper-parameter of ``distillation`` or ``training``, by name. Values
            are drawn uniformly, or log-uniformly where the highest is at least ten times the lowest.
        trials: number of trainings.
        receiver: spec string of the student; the run's first if not given. It has the first distillation setting,
            except for the searched values, and the first of the students' seeds.
        steps: training steps of each trial; those of the run's students if not given.
        sinr_db: validation points; those of the evaluation if not given.
        slots: validation slots per point, a multiple of 32.
    """

    ranges: dict[str, Range] = Field(min_length=1)
    trials: int = Field(20, ge=1, le=10**4)
    receiver: str | None = None
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    sinr_db: tuple[float, ...] | None = Field(None, min_length=1)
    slots: int = Field(512, ge=1, le=10**9, multiple_of=32)

    @model_validator(mode="after")
    def _check_search_ranges(self) -> Self:
        records = {
            name: record
            for record in (Distillation, Training)
            for name, field in record.model_fields.items()
            if isinstance(field.default, float)
        }
        for name, ends in self.ranges.items():
            if name not in records:
                raise ValueError(f"ranges: '{name}' cannot be searched; write one of: {', '.join(records)}")
            if ends[0] == ends[1]:
                raise ValueError(f"ranges.{name}: has one value, {ends[0]:g}; write two, or remove it")
            users = [loss for loss, unused in UNUSED_SETTINGS.items() if name not in unused]
            loss = {"loss": users[0]} if records[name] is Distillation else {}
            for end in ends:
                try:
                    records[name].parse({name: end, **loss}, "ranges")
                except UserError as error:
                    raise ValueError(str(error)) from None
        return self


class MeteringConfig(Record):
    """How energy is metered.

    Attributes:
        batch_slots: slots per call.
        min_duration_s: shortest metering window.
        rounds: metering windows per receiver.
        cpu_power_w: power of all CPUs under full load, for models. The default is CodeCarbon's table.
        reference_instrument: instrument whose energy eCAL, carbon and report use: ``wattmeter``, ``RAPL``, ``NVML`` or
            ``CodeCarbon``. The default is the best one that measures, else CodeCarbon's model.
        c_files: also meter each receiver as a compiled C file, if it has one and there is a C compiler.
    """

    batch_slots: int = Field(32, ge=1, le=MAX_BLOCK_SLOTS)
    min_duration_s: float = Field(5.0, ge=1, le=86_400)
    rounds: int = Field(2, ge=1, le=1000)
    cpu_power_w: float | None = Field(None, gt=0, le=1e5)
    reference_instrument: Literal["wattmeter", "RAPL", "NVML", "CodeCarbon"] | None = None
    c_files: bool = True


class EcalConfig(Record):
    """How the life cycles of a run are accounted, see :mod:`leanrx.life_cycle.inventory`.

    Attributes:
        inferences: slots received in service, at which eCAL is stated.
        hops: network hops that received samples cross before inference; 0 if the receiver is next to its radio.
        development_hops: network hops that training and test slots cross.
        virtualisation: overhead of virtualisation as a fraction of all energy.
        bits_per_value: bits of each real and each imaginary part.
        convention: how the sum over protocol layers is taken.
        teacher_allocation: each student bears its teacher's energy in ``full``, or it is ``split`` over all students of
            the run.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "teacher": "teacher_allocation",
        "overhead": "convention.overhead",
        "radio": "convention.radio",
    }

    inferences: int = Field(1_000_000, ge=1, le=MAX_COUNT)
    hops: int = Field(0, ge=0, le=100)
    development_hops: int = Field(0, ge=0, le=100)
    virtualisation: float = Field(0.0, ge=0, le=1)
    bits_per_value: int = Field(32, ge=1, le=64)
    convention: ConventionConfig = ConventionConfig()
    teacher_allocation: Literal["full", "split"] = "full"


class ReportConfig(Record):
    """The SINR of the trade-off figure, and the BER at which receivers are compared."""

    sinr_db: float = Field(15.0, ge=-50, le=100)
    target_ber: float = Field(1e-2, gt=0, lt=0.5)


class DatasetConfig(Record):
    """Folders of datasets to read slots from, see :mod:`channels.dataset`. Without a folder, slots are simulated.

    Attributes:
        train: all networks are trained on its blocks repeatedly; its ``block_slots`` must equal ``batch_slots``.
        test: it must contain all test points of the evaluation.
    """

    train: Annotated[str, AfterValidator(_absolute)] | None = None
    test: Annotated[str, AfterValidator(_absolute)] | None = None


class SweepConfig(Record):
    """A whole run: teachers, students and scratch baselines, their training, evaluation, metering and report.

    Example:
        >>> data = {
        ...     "label": "demo",
        ...     "scenario": "tdl-6prb",
        ...     "students": {"receivers": "hybrid-w8-d2", "distillation": {"temperature": [1, 4]}},
        ...     "evaluation": {"sinr_db": [0, 10]},
        ... }
        >>> config = SweepConfig.parse(data, "demo.yaml")
        >>> [setting.temperature for setting in config.students.distillation]
        [1.0, 4.0]
        >>> SweepConfig.parse({**data, "recorded": {}}, "demo.yaml")
        Traceback (most recent call last):
        leanrx_core.errors.UserError: demo.yaml: recorded: renamed to 'dataset'
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"recorded": "dataset"}

    label: PathComponent
    scenario: NamedScenario
    seed: Seed = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    teacher: TeacherConfig = TeacherConfig()
    students: StudentsConfig
    evaluation: Evaluation
    search: SearchConfig | None = None
    metering: MeteringConfig = MeteringConfig()
    ecal: EcalConfig = EcalConfig()
    report: ReportConfig = ReportConfig()
    dataset: DatasetConfig = DatasetConfig()

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
        repeated = next((n for n in names if names.count(n) > 1), None)
        if repeated is not None:
            raise UserError(f"{path}: scenario: names {repeated} twice; give each a name of its own")
        return [run.model_copy(update={"label": f"{run.label}-{run.scenario.name}"}) for run in runs]

    @model_validator(mode="after")
    def _check_channel_models(self) -> Self:
        for split in ("train", "test"):
            if not getattr(self.scenario.channels, split):
                raise ValueError(f"scenario.channels.{split} is empty; name at least one model")
        for i, member in enumerate(self.scenario.mixture or ()):
            if not member.channels.train:
                raise ValueError(f"scenario.mixture.{i}.channels.train is empty; name at least one model")
        return self

    @model_validator(mode="after")
    def _check_dataset(self) -> Self:
        if self.scenario.mixture is not None and self.dataset.train is not None:
            raise ValueError(
                "dataset.train: has slots of one scenario, and scenario.mixture names several; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _check_networks(self) -> Self:
        """Refuse networks that cannot receive the scenario's numbers of subcarriers and antennas."""
        try:
            for spec in (*self.teacher.receiver, *self.students.receivers):
                check_conditions(spec, self.scenario)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _check_code(self) -> Self:
        """Refuse a code that the scenario's slots cannot carry."""
        try:
            self.evaluation.transport_formats(self.scenario)
        except UserError as error:
            raise ValueError(f"evaluation.{error}") from None
        return self

    @model_validator(mode="after")
    def _check_search_receiver(self) -> Self:
        if self.search and self.search.receiver not in (None, *self.students.receivers):
            raise ValueError(
                f"search.receiver: {self.search.receiver} is not among the students "
                f"{', '.join(self.students.receivers)}; name one of them"
            )
        return self

    def warnings(self) -> list[str]:
        """One sentence for each setting that is allowed but has no effect, or hardly one that is meant."""
        texts = []
        for name, section, specs in (
            ("teacher", self.teacher, [s for s in self.teacher.receiver if s not in self.teacher.pretrained]),
            ("students", self.students, list(self.students.receivers)),
        ):
            training = section.training
            if not specs:
                if training != Training():
                    texts.append(f"{name}.training has no effect, because all {name}s are pretrained")
                continue
            if training.warmup_steps > training.steps:
                texts.append(
                    f"{name}.training.warmup_steps {training.warmup_steps} is more than the {training.steps} steps, so "
                    f"the learning rate never reaches {training.learning_rate:g}"
                )
            if training.deep_supervision_weight and not any(family_of(s).network.has_intermediate_llrs for s in specs):
                texts.append(
                    f"{name}.training.deep_supervision_weight has no effect on {', '.join(specs)}, which have no "
                    "intermediate LLRs"
                )
        if self.report.sinr_db not in self.evaluation.sinr_db:
            closest = min(self.evaluation.sinr_db, key=lambda s: abs(s - self.report.sinr_db))
            texts.append(f"report.sinr_db {self.report.sinr_db:g} is not tested; the report takes {closest:g} dB")
        return texts

    def torch_device(self) -> str:
        """The torch device of the run, such as ``cuda:0``.

        Raises:
            UserError: if the configuration requires CUDA and it is not available.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; write auto or cpu")
        return "cuda:0" if self.device != "cpu" and torch.cuda.is_available() else "cpu"
