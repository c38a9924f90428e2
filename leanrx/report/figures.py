"""Figures of every run: BER over SINR, BER against energy and MACs, estimates against the meter."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leanrx.life_cycle.inventory import METERED
from leanrx.report.analysis import Analysis, mape
from leanrx.report.charts import Curve, Figure
from leanrx.report.comparisons import pareto
from leanrx.report.style import colours, style
from receivers.classical import GENIE_AIDED


def figures(analysis: Analysis) -> list[Figure]:
    """All figures of a report; families at equal MACs only if there are two."""
    shares = sorted(analysis.rates["interference_fraction"].unique())
    drawn = [*(_ber(analysis, float(s)) for s in shares), _trade_off(analysis)]
    return [*drawn, *([_families(analysis)] if len(analysis.contest) else []), _agreement(analysis)]


def over_seeds(analysis: Analysis) -> str:
    """What a BER and its bar are where receivers were trained with several seeds; begins with a space."""
    if analysis.variants["seeds"].max() == 1:
        return ""
    return " Points are means over seeds; bars join the outermost ends of the seeds' intervals."


def chosen(analysis: Analysis) -> str:
    """Which students are shown where there are several ways to distil; begins with a space."""
    if analysis.variants["best"].all():
        return ""
    return (
        f" Of several ways to distil, that with the lowest BER at {analysis.sinr_db:g} dB is shown for each student: "
        "chosen on these slots, it looks a little better than it is."
    )


def _ber(analysis: Analysis, share: float) -> Figure:
    table = analysis.rates[analysis.rates["interference_fraction"] == share]
    variant = analysis.sizes.set_index("receiver")["variant"]
    means = table.assign(variant=table["receiver"].map(variant)).groupby(["variant", "sinr_db"], as_index=False)
    shown = means.agg({"ber": "mean", "ber_low": "min", "ber_high": "max"})
    names = [n for n in analysis.variants.loc[analysis.variants["best"], "variant"] if n in set(shown["variant"])]
    palette = colours(names)
    curves = []
    for name in names:
        rows = shown[shown["variant"] == name]
        x, y, low, high = (rows[k].tolist() for k in ("sinr_db", "ber", "ber_low", "ber_high"))
        curves.append(Curve(name, x, y, low, high, palette[name], *style(name)))
    slots = (
        f"{table['slots'].min()} to {table['slots'].max()}" if table["slots"].nunique() > 1 else table["slots"].min()
    )
    conditions = f"{share:.0%} of the unwanted power is an interferer" if share else "no interferer"
    built = table[~table["receiver"].isin(GENIE_AIDED) & (table["ber"] > 0)]
    floor = max(1e-7, 0.3 * float(built["ber"].min()))
    return Figure(
        name=f"ber-interference-{share:g}",
        caption=f"Uncoded BER over SINR, {conditions}. {slots} slots per point, the same for all receivers; bars are "
        "95 % intervals over slots; an arrow is an upper bound where no error was seen. The axis ends a little below "
        f"the best receiver that can be built.{over_seeds(analysis)}{chosen(analysis)}",
        x_title="SINR per receive antenna [dB]",
        y_title="BER",
        curves=curves,
        y_range=(floor, 1.0),
    )


def _trade_off(analysis: Analysis) -> Figure:
    table = analysis.variants.dropna(subset=["energy_j_per_slot"])
    front = table[pareto(table["energy_j_per_slot"], table["ber"])].sort_values("energy_j_per_slot")
    curves = [
        Curve(
            "Pareto front",
            (1e3 * front["energy_j_per_slot"]).tolist(),
            front["ber"].tolist(),
            colour="#bbbbbb",
            marker="none",
        )
    ]
    shown, others = table[table["best"]], table[~table["best"]]
    if len(others):
        curves.append(
            Curve(
                "other ways to distil",
                (1e3 * others["energy_j_per_slot"]).tolist(),
                others["ber"].tolist(),
                colour="#bbbbbb",
                marker="circle",
                lines=False,
                labels=others["variant"].tolist(),
                size=5,
            )
        )
    palette, size = colours(shown["variant"].tolist()), _marker_sizes(shown["parameters"])
    for row in shown.itertuples():
        name = str(row.variant)
        curves.append(
            Curve(
                name,
                [1e3 * row.energy_j_per_slot],
                [row.ber],
                [row.ber_low],
                [row.ber_high],
                palette[name],
                "solid",
                style(name)[1],
                lines=False,
                labels=[name],
                size=size[row.Index],
            )
        )
    return Figure(
        name="trade-off",
        caption=f"BER at {analysis.sinr_db:g} dB SINR against energy of inference, {METERED} "
        f"({analysis.metered_kind}). Down and left is better; the line joins receivers that no other beats in both. "
        f"Larger marks have more parameters.{over_seeds(analysis)}{chosen(analysis)}",
        x_title=f"energy per slot [mJ, {analysis.metered_kind}]",
        y_title=f"BER at {analysis.sinr_db:g} dB",
        curves=curves,
        x_log=True,
        second_x=(1e3 / analysis.data_bits_per_slot, "energy per data bit [µJ]"),
    )


def _marker_sizes(parameters: pd.Series) -> pd.Series:
    """6 to 14 points over the logarithm of the parameters; 6 for classical receivers."""
    logs = np.log(parameters.where(parameters > 0))
    span = logs.max() - logs.min()
    return (6 + 8 * (logs - logs.min()) / (span if span > 0 else 1.0)).fillna(6.0)


def _families(analysis: Analysis) -> Figure:
    table = analysis.variants[analysis.variants["role"] != "classical"]
    curves = []
    for (family, role), rows in table[table["best"]].groupby(["family", "role"], sort=False):
        rows = rows.sort_values("macs_per_slot")
        dash, marker = style({"teacher": "teacher", "scratch": f"{family}-scratch"}.get(str(role), str(family)))
        name = f"{family}, {'from scratch' if role == 'scratch' else 'distilled' if role == 'student' else role}"
        x, y, low, high = (rows[k].tolist() for k in ("macs_per_slot", "ber", "ber_low", "ber_high"))
        colour, labels = _FAMILY_COLOURS[str(family)], rows["variant"].tolist()
        curves.append(Curve(name, x, y, low, high, colour, dash, marker, role != "teacher", labels))
    return Figure(
        name="ber-macs",
        caption=f"BER at {analysis.sinr_db:g} dB SINR against multiply-accumulates per slot, classical parts of hybrid "
        f"receivers included.{over_seeds(analysis)}{chosen(analysis)}",
        x_title="MACs per slot",
        y_title=f"BER at {analysis.sinr_db:g} dB",
        curves=curves,
        x_log=True,
    )


_FAMILY_COLOURS = {"deeprx": "#0072b2", "hybrid": "#009e73"}


def _agreement(analysis: Analysis) -> Figure:
    table = analysis.agreement
    errors = mape(table)
    styles = {"FLOPs/clock": ("#0072b2", "circle"), "FLOPs/W": ("#d55e00", "square")}
    both = np.concatenate([table["metered_j_per_slot"], table["estimated_j_per_slot"]])
    ends = [float(both.min()) / 1.5, float(both.max()) * 1.5]
    curves = [Curve("estimate = meter", ends, ends, colour="#bbbbbb", dash="dash", marker="none")]
    for estimator, rows in table.groupby("estimator"):
        colour, marker = styles[str(estimator)]
        curves.append(
            Curve(
                f"{estimator} (MAPE {errors[str(estimator)]:.0f} %)",
                rows["metered_j_per_slot"].tolist(),
                rows["estimated_j_per_slot"].tolist(),
                colour=colour,
                marker=marker,
                lines=False,
                labels=rows["receiver"].tolist(),
            )
        )
    return Figure(
        name="agreement",
        caption="Energy per slot estimated from FLOPs against the meter. " + agreement_words(analysis),
        x_title=f"{METERED} energy per slot [J, {analysis.metered_kind}]",
        y_title="estimated energy per slot [J, modelled]",
        curves=curves,
        x_log=True,
    )


def agreement_words(analysis: Analysis) -> str:
    """Says whether the estimates are held against a measurement or against another model."""
    if analysis.metered_kind == "measured":
        return "The meter read hardware counters."
    return (
        "No hardware counter was readable here: the meter is CodeCarbon's model, CPU power times this process's share "
        "of CPU time, so this compares an estimate with a model, not with a measurement. What differs between the two "
        "is the time: counted FLOPs at an assumed rate against the clock on the wall."
    )
