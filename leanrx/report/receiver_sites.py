"""Receiving sites over a day: policies, choices, what each site does, and sentences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from carbon.deta.receiver_choices import (
    ChoiceStep,
    ReceiverPart,
    SiteSolutions,
    choice_steps,
    grams_per_db,
    receiver_part,
    stages_over_sites,
)
from carbon.deta.receiver_dispatch import STAGES, ReceiverDispatch
from carbon.deta.receiver_footprint import receiver_footprint
from carbon.deta.receiver_network import ReceiverNetwork
from carbon.deta.receiver_programme import SITE_POLICIES, SitePolicyName
from carbon.deta.solution import InfeasibleNetwork
from carbon.receiver_options import ReceiverFamily
from leanrx.report.carbon_network import AVERAGES, shortened
from leanrx.report.formatting import PageTable

BEST: SitePolicyName = "DETA+wait"
_USED = 1e-6
"""Smallest share of traffic that counts as use."""
POWER_COUNTED = "Only the transmit power that follows the receiver is counted."
_NUMBERS = 5
"""Numbers of sites for which the network is solved."""


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
        by_sites: with everything chosen, of the first sites by their number.
        db_prices: grams that one dB more of SINR saves, by site; empty if not asked for.
    """

    network: ReceiverNetwork
    family: ReceiverFamily
    dispatches: Mapping[SitePolicyName, ReceiverDispatch]
    infeasible: Mapping[SitePolicyName, str]
    steps: Sequence[ChoiceStep]
    part: ReceiverPart
    by_sites: Mapping[int, ReceiverDispatch]
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
    solutions = SiteSolutions(network, family)
    dispatches: dict[SitePolicyName, ReceiverDispatch] = {BEST: solutions.dispatch(BEST)}
    infeasible: dict[SitePolicyName, str] = {}
    for policy in SITE_POLICIES:
        on_progress(f"policy {policy}")
        try:
            dispatches[policy] = solutions.dispatch(policy)
        except InfeasibleNetwork as error:
            infeasible[policy] = str(error)
    on_progress("choices")
    steps, part = choice_steps(solutions), receiver_part(solutions)
    on_progress("numbers of sites")
    count = len(network.sites)
    by_sites = stages_over_sites(solutions, sorted({-(-count * i // _NUMBERS) for i in range(1, _NUMBERS)}))
    by_sites[count] = dispatches[BEST]
    prices = {}
    for site in network.sites if has_db_prices else ():
        on_progress(f"one dB at {site.name}")
        prices[site.name] = grams_per_db(solutions, site.name)
    ordered = {policy: dispatches[policy] for policy in SITE_POLICIES if policy in dispatches}
    return SiteResults(network, family, ordered, infeasible, steps, part, by_sites, prices)


def policy_frame(results: SiteResults) -> pd.DataFrame:
    """Totals by policy."""
    rows = []
    for policy, result in results.dispatches.items():
        row: dict[str, Any] = {"policy": policy, "total_g": result.total_g}
        row |= {f"{stage}_g": float(result.stage_g[index].sum()) for index, stage in enumerate(STAGES)}
        energies = ("load_kwh", "grid_kwh", "own_kwh", "charge_kwh", "sent_kwh")
        row |= {key: float(getattr(result, key).sum()) for key in energies}
        row["moved_traffic"] = _moved(result)
        row["asleep_site_hours"] = _asleep_hours(result)
        rows.append(row)
    return pd.DataFrame(rows)


def _asleep_hours(result: ReceiverDispatch) -> float:
    return float((1 - result.awake).sum() * result.network.slot_s / 3600)


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
        columns |= {"awake": result.awake.ravel(), "marginal_g_per_kwh": result.marginal_g_per_kwh.ravel()}
        columns["jobs_part"] = result.job_parts.sum(0).ravel()
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def footprint_frame(results: SiteResults) -> pd.DataFrame:
    """Emissions by stage, process, component and scope under every policy; empty where a row is not modelled."""
    keys = ("stage", "process", "component", "scope", "energy_j", "g", "provenance")
    return pd.DataFrame(
        [
            {"policy": policy, **{key: getattr(row, key) for key in keys}}
            for policy, result in results.dispatches.items()
            for row in receiver_footprint(result).rows
        ]
    )


def used_receivers(result: ReceiverDispatch) -> list[str]:
    """Receivers in use, most used first."""
    use = result.shares.sum((0, 1))
    return [result.receivers[index] for index in np.argsort(-use, kind="stable") if use[index] > _USED]


def kg(grams: float) -> str:
    """Grams as text, in kilograms from a kilogram on."""
    return f"{grams / 1e3:.4g} kg" if grams >= 1e3 else f"{grams:.4g} g"


def lines(results: SiteResults) -> list[str]:
    """The results as text, what matters most first."""
    best, part = results.dispatches[BEST], results.part
    text = [headline(results), *_step_lines(results.steps), *receiver_lines(results)]
    for name, grams in part.by_receiver_g.items():
        said = f"{kg(grams)}, {grams / part.menu_g - 1:+.1%}" if grams == grams else "not possible"
        text.append(f"{name} at all sites, all else chosen: {said}")
    text += _policy_lines(results)
    prices = sorted(results.db_prices.items(), key=lambda item: -item[1])
    text += [f"One dB more of SINR at {name} saves {kg(grams)}." for name, grams in prices]
    text += shortened(best.marginal_sentences())
    text += [
        f"{BEST}, {row.title} ({row.component}, scope {row.scope}): {row.text}" for row in receiver_footprint(best).rows
    ]
    gap = [f"{BEST} lies at most {best.gap:.2%} above its optimum."] if best.gap > 1e-6 else []
    return [*text, *gap, POWER_COUNTED, AVERAGES]


def headline(results: SiteResults) -> str:
    """Emissions with everything chosen, and what that saves."""
    best, base = results.dispatches[BEST], results.steps[0]
    network = results.network
    text = f"{len(network.sites)} sites, {network.slots} slots, BER {network.ber:g}: {kg(best.total_g)} with "
    text += "everything chosen."
    if base.total_g == base.total_g:
        text += f" That is {1 - best.total_g / base.total_g:.1%} less than {kg(base.total_g)} with {base.title}."
    return text


def receiver_lines(results: SiteResults) -> list[str]:
    """What the receivers save, and how much each is used."""
    part, best, text = results.part, results.dispatches[BEST], []
    if part.single_g == part.single_g:
        text.append(
            f"Receivers by site and slot save {1 - part.menu_g / part.single_g:.1%} against the best single one, "
            f"{part.single}, where all else is chosen, and {1 - part.first_menu_g / part.first_g:.1%} where only the "
            "power is."
        )
    use = best.shares.mean((0, 1))
    mean = {name: use[best.receivers.index(name)] for name in used_receivers(best)}
    return [*text, "Mean share of sites and slots: " + ", ".join(f"{n} {v:.1%}" for n, v in mean.items()) + "."]


def _policy_lines(results: SiteResults) -> list[str]:
    text = []
    for policy, record in SITE_POLICIES.items():
        if policy in results.infeasible:
            text.append(f"{policy} ({record.title}): {results.infeasible[policy]}")
            continue
        result = results.dispatches[policy]
        stages = ", ".join(f"{s} {kg(g)}" for s, g in zip(STAGES, result.stage_g.sum(1), strict=True) if g > 0)
        text.append(
            f"{policy} ({record.title}): {kg(result.total_g)}: {stages}; {_moved(result):.1%} of the traffic received "
            f"elsewhere; {result.sent_kwh.sum():.3g} kWh sent; {_asleep_hours(result):.3g} site hours asleep"
        )
    return text


def policy_page_table(results: SiteResults) -> PageTable:
    """Emissions by policy and stage, and what moves and sleeps."""
    head = ["policy", "emissions [kgCO2e]", *(f"{stage} [kg]" for stage in STAGES)]
    head += ["traffic received elsewhere", "energy sent [kWh]", "site hours asleep"]
    rows = []
    for policy, result in results.dispatches.items():
        grams = [result.total_g, *result.stage_g.sum(1)]
        cells = [f"{g / 1e3:.3g}" for g in grams]
        moved, sent = f"{_moved(result):.1%}", f"{result.sent_kwh.sum():.3g}"
        rows.append([f"{policy}: {SITE_POLICIES[policy].title}", *cells, moved, sent, f"{_asleep_hours(result):.3g}"])
    note = " ".join([*(f"{policy}: {text}." for policy, text in results.infeasible.items()), POWER_COUNTED, AVERAGES])
    return PageTable(head, rows, note, files=["sites-policies.csv", "sites-slots.csv"])


def footprint_page_table(results: SiteResults) -> PageTable:
    """The footprint with everything chosen, by stage, component and scope."""
    rows = [
        [row.title, row.component, str(row.scope), row.text, row.provenance or ""]
        for row in receiver_footprint(results.dispatches[BEST]).rows
    ]
    head = ["stage and process", "component", "scope", "emissions", "provenance"]
    return PageTable(head, rows, f"Policy {BEST}.", files=["sites-footprint.csv"])


def csv_tables(results: SiteResults) -> dict[str, pd.DataFrame]:
    """All tables by file name."""
    return {
        "sites-policies.csv": policy_frame(results),
        "sites-slots.csv": slot_frame(results),
        "sites-footprint.csv": footprint_frame(results),
    }


def _step_lines(steps: Sequence[ChoiceStep]) -> list[str]:
    """Each step with what it saves of the first one's emissions."""
    text = []
    for before, step in itertools.pairwise(steps):
        if before.total_g == before.total_g and step.total_g == step.total_g:
            saved = (before.total_g - step.total_g) / steps[0].total_g
            text.append(
                f"{step.title}: {kg(step.total_g)}, {1 - step.total_g / before.total_g:.1%} less than the step "
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
        "footprint": receiver_footprint(results.dispatches[BEST]).model_dump(mode="json")["rows"],
        "marginal": results.dispatches[BEST].marginal_sentences(),
        "stages_over_sites_g": {
            count: dict(zip(STAGES, result.stage_g.sum(1).tolist(), strict=True))
            for count, result in results.by_sites.items()
        },
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


def use_by_hour(results: SiteResults) -> dict[str, list[float]]:
    """Mean share of sites by receiver and slot, with everything chosen."""
    best = results.dispatches[BEST]
    shares = best.shares.mean(1)
    return {name: shares[:, best.receivers.index(name)].tolist() for name in used_receivers(best)}
