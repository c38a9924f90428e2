"""What a sweep trains: every receiver by name, whom it listens to, and who can be trained on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillation.job import Training
from distillation.objective import Distillation
from leanrx.experiment.sweep_config import Sweep
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.classical import GENIE_AIDED

MAX_NAME = 200
"""Characters in a receiver's name, which files are named after; file systems take 255."""


@dataclass(frozen=True)
class Planned:
    """One learned receiver of a run.

    Attributes:
        name, role: role is teacher, student or twin.
        receiver: spec string.
        seed: of its weights and slots.
        training: how it is trained.
        distillation: how it listens; none for teachers and twins.
        teachers: names of those it listens to: receivers of the run, or classical receivers that know the channel.
    """

    name: str
    role: str
    receiver: str
    seed: int
    training: Training
    distillation: Distillation | None = None
    teachers: tuple[str, ...] = ()


def planned(config: Sweep) -> list[Planned]:
    """All learned receivers of a run: teachers, then each student in every way to distil, then its twin.

    One teacher is called ``teacher``; several, ``teacher-<receiver>``. A student is called ``<receiver>-kd``, with what
    tells its way to distil from the others, and ``-s<seed>`` where there are several seeds.

    Raises:
        UserError: if a way to distil names a teacher that is not there, two name each other, or a name is too long.
    """
    teachers = _teachers(config)
    ways = _ways(config, [t.name for t in teachers])
    students = config.students
    found = teachers.copy()
    for spec in students.receivers:
        for seed in students.seeds:
            suffix = f"-s{seed}" if len(students.seeds) > 1 else ""
            for label, way in ways.items():
                before = way.teacher or ""
                for generation in range(1, way.generations + 1):
                    name = f"{spec}-kd{label}" + (f"-g{generation}" if generation > 1 else "")
                    heard = tuple(n.strip() for n in before.split("+"))
                    found.append(Planned(name + suffix, "student", spec, seed, students.training, way, heard))
                    before = name
            found.append(Planned(f"{spec}-scratch{suffix}", "scratch", spec, seed, students.training))
    longest = max((p.name for p in found), key=len)
    if len(longest) > MAX_NAME:
        raise UserError(
            f"students: the name {longest[:40]}... has {len(longest)} characters, above {MAX_NAME}; let fewer settings "
            "differ in one run, or take fewer names into an ensemble"
        )
    return _resolved(found)


def _teachers(config: Sweep) -> list[Planned]:
    told = config.teacher
    seeds = told.seeds or (config.seed,)
    found = []
    for spec in told.receiver:
        for seed in seeds:
            name = "teacher" + (f"-{spec}" if len(told.receiver) > 1 else "") + (f"-s{seed}" if len(seeds) > 1 else "")
            found.append(Planned(name, "teacher", spec, seed, told.training))
    return found


def _ways(config: Sweep, teachers: list[str]) -> dict[str, Distillation]:
    """Ways to distil by label, each with its teacher; one that names none is tried with each."""
    ways = [
        way.model_copy(update={"teacher": teacher})
        for way in config.students.distillation
        for teacher in ([way.teacher] if way.teacher else teachers)
    ]
    for way in ways:
        shorter = way.model_copy(update={"generations": 1})
        if any(w != way and w.model_copy(update={"generations": 1}) == shorter for w in ways):
            raise UserError(
                "distillation.generations: two ways differ in it alone; write the larger, which trains the others too"
            )
    differ = [k for k in Distillation.model_fields if len({repr(getattr(w, k)) for w in ways}) > 1]
    labels = ["".join(f"-{_short(k, getattr(way, k))}" for k in differ if k != "generations") for way in ways]
    alike = [labels[:index].count(label) for index, label in enumerate(labels)]
    return {label + (f"-{n + 1}" if n else ""): way for label, n, way in zip(labels, alike, ways, strict=True)}


_LETTERS = {"temperature": "T", "alpha": "a", "clip": "c"}


def _short(key: str, value: Any) -> str:
    """A figure as part of a name."""
    if isinstance(value, Record):
        words = "to".join(f"{v:g}" for v in value.model_dump().values() if isinstance(v, float))
    elif isinstance(value, tuple):
        words = "-".join(str(getattr(v, "kind", v)) for v in value) or "none"
    else:
        words = f"{value:g}" if isinstance(value, float | int) else str(value)
    if key == "teacher":
        words = "+".join(n.strip().removeprefix("teacher-") for n in words.split("+"))
    return _LETTERS.get(key, "") + words.replace(" ", "-")


def _resolved(plan: list[Planned]) -> list[Planned]:
    """The plan with full names of teachers, every teacher before those who listen to it."""
    entries = {p.name: p for p in plan}
    order: dict[str, Planned] = {}

    def add(name: str, listeners: tuple[str, ...]) -> None:
        if name in listeners:
            raise UserError(f"distillation.teacher: {' listens to '.join([*listeners, name])}; break the circle")
        if name in order or name in GENIE_AIDED:
            return
        entry = entries[name]
        heard = tuple(_full_name(t, entry, entries) for t in entry.teachers)
        if len(set(heard)) < len(heard):
            raise UserError(
                f"distillation.teacher: {name} would hear a receiver twice: {', '.join(heard)}; name it once"
            )
        for teacher in heard:
            add(teacher, (*listeners, name))
        order[name] = replace(entry, teachers=heard)

    for name in entries:
        add(name, ())
    return list(order.values())


def _full_name(given: str, listener: Planned, entries: Mapping[str, Planned]) -> str:
    """The name of a teacher; that of a student may leave out its seed, and then is the one of the listener's seed."""
    found = next((n for n in (given, f"{given}-s{listener.seed}") if n in entries or n in GENIE_AIDED), None)
    if found is None:
        raise UserError(
            f"distillation.teacher: no '{given}' for {listener.name}; there are: {', '.join([*entries, *GENIE_AIDED])}"
        )
    return found


def ancestors(name: str, plan: list[Planned]) -> list[Planned]:
    """Everyone whose training a receiver rests on, in the order of the plan."""
    entries = {p.name: p for p in plan}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for teacher in entries[waiting.pop()].teachers:
            if teacher in entries and teacher not in found:
                found.add(teacher)
                waiting.append(teacher)
    return [p for p in plan if p.name in found]


def twin_of(name: str, config: Sweep) -> str | None:
    """The twin of a student, or none for other receivers."""
    plan = planned(config)
    student = next((p for p in plan if p.name == name and p.role == "student"), None)
    if student is None:
        return None
    return next(p.name for p in plan if (p.role, p.receiver, p.seed) == ("scratch", student.receiver, student.seed))


def teacher_of(name: str, config: Sweep) -> str | None:
    """The receiver that a student is compared with: the first trained teacher that it rests on, or else the bound that
    it hears. A twin has its student's.
    """
    plan = planned(config)
    entry = next((p for p in plan if p.name == name), None)
    if entry is not None and entry.role == "scratch":
        entry = next(p for p in plan if (p.role, p.receiver, p.seed) == ("student", entry.receiver, entry.seed))
    if entry is None or not entry.teachers:
        return None
    return next((p.name for p in ancestors(entry.name, plan) if p.role == "teacher"), entry.teachers[0])


Cohort = tuple[Planned, ...]
"""Receivers that are trained together on one stream of slots."""


def cohorts(plan: list[Planned]) -> list[Cohort]:
    """The plan in cohorts, each after those that its teachers are in.

    Receivers share a stream if they share role (teachers have slots of their own), seed and training. A student waits
    for its teachers; one of a bound waits with the others, and a twin that no one listens to with the first of its
    students.
    """
    heard = {t for entry in plan for t in entry.teachers}
    level: dict[str, int] = {}
    for entry in plan:
        level[entry.name] = 1 + max((level.get(t, 0) for t in entry.teachers), default=-1)
    groups: dict[tuple[Any, ...], list[Planned]] = {}
    for entry in plan:
        beside = [p for p in plan if p.role == "student" and (p.receiver, p.seed) == (entry.receiver, entry.seed)]
        waits = entry.role == "scratch" and entry.name not in heard
        depth = min((level[p.name] for p in beside), default=0) if waits else level[entry.name]
        groups.setdefault((depth, entry.role == "teacher", entry.seed, entry.training), []).append(entry)
    return [tuple(groups[key]) for key in sorted(groups, key=lambda key: key[0])]
