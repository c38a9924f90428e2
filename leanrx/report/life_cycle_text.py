"""Sentences about the life cycles of a run: when a student pays back its development, and what a reader must know."""

from __future__ import annotations

import math
from collections.abc import Sequence

from energy.ecal import Outcome
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.life_cycle_result import RUN_TEACHER, Payback

_OUTCOMES = {
    Outcome.PAYBACK: "pays back",
    Outcome.NEVER: "never pays back",
    Outcome.IMMEDIATE: "uses less energy from the first slot",
    Outcome.TEMPORARY: "uses less energy at first and more later",
}


def sentences(inventory: LifeCycleInventory) -> list[str]:
    """The outcome by the reference instrument: one headline, then each student and each of its alternatives."""
    paybacks = _paybacks(inventory)
    lines = [_headline(inventory, paybacks)] if paybacks else []
    for student in inventory.students:
        lines.append(_total(inventory, student))
        lines += [
            f"{student} against {p.against}: {payback_phrase(p, inventory.slot_s)}."
            for p in paybacks
            if p.student == student
        ]
    return lines


def headline(inventory: LifeCycleInventory) -> str:
    """The student that pays back first, in one paragraph; empty for a run without students."""
    paybacks = _paybacks(inventory)
    return _headline(inventory, paybacks) if paybacks else ""


def _paybacks(inventory: LifeCycleInventory) -> list[Payback]:
    """Paybacks in slots by the reference instrument, with the teacher allocated as the settings say."""
    setting = inventory.methods[0], inventory.settings.teacher_allocation, "slot"
    return [p for p in inventory.paybacks() if (p.method, p.teacher_allocation, p.per) == setting]


def _headline(inventory: LifeCycleInventory, paybacks: Sequence[Payback]) -> str:
    against_teacher = [p for p in paybacks if p.against == RUN_TEACHER]
    if not against_teacher:
        return "No student has a trained teacher, so there is no teacher to pay back."
    first = min(against_teacher, key=lambda p: math.inf if p.slots is None else p.slots)
    if first.slots is None:
        return "No student pays back its teacher's training and its own distillation: none saves energy per slot."
    student = first.student
    never = [p.against for p in paybacks if p.student == student and p.outcome is Outcome.NEVER]
    if first.slots == 0:
        parts = [f"Against running the teacher, {student} {_OUTCOMES[first.outcome]}."]
    else:
        parts = [
            f"Against running the teacher, {student} pays back the teacher's training and its own distillation after "
            f"{duration(first.slots * inventory.slot_s)} of continuous traffic ({slot_count(first.slots)} slots)."
        ]
    if not first.significant:
        parts.append("The saving is within the uncertainty of the meter.")
    if scratch := [name for name in never if inventory.roles.get(name) == "scratch"]:
        parts.append(
            f"It never pays back against {', '.join(scratch)}: the same network uses the same energy per slot."
        )
    if others := [name for name in never if name not in scratch]:
        parts.append(f"It never pays back against {', '.join(others)}: they use no more energy per slot.")
    ber, teacher_ber = (inventory.point_rows[n]["ber"] for n in (student, str(inventory.trained_teacher(student))))
    parts.append(f"At {inventory.sinr_db:g} dB its BER is {ber:.2g}, and the teacher's is {teacher_ber:.2g}.")
    if not inventory.reaches_target(student):
        parts.append(
            f"It does not reach the target BER of {inventory.run.config.report.target_ber:g}, so this payback is of no "
            "practical use."
        )
    return " ".join(parts)


def _total(inventory: LifeCycleInventory, student: str) -> str:
    """What the life cycle of a student costs, by component."""
    method, slots = inventory.methods[0], inventory.settings.inferences
    result, teacher = inventory.result(student, method), inventory.trained_teacher(student)
    energy_j = result.ecal.absolute_j
    fractions = {name: part_j / energy_j for name, part_j in result.ecal.components_j.items()}
    text = (
        f"{student}: {slots:,} slots ({duration(slots * inventory.slot_s)} of continuous traffic) cost "
        f"{energy_j:,.0f} J with all development ({result.provenance}). "
        f"The teacher takes {fractions['teacher']:.0%} of it, "
        f"distillation {fractions['distillation']:.0%}, the student's own training {fractions['training']:.0%} and "
        f"reception {fractions['inference']:.0%}."
    )
    if teacher is not None:
        name = teacher if teacher != "teacher" else "the teacher"
        text += (
            f" Training and running {name} instead costs {inventory.result(teacher, method).ecal.absolute_j:,.0f} J."
        )
    return text


def payback_phrase(payback: Payback, slot_s: float) -> str:
    """One payback with its interval, such as ``pays back after 12,000 slots, 6 s of traffic (95 %: 9,000 to 16,000)``.

    Args:
        payback: of a student against one alternative.
        slot_s: duration of a slot in seconds.
    """
    phrase = _OUTCOMES[payback.outcome]
    if payback.slots:
        phrase += f" after {slot_count(payback.slots)} slots, {duration(payback.slots * slot_s)} of traffic"
    if payback.significant is None:
        return f"{phrase} (uncertainty unknown)"
    if payback.significant and not payback.slots:
        return phrase
    if payback.slots is None or payback.high is None:
        bound = "" if payback.low is None else f"; no payback before {slot_count(payback.low)} slots"
        return f"{phrase}, but the saving is within the uncertainty{bound}"
    return f"{phrase} (95 %: {slot_count(payback.low)} to {slot_count(payback.high)})"


def notes(inventory: LifeCycleInventory) -> list[str]:
    """Assumptions behind the life cycles, one or more sentences each."""
    s = inventory.settings
    charged = s.teacher_allocation == "full"
    return [
        f"Accounting convention: overhead bits {s.convention.overhead}, radio energy {s.convention.radio}.",
        f"Slots in service cross {_hops(s.hops)}. Training and test slots cross {_hops(s.development_hops)}.",
        "Slots in service have the energy of the deployed form: the one of the C file, float32 ONNX and LiteRT files "
        "and torch with the least metered energy. Development is what the run executed, in torch.",
        "Inference energy includes preprocessing. Training energy includes the simulation of slots.",
        "Each student carries the full training energy of its teacher."
        if charged
        else "The students of one teacher split its training energy equally.",
        _uncertainty(inventory),
    ]


def _hops(hops: int) -> str:
    return f"{hops} generic network hop{'s' if hops > 1 else ''}" if hops else "no network"


def _uncertainty(inventory: LifeCycleInventory) -> str:
    repeatability = inventory.repeatability
    if not repeatability.degrees:
        return "Uncertainty: unknown, because no two equal networks were metered."
    return (
        f"Uncertainty: the energy of equal networks varies by {repeatability.relative_sd:.1%} from window to window "
        f"(one standard deviation, {repeatability.degrees} degrees of freedom). Intervals of 95 % cover this "
        "repeatability and, per correct bit, the sampling error of the BER. They do not cover other seeds, other "
        "machines, or the scale of the meter, which cancels in a payback."
    )


def slot_count(slots: float | None) -> str:
    """A number of slots with three digits.

    >>> slot_count(12345.6)
    '12,300'
    """
    return "any number of" if slots is None else f"{float(f'{slots:.3g}'):,.0f}"


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has two or more.

    >>> duration(90), duration(7200), duration(3 * 86400)
    ('90 s', '2 h', '3 d')
    """
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds:.3g} s"
