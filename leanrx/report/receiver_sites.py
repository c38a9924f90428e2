"""Receiving sites over a day: policies, choices, what each site does, sentences and figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from carbon.deta.programme import Array
from carbon.deta.receiver_dispatch import (
    STAGES,
    ChoiceStep,
    ReceiverDispatch,
    ReceiverPart,
    choice_steps,
    grams_per_db,
    receiver_dispatch,
    receiver_part,
)
from carbon.deta.receiver_network import ReceiverNetwork
from carbon.deta.receiver_programme import SITE_POLICIES, SitePolicyName
from carbon.deta.solution import InfeasibleNetwork
from carbon.link_table import carrier_link
from carbon.receiver_options import ReceiverFamily
from leanrx.report.bar_charts import Bars, Strip
from leanrx.report.carbon_network import AVERAGES
from leanrx.report.charts import AnyFigure

BEST: SitePolicyName = "DETA+wait"
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#7f5539", "#999999")
_USED = 1e-6
"""Smallest share of traffic that counts as use."""


@dataclass(frozen=True)
class SiteResults:
    """A network of receiving sites under all policies.

    Attributes:
        network: the sites.
        family: the receivers.
        dispatches: by policy.
        infeasible: why a policy has no dispatch.
        steps: emissions where more and more is chosen.
        part: what choosing receivers saves.
        db_prices: grams that one dB more of SINR saves, by site; empty if not asked for.
    """

    network: ReceiverNetwork
    family: ReceiverFamily
    dispatches: Mapping[SitePolicyName, ReceiverDispatch]
    infeasible: Mapping[SitePolicyName, str]
    steps: Sequence[ChoiceStep]
    part: ReceiverPart
    db_prices: Mapping[str, float]


def site_results(
    network: ReceiverNetwork,
    family: ReceiverFamily,
    has_db_prices: bool = False,
    on_progress: Callable[[str], None] = lambda text: None,
) -> SiteResults:
    """Solve all policies and choices.

    Args:
        network: sites and jobs.
        family: the receivers.
        has_db_prices: whether to solve again for one dB at each site.
        on_progress: called with what is solved next.

    Raises:
        UserError: if the policy of fewest constraints is infeasible.
    """
    dispatches = {BEST: receiver_dispatch(network, family, BEST)}
    infeasible: dict[SitePolicyName, str] = {}
    for policy in SITE_POLICIES:
        on_progress(f"policy {policy}")
        try:
            dispatches[policy] = dispatches.get(policy) or receiver_dispatch(network, family, policy)
        except InfeasibleNetwork as error:
            infeasible[policy] = str(error)
    on_progress("choices")
    steps, part = choice_steps(network, family), receiver_part(network, family)
    prices = {}
    for site in network.sites if has_db_prices else ():
        on_progress(f"one dB at {site.name}")
        prices[site.name] = grams_per_db(network, family, site.name)
    ordered = {policy: dispatches[policy] for policy in SITE_POLICIES if policy in dispatches}
    return SiteResults(network, family, ordered, infeasible, steps, part, prices)


def policy_frame(results: SiteResults) -> pd.DataFrame:
    """Totals by policy."""
    rows = []
    for policy, result in results.dispatches.items():
        row: dict[str, Any] = {"policy": policy, "total_g": result.total_g}
        row |= {f"{stage}_g": float(result.stage_g[index].sum()) for index, stage in enumerate(STAGES)}
        energies = ("load_kwh", "grid_kwh", "own_kwh", "charge_kwh", "sent_kwh")
        row |= {key: float(getattr(result, key).sum()) for key in energies}
        row["moved_traffic"] = _moved(result)
        rows.append(row)
    return pd.DataFrame(rows)


def _moved(result: ReceiverDispatch) -> float:
    """Part of all traffic that runs at another site."""
    traffic = np.array([[a * site.carriers for a in site.activity] for site in result.network.sites]).T
    return float((result.moved_shares * traffic).sum() / (traffic.sum() or 1.0))


def slot_frame(results: SiteResults) -> pd.DataFrame:
    """What each site does in each slot under each policy. Slots begin at 1; ``share NAME`` is that of a receiver."""
    names = [site.name for site in results.network.sites]
    frames = []
    for policy, result in results.dispatches.items():
        slots, sites = result.grid_kwh.shape
        columns: dict[str, Any] = {
            "policy": policy,
            "slot": np.repeat(np.arange(1, slots + 1), sites),
            "site": np.tile(names, slots),
            "output_w": result.output_w.ravel(),
            "moved_share": result.moved_shares.ravel(),
        }
        columns |= {f"share {name}": result.shares[:, :, i].ravel() for i, name in enumerate(result.receivers)}
        energies = ("load", "grid", "own", "charge", "discharge", "level", "sent", "received")
        columns |= {f"{key}_kwh": getattr(result, f"{key}_kwh").ravel() for key in energies}
        columns["jobs_part"] = result.job_parts.sum(0).ravel()
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _used(result: ReceiverDispatch) -> list[str]:
    """Receivers in use, most used first."""
    use = result.shares.sum((0, 1))
    return [result.receivers[index] for index in np.argsort(-use, kind="stable") if use[index] > _USED]


def _kg(grams: float) -> str:
    return f"{grams / 1e3:.4g} kg" if grams >= 1e3 else f"{grams:.4g} g"


def lines(results: SiteResults) -> list[str]:
    """The results as text, what matters most first."""
    best, part, steps = results.dispatches[BEST], results.part, results.steps
    sites, slots = len(results.network.sites), results.network.slots
    text = [f"{sites} sites, {slots} slots, BER {results.network.ber:g}: {_kg(best.total_g)} with everything chosen."]
    base = steps[0].total_g
    if base == base:
        text[0] += f" That is {1 - best.total_g / base:.1%} less than {_kg(base)} with {steps[0].title}."
    text += _step_lines(steps)
    if part.single_g == part.single_g:
        text.append(
            f"Receivers by site and slot save {1 - part.menu_g / part.single_g:.1%} against the best single one, "
            f"{part.single}, where all else is chosen, and {1 - part.first_menu_g / part.first_g:.1%} where only the "
            "power is."
        )
    for name, grams in part.by_receiver_g.items():
        said = f"{_kg(grams)}, {grams / part.menu_g - 1:+.1%}" if grams == grams else "not possible"
        text.append(f"{name} at all sites, all else chosen: {said}")
    for policy, record in SITE_POLICIES.items():
        if policy in results.infeasible:
            text.append(f"{policy} ({record.title}): {results.infeasible[policy]}")
            continue
        result = results.dispatches[policy]
        stages = ", ".join(f"{s} {_kg(g)}" for s, g in zip(STAGES, result.stage_g.sum(1), strict=True) if g > 0)
        text.append(
            f"{policy} ({record.title}): {_kg(result.total_g)}: {stages}; {_moved(result):.1%} of the traffic received "
            f"elsewhere; {result.sent_kwh.sum():.3g} kWh sent"
        )
    use = best.shares.mean((0, 1))
    mean = {name: use[best.receivers.index(name)] for name in _used(best)}
    text.append("Mean share of sites and slots: " + ", ".join(f"{n} {v:.1%}" for n, v in mean.items()))
    prices = sorted(results.db_prices.items(), key=lambda item: -item[1])
    text += [f"One dB more of SINR at {name} saves {_kg(grams)}." for name, grams in prices]
    return [*text, "Only the transmit power that follows the receiver is counted.", AVERAGES]


def _step_lines(steps: Sequence[ChoiceStep]) -> list[str]:
    """Each step with what it saves of the first one's emissions."""
    text = []
    for before, step in itertools.pairwise(steps):
        if before.total_g == before.total_g and step.total_g == step.total_g:
            saved = (before.total_g - step.total_g) / steps[0].total_g
            text.append(
                f"{step.title}: {_kg(step.total_g)}, {1 - step.total_g / before.total_g:.1%} less than the step "
                f"before, {saved:.1%} of the first one"
            )
    return text


def plain(results: SiteResults) -> dict[str, Any]:
    """The results as plain values for JSON."""
    part = results.part
    return {
        "infeasible": dict(results.infeasible),
        "steps": [{"title": s.title, "total_g": _number(s.total_g)} for s in results.steps],
        "single": {"name": part.single, "total_g": _number(part.single_g), "menu_g": part.menu_g},
        "single_receivers_g": {name: _number(grams) for name, grams in part.by_receiver_g.items()},
        "grams_per_db": dict(results.db_prices),
        "jobs": [{"name": job.name, "parts": _parts(results, index)} for index, job in enumerate(results.network.jobs)],
    }


def _number(value: float) -> float | None:
    return value if value == value else None


def _parts(results: SiteResults, job: int) -> list[dict[str, Any]]:
    """Site, slot and part of a job under the best policy."""
    parts = results.dispatches[BEST].job_parts[job]
    return [
        {"site": results.network.sites[site].name, "slot": int(slot) + 1, "part": float(parts[slot, site])}
        for slot, site in zip(*np.nonzero(parts > _USED), strict=True)
    ]


def figures(results: SiteResults) -> list[AnyFigure]:
    """The day as a strip, ladders of policies and choices, and stages over sites."""
    return [_strip(results), _policy_ladder(results), _choice_ladder(results), _stages(results)]


def _strip(results: SiteResults) -> Strip:
    best = results.dispatches[BEST]
    limit_dbm = _dbm(carrier_link(results.network.link).max_output_w(results.family.num_prb))
    power_dbm = _dbm(np.where(np.nan_to_num(best.output_w) > 0, best.output_w, np.nan))
    lowest_dbm = 10 * np.floor(np.nanmin(power_dbm) / 10) - 10
    height = np.nan_to_num((power_dbm - lowest_dbm) / (limit_dbm - lowest_dbm))
    used = _used(best)
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
