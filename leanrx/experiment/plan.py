"""The plan of a run: every receiver by name, the teachers of each student, and the order of training.

::

    build_plan(config) ---> Plan ---> training_groups() ---> receivers trained together, teachers first

A run computes its plan once (:attr:`leanrx.experiment.run.Run.plan`). A :class:`ReceiverRecord` then travels in place
of the receiver's name, so that no code parses a name to learn the role, the family, the seed or the setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from channels import Scenario
from distillation.job import Training
from distillation.objective import Distillation
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.classical import GENIE_AIDED, classical_receivers
from receivers.neural.registry import family_of

MAX_NAME = 200
"""Characters in a receiver's name. Files are named after receivers, and file systems allow 255."""


@dataclass(frozen=True)
class ReceiverRecord:
    """One receiver of a run.

    Attributes:
        name: unique in the run; also the name of its folder.
        role: ``teacher``, ``student``, ``scratch`` (the baseline trained from scratch) or ``classical``.
        spec: spec string of the network, such as ``hybrid-w16-d4``; empty for a classical receiver.
        seed: of the initial weights and the training slots; none for a classical receiver.
        training: training settings; none for a classical receiver.
        distillation: distillation setting of a student; none for other roles.
        teachers: names of the receivers that a student is distilled from, trained or genie-aided.
        variant: the name without the seed, equal for receivers that differ in their seed only.
        setting_labels: parts of the name that tell a student's distillation setting from the run's others, by field of
            :class:`distillation.objective.Distillation`, such as ``{"temperature": "T4", "alpha": "a0.9"}``.
    """

    name: str
    role: str
    spec: str = ""
    seed: int | None = None
    training: Training | None = None
    distillation: Distillation | None = None
    teachers: tuple[str, ...] = ()
    variant: str = ""
    setting_labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def family(self) -> str:
        """Name of the network family, such as ``hybrid``; ``classical`` for a classical receiver."""
        return family_of(self.spec).name if self.spec else "classical"


TrainingGroup = tuple[ReceiverRecord, ...]
"""Receivers that are trained together on one stream of slots."""


class Plan:
    """The receivers of a run. Iteration gives the classical receivers, then the neural ones, teachers before students.

    Args:
        records: all receivers; each teacher stands before its students.

    Example:
        >>> from leanrx.experiment.sweep_config import SweepConfig
        >>> config = {
        ...     "label": "demo",
        ...     "scenario": "tdl-6prb",
        ...     "students": {"receivers": "hybrid-w8-d2"},
        ...     "evaluation": {"sinr_db": [0, 10]},
        ... }
        >>> plan = build_plan(SweepConfig.parse(config, "demo"))
        >>> [record.name for record in plan.neural]
        ['teacher', 'hybrid-w8-d2-kd', 'hybrid-w8-d2-scratch']
        >>> plan["hybrid-w8-d2-kd"].teachers
        ('teacher',)
        >>> plan.scratch_of("hybrid-w8-d2-kd").name
        'hybrid-w8-d2-scratch'
    """

    def __init__(self, records: Iterable[ReceiverRecord]) -> None:
        self._records = {record.name: record for record in records}

    def __iter__(self) -> Iterator[ReceiverRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __getitem__(self, name: str) -> ReceiverRecord:
        """The record of a receiver.

        Raises:
            UserError: if the run has no receiver of this name.
        """
        if name not in self._records:
            raise UserError(f"receiver: no '{name}' in this run; receivers: {', '.join(self.names)}")
        return self._records[name]

    @property
    def names(self) -> list[str]:
        """Names of all receivers, in the order of iteration."""
        return list(self._records)

    @cached_property
    def neural(self) -> tuple[ReceiverRecord, ...]:
        """The trained receivers, each teacher before its students."""
        return tuple(r for r in self if r.role != "classical")

    @cached_property
    def classical(self) -> tuple[ReceiverRecord, ...]:
        """The classical receivers, weakest first."""
        return tuple(r for r in self if r.role == "classical")

    def upstream(self, name: str) -> list[ReceiverRecord]:
        """All trained receivers that a receiver is distilled from, directly or through others, in plan order.

        Raises:
            UserError: if the run has no receiver of this name.
        """
        upstream: set[str] = set()
        queue = list(self[name].teachers)
        while queue:
            teacher = self[queue.pop()]
            if teacher.role != "classical" and teacher.name not in upstream:
                upstream.add(teacher.name)
                queue.extend(teacher.teachers)
        return [r for r in self if r.name in upstream]

    def scratch_of(self, name: str) -> ReceiverRecord | None:
        """The scratch baseline of a student; none for other roles.

        Raises:
            UserError: if the run has no receiver of this name.
        """
        student = self[name]
        if student.role != "student":
            return None
        return next(r for r in self if (r.role, r.spec, r.seed) == ("scratch", student.spec, student.seed))

    def reference_teacher(self, name: str) -> ReceiverRecord | None:
        """The teacher that a receiver is compared with; none for teachers and classical receivers.

        For a student this is the first trained teacher upstream, else the genie-aided receiver that it is distilled
        from. A scratch baseline has the reference teacher of its first student.

        Raises:
            UserError: if the run has no receiver of this name.
        """
        record = self[name]
        if record.role == "scratch":
            record = next(r for r in self if (r.role, r.spec, r.seed) == ("student", record.spec, record.seed))
        if not record.teachers:
            return None
        return next((r for r in self.upstream(record.name) if r.role == "teacher"), self[record.teachers[0]])

    def subset(self, name: str) -> Plan:
        """The plan of one neural receiver: itself, everything upstream, and the classical receivers.

        Raises:
            UserError: if the run does not train a receiver of this name.
        """
        if name not in [r.name for r in self.neural]:
            raise UserError(
                f"receiver: no '{name}' in this run; trained receivers: {', '.join(r.name for r in self.neural)}"
            )
        names = {name, *(r.name for r in self.upstream(name))}
        return Plan([*self.classical, *(r for r in self.neural if r.name in names)])

    def training_groups(self) -> list[TrainingGroup]:
        """The neural receivers in training groups, each group after those of its teachers.

        The receivers of a group have the same seed and training settings, and so the same slots. Teachers have slots of
        their own. A student waits for its trained teachers. A scratch baseline is trained with the first of its
        students, or before the students that are distilled from it.
        """
        teachers = {t for r in self.neural for t in r.teachers}
        level: dict[str, int] = {}
        for r in self.neural:
            level[r.name] = 1 + max((level.get(t, 0) for t in r.teachers), default=-1)
        groups: dict[tuple[Any, ...], list[ReceiverRecord]] = {}
        for r in self.neural:
            depth = level[r.name]
            if r.role == "scratch" and r.name not in teachers:
                students = [s for s in self.neural if (s.role, s.spec, s.seed) == ("student", r.spec, r.seed)]
                depth = min((level[s.name] for s in students), default=depth)  # none in a part of a plan
            groups.setdefault((depth, r.role == "teacher", r.seed, r.training), []).append(r)
        return [tuple(groups[key]) for key in sorted(groups, key=lambda key: key[0])]


def build_plan(config: SweepConfig) -> Plan:
    """The plan of a run: classical receivers, teachers, students in every distillation setting, scratch baselines.

    One teacher is called ``teacher``, several are called ``teacher-<spec>``. A student is called ``<spec>-kd``; where
    there are several distillation settings, the values in which they differ follow. Several seeds append ``-s<seed>``.

    Raises:
        UserError: if a distillation setting names a teacher that the run has not, if two receivers are each other's
            teacher, or if a name is too long.
    """
    classical = _classical(config.scenario)
    neural = [*_teachers(config), *_students(config)]
    longest = max((r.name for r in neural), key=len)
    if len(longest) > MAX_NAME:
        raise UserError(
            f"students: the name {longest[:40]}... has {len(longest)} characters, above {MAX_NAME}; let fewer settings "
            "differ in one run, or put fewer names into an ensemble"
        )
    return Plan([*classical, *_resolve_teachers(neural, [r.name for r in classical])])


def _classical(scenario: Scenario) -> list[ReceiverRecord]:
    return [ReceiverRecord(r.name, "classical", variant=r.name) for r in classical_receivers(scenario)]


def _teachers(config: SweepConfig) -> list[ReceiverRecord]:
    specs, seeds = config.teacher.receiver, config.teacher.seeds or (config.seed,)
    records = []
    for spec in specs:
        for seed in seeds:
            name = "teacher" + (f"-{spec}" if len(specs) > 1 else "") + (f"-s{seed}" if len(seeds) > 1 else "")
            records.append(ReceiverRecord(name, "teacher", spec, seed, config.teacher.training, variant=name))
    return records


def _students(config: SweepConfig) -> list[ReceiverRecord]:
    """Students and scratch baselines; teachers are named as the configuration names them."""
    settings = _distillation_settings(config)
    students, records = config.students, []
    for spec in students.receivers:
        for seed in students.seeds:
            suffix = f"-s{seed}" if len(students.seeds) > 1 else ""
            for setting, labels in settings:
                teacher = setting.teacher or ""
                for generation in range(1, setting.generations + 1):
                    own_labels = labels | ({"generations": f"g{generation}"} if generation > 1 else {})
                    variant = "-".join([f"{spec}-kd", *own_labels.values()])
                    teachers = tuple(n.strip() for n in teacher.split("+"))
                    record = ReceiverRecord(variant + suffix, "student", spec, seed, students.training, setting)
                    records.append(replace(record, teachers=teachers, variant=variant, setting_labels=own_labels))
                    teacher = variant
            variant = f"{spec}-scratch"
            records.append(ReceiverRecord(variant + suffix, "scratch", spec, seed, students.training, variant=variant))
    return records


def _distillation_settings(config: SweepConfig) -> list[tuple[Distillation, dict[str, str]]]:
    """Distillation settings, each with its teacher and its labels; one without a teacher is combined with each."""
    teachers = [r.name for r in _teachers(config)]
    settings = [
        setting.model_copy(update={"teacher": teacher})
        for setting in config.students.distillation
        for teacher in ([setting.teacher] if setting.teacher else teachers)
    ]
    for setting in settings:
        single = setting.model_copy(update={"generations": 1})
        if any(s != setting and s.model_copy(update={"generations": 1}) == single for s in settings):
            raise UserError(
                "distillation.generations: two settings differ in it only; write the larger number, which trains the "
                "smaller one too"
            )
    axes = [k for k in Distillation.model_fields if len({repr(getattr(s, k)) for s in settings}) > 1]
    labels = [{k: _label(k, getattr(s, k)) for k in axes if k != "generations"} for s in settings]
    for index, repeats in enumerate([labels[:i].count(label) for i, label in enumerate(labels)]):
        if repeats:  # two settings with the same labels are numbered
            labels[index] = labels[index] | {"number": str(repeats + 1)}
    return list(zip(settings, labels, strict=True))


_SYMBOLS = {"temperature": "T", "alpha": "a", "clip": "c"}


def _label(key: str, value: Any) -> str:
    """The value of a setting as part of a name."""
    if isinstance(value, Record):
        text = "to".join(f"{v:g}" for v in value.model_dump().values() if isinstance(v, float))
    elif isinstance(value, tuple):
        text = "-".join(str(getattr(v, "loss", v)) for v in value) or "none"
    else:
        text = f"{value:g}" if isinstance(value, float | int) else str(value)
    if key == "teacher":
        text = "+".join(n.strip().removeprefix("teacher-") for n in text.split("+"))
    return _SYMBOLS.get(key, "") + text.replace(" ", "-")


def _resolve_teachers(records: Sequence[ReceiverRecord], classical: Sequence[str]) -> list[ReceiverRecord]:
    """The records with full names of teachers, every teacher before its students."""
    by_name = {r.name: r for r in records}
    genies = [name for name in classical if name in GENIE_AIDED]
    resolved: dict[str, ReceiverRecord] = {}

    def add(name: str, students: tuple[str, ...]) -> None:
        if name in students:
            circle = " -> ".join([*students[students.index(name) :], name])
            raise UserError(f"distillation.teacher: circular teacher reference: {circle}; remove one of them")
        if name in resolved or name in genies:
            return
        record = by_name[name]
        teachers = tuple(_full_name(t, record, by_name, genies) for t in record.teachers)
        if len(set(teachers)) < len(teachers):
            raise UserError(
                f"distillation.teacher: {name} names the same teacher twice: {', '.join(teachers)}; name it once"
            )
        for teacher in teachers:
            add(teacher, (*students, name))
        resolved[name] = replace(record, teachers=teachers)

    for name in by_name:
        add(name, ())
    return list(resolved.values())


def _full_name(
    teacher: str, student: ReceiverRecord, records: Mapping[str, ReceiverRecord], genies: Sequence[str]
) -> str:
    """The full name of a teacher. A reference to a student may omit the seed; it then has the referring student's."""
    for name in (teacher, f"{teacher}-s{student.seed}"):
        if name in records or name in genies:
            return name
    raise UserError(
        f"distillation.teacher: no '{teacher}' for {student.name}; teachers: {', '.join([*records, *genies])}"
    )
