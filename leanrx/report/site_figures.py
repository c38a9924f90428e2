"""Figures of receiving sites: the day as a strip, policies and choices, stages over sites, and grams over slots."""

from __future__ import annotations

from typing import Any

import numpy as np

from carbon.deta.programme import Array
from carbon.deta.receiver_dispatch import STAGES
from carbon.deta.receiver_programme import SitePolicyName
from carbon.link_table import carrier_link
from leanrx.report.bar_charts import Bars, Strip
from leanrx.report.charts import AnyFigure, Curve, Figure
from leanrx.report.receiver_sites import BEST, SiteResults, used_receivers

_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#7f5539", "#999999")
_COLOURS: dict[SitePolicyName, str] = {
    "B0": "#999999",
    "B1": "#000000",
    "DET": "#e69f00",
    "DAT": "#0072b2",
    "DETA": "#009e73",
    "DETA+wait": "#cc79a7",
}


def figures(results: SiteResults) -> list[AnyFigure]:
    """All figures."""
    ladders = [_policy_ladder(results), _choice_ladder(results)]
    return [_strip(results), *ladders, _stages(results), _stages_over_sites(results), _cumulative(results)]


def _strip(results: SiteResults) -> Strip:
    best = results.dispatches[BEST]
    limit_dbm = _dbm(carrier_link(results.network.link).max_output_w(results.family.num_prb))
    power_dbm = _dbm(np.where(np.nan_to_num(best.output_w) > 0, best.output_w, np.nan))
    lowest_dbm = 10 * np.floor(np.nanmin(power_dbm, initial=limit_dbm) / 10) - 10
    height = np.nan_to_num((power_dbm - lowest_dbm) / (limit_dbm - lowest_dbm))
    used = used_receivers(best)
    layers = {name: (best.shares[:, :, best.receivers.index(name)] * height).T for name in used}
    return Strip(
        name="sites-day",
        caption="What each site does in each slot with everything chosen. The colour names the receiver, and the "
        f"height is the power sent on a carrier, from {lowest_dbm:.0f} to {limit_dbm:.0f} dBm.",
        x_title="slot",
        y_title=f"power of a carrier, {lowest_dbm:.0f} to {limit_dbm:.0f} dBm",
        rows=tuple(site.name for site in results.network.sites),
        columns=tuple(str(slot) for slot in range(1, results.network.slots + 1)),
        layers=layers,
        colours=dict(zip(used, _PALETTE, strict=False)),
    )


def _dbm(watts: Any) -> Any:
    return 10 * np.log10(watts) + 30


def _policy_ladder(results: SiteResults) -> Bars:
    """Emissions by policy, stacked by stage."""
    grams = np.array([result.stage_g.sum(1) for result in results.dispatches.values()])
    return _stage_bars("sites-policies", "Emissions by policy and stage.", "policy", tuple(results.dispatches), grams)


def _stages(results: SiteResults) -> Bars:
    """Emissions by site, stacked by stage."""
    names = tuple(site.name for site in results.network.sites)
    caption = "Emissions by site and stage with everything chosen. A job counts where it runs."
    return _stage_bars("sites-stages", caption, "site", names, results.dispatches[BEST].stage_g.T)


def _stages_over_sites(results: SiteResults) -> Bars:
    """Emissions of the first sites, stacked by stage."""
    numbers = tuple(str(count) for count in results.by_sites)
    grams = np.array([result.stage_g.sum(1) for result in results.by_sites.values()])
    caption = "Emissions of the first sites of the network by stage, with everything chosen."
    return _stage_bars("sites-numbers", caption, "number of sites", numbers, grams)


def _cumulative(results: SiteResults) -> Figure:
    slots = [float(slot) for slot in range(1, results.network.slots + 1)]
    curves = [
        Curve(policy, slots, np.cumsum(result.slot_g / 1e3).tolist(), colour=_COLOURS[policy], marker="none")
        for policy, result in results.dispatches.items()
    ]
    return Figure(
        name="sites-emissions",
        caption="Cumulative emissions over slots, by policy.",
        x_title="slot",
        y_title="cumulative emissions [kgCO2e]",
        curves=curves,
        y_log=False,
    )


def _stage_bars(name: str, caption: str, x_title: str, columns: tuple[str, ...], grams: Array) -> Bars:
    """Bars of all stages that emit. ``grams`` is ``(columns, stages)``."""
    layers = {stage: grams[:, i] / 1e3 for i, stage in enumerate(STAGES) if grams[:, i].any()}
    colours = dict(zip(STAGES, _PALETTE, strict=False))
    return Bars(name, caption, x_title, "emissions [kgCO2e]", columns, layers, colours)


def _choice_ladder(results: SiteResults) -> Bars:
    steps = [step for step in results.steps if step.total_g == step.total_g]
    return Bars(
        name="sites-choices",
        caption="Emissions where more and more is chosen.",
        x_title="chosen",
        y_title="emissions [kgCO2e]",
        columns=tuple(step.title for step in steps),
        layers={"all": np.array([step.total_g / 1e3 for step in steps])},
        colours={"all": _PALETTE[0]},
    )
