"""Tables of the life cycles: eCAL with its components, savings, energy payback, joules per correct bit."""

from __future__ import annotations

import math

import pandas as pd

from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.life_cycle_result import RUN_TEACHER, Payback
from leanrx.report.formatting import PageTable
from leanrx.report.life_cycle_text import payback_phrase


def life_cycle_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """eCAL and its components.

    Returns:
        one row per receiver and method: ``receiver, role, method, training_method, provenance``, ``form`` (the deployed
        form in words), the values of
        :meth:`energy.ecal.Ecal.as_json`, and ``<component>_j`` for each component, in joules.
    """
    rows = [
        {c: getattr(r, c) for c in ("receiver", "role", "method", "training_method", "provenance", "form")}
        | {k: v for k, v in r.ecal.as_json().items() if k != "components_j"}
        | {f"{k}_j": v for k, v in r.ecal.components_j.items()}
        for r in inventory.results()
    ]
    return pd.DataFrame(rows)


def payback_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """One row per student, method, allocation of the teacher, alternative and unit.

    Returns:
        the attributes of :class:`leanrx.life_cycle.life_cycle_result.Payback`; ``slots, low, high`` are numbers of
        slots.
    """
    return pd.DataFrame([vars(p) for p in inventory.paybacks()])


def correct_bit_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """Joules per correctly received bit.

    Returns:
        one row per receiver, test point and method: the values of
        :meth:`leanrx.life_cycle.inventory.LifeCycleInventory.correct_bit_rows`.
    """
    rows = [
        {**{k: v for k, v in row.items() if k != "methods"}, "method": method, **energies}
        for row in inventory.correct_bit_rows()
        for method, energies in row["methods"].items()
    ]
    return pd.DataFrame(rows)


_SAVINGS_KEYS = ["variant", "spec", "method"]
_SAVINGS_MEANS = ["teachers_j", "development_j", "saved_j_per_slot", "half_width_j"]


def savings_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """What the development of a student costs, and what it saves in place of its teacher; means over seeds.

    Returns:
        one row per variant and method: ``variant, spec, method, provenance, seeds``; ``teachers_j``, the training
        energy of teachers; ``development_j``, the energy of development with these; ``saved_j_per_slot`` with
        ``_low`` and ``_high`` by the repeatability of the instrument; and ``payback_slots``, NaN without a saving.
    """
    rows = [
        row
        for method in inventory.methods
        for student in inventory.students
        if (row := _saving(inventory, student, method)) is not None
    ]
    columns = [*_SAVINGS_KEYS, "provenance", "seeds", *_SAVINGS_MEANS]
    groups = pd.DataFrame(rows, columns=columns).groupby(_SAVINGS_KEYS, sort=False, as_index=False)
    table = groups.agg({"provenance": "first", "seeds": "sum", **dict.fromkeys(_SAVINGS_MEANS, "mean")})
    half_width_j, saved_j = table.pop("half_width_j"), table["saved_j_per_slot"]
    return table.assign(
        saved_j_per_slot_low=saved_j - half_width_j,
        saved_j_per_slot_high=saved_j + half_width_j,
        payback_slots=(table["development_j"] / saved_j).where(saved_j > 0),
    )


def _saving(inventory: LifeCycleInventory, student: str, method: str) -> dict[str, object] | None:
    """The saving of one student over its trained teacher; none if it has no trained teacher."""
    teacher = inventory.trained_teacher(student)
    if teacher is None:
        return None
    repeatability, record = inventory.repeatability_of(method), inventory.run.plan[student]
    result = inventory.result(student, method)
    cost, teacher_cost = (r.cost(repeatability) for r in (result, inventory.result(teacher, method)))
    relative = (repeatability.coverage or math.nan) * repeatability.relative_sd
    return {
        "variant": record.variant,
        "spec": record.spec,
        "method": method,
        "provenance": result.provenance,
        "seeds": 1,
        "teachers_j": sum(result.teachers_j.values()),
        "development_j": cost.fixed_j,
        "saved_j_per_slot": teacher_cost.marginal_j - cost.marginal_j,
        "half_width_j": relative * math.hypot(cost.marginal_j, teacher_cost.marginal_j),
    }


def life_cycle_page_table(inventory: LifeCycleInventory) -> PageTable:
    """eCAL and its components by every method."""
    head = [
        "receiver",
        "method",
        "provenance",
        "in service",
        "teacher [J]",
        "distillation [J]",
        "training [J]",
        "evaluation [J]",
        f"{inventory.settings.inferences:,} slots [J]",
        "total [J]",
        "eCAL [nJ/bit]",
        "asymptotic eCAL [nJ/bit]",
    ]
    rows = []
    for result in inventory.results():
        ecal, parts = result.ecal, result.ecal.components_j
        development = ("teacher", "distillation", "training", "evaluation")
        rows.append(
            [
                result.receiver,
                result.method,
                result.provenance,
                result.form,
                *(f"{parts[name]:,.3g}" if name in parts else "" for name in development),
                f"{parts['inference']:,.4g}",
                f"{ecal.absolute_j:,.4g}",
                f"{1e9 * ecal.ecal_j_per_bit:.3g}",
                f"{1e9 * ecal.asymptotic_j_per_bit:.3g}",
            ]
        )
    return PageTable(head, rows, files=["life-cycle.csv", "correct-bits.csv", "savings.csv"])


def payback_page_table(inventory: LifeCycleInventory) -> PageTable:
    """Energy payback by the reference instrument, with the teacher allocated as the settings say."""
    method = inventory.methods[0]
    by_alternative: dict[tuple[str, str], dict[str, Payback]] = {}
    for payback in inventory.paybacks():
        if (payback.method, payback.teacher_allocation) == (method, inventory.settings.teacher_allocation):
            by_alternative.setdefault((payback.student, payback.against), {})[payback.per] = payback
    rows = [
        [student, against, *(payback_phrase(by_unit[unit], inventory.slot_s) for unit in ("slot", "correct bit"))]
        for (student, against), by_unit in by_alternative.items()
    ]
    head = ["student", "alternative", "for equal slots", f"for equal correct bits at {inventory.sinr_db:g} dB"]
    note = f"Energy is by {method}, in the deployed form. '{RUN_TEACHER}' does not count the teacher's training."
    return PageTable(head, rows, note, ["payback.csv"])
