"""A network of edge sites under all policies: totals, flows, sentences and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from carbon import CarbonIntensity, Emission, Footprint
from carbon.deta.dispatch import Dispatch, dispatch
from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.programme import POLICIES, Policy
from carbon.deta.rolling_horizon import Regret
from carbon.deta.solution import InfeasibleNetwork
from leanrx.report.charts import Curve, Figure

AVERAGES = (
    "All intensities are averages. They do not predict what shifting a load changes, because some plants follow it."
)
FLOWS = (
    *("grid_kwh", "own_kwh", "charge_kwh", "discharge_kwh", "level_kwh", "sent_kwh", "received_kwh", "curtailed_kwh"),
    *("sent_batches", "received_batches", "run_batches", "awake", "load_kwh", "marginal_g_per_kwh"),
)
"""Columns of the flows' CSV file, after policy, slot and site."""
_LISTED = 10
_COLOURS = {"B0": "#999999", "B1": "#000000", "DET": "#e69f00", "DAT": "#0072b2", "DETA": "#009e73"}


@dataclass(frozen=True)
class NetworkResults:
    """A network under all policies.

    Attributes:
        network: the sites.
        dispatches: by policy.
        infeasible: why a policy has no dispatch.
        parts_g: emissions of DETA where parts of batches may move; none unless batches move as a whole.
    """

    network: EdgeNetwork
    dispatches: Mapping[Policy, Dispatch]
    infeasible: Mapping[Policy, str]
    parts_g: float | None = None


def network_results(network: EdgeNetwork) -> NetworkResults:
    """Solve all policies.

    Raises:
        UserError: if DETA, the policy of fewest constraints, is infeasible.
    """
    dispatches: dict[Policy, Dispatch] = {"DETA": dispatch(network, "DETA")}
    infeasible: dict[Policy, str] = {}
    for policy in POLICIES:
        try:
            dispatches[policy] = dispatches.get(policy) or dispatch(network, policy)
        except InfeasibleNetwork as error:
            infeasible[policy] = str(error)
    parts_g = None
    if network.whole_batches:
        parts_g = dispatch(network.model_copy(update={"whole_batches": False}), "DETA").total_g
    return NetworkResults(network, {p: dispatches[p] for p in POLICIES if p in dispatches}, infeasible, parts_g)


def policy_frame(results: NetworkResults) -> pd.DataFrame:
    """Totals by policy. Cuts are against B0 and B1, and empty where these are infeasible."""
    grams = {policy: result.total_g for policy, result in results.dispatches.items()}
    rows = []
    for policy, result in results.dispatches.items():
        row: dict[str, Any] = {"policy": policy, "total_g": result.total_g, "transport_g": result.transport_g}
        for baseline in ("B0", "B1"):
            base = grams.get(baseline, np.nan)
            row[f"cut_{baseline.lower()}"] = 1 - result.total_g / base if base else np.nan
        energies = ("load_kwh", "grid_kwh", "own_kwh", "charge_kwh", "sent_kwh", "curtailed_kwh")
        row |= {key: float(getattr(result, key).sum()) for key in energies}
        row["moved_batches"] = float(result.sent_batches.sum())
        row["asleep_site_hours"] = float((1 - result.awake).sum() * results.network.slot_s / 3600)
        rows.append(row)
    return pd.DataFrame(rows)


def flow_frame(results: NetworkResults) -> pd.DataFrame:
    """What each site does in each slot under each policy, with the columns :data:`FLOWS`. Slots begin at 1."""
    names = [site.name for site in results.network.sites]
    frames = []
    for policy, result in results.dispatches.items():
        slots, sites = result.grid_kwh.shape
        places = {
            "policy": policy,
            "slot": np.repeat(np.arange(1, slots + 1), sites),
            "site": np.tile(names, slots),
        }
        frames.append(pd.DataFrame({**places, **{key: getattr(result, key).ravel() for key in FLOWS}}))
    return pd.concat(frames, ignore_index=True)


def network_footprint(result: Dispatch) -> Footprint:
    """Emissions of a dispatch by site and of transport. The making of the hardware is not modelled."""
    network = result.network
    hourly = np.array([site.g_per_kwh for site in network.sites]).T
    rows = []
    for index, site in enumerate(network.sites):
        kwh = float(result.grid_kwh[:, index].sum())
        grams = float((result.grid_kwh[:, index] * hourly[:, index]).sum())
        rows.append(_emission(site.name, "edge/cloud", kwh, grams, site.intensity, result))
    if network.transport_kwh and network.network_g_per_kwh:
        kwh = result.transport_g / network.network_g_per_kwh
        rows.append(_emission("transport", "core", kwh, result.transport_g, "transport", result))
    else:
        rows.append(Emission(stage="transport", component="core", scope=2))
    rows.append(Emission(stage="embodied", component="edge/cloud", scope=3))
    return Footprint(rows=tuple(rows))


def _emission(stage: str, component: str, kwh: float, grams: float, name: str, result: Dispatch) -> Emission:
    intensity = CarbonIntensity(
        name=name,
        place=stage,
        year=None,
        g_per_kwh=grams / kwh if kwh else 0.0,
        source="mean over the energy of the dispatch",
        basis=result.network.sites[0].basis,
    )
    return Emission.of_energy(stage, component, 2, kwh * 3.6e6, intensity, "modelled")


def lines(results: NetworkResults) -> list[str]:
    """The results as text, what matters most first."""
    frame = policy_frame(results).set_index("policy")
    best = frame.loc["DETA"]
    cuts = [f"{best[f'cut_{b.lower()}']:.1%} against {b}" for b in ("B1", "B0") if b in results.dispatches]
    against = f", a cut of {' and '.join(cuts)}" if cuts else ""
    basis = results.network.sites[0].basis
    text = [f"{len(results.network.sites)} sites, {results.network.slots} slots: DETA emits {best['total_g']:.4g} g"]
    text[0] += f"{against}. Basis of the intensities: {basis or 'not stated'}."
    for policy, title in POLICIES.items():
        if policy in results.infeasible:
            text.append(f"{policy} ({title}): {results.infeasible[policy]}")
            continue
        row = frame.loc[policy]
        text.append(
            f"{policy} ({title}): {row['total_g']:.4g} g, {row['transport_g']:.3g} g of it transport; load "
            f"{row['load_kwh']:.4g} kWh, grid {row['grid_kwh']:.4g}, own {_kwh(row['own_kwh'])}, stored "
            f"{_kwh(row['charge_kwh'])}, sent {_kwh(row['sent_kwh'])}, curtailed {_kwh(row['curtailed_kwh'])} kWh; "
            f"{row['moved_batches']:.4g} batches moved; {row['asleep_site_hours']:.3g} site hours asleep"
        )
    deta = results.dispatches["DETA"]
    footprint = [
        f"DETA, {row.stage} ({row.component}, scope {row.scope}): {row.text}" for row in network_footprint(deta).rows
    ]
    gap = [f"DETA lies at most {deta.gap:.2%} above its optimum."] if deta.gap > 1e-6 else []
    if results.parts_g:
        gap.append(f"Whole batches emit {deta.total_g / results.parts_g - 1:.2%} more than parts of batches would.")
    return [*text, *gap, *shortened(deta.marginal_sentences()), *shortened(footprint), AVERAGES]


def _kwh(energy: float) -> str:
    """Kilowatt-hours with three digits. What lies below the rounding of the solver is 0."""
    return f"{round(energy, 9):.3g}"


def shortened(sentences: list[str]) -> list[str]:
    """The first and the last sentences of a long list."""
    left_out = len(sentences) - 2 * _LISTED
    if left_out <= 0:
        return sentences
    return [*sentences[:_LISTED], f"{left_out} more lines: --json has all of them.", *sentences[-_LISTED:]]


def figures(results: NetworkResults) -> list[Figure]:
    """Cumulative emissions over slots by policy, and what each site runs under DETA."""
    slots = [float(slot) for slot in range(1, results.network.slots + 1)]
    curves = [
        Curve(policy, slots, np.cumsum(result.slot_g).tolist(), colour=_COLOURS[policy], marker="none")
        for policy, result in results.dispatches.items()
    ]
    deta = results.dispatches["DETA"]
    palette = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#7f5539", "#999999")
    largest = np.argsort(-deta.run_batches.sum(0), kind="stable")[: len(palette)]
    runs = [
        Curve(results.network.sites[site].name, slots, deta.run_batches[:, site].tolist(), colour=colour, marker="none")
        for site, colour in zip(largest, palette, strict=False)
    ]
    return [
        Figure(
            name="network-emissions",
            caption="Cumulative emissions of grid electricity and transport over slots, by policy.",
            x_title="slot",
            y_title="cumulative emissions [gCO2e]",
            curves=curves,
            y_log=False,
        ),
        Figure(
            name="network-tasks",
            caption="Batches that each site runs in each slot under DETA, for the sites that run the most.",
            x_title="slot",
            y_title="batches",
            curves=runs,
            y_log=False,
        ),
    ]


def regret_lines(results: Sequence[Regret], policy: str, window: int) -> list[str]:
    """Regret over forecast error as text."""
    return [
        f"{policy}, plans of {window} slots, forecast error {r.error:.0%}: {max(r.mean, 0.0):.2%} above the dispatch "
        f"that knows everything {_regret_interval(r)}"
        for r in results
    ]


def _regret_interval(result: Regret) -> str:
    if result.seeds == 1:
        return "(one seed)"
    return (
        f"(95 % of the mean {result.low:.2%} to {result.high:.2%}, highest {max(result.highest, 0.0):.2%}, "
        f"{result.seeds} seeds)"
    )


def regret_figure(results: Sequence[Regret], policy: str, window: int) -> Figure:
    """Regret over forecast error."""
    curve = Curve(
        policy,
        [100 * r.error for r in results],
        [100 * r.mean for r in results],
        low=[100 * r.low for r in results],
        high=[100 * r.high for r in results],
        colour=_COLOURS.get(policy, "#000000"),
    )
    return Figure(
        name="network-regret",
        caption=f"Emissions above those of the dispatch that knows everything, over the error of the forecasts, with "
        f"plans of {window} slots. Bars are 95 % intervals of the mean over seeds.",
        x_title="relative standard deviation of the forecasts [%]",
        y_title="regret [%]",
        curves=[curve],
        y_log=False,
    )
