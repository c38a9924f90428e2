"""Figures of the life cycles: eCAL over the slots in service, its components, savings, and energy payback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energy.ecal import Cost
from energy.ecal.inference_range import sweep_points
from leanrx.life_cycle.inventory import LifeCycleInventory
from leanrx.life_cycle.life_cycle_result import TRAIN_AND_RUN_TEACHER
from leanrx.report.charts import Curve, Figure
from leanrx.report.life_cycle_tables import savings_table
from leanrx.report.style import StyleSheet, style_sheet
from leanrx.report.text import interference_phrase

_COMPONENT_COLOURS = {
    "collection": "#999999",
    "storage": "#bbbbbb",
    "preprocessing": "#f0e442",
    "teacher": "#d55e00",
    "distillation": "#e69f00",
    "training": "#cc79a7",
    "evaluation": "#7f5539",
    "inference_collection": "#555555",
    "inference_storage": "#dddddd",
    "inference_preprocessing": "#56b4e9",
    "inference": "#0072b2",
    "virtualisation": "#009e73",
}
_SLOTS = "inferences=1e3..1e8"
_SMALLEST_FRACTION = 1e-6
"""A logarithmic axis has no place for 0, so a lower end is at least this fraction of its value."""


def figures(inventory: LifeCycleInventory) -> list[Figure]:
    """eCAL and energy per correct bit of all networks, savings, one payback per network, and components.

    The components are those of the last student. All figures are by the reference instrument.
    """
    points, styles = sweep_points(_SLOTS), style_sheet(inventory.run.plan)
    charts = [_ecal_over_slots(inventory, styles, points), _energy_per_correct_bit(inventory, styles)]
    charts += _savings(inventory, styles)
    students = [name for name in _unique_networks(inventory) if inventory.roles[name] == "student"]
    charts += [_payback(inventory, styles, student, points) for student in students]
    if inventory.students:
        student, method = inventory.students[-1], inventory.methods[0]
        results = [inventory.result(student, method, inferences=n) for n in points]
        rows = [{"inferences": r.ecal.inferences, **r.ecal.as_json()} for r in results]
        charts.append(components(f"{student} ({method}, {results[0].provenance})", rows, "slots in service"))
    return charts


def curve(name: str, points: Sequence[Mapping[str, Any]]) -> Figure:
    """eCAL of one life cycle over the number of inferences.

    Args:
        name: of the life cycle.
        points: :meth:`energy.ecal.Ecal.as_json` at increasing numbers of inferences.
    """
    x = [p["inferences"] for p in points]
    limit = [points[-1]["asymptotic_j_per_bit"]] * len(x)
    return Figure(
        name="ecal",
        caption=f"{name}: energy per application bit over the number of inferences. The dashed line is the limit for "
        "infinitely many inferences.",
        x_title="inferences",
        y_title="eCAL [J/bit]",
        curves=[
            Curve("eCAL", x, [p["ecal_j_per_bit"] for p in points], colour="#0072b2"),
            Curve("inference alone", x, limit, colour="#999999", dash="dash", marker="none"),
        ],
        x_log=True,
    )


def components(name: str, points: Sequence[Mapping[str, Any]], unit: str = "inferences") -> Figure:
    """Components of the total energy over the number of inferences, stacked.

    Args:
        name, points: as :func:`curve`.
        unit: of the horizontal axis.
    """
    x = [p["inferences"] for p in points]
    top = [0.0] * len(x)
    curves = []
    for component in points[0]["components_j"]:
        fractions = [p["components_j"][component] / p["absolute_j"] for p in points]
        if max(fractions) > 0:
            top = [t + f for t, f in zip(top, fractions, strict=True)]
            colour, label = _COMPONENT_COLOURS[component], component.replace("_", " ")
            curves.append(Curve(label, x, top, colour=colour, marker="none", fill=True))
    return Figure(
        name="ecal-components",
        caption=f"{name}: components of the total energy.",
        x_title=unit,
        y_title="fraction of the total energy",
        curves=curves,
        x_log=True,
        y_range=(0.0, 1.0),
        y_log=False,
    )


def _unique_networks(inventory: LifeCycleInventory) -> list[str]:
    """One receiver per network and role; receivers with equal networks have equal energy."""
    plan = inventory.run.plan
    first: dict[tuple[str, str], str] = {}
    for name, role in inventory.roles.items():
        first.setdefault((role, plan[name].spec or name), name)
    return list(first.values())


def _ecal_over_slots(inventory: LifeCycleInventory, styles: StyleSheet, points: list[int]) -> Figure:
    method = inventory.methods[0]
    repeatability = inventory.repeatability_of(method)
    curves, provenances = [], set()
    for name in _unique_networks(inventory):
        results = [inventory.result(name, method, inferences=n) for n in points]
        provenances.add(results[0].provenance)
        y = [r.ecal.ecal_j_per_bit for r in results]
        energies = [r.cost(repeatability).at(r.ecal.inferences) for r in results]
        low, high = _error_bars(inventory, y, energies)
        curves.append(Curve(name, [float(n) for n in points], y, low, high, **styles.by_name[name]._asdict()))
    return Figure(
        name="ecal",
        caption=f"eCAL by {method} ({', '.join(sorted(provenances))}): energy per application bit with development, "
        f"over the slots in service. {_error_bar_caption(inventory)} "
        f"{_allocation_caption(inventory)}{_unique_caption(inventory)}",
        x_title="slots in service",
        y_title="eCAL [J per application bit]",
        curves=curves,
        x_log=True,
        y_range=_value_range(curves),
    )


def _payback(inventory: LifeCycleInventory, styles: StyleSheet, student: str, points: list[int]) -> Figure:
    method = inventory.methods[0]
    curves = []
    for name, (receiver, cost, dash) in _payback_costs(inventory, student).items():
        energies = [cost.at(n) for n in points]
        y = [energy_j for energy_j, _ in energies]
        low, high = _error_bars(inventory, y, energies)
        style = styles.by_name[receiver]._replace(dash=dash)
        curves.append(Curve(name, [float(n) for n in points], y, low, high, **style._asdict()))
    return Figure(
        name=f"payback-{student}",
        caption=f"Energy since the first training slot of {student} and of its alternatives ({method}). "
        f"{_error_bar_caption(inventory)} The student pays back where its curve crosses another from above. Its "
        "scratch baseline is the same network, so it has the student's energy per slot.",
        x_title="slots in service",
        y_title="energy [J]",
        curves=curves,
        x_log=True,
        y_range=_value_range(curves),
    )


def _payback_costs(inventory: LifeCycleInventory, student: str) -> dict[str, tuple[str, Cost, str]]:
    """Receiver, cost and dash of the student and its alternatives, by label."""
    method = inventory.methods[0]
    repeatability = inventory.repeatability_of(method)
    full, split = (inventory.result(student, method, a).cost(repeatability) for a in ("full", "split"))
    costs = {f"{student}, full teacher energy": (student, full, "solid")}
    if len(inventory.students) > 1:
        costs[f"{student}, teacher energy split"] = (student, split, "dash")
    for label, (receiver, cost) in inventory.alternatives(student, method).items():
        costs[label] = (receiver, cost, "dash" if label == TRAIN_AND_RUN_TEACHER else "dot")
    return costs


def _energy_per_correct_bit(inventory: LifeCycleInventory, styles: StyleSheet) -> Figure:
    method, fraction = inventory.methods[0], inventory.interference_fraction
    relative_sd = inventory.repeatability_of(method).relative_sd
    all_rows = [r for r in inventory.correct_bit_rows() if r["interference_fraction"] == fraction]
    curves = []
    for name in _unique_networks(inventory):
        rows = sorted((r for r in all_rows if r["receiver"] == name), key=lambda r: float(r["sinr_db"]))
        y = [r["methods"][method]["inference_j_per_correct_bit"] for r in rows]
        low, high = _error_bars(inventory, y, [(v, relative_sd * v) for v in y])
        x = [float(r["sinr_db"]) for r in rows]
        curves.append(Curve(name, x, y, low, high, **styles.by_name[name]._asdict()))
    return Figure(
        name="ecal-correct-bits",
        caption="Energy of inference per correctly received data bit over SINR, "
        f"{interference_phrase(fraction)} ({method}). {_error_bar_caption(inventory)}{_unique_caption(inventory)}",
        x_title="SINR per receive antenna [dB]",
        y_title="J per correctly received bit",
        curves=curves,
        y_range=_value_range(curves, headroom=12.0),
    )


_TRAFFIC_S = {"a minute": 60, "an hour": 3600, "a day": 86400, "30 days": 30 * 86400, "a year": 365 * 86400}
_TRAFFIC_DASHES = ("dot", "dot", "dash", "dash", "solid")


def _savings(inventory: LifeCycleInventory, styles: StyleSheet) -> list[Figure]:
    """Energy of development against the saving per slot, for networks of several sizes."""
    method, table = inventory.methods[0], savings_table(inventory)
    table = table[(table["method"] == method) & (table["saved_j_per_slot"] > 0)]
    if table["spec"].nunique() < 2:
        return []
    curves = []
    for spec, rows in table.groupby("spec", sort=False):
        smallest = _SMALLEST_FRACTION * rows["saved_j_per_slot"]
        rows = rows.assign(saved_j_per_slot_low=rows["saved_j_per_slot_low"].clip(lower=smallest))
        style, labels = styles.by_spec[str(spec)]._asdict(), rows["variant"].tolist()
        curves.append(
            Curve.of(rows, "development_j", "saved_j_per_slot", str(spec), **style, lines=False, labels=labels)
        )
    ends = [float(table["development_j"].min()) / 2, float(table["development_j"].max()) * 2]
    y_range = float(table["saved_j_per_slot"].min()) / 3, float(table["saved_j_per_slot"].max()) * 3
    for (name, traffic_s), dash in zip(_TRAFFIC_S.items(), _TRAFFIC_DASHES, strict=True):
        y = [inventory.slot_s * e / traffic_s for e in ends]
        if y[0] < y_range[1] and y[1] > y_range[0]:
            curves.append(Curve(f"payback after {name}", ends, y, colour="#bbbbbb", dash=dash, marker="none"))
    return [
        Figure(
            name="savings",
            caption="Energy of development against the energy that a student saves per slot in place of its teacher "
            f"({method}, {table['provenance'].iloc[0]}). {_error_bar_caption(inventory)} "
            f"{_allocation_caption(inventory)} Up and left is better. On a grey line the student pays back after so "
            "much continuous traffic.",
            x_title="development [J]",
            y_title="saved [J per slot]",
            curves=curves,
            x_log=True,
            y_range=y_range,
        )
    ]


def _error_bars(
    inventory: LifeCycleInventory, values: list[float], energies: list[tuple[float, float]]
) -> tuple[list[float] | None, list[float] | None]:
    """Lower and upper ends around values with the relative deviations of (energy, standard deviation) pairs."""
    coverage = inventory.repeatability_of(inventory.methods[0]).coverage
    if coverage is None:
        return None, None
    half = [coverage * sd_j / energy_j for energy_j, sd_j in energies]
    low = [v * max(1 - h, _SMALLEST_FRACTION) for v, h in zip(values, half, strict=True)]
    return low, [v * (1 + h) for v, h in zip(values, half, strict=True)]


def _error_bar_caption(inventory: LifeCycleInventory) -> str:
    if inventory.repeatability_of(inventory.methods[0]).coverage is None:
        return "The repeatability of the instrument is unknown."
    return "Bars are 95 % intervals by the repeatability of the instrument."


def _allocation_caption(inventory: LifeCycleInventory) -> str:
    if inventory.settings.teacher_allocation == "full":
        return "Each student carries the full energy of its teacher."
    return "Students split the energy of their teacher."


def _unique_caption(inventory: LifeCycleInventory) -> str:
    if len(_unique_networks(inventory)) == len(inventory.roles):
        return ""
    return " Where students or scratch baselines have equal networks, the figure shows the first."


def _value_range(curves: Sequence[Curve], headroom: float = 2.0) -> tuple[float, float]:
    """Ends of the vertical axis, with a factor above the curves for the legend."""
    values = [v for c in curves for v in c.y]
    return 0.5 * min(values), headroom * max(values)
