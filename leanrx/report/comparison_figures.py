"""Figures that compare students: gains, losses, teachers, temperature and alpha, distillation settings.

A figure is drawn only if the run has two of what it compares.
"""

from __future__ import annotations

import math

import pandas as pd

from leanrx.report.charts import Curve, Figure, HeatMap, level
from leanrx.report.results import RunResults
from leanrx.report.text import (
    CASE_STUDY,
    CASE_STUDY_GAIN_DB,
    CLOSE_DB,
    interval_caption,
    seed_caption,
    setting_caption,
)
from receivers.neural.registry import FAMILIES

_BER_COLOURS = ("#0072b2", "#d55e00", "#009e73")


def figures(results: RunResults) -> list[Figure | HeatMap]:
    """The figures that the run has results for."""
    charts: list[Figure | HeatMap] = [*_gain(results), *_loss(results), *_teachers(results)]
    ber = comparison_ber(results)
    if ber is None:
        return charts
    table = _gains_at(results, ber)
    return [*charts, *_heat_maps(table, ber), *_gain_over_axis(results, table, ber), *_settings(results, table, ber)]


def comparison_ber(results: RunResults) -> float | None:
    """The BER at which most variants have a gain; the report's target among equals. None if there is no gain."""
    counts = results.comparisons.gains.dropna(subset=["gain_db"])["target_ber"].value_counts()
    if not len(counts):
        return None
    return float(max(counts.index, key=lambda ber: (counts[ber], ber == results.point.target_ber)))


def _gains_at(results: RunResults, ber: float) -> pd.DataFrame:
    gains = results.comparisons.gains
    return results.comparisons.variants.merge(gains[gains["target_ber"] == ber].drop(columns="seeds"), on="variant")


def _best_variants(results: RunResults, gaps: pd.DataFrame) -> pd.DataFrame:
    """Gaps of the best variant of each network, with the columns of the variants."""
    table = results.comparisons.variants
    return gaps.drop(columns="seeds").merge(table[table["best"]], on="variant")


def _gain(results: RunResults) -> list[Figure]:
    table = _best_variants(results, results.comparisons.gains)
    table = table.dropna(subset=["gain_db", "gain_db_at_least"], how="all")
    if table["spec"].nunique() < 2:
        return []
    curves = _curve_per_ber(table, "parameters", "gain_db")
    bounds = table[table["gain_db"].isna()]
    if len(bounds):
        x, y = bounds["parameters"].astype(float).tolist(), bounds["gain_db_at_least"].tolist()
        name = "lower bound: baseline does not reach this BER"
        curves.append(Curve(name, x, y, colour="#555555", marker="arrow-up", lines=False, size=14))
    curves.append(level("case study at BER 0.001, second-hand", _ends(table["parameters"]), CASE_STUDY_GAIN_DB))
    return [
        Figure(
            name="gain",
            caption="Gain of students over their scratch baselines: SINR saved at the same BER. "
            f"{interval_caption(table)} {CASE_STUDY}{setting_caption(results)}",
            x_title="parameters",
            y_title="gain over the scratch baseline [dB]",
            curves=curves,
            x_log=True,
            y_log=False,
        )
    ]


def _loss(results: RunResults) -> list[Figure]:
    table = _best_variants(results, results.comparisons.losses)
    table = table[table["role"] == "student"].dropna(subset=["loss_db", "macs_ratio"])
    if table["spec"].nunique() < 2:
        return []
    limit = level(f"{CLOSE_DB:g} dB", _ends(table["macs_ratio"]), CLOSE_DB)
    return [
        Figure(
            name="loss",
            caption=f"Loss of students to their teacher: additional SINR for the same BER. {interval_caption(table)} "
            f"Down and left is better. The dashed line is at {CLOSE_DB:g} dB.{setting_caption(results)}",
            x_title="MACs over the teacher's MACs",
            y_title="loss to the teacher [dB]",
            curves=[*_curve_per_ber(table, "macs_ratio", "loss_db"), limit],
            x_log=True,
            y_log=False,
        )
    ]


def _ends(values: pd.Series) -> list[float]:
    return [float(values.min()) / 1.2, float(values.max()) * 1.2]


def _curve_per_ber(table: pd.DataFrame, x: str, y: str) -> list[Curve]:
    """One curve per BER and family. Curves are shifted by 2 % so that their bars do not overlap."""
    several = table["family"].nunique() > 1
    bers = sorted(table["target_ber"].unique(), reverse=True)
    curves: list[Curve] = []
    for index, ber in enumerate(bers):
        at_ber = table[table["target_ber"] == ber].dropna(subset=[y])
        for name, rows in at_ber.groupby("family"):
            family = FAMILIES[str(name)]
            rows = rows.sort_values(x).assign(**{x: lambda r, shift=1.02 ** (index - 1): r[x] * shift})
            style = {"colour": _BER_COLOURS[index], "dash": family.dash, "marker": family.marker}
            label = f"at BER {ber:g}" + (f", {family.name}" if several else "")
            curves.append(Curve.of(rows, x, y, label, **style, labels=rows["variant"].tolist()))
    return curves


def _teachers(results: RunResults) -> list[Figure]:
    table = results.comparisons.students_by_teacher
    if not len(table):
        return []
    variants = results.comparisons.variants
    teachers = variants[variants["variant"].isin(table["teacher"])].sort_values("macs_per_slot")
    ends = [float(teachers["macs_per_slot"].min()), float(teachers["macs_per_slot"].max())]
    style = {"colour": "#d55e00", "dash": "dot", "marker": "square"}
    labels = teachers["variant"].tolist()
    curves = [Curve.of(teachers, "macs_per_slot", "ber", "the teachers", **style, labels=labels)]
    for spec, rows in table.groupby("spec", sort=False):
        student_style = results.styles.by_spec[str(spec)]
        labels = rows["variant"].tolist()
        curves.append(
            Curve.of(rows, "teacher_macs_per_slot", "ber", str(spec), **student_style._asdict(), labels=labels)
        )
        for ber in variants.loc[(variants["role"] == "scratch") & (variants["spec"] == spec), "ber"]:
            curves.append(level("", ends, ber, student_style.colour))
    sinr_db = results.point.sinr_db
    return [
        Figure(
            name="teachers",
            caption=f"BER of students at {sinr_db:g} dB SINR over the size of their teacher. Dashed lines are the "
            "scratch baselines. Where one teacher has several distillation settings, the figure shows the one with the "
            f"lowest BER.{seed_caption(results)}",
            x_title="MACs per slot of the teacher",
            y_title=f"BER at {sinr_db:g} dB",
            curves=curves,
            x_log=True,
        )
    ]


_AXES = {"temperature": "temperature T", "alpha": "weight of the teacher, alpha"}


def _num_values(table: pd.DataFrame, axis: str) -> int:
    return int(table[axis].nunique()) if axis in table else 0


def _heat_maps(table: pd.DataFrame, ber: float) -> list[HeatMap]:
    """Gain over temperature and alpha: one map for each student network and its other settings."""
    charts = []
    for (spec, other_settings), rows in table.groupby(["spec", "other_settings"], sort=False):
        if min(_num_values(rows, axis) for axis in _AXES) < 2 or rows["gain_db"].isna().all():
            continue
        rows = rows.dropna(subset=list(_AXES))
        gain, low, high = (
            rows.pivot(index="alpha", columns="temperature", values=f"gain_db{end}") for end in ("", "_low", "_high")
        )
        labels = [
            [_cell_label(gain.loc[a, t], low.loc[a, t], high.loc[a, t]) for t in gain.columns] for a in gain.index
        ]
        charts.append(
            HeatMap(
                name=f"map-{spec}" + (f"-{other_settings}" if other_settings else ""),
                caption=f"{_label(spec, other_settings)}: gain over the scratch baseline at BER {ber:g}. "
                f"{interval_caption(rows)} The largest of many cells is partly due to chance.",
                x_title=_AXES["temperature"],
                y_title=_AXES["alpha"],
                z_title="gain [dB]",
                x=[f"{t:g}" for t in gain.columns],
                y=[f"{a:g}" for a in gain.index],
                z=gain.to_numpy(float).tolist(),
                labels=labels,
            )
        )
    return charts


def _cell_label(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:+.2f}" + ("" if math.isnan(low) else f"<br>{low:+.2f} to {high:+.2f}")


def _label(spec: object, other_settings: object) -> str:
    return f"{spec} ({other_settings})" if other_settings else str(spec)


def _gain_over_axis(results: RunResults, table: pd.DataFrame, ber: float) -> list[Figure]:
    """Gain over temperature or alpha, where a run has several values of one of them alone."""
    charts = []
    for axis, other_axis in (("temperature", "alpha"), ("alpha", "temperature")):
        curves = []
        for (spec, other_settings), rows in table.groupby(["spec", "other_settings"], sort=False):
            rows = rows.dropna(subset=["gain_db"])
            if _num_values(rows, axis) < 2 or _num_values(rows, other_axis) > 1:
                continue
            style = results.styles.by_spec[str(spec)]._asdict()
            curves.append(Curve.of(rows.sort_values(axis), axis, "gain_db", _label(spec, other_settings), **style))
        if curves:
            charts.append(
                Figure(
                    name=f"gain-{axis}",
                    caption=f"Gain of students over their scratch baselines at BER {ber:g}. {interval_caption(table)}",
                    x_title=_AXES[axis],
                    y_title=f"gain over the scratch baseline at BER {ber:g} [dB]",
                    curves=curves,
                    y_log=False,
                )
            )
    return charts


def _settings(results: RunResults, table: pd.DataFrame, ber: float) -> list[Figure]:
    """Gain by loss and kind of teacher, where more differs than sizes of teachers, temperature and alpha."""
    settings = list(dict.fromkeys(table["other_settings"]))
    only_teachers = len(settings) <= table["teacher"].nunique() and (table["teacher_kind"] == "teacher").all()
    if len(settings) < 2 or only_teachers:
        return []
    gains = table.dropna(subset=["gain_db"])
    best = gains.loc[gains.groupby(["spec", "other_settings"], sort=False)["gain_db"].idxmax()]
    num_specs, curves = best["spec"].nunique(), []
    for index, (spec, rows) in enumerate(best.groupby("spec", sort=False)):
        offset = 0.5 * (index - (num_specs - 1) / 2) / num_specs
        rows = rows.assign(position=[settings.index(s) + offset for s in rows["other_settings"]])
        style, labels = results.styles.by_spec[str(spec)]._asdict(), rows["variant"].tolist()
        curves.append(Curve.of(rows, "position", "gain_db", str(spec), **style, lines=False, labels=labels))
    return [
        Figure(
            name="settings",
            caption=f"Gain of students over their scratch baselines at BER {ber:g} by distillation setting, each at "
            f"its best temperature and alpha. {interval_caption(gains)}",
            x_title="distillation setting",
            y_title=f"gain over the scratch baseline at BER {ber:g} [dB]",
            curves=curves,
            y_log=False,
            x_labels=tuple(s or "default" for s in settings),
        )
    ]
