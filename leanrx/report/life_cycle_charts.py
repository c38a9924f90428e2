"""eCAL in the report: its curve over the slots in service, what it is made of, and when a student has repaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from energy.ecal.inference_range import sweep_points
from leanrx.life_cycle.inventory import METERED, RUN_TEACHER, TRAIN_AND_RUN_TEACHER, LifeCycleInventory, Payback
from leanrx.report.charts import Curve, Figure
from leanrx.report.comparisons import variant_names
from leanrx.report.life_cycle_text import headline, notes, payback_phrase
from leanrx.report.style import colours, net, style

_COMPONENTS = {
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


def figures(inventory: LifeCycleInventory) -> list[Figure]:
    """The curve of all nets, components of the smallest student, what training saves, and one break-even per net."""
    source = inventory.sources[0]
    points = sweep_points(_SLOTS)
    drawn = [_curves(inventory, source, points), _correct_bits(inventory, source)]
    drawn += _savings(inventory, source)
    drawn += [
        _break_even(inventory, n, source, points)
        for n in _unique_networks(inventory)
        if inventory.roles[n] == "student"
    ]
    if inventory.students:
        student = inventory.students[-1]
        results = [inventory.result(student, source, inferences=n) for n in points]
        made_of = [{"inferences": b.ecal.inferences, **b.ecal.as_json()} for b in results]
        drawn.append(components(f"{student} ({source}, {results[0].kind})", made_of, "slots in service"))
    return drawn


def _unique_networks(inventory: LifeCycleInventory) -> list[str]:
    """Receivers without those that are the same net, in the same role, as one before: they cost alike."""
    first: dict[tuple[str, str], str] = {}
    for name, role in inventory.roles.items():
        first.setdefault((role, net(name)), name)
    return list(first.values())


def curve(name: str, points: Sequence[Mapping[str, Any]]) -> Figure:
    """eCAL of one life cycle over the number of inferences.

    Args:
        name: of the life cycle.
        points: :meth:`energy.ecal.Ecal.as_json` at increasing numbers of inferences.
    """
    x = [p["inferences"] for p in points]
    return Figure(
        name="ecal",
        caption=f"{name}: joules per application bit over the number of inferences; dashed, the limit for ever more.",
        x_title="inferences",
        y_title="eCAL [J/bit]",
        curves=[
            Curve("eCAL", x, [p["ecal_j_per_bit"] for p in points], colour="#0072b2"),
            Curve(
                "inference alone",
                x,
                [points[-1]["asymptotic_j_per_bit"]] * len(x),
                colour="#999999",
                dash="dash",
                marker="none",
            ),
        ],
        x_log=True,
    )


def components(name: str, points: Sequence[Mapping[str, Any]], unit: str = "inferences") -> Figure:
    """Shares of the components in the absolute energy over the number of inferences, stacked.

    Args:
        name, points: as :func:`curve`.
        unit: of the horizontal axis.
    """
    x = [p["inferences"] for p in points]
    below = [0.0] * len(x)
    curves = []
    for part in points[0]["components_j"]:
        shares = [p["components_j"][part] / p["absolute_j"] for p in points]
        if max(shares) > 0:
            below = [b + s for b, s in zip(below, shares, strict=True)]
            curves.append(Curve(part.replace("_", " "), x, below, colour=_COMPONENTS[part], marker="none", fill=True))
    return Figure(
        name="ecal-components",
        caption=f"{name}: what the energy so far was spent on.",
        x_title=unit,
        y_title="share of the absolute energy",
        curves=curves,
        x_log=True,
        y_range=(0.0, 1.0),
        y_log=False,
    )


def _curves(inventory: LifeCycleInventory, source: str, points: list[int]) -> Figure:
    names = _unique_networks(inventory)
    palette = colours(names)
    drawn, kinds = [], set()
    for name in names:
        results = [inventory.result(name, source, inferences=n) for n in points]
        kinds.add(results[0].kind)
        dash, marker = style(name)
        y = [b.ecal.ecal_j_per_bit for b in results]
        low, high = _bars(
            inventory, source, y, [b.cost(inventory.repeatability_of(source)).at(b.ecal.inferences) for b in results]
        )
        drawn.append(Curve(name, [float(n) for n in points], y, low, high, palette[name], dash, marker))
    return Figure(
        name="ecal",
        caption=f"eCAL by {source} ({', '.join(sorted(kinds))}): joules per application bit, development included, "
        f"over the slots in service; {_error_bar_caption(inventory, source)}. "
        f"Teacher allocation: {inventory.settings.teacher_allocation}." + _of_equal_nets(inventory),
        x_title="slots in service",
        y_title="eCAL [J per application bit]",
        curves=drawn,
        x_log=True,
        y_range=_range(drawn),
    )


def _break_even(inventory: LifeCycleInventory, student: str, source: str, points: list[int]) -> Figure:
    palette = colours(list(inventory.roles))
    repeatability = inventory.repeatability_of(source)
    others = inventory.alternatives(student, source)
    full = inventory.result(student, source, "full").cost(repeatability)
    split = inventory.result(student, source, "split").cost(repeatability)
    costs = {f"{student}, teacher in full": (student, full, "solid")}
    if len(inventory.students) > 1:
        costs[f"{student}, teacher split"] = (student, split, "dash")
    costs |= {
        n: (receiver, cost, "dash" if n == TRAIN_AND_RUN_TEACHER else "dot") for n, (receiver, cost) in others.items()
    }
    drawn = []
    for name, (receiver, cost, dash) in costs.items():
        pairs = [cost.at(n) for n in points]
        y = [v for v, _ in pairs]
        low, high = _bars(inventory, source, y, pairs)
        x, marker = [float(n) for n in points], style(receiver)[1]
        drawn.append(Curve(name, x, y, low, high, palette[receiver], dash, marker))
    return Figure(
        name=f"break-even-{student}",
        caption=f"Energy since the first training slot of {student} and of what could run in its place ({source}); "
        f"{_error_bar_caption(inventory, source)}. Where its curve crosses another from above, it has "
        "paid back its development. Its scratch baseline is the same network, so it has the student's energy per slot.",
        x_title="slots in service",
        y_title="energy [J]",
        curves=drawn,
        x_log=True,
        y_range=_range(drawn),
    )


def _correct_bits(inventory: LifeCycleInventory, source: str) -> Figure:
    names = _unique_networks(inventory)
    palette = colours(names)
    drawn = []
    for name in names:
        rows = [
            r
            for r in inventory.correct_bit_rows()
            if (r["receiver"], r["interference_fraction"]) == (name, inventory.interference_fraction)
        ]
        rows.sort(key=lambda r: float(r["sinr_db"]))
        y = [r["sources"][source]["inference_j_per_correct_bit"] for r in rows]
        low, high = _bars(inventory, source, y, [(v, inventory.repeatability_of(source).relative_sd * v) for v in y])
        dash, marker = style(name)
        drawn.append(Curve(name, [r["sinr_db"] for r in rows], y, low, high, palette[name], dash, marker))
    unwanted = (
        f"{inventory.interference_fraction:.0%} of the unwanted power is an interferer"
        if inventory.interference_fraction
        else "no interferer"
    )
    return Figure(
        name="ecal-correct-bits",
        caption=f"Energy of inference per correctly received data bit over SINR ({source}), {unwanted}; "
        f"{_error_bar_caption(inventory, source)}.{_of_equal_nets(inventory)}",
        x_title="SINR per receive antenna [dB]",
        y_title="J per correctly received bit",
        curves=drawn,
        y_range=_range(drawn, room=12.0),
    )


def _of_equal_nets(inventory: LifeCycleInventory) -> str:
    same = len(_unique_networks(inventory)) < len(inventory.roles)
    return " Of students and of twins of one net, the first is shown." if same else ""


_TRAFFIC_S = {"a minute": 60, "an hour": 3600, "a day": 86400, "30 days": 30 * 86400, "a year": 365 * 86400}


def _savings(inventory: LifeCycleInventory, source: str) -> list[Figure]:
    """Energy of development against what it saves per slot, for nets of several sizes."""
    table = savings_table(inventory)
    table = table[(table["source"] == source) & (table["saved_j_per_slot"] > 0)]
    if table["net"].nunique() < 2:
        return []
    palette = colours(table["net"].tolist())
    curves = []
    for spec, rows in table.groupby("net", sort=False):
        x, y, low, high = (
            rows[k].tolist()
            for k in ("development_j", "saved_j_per_slot", "saved_j_per_slot_low", "saved_j_per_slot_high")
        )
        low = [max(v, 1e-6 * s) for v, s in zip(low, y, strict=True)]  # a logarithmic axis ends above 0
        marker, labels = style(str(spec))[1], rows["variant"].tolist()
        curves.append(Curve(str(spec), x, y, low, high, palette[str(spec)], "solid", marker, False, labels))
    ends = [float(table["development_j"].min()) / 2, float(table["development_j"].max()) * 2]
    y_range = float(table["saved_j_per_slot"].min()) / 3, float(table["saved_j_per_slot"].max()) * 3
    for (name, traffic_s), dash in zip(_TRAFFIC_S.items(), ("dot", "dot", "dash", "dash", "solid"), strict=True):
        y = [inventory.slot_s * e / traffic_s for e in ends]
        if y[0] < y_range[1] and y[1] > y_range[0]:
            curves.append(Curve(f"repaid after {name}", ends, y, colour="#bbbbbb", dash=dash, marker="none"))
    return [
        Figure(
            name="savings",
            caption=f"Energy of development (teacher allocation: {inventory.settings.teacher_allocation}) against what a "
            f"student saves per slot when it runs in its teacher's place ({source}, {table['kind'].iloc[0]}); "
            f"{_error_bar_caption(inventory, source)}. Up and left is better; on a grey line the development is repaid "
            "after so much continuous traffic.",
            x_title="development [J]",
            y_title="saved [J per slot]",
            curves=curves,
            x_log=True,
            y_range=y_range,
        )
    ]


Bars = tuple[list[float] | None, list[float] | None]


def _bars(inventory: LifeCycleInventory, source: str, values: list[float], pairs: list[tuple[float, float]]) -> Bars:
    """Lower and upper ends around values whose relative deviations are those of (energy, deviation) pairs."""
    coverage = inventory.repeatability_of(source).coverage
    if coverage is None:
        return None, None
    half = [coverage * sd / energy_j for energy_j, sd in pairs]
    # a logarithmic axis has no room for ends at or below 0
    low = [v * max(1 - h, 1e-6) for v, h in zip(values, half, strict=True)]
    return low, [v * (1 + h) for v, h in zip(values, half, strict=True)]


def _error_bar_caption(inventory: LifeCycleInventory, source: str) -> str:
    if inventory.repeatability_of(source).coverage is None:
        return "the meter's repeatability is not known"
    return "bars are 95 % by the meter's repeatability"


def _range(curves: list[Curve], room: float = 2.0) -> tuple[float, float]:
    """Ends of the axis, with ``room`` above for the legend."""
    values = [v for c in curves for v in c.y]
    return 0.5 * min(values), room * max(values)


def texts(inventory: LifeCycleInventory) -> list[str]:
    """What the section says."""
    return [
        headline(inventory),
        " ".join(notes(inventory)),
    ]


def life_cycle_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """One row per receiver and source of energy: eCAL and its components."""
    rows = [
        {"receiver": b.receiver, "role": b.role, "source": b.source, "kind": b.kind}
        | {k: v for k, v in b.ecal.as_json().items() if k != "components_j"}
        | {f"{k}_j": v for k, v in b.ecal.components_j.items()}
        for b in inventory.results()
    ]
    return pd.DataFrame(rows)


def payback_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """One row per student, source, way of charging the teacher, alternative and unit."""
    return pd.DataFrame([vars(r) for r in inventory.paybacks()])


def correct_bit_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """One row per receiver, tested point and source: joules per correctly received bit."""
    rows = [
        {**{k: v for k, v in row.items() if k != "sources"}, "source": source, **energies}
        for row in inventory.correct_bit_rows()
        for source, energies in row["sources"].items()
    ]
    return pd.DataFrame(rows)


def savings_table(inventory: LifeCycleInventory) -> pd.DataFrame:
    """What a student's development cost, and what it saves where its teacher ran: means over seeds.

    Returns:
        one row per variant and source: ``variant, net, source, kind, seeds, teachers_j`` (training of teachers),
        ``development_j`` (these included), ``saved_j_per_slot`` with the ends of its interval by the meter's
        repeatability, ``break_even_slots``, NaN if nothing is saved.
    """
    rows = []
    for source in inventory.sources:
        repeatability = inventory.repeatability_of(source)
        for student, variant in zip(
            inventory.students, variant_names(inventory.students, inventory.run.plan), strict=True
        ):
            root = inventory.trained_teacher(student)
            if root is not None:
                result, taught = inventory.result(student, source), inventory.result(root, source)
                mine_j, other_j = (b.cost(repeatability).marginal_j for b in (result, taught))
                rows.append(
                    {
                        "variant": variant,
                        "net": net(student),
                        "source": source,
                        "kind": result.kind,
                        "seeds": 1,
                        "teachers_j": sum(result.teachers_j.values()),
                        "development_j": result.cost(repeatability).fixed_j,
                        "saved_j_per_slot": other_j - mine_j,
                        "half_j": (repeatability.coverage or math.nan)
                        * repeatability.relative_sd
                        * math.hypot(mine_j, other_j),
                    }
                )
    columns = ["variant", "net", "source", "kind", "seeds", "teachers_j", "development_j", "saved_j_per_slot", "half_j"]
    means = dict.fromkeys(columns[5:], "mean")
    table = pd.DataFrame(rows, columns=columns).groupby(columns[:3], sort=False, as_index=False)
    found = table.agg({"kind": "first", "seeds": "sum", **means})
    half_j, saved_j = found.pop("half_j"), found["saved_j_per_slot"]
    found = found.assign(saved_j_per_slot_low=saved_j - half_j, saved_j_per_slot_high=saved_j + half_j)
    return found.assign(break_even_slots=(found["development_j"] / saved_j).where(saved_j > 0))


def life_cycle_page_table(inventory: LifeCycleInventory) -> dict[str, Any]:
    """The page's table of life cycles: meter and estimates side by side."""
    n = inventory.settings.inferences
    head = [
        "receiver",
        "source",
        "kind",
        "teacher [J]",
        "distillation [J]",
        "training [J]",
        "evaluation [J]",
        f"{n:,} slots [J]",
        "all [J]",
        "eCAL [nJ/bit]",
        "limit [nJ/bit]",
    ]
    rows = []
    for b in inventory.results():
        e, parts = b.ecal, b.ecal.components_j
        joules = [
            f"{parts[k]:,.3g}" if k in parts else "" for k in ("teacher", "distillation", "training", "evaluation")
        ]
        rows.append(
            [
                b.receiver,
                b.source,
                b.kind,
                *joules,
                f"{parts['inference']:,.4g}",
                f"{e.absolute_j:,.4g}",
                f"{1e9 * e.ecal_j_per_bit:.3g}",
                f"{1e9 * e.asymptotic_j_per_bit:.3g}",
            ]
        )
    return {"head": head, "rows": rows, "note": "", "link": '<a href="life-cycle.csv">CSV</a>'}


def payback_page_table(inventory: LifeCycleInventory) -> dict[str, Any]:
    """The page's table of break-evens by the meter, with the teacher as the settings say."""
    shown = [
        r
        for r in inventory.paybacks()
        if (r.source, r.teacher) == (inventory.sources[0], inventory.settings.teacher_allocation)
    ]
    both: dict[tuple[str, str], dict[str, Payback]] = {}
    for r in shown:
        both.setdefault((r.student, r.against), {})[r.per] = r
    rows = [
        [s, a, payback_phrase(by["slot"], inventory.slot_s), payback_phrase(by["correct bit"], inventory.slot_s)]
        for (s, a), by in both.items()
    ]
    head = ["student", "against", "for equal slots", f"for equal correct bits at {inventory.sinr_db:g} dB"]
    note = f"By {METERED}. '{RUN_TEACHER}' takes the teacher as paid for. "
    return {"head": head, "rows": rows, "note": note, "link": '<a href="break-even.csv">CSV</a>'}
