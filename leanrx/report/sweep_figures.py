"""Figures of what a sweep compares: sizes, teachers, temperatures and weights, ways to distil.

Each is drawn only if the sweep has two of what it compares.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from leanrx.report.analysis import Analysis
from leanrx.report.charts import Curve, Figure, HeatMap
from leanrx.report.figures import chosen, over_seeds
from leanrx.report.style import colours, style

CASE_STUDY_GAIN_DB = 4.0
"""Gain at BER 1e-3 over training from scratch in arXiv 2507.10409, as told by others."""

CASE_STUDY = (
    f"The case study's own figure is {CASE_STUDY_GAIN_DB:+g} dB at BER 0.001 (arXiv 2507.10409, second-hand; channel, "
    "modulation and nets behind it are not known to us)"
)
SMALL, CLOSE_DB = 0.1, 0.3
"""A student is small with at most so much of its teacher's MACs, and close with at most so many dB lost."""

_TARGET_COLOURS = ("#0072b2", "#d55e00", "#009e73")


def figures(analysis: Analysis) -> list[Figure | HeatMap]:
    """Those that the sweep has something for."""
    drawn: list[Figure | HeatMap] = [*_gain(analysis), *_loss(analysis), *_teachers(analysis)]
    target = compared_at(analysis)
    if target is None:
        return drawn
    table = _gains_at(analysis, target)
    return [*drawn, *_maps(table, target), *_lines(table, target), *_ways(table, target)]


def compared_at(analysis: Analysis) -> float | None:
    """The BER at which most variants have a gain, the report's own among equals; none if there is no gain at all."""
    found = analysis.gains.dropna(subset=["gain_db"])["target_ber"].value_counts()
    if not len(found):
        return None
    return float(max(found.index, key=lambda ber: (found[ber], ber == analysis.target_ber)))


def _gains_at(analysis: Analysis, target: float) -> pd.DataFrame:
    rows = analysis.gains[analysis.gains["target_ber"] == target].drop(columns="seeds")
    return analysis.variants.merge(rows, on="variant")


def _gain(analysis: Analysis) -> list[Figure]:
    table = analysis.gains.drop(columns="seeds").merge(analysis.variants[analysis.variants["best"]], on="variant")
    told = table.dropna(subset=["gain_db", "gain_db_at_least"], how="all")
    if told["receiver"].nunique() < 2:
        return []
    curves = _per_target(told, "gain_db", "parameters")
    bounds = told[told["gain_db"].isna()]
    if len(bounds):
        curves.append(
            Curve(
                "at least: the twin never gets there",
                bounds["parameters"].astype(float).tolist(),
                bounds["gain_db_at_least"].tolist(),
                colour="#555555",
                marker="arrow-up",
                lines=False,
                size=14,
            )
        )
    ends = [float(told["parameters"].min()) / 1.2, float(told["parameters"].max()) * 1.2]
    curves.append(_level("case study at BER 0.001, second-hand", ends, CASE_STUDY_GAIN_DB))
    return [
        Figure(
            name="gain",
            caption="Gain of distilled students over their twins, trained from scratch on the same slots: how much "
            f"less SINR they need. {_intervals(told)} {CASE_STUDY}.{chosen(analysis)}",
            x_title="parameters",
            y_title="gain over the twin [dB]",
            curves=curves,
            x_log=True,
            y_log=False,
        )
    ]


def _loss(analysis: Analysis) -> list[Figure]:
    table = analysis.losses.drop(columns="seeds").merge(analysis.variants[analysis.variants["best"]], on="variant")
    told = table[table["role"] == "student"].dropna(subset=["loss_db", "macs_share"])
    if told["receiver"].nunique() < 2:
        return []
    ends = [float(told["macs_share"].min()) / 1.2, float(told["macs_share"].max()) * 1.2]
    return [
        Figure(
            name="loss",
            caption=f"Loss of distilled students to their teacher: how much more SINR they need. {_intervals(told)} "
            f"Few MACs and little loss is better; the dashed line is at {CLOSE_DB:g} dB.{chosen(analysis)}",
            x_title="MACs, as a share of the teacher's",
            y_title="loss to the teacher [dB]",
            curves=[*_per_target(told, "loss_db", "macs_share"), _level(f"{CLOSE_DB:g} dB", ends, CLOSE_DB)],
            x_log=True,
            y_log=False,
        )
    ]


def _per_target(table: pd.DataFrame, column: str, x: str) -> list[Curve]:
    """One curve for each BER and family, set a little apart."""
    curves = []
    families = table["family"].nunique()
    bers = sorted(table["target_ber"].unique(), reverse=True)
    for (ber, family), rows in table.dropna(subset=[column]).groupby(["target_ber", "family"]):
        rows, index = rows.sort_values(x), bers.index(ber)
        values, low, high = (rows[c].tolist() for c in (column, f"{column}_low", f"{column}_high"))
        name = f"at BER {ber:g}" + (f", {family}" if families > 1 else "")
        apart = (rows[x] * 1.02 ** (index - 1)).tolist()
        dash = "dash" if family == "hybrid" else "solid"
        curves.append(
            Curve(
                name,
                apart,
                values,
                low,
                high,
                _TARGET_COLOURS[index],
                dash,
                style(str(family))[1],
                labels=rows["variant"].tolist(),
            )
        )
    return sorted(curves, key=lambda c: _TARGET_COLOURS.index(c.colour))


def _level(name: str, ends: list[float], value: float) -> Curve:
    return Curve(name, ends, [value, value], colour="#999999", dash="dash", marker="none")


def _intervals(table: pd.DataFrame) -> str:
    over = table.loc[table["over"] != "nothing", "over"].unique()
    return f"Bars are 95 % intervals over {' or '.join(over)}." if len(over) else "There are no intervals."


def _teachers(analysis: Analysis) -> list[Figure]:
    table = analysis.taught
    if not len(table):
        return []
    palette = colours(table["receiver"].tolist())
    others = analysis.variants
    trained = others[others["variant"].isin(table["teacher"])].sort_values("macs_per_slot")
    ends = [float(trained["macs_per_slot"].min()), float(trained["macs_per_slot"].max())]
    x, y, low, high = (trained[k].tolist() for k in ("macs_per_slot", "ber", "ber_low", "ber_high"))
    curves = [Curve("the teachers", x, y, low, high, "#d55e00", "dot", "square", labels=trained["variant"].tolist())]
    for spec, rows in table.groupby("receiver", sort=False):
        x, y, low, high = (rows[k].tolist() for k in ("teacher_macs_per_slot", "ber", "ber_low", "ber_high"))
        labels = rows["variant"].tolist()
        curves.append(
            Curve(str(spec), x, y, low, high, palette[str(spec)], "solid", style(str(spec))[1], labels=labels)
        )
        for ber in others.loc[(others["role"] == "scratch") & (others["receiver"] == spec), "ber"]:
            curves.append(Curve("", ends, [ber, ber], colour=palette[str(spec)], dash="dash", marker="none"))
    return [
        Figure(
            name="teachers",
            caption=f"BER of students at {analysis.sinr_db:g} dB SINR over the size of the teacher that taught them; "
            "dashed, their twins without any. Where there are several ways to distil from one teacher, that with the "
            f"lowest BER.{over_seeds(analysis)}",
            x_title="MACs per slot of the teacher",
            y_title=f"BER at {analysis.sinr_db:g} dB",
            curves=curves,
            x_log=True,
        )
    ]


_AXES = {"temperature": "temperature T", "alpha": "weight of the teacher, alpha"}


def _values(table: pd.DataFrame, axis: str) -> int:
    return int(table[axis].nunique()) if axis in table else 0


def _maps(table: pd.DataFrame, target: float) -> list[HeatMap]:
    """Gain over temperature and alpha: one map for each student and what else is told apart."""
    drawn = []
    for (spec, rest), rows in table.groupby(["receiver", "rest"], sort=False):
        if min(_values(rows, axis) for axis in _AXES) < 2 or rows["gain_db"].isna().all():
            continue
        rows = rows.dropna(subset=list(_AXES))
        z, low, high = (
            rows.pivot(index="alpha", columns="temperature", values=f"gain_db{e}") for e in ("", "_low", "_high")
        )
        labels = [[_cell(z.loc[a, t], low.loc[a, t], high.loc[a, t]) for t in z.columns] for a in z.index]
        drawn.append(
            HeatMap(
                name=f"map-{spec}" + (f"-{rest}" if rest else ""),
                caption=f"{_called(spec, rest)}: gain over the twin at BER {target:g}. {_intervals(rows)} "
                "The largest of many cells is in part luck.",
                x_title=_AXES["temperature"],
                y_title=_AXES["alpha"],
                z_title="gain [dB]",
                x=[f"{t:g}" for t in z.columns],
                y=[f"{a:g}" for a in z.index],
                z=z.to_numpy(float).tolist(),
                labels=labels,
            )
        )
    return drawn


def _cell(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:+.2f}" + ("" if np.isnan(low) else f"<br>{low:+.2f} to {high:+.2f}")


def _called(spec: object, rest: object) -> str:
    return f"{spec} ({rest})" if rest else str(spec)


def _lines(table: pd.DataFrame, target: float) -> list[Figure]:
    """Gain over temperature or alpha, where a sweep has several of one alone."""
    drawn = []
    for axis, other in (("temperature", "alpha"), ("alpha", "temperature")):
        curves = []
        palette = colours(table["receiver"].tolist())
        for (spec, rest), rows in table.groupby(["receiver", "rest"], sort=False):
            rows = rows.dropna(subset=["gain_db"])
            if _values(rows, axis) < 2 or _values(rows, other) > 1:
                continue
            rows = rows.sort_values(axis)
            x, y, low, high = (rows[k].tolist() for k in (axis, "gain_db", "gain_db_low", "gain_db_high"))
            curves.append(Curve(_called(spec, rest), x, y, low, high, palette[str(spec)], "solid", style(str(spec))[1]))
        if curves:
            drawn.append(
                Figure(
                    name=f"gain-{axis}",
                    caption=f"Gain of students over their twins at BER {target:g}. {_intervals(table)}",
                    x_title=_AXES[axis],
                    y_title=f"gain over the twin at BER {target:g} [dB]",
                    curves=curves,
                    y_log=False,
                )
            )
    return drawn


def _ways(table: pd.DataFrame, target: float) -> list[Figure]:
    """Gain by loss and kind of teacher, where more differs than sizes of teachers, temperature and alpha."""
    ways = list(dict.fromkeys(table["rest"]))
    if len(ways) < 2 or (len(ways) <= table["teacher"].nunique() and (table["kind"] == "teacher").all()):
        return []
    palette, curves = colours(table["receiver"].tolist()), []
    told = table.dropna(subset=["gain_db"])
    best = told.loc[told.groupby(["receiver", "rest"], sort=False)["gain_db"].idxmax()]
    specs = list(dict.fromkeys(best["receiver"]))
    for index, (spec, rows) in enumerate(best.groupby("receiver", sort=False)):
        apart = 0.5 * (index - (len(specs) - 1) / 2) / len(specs)
        x = [ways.index(w) + apart for w in rows["rest"]]
        y, low, high = (rows[k].tolist() for k in ("gain_db", "gain_db_low", "gain_db_high"))
        marker, labels = style(str(spec))[1], rows["variant"].tolist()
        curves.append(Curve(str(spec), x, y, low, high, palette[str(spec)], "solid", marker, False, labels))
    return [
        Figure(
            name="ways",
            caption=f"Gain of students over their twins at BER {target:g} by way to distil, each at its best "
            f"temperature and alpha. {_intervals(told)}",
            x_title="way to distil",
            y_title=f"gain over the twin at BER {target:g} [dB]",
            curves=curves,
            y_log=False,
            x_labels=tuple(w or "plain" for w in ways),
        )
    ]
