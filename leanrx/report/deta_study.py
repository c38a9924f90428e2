"""The published case study of DETA: its table, what it implies, and cuts over regions, as lines, values and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from carbon import intensity_set
from carbon.deta.dispatch import ladder
from carbon.deta.equal_sites import (
    PICKED_STATES,
    PUBLISHED_CUT,
    CutSummary,
    drawn_policy_cuts,
    equal_network,
    harvest_share_of_cut,
    regions,
)
from carbon.deta.programme import POLICIES, Policy
from carbon.deta.published_table import (
    EnergyModel,
    Model,
    PublishedTraining,
    Slip,
    energy_model,
    g_per_kwh_range,
    published_trainings,
    slips,
    statement_kg,
)
from leanrx.report.charts import Curve, Figure

MODELS: tuple[Model, ...] = ("MLP", "CNN", "LSTM")
DRAWN_SITES = (2, 3, 5, 8, 10)
HARVEST_SHARE = 0.2
_POLICY_COLOURS: dict[Policy, str] = {"DET": "#e69f00", "DAT": "#0072b2", "DETA": "#009e73"}
_COLOURS = {"MLP": "#0072b2", "CNN": "#d55e00", "LSTM": "#009e73"}


@dataclass(frozen=True)
class PickedSet:
    """Policies on a set of regions that was picked.

    Attributes:
        name: of the set.
        grams: by policy, at a harvest share of :data:`HARVEST_SHARE`.
        shares: harvest share at which DETA reaches the published cut, by baseline; none if it does not.
    """

    name: str
    grams: dict[Policy, float]
    shares: dict[Policy, float | None]


@dataclass(frozen=True)
class DetaResults:
    """All results of the case study.

    Attributes:
        rows: of the published table.
        models: fitted energy models.
        cuts: of policies against B1 over random draws of states, for each number of sites.
        picked: sets of regions that were picked.
        slips: of the article.
    """

    rows: Sequence[PublishedTraining]
    models: Sequence[EnergyModel]
    cuts: Sequence[Mapping[Policy, CutSummary]]
    picked: Sequence[PickedSet]
    slips: Sequence[Slip]


def deta_results(draws: int = 100, seed: int = 1, on_progress: Callable[[str], None] | None = None) -> DetaResults:
    """Compute all results.

    Args:
        draws: random draws of states for each number of sites.
        seed: of the draws.
        on_progress: called with a line after each number of sites.
    """
    states = intensity_set("egrid2023-states")
    sets = {
        "ten states from cleanest to dirtiest": [states[name] for name in PICKED_STATES],
        "tableI-ladder, synthetic": regions("tableI-ladder"),
    }
    picked = []
    for name, places in sets.items():
        grams = {policy: result.total_g for policy, result in ladder(equal_network(places, HARVEST_SHARE)).items()}
        baselines: tuple[Policy, ...] = ("B0", "B1")
        picked.append(PickedSet(name, grams, {b: harvest_share_of_cut(places, b) for b in baselines}))
    places = regions("egrid2023-states")
    cuts = []
    for sites in DRAWN_SITES:
        cuts.append(drawn_policy_cuts(places, sites, harvest_share=HARVEST_SHARE, draws=draws, seed=seed))
        if on_progress is not None:
            on_progress(f"{draws} draws of {sites} states: done")
    return DetaResults(published_trainings(), [energy_model(m) for m in MODELS], cuts, picked, slips())


def _table_lines(results: DetaResults) -> list[str]:
    kwh, grams = (math.fsum(getattr(row, key) for row in results.rows) for key in ("kwh", "g"))
    lines = [
        f"Table I: {len(results.rows)} trainings, {kwh:.4f} kWh, {grams:,.0f} g; the article's statement at 582 g/kWh: "
        f"{statement_kg():.2f} kg"
    ]
    for model in results.models:
        rows = [row for row in results.rows if row.model == model.model]
        lines += [
            f"{row.model}, {row.servers} servers, batch {row.batch_size}: {row.kwh:.4f} kWh, modelled {modelled:.4f} "
            f"({error:+.0%}), {row.g:g} g, implied {row.g_per_kwh:.1f} g/kWh"
            for row, modelled, error in zip(rows, model.kwh, model.errors, strict=True)
        ]
        units = "kWh and kWh per server" if model.model == "LSTM" else "J per step and J per sample"
        lines.append(
            f"{model.model}: {model.coefficients[0]:.4g} and {model.coefficients[1]:.4g} {units}; energy over servers "
            f"has R2 {model.servers_r2:.3f}; from 1 to 11 servers energy x{model.energy_growth:.2g}, carbon "
            f"x{model.carbon_growth:.3g}"
        )
    for servers in sorted({row.servers for row in results.rows}):
        low, high = g_per_kwh_range([row for row in results.rows if row.servers == servers])
        lines.append(f"{servers} servers: the three models imply {low:.1f} to {high:.1f} g/kWh")
    return lines


def lines(results: DetaResults) -> list[str]:
    """The results as text, what matters most first."""
    text = [
        f"The article states a cut of up to {PUBLISHED_CUT:.1%} with 10 servers. It is an optimum computed on measured "
        "loads, and its regions, harvest and baseline are not public."
    ]
    text += [
        f"random draws of {s.sites} of 51 states, harvest {HARVEST_SHARE:g} of the load: DETA cuts {s.mean:.1%} "
        f"against B1 (95 % {s.low:.1%} to {s.high:.1%}, sd {s.sd:.1%}, {s.draws} draws); DET cuts "
        f"{cut['DET'].mean:.1%}, DAT {cut['DAT'].mean:.1%}"
        for cut in results.cuts
        for s in (cut["DETA"],)
    ]
    for part in results.picked:
        cuts = {policy: 1 - grams / part.grams["B1"] for policy, grams in part.grams.items()}
        text.append(
            f"picked set, {part.name}: against B1 DET cuts {cuts['DET']:.1%}, DAT {cuts['DAT']:.1%}, DETA "
            f"{cuts['DETA']:.1%}; DETA against B0 {1 - part.grams['DETA'] / part.grams['B0']:.1%}"
        )
        text += [
            f"picked set, {part.name}: "
            + (
                f"{PUBLISHED_CUT:.1%} against {baseline} is out of reach up to a harvest of half the load"
                if share is None
                else f"a harvest of {share:.3f} of the load gives {PUBLISHED_CUT:.1%} against {baseline}"
            )
            for baseline, share in part.shares.items()
        ]
    text += _table_lines(results)
    return [*text, *(f"slip: {slip.stated}. Used here: {slip.choice}" for slip in results.slips)]


def plain(results: DetaResults) -> dict[str, Any]:
    """The results as plain values for JSON."""
    rows = [{**row.model_dump(), "g_per_kwh": row.g_per_kwh} for row in results.rows]
    values = asdict(results)
    return {**values, "rows": rows, "published_cut": PUBLISHED_CUT, "harvest_share": HARVEST_SHARE}


def figures(results: DetaResults) -> list[Figure]:
    """Energy and carbon of the table over servers, policies on the picked sets, and cuts over sites."""
    curves = []
    for model in MODELS:
        rows = [row for row in results.rows if row.model == model]
        servers = [float(row.servers) for row in rows]
        colour = _COLOURS[model]
        curves.append(Curve(f"{model}, energy [Wh]", servers, [1e3 * row.kwh for row in rows], colour=colour))
        curves.append(Curve(f"{model}, carbon [g]", servers, [row.g for row in rows], colour=colour, dash="dash"))
    cuts = [
        Curve(
            policy,
            [float(cut[policy].sites) for cut in results.cuts],
            [100 * cut[policy].mean for cut in results.cuts],
            low=[100 * cut[policy].low for cut in results.cuts],
            high=[100 * cut[policy].high for cut in results.cuts],
            colour=colour,
        )
        for policy, colour in _POLICY_COLOURS.items()
    ]
    ladders = [
        Curve(part.name, [float(i) for i in range(len(POLICIES))], [part.grams[p] for p in POLICIES], colour=colour)
        for part, colour in zip(results.picked, _COLOURS.values(), strict=False)
    ]
    return [
        Figure(
            name="deta-table",
            caption="Published energy and carbon of Table I over servers. Carbon grows faster than energy: the "
            "rows of more servers imply higher intensities.",
            x_title="servers",
            y_title="energy [Wh], carbon [gCO2e]",
            curves=curves,
        ),
        Figure(
            name="deta-cuts",
            caption=f"Cuts against B1 with sites in randomly drawn states and a harvest of {HARVEST_SHARE:g} of "
            "the load. Bars are 95 % intervals of the mean.",
            x_title="sites",
            y_title="cut against B1 [%]",
            curves=cuts,
            y_log=False,
        ),
        Figure(
            name="deta-policies",
            caption=f"Emissions of ten equal sites of 1 kWh by policy, with a harvest of {HARVEST_SHARE:g} of the "
            "load. Both sets of regions are picked.",
            x_title="policy",
            y_title="emissions [gCO2e]",
            curves=ladders,
            y_log=False,
            x_labels=tuple(POLICIES),
        ),
    ]
