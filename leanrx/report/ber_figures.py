"""Figures of every run: BER and BLER over SINR, BER against energy and MACs, estimated against metered energy."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from channels import NUM_SYMBOLS
from energy.metering.deployment import form_name
from leanrx.report.charts import Curve, Figure
from leanrx.report.comparisons import pareto_front
from leanrx.report.results import RunResults, mape
from leanrx.report.style import role_style
from leanrx.report.text import interference_phrase, reference_note, seed_caption, setting_caption
from receivers.classical import GENIE_AIDED
from receivers.neural.registry import FAMILIES

_GREY = "#bbbbbb"


def figures(results: RunResults) -> list[Figure]:
    """Error rates by interference fraction, the trade-off, families if there are two, and the energy estimates."""
    fractions = sorted(float(f) for f in results.rates["interference_fraction"].unique())
    families = [_ber_against_macs(results)] if len(results.comparisons.families) else []
    curves = [_rate_over_sinr(results, fraction, "ber") for fraction in fractions]
    if results.rates["transport_blocks"].any():
        curves += [_rate_over_sinr(results, fraction, "bler") for fraction in fractions]
    return [*curves, _trade_off(results), *_latency(results), *families, _energy_estimates(results)]


_RATE_TITLES = {"ber": "Uncoded BER", "bler": "BLER of the transport blocks"}


def _rate_over_sinr(results: RunResults, interference_fraction: float, rate: Literal["ber", "bler"]) -> Figure:
    table = results.rates[results.rates["interference_fraction"] == interference_fraction].dropna(subset=[rate])
    variant_of = results.receivers.set_index("receiver")["variant"]
    groups = table.assign(variant=table["receiver"].map(variant_of)).groupby(["variant", "sinr_db"], as_index=False)
    means = groups.agg({rate: "mean", f"{rate}_low": "min", f"{rate}_high": "max"})
    variants = results.comparisons.variants
    curves = []
    for name in variants.loc[variants["best"], "variant"]:
        rows = means[means["variant"] == name]
        if len(rows):
            curves.append(Curve.of(rows, "sinr_db", rate, name, **results.styles.by_name[name]._asdict()))
    fewest, most = table["slots"].min(), table["slots"].max()
    slots = f"{fewest} to {most}" if fewest < most else str(most)
    buildable = table[~table["receiver"].isin(GENIE_AIDED) & (table[rate] > 0)]
    lowest = max(1e-7, 0.3 * float(buildable[rate].min())) if len(buildable) else 1e-3
    return Figure(
        name=f"{rate}-interference-{interference_fraction:g}",
        caption=f"{_RATE_TITLES[rate]} over SINR {interference_phrase(interference_fraction)}. All receivers have the "
        f"same {slots} slots per point. Bars are 95 % intervals over slots. An arrow is an upper bound for a point "
        "without errors. The vertical axis covers receivers that can be built; genie-aided curves may leave it."
        f"{seed_caption(results)}{setting_caption(results)}",
        x_title="SINR per receive antenna [dB]",
        y_title=rate.upper(),
        curves=curves,
        y_range=(lowest, 1.0),
    )


def _trade_off(results: RunResults) -> Figure:
    table = results.comparisons.variants.dropna(subset=["energy_j_per_slot"])
    table = table.assign(energy_mj=1e3 * table["energy_j_per_slot"])
    front = table[pareto_front(table["energy_j_per_slot"], table["ber"])].sort_values("energy_j_per_slot")
    curves = [Curve("Pareto front", front["energy_mj"].tolist(), front["ber"].tolist(), colour=_GREY, marker="none")]
    best, others = table[table["best"]], table[~table["best"]]
    if len(others):
        x, y, labels = (others[c].tolist() for c in ("energy_mj", "ber", "variant"))
        curves.append(Curve("other settings", x, y, colour=_GREY, lines=False, labels=labels, size=5))
    for (_, row), size in zip(best.iterrows(), _marker_sizes(best["parameters"]), strict=True):
        curves.append(_mark(results, row, "energy_mj", "runtime", size))
    sinr_db = results.point.sinr_db
    return Figure(
        name="trade-off",
        caption=f"BER at {sinr_db:g} dB SINR against the energy of inference ({results.reference_instrument}, "
        f"{results.provenance}), in the deployed form, which is named. Down and left is better. The line joins "
        f"receivers that no other beats in both. Larger markers have more parameters.{seed_caption(results)}"
        f"{setting_caption(results)}",
        x_title=f"energy per slot [mJ, {results.provenance}]",
        y_title=f"BER at {sinr_db:g} dB",
        curves=curves,
        x_log=True,
        second_x=(1e3 / results.data_bits_per_slot, "energy per data bit [µJ]"),
    )


def _mark(results: RunResults, row: pd.Series, x: str, runtime: str, size: float) -> Curve:
    """The point of a variant; its name says what computes, from the column ``runtime``."""
    name = str(row["variant"])
    label = f"{name} ({' and '.join(_forms(row[runtime]))})"
    style = results.styles.by_name[name]._replace(dash="solid")
    return Curve.of(pd.DataFrame([row]), x, "ber", label, **style._asdict(), lines=False, labels=[label], size=size)


def _forms(runtimes: str) -> list[str]:
    """Names of the forms of the receivers of a variant."""
    return list(dict.fromkeys(map(form_name, runtimes.split(" and "))))


def _latency(results: RunResults) -> list[Figure]:
    """BER against the time of a slot in the exported files, with the duration of a slot; none without files."""
    table = results.comparisons.variants.dropna(subset=["latency_s"])
    table = table.assign(latency_ms=1e3 * table["latency_s"])[table["best"]]
    if not len(table):
        return []
    grid, sinr_db = results.config.scenario.grid, results.point.sinr_db
    slot_ms = 1e3 * NUM_SYMBOLS * grid.symbol_duration_s
    ends = [float(table["ber"].min()) / 1.5, float(table["ber"].max()) * 1.5]
    sizes = _marker_sizes(table["parameters"])
    marks = [
        _mark(results, row, "latency_ms", "latency_runtime", size)
        for (_, row), size in zip(table.iterrows(), sizes, strict=True)
    ]
    limit = Curve(f"a slot lasts {slot_ms:g} ms", [slot_ms, slot_ms], ends, colour=_GREY, dash="dash", marker="none")
    machines = " and ".join(results.file_energy["machine"].unique())
    return [
        Figure(
            name="trade-off-latency",
            caption=f"BER at {sinr_db:g} dB SINR against the time of one slot in the fastest exported file: the "
            f"median over metered windows, wall clock, on {machines}. C and LiteRT files use one thread. The grid has "
            f"{grid.num_subcarriers} subcarriers. A receiver to the right of the dashed line is too slow. Larger "
            f"markers have more parameters.{seed_caption(results)}{setting_caption(results)}",
            x_title="time per slot [ms]",
            y_title=f"BER at {sinr_db:g} dB",
            curves=[limit, *marks],
            x_log=True,
        )
    ]


def _marker_sizes(parameters: pd.Series) -> pd.Series:
    """6 to 14 points, linear in the logarithm of the parameters; 6 for classical receivers."""
    logs = np.log(parameters.where(parameters > 0))
    span = logs.max() - logs.min()
    return (6 + 8 * (logs - logs.min()) / (span if span > 0 else 1.0)).fillna(6.0)


_ROLE_LABELS = {"scratch": "from scratch", "student": "distilled", "teacher": "teacher"}


def _ber_against_macs(results: RunResults) -> Figure:
    table = results.comparisons.variants
    table = table[(table["role"] != "classical") & table["best"]]
    curves = []
    for (family, role), rows in table.groupby(["family", "role"], sort=False):
        rows = rows.sort_values("macs_per_slot")
        dash, marker = role_style(str(family), str(role))
        curves.append(
            Curve.of(
                rows,
                "macs_per_slot",
                "ber",
                f"{family}, {_ROLE_LABELS[str(role)]}",
                colour=FAMILIES[str(family)].colour,
                dash=dash,
                marker=marker,
                lines=role != "teacher",
                labels=rows["variant"].tolist(),
            )
        )
    sinr_db = results.point.sinr_db
    return Figure(
        name="ber-macs",
        caption=f"BER at {sinr_db:g} dB SINR against multiply-accumulates per slot. MACs of hybrid receivers include "
        f"their classical parts.{seed_caption(results)}{setting_caption(results)}",
        x_title="MACs per slot",
        y_title=f"BER at {sinr_db:g} dB",
        curves=curves,
        x_log=True,
    )


_ESTIMATOR_STYLES = (("#0072b2", "circle"), ("#d55e00", "square"), ("#009e73", "triangle-up"), ("#cc79a7", "diamond"))


def _energy_estimates(results: RunResults) -> Figure:
    table = results.estimates
    deviation = mape(table)
    values = np.concatenate([table["reference_j_per_slot"], table["estimated_j_per_slot"]])
    ends = [float(values.min()) / 1.5, float(values.max()) * 1.5]
    curves = [Curve("estimate = reference", ends, ends, colour=_GREY, dash="dash", marker="none")]
    for index, (estimator, rows) in enumerate(table.groupby("estimator")):
        colour, marker = _ESTIMATOR_STYLES[index % len(_ESTIMATOR_STYLES)]
        curves.append(
            Curve(
                f"{estimator} (MAPE {deviation[str(estimator)]:.0f} %)",
                rows["reference_j_per_slot"].tolist(),
                rows["estimated_j_per_slot"].tolist(),
                colour=colour,
                marker=marker,
                lines=False,
                labels=rows["receiver"].tolist(),
            )
        )
    return Figure(
        name="energy-estimates",
        caption=f"Energy per slot, estimated from FLOPs, against the reference. {reference_note(results)}",
        x_title=f"{results.reference_instrument} energy per slot [J, {results.provenance}]",
        y_title="estimated energy per slot [J, modelled]",
        curves=curves,
        x_log=True,
    )
