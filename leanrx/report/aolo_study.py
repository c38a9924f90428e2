"""The case study after AOLO: its results as plain values, as lines, and as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from carbon import Footprint, Site, carbon_intensity, embodied_carbon
from carbon.aolo.agent_statistics import AgentSummary, Runs, SeedMean, last_mean, reduction, summarise
from carbon.aolo.controller_energy import ControllerEnergy, dense_proxy, meter_agent, spiking_proxy
from carbon.aolo.oracle import solve
from carbon.aolo.parameter_sweeps import INTENSITY_RATIO, sweep_agents
from carbon.aolo.popsan import SpikingActorNet
from carbon.aolo.receiver_site import ReceiverSite, site_of_link
from carbon.aolo.service import Materiality, Quality, RadioChannel, Service, materiality
from carbon.aolo.study import ACTORS, PAPER_REDUCTION, Study
from carbon.aolo.tasks import RequestTask, SiteTask
from carbon.aolo.token_costs import ecologits_costs
from carbon.link_table import LinkCase, carrier_link, link_table
from carbon.receiver_options import zoo_family
from leanrx.report.charts import Curve, Figure

_COLOURS = {"sac": "#0072b2", "sdrl": "#d55e00"}
_TITLES = {"sac": "SAC", "sdrl": "SDRL"}
JOULE_FACTORS = (0.1, 1.0, 10.0)


def text_service(factor: float) -> Service:
    """A text service of an 8 B model at 110 dB, with a multiple of its joules per token."""
    world = Site(intensity=carbon_intensity("world-2023"))
    return Service(
        costs=ecologits_costs(8, 8).scaled(factor),
        data_centre=world.model_copy(update={"pue": 1.2}),
        downlink=RadioChannel(
            bandwidth_hz=10e6, path_loss_db=110, static_w=84, slope=2.8, min_power_w=0.1, max_power_w=20
        ),
        ran=world,
    )


def text_chain() -> Footprint:
    """The footprint of a text answer at its optimum, a row for each link; the phone sends at its highest power."""
    world = Site(intensity=carbon_intensity("world-2023"))
    uplink = RadioChannel(
        bandwidth_hz=1e6,
        path_loss_db=110,
        noise_figure_db=5,
        static_w=0,
        slope=1 / 0.35,
        min_power_w=0.2,
        max_power_w=0.2,
    )
    parts = {"uplink": uplink, "user": world, "hardware": embodied_carbon("NVIDIA H100")}
    service = text_service(1.0).model_copy(update=parts)
    optimum = solve(service.request(_PROMPT_TOKENS, _TEXT_QUALITY))
    return service.footprint(_PROMPT_TOKENS, int(optimum.tokens[0]), float(optimum.power_w[0]))


_PROMPT_TOKENS = 100
_TEXT_QUALITY = Quality(min_quality=0.7, deadline_s=60)


def text_materiality() -> dict[float, Materiality]:
    """Materiality of transmission for text, by multiple of the joules per token."""
    return {
        factor: materiality(text_service(factor).request(_PROMPT_TOKENS, _TEXT_QUALITY)) for factor in JOULE_FACTORS
    }


def shipped_site() -> ReceiverSite:
    """The site of the study: the shipped family on the radio head, BER 0.01, without scratch baselines."""
    world = Site(intensity=carbon_intensity("world-2023"))
    table = link_table(zoo_family("tdl-6prb"), LinkCase(carrier_link("radio-head"), world, world))
    site = site_of_link(table)
    receivers = [receiver for receiver in site.receivers if not receiver.name.endswith("-scratch")]
    return site.model_copy(update={"receivers": tuple(receivers)})


@dataclass(frozen=True)
class TaskResults:
    """Agents of one task.

    Attributes:
        summaries: of the agents with a complete training, by name.
        headline, raw_headline: reduction of SDRL against SAC with and without projection; none without both.
        until_flat: of the agents whose trainings have gone on where they were not flat, by name.
        flat_headline: the reduction after projection of these; none without both.
        closed: part of the site's gap that each agent closes, over seeds, by name; empty for requests.
        curves: gap over decisions of every training that has begun, by name and seed.
    """

    summaries: dict[str, AgentSummary]
    headline: SeedMean | None
    raw_headline: SeedMean | None
    until_flat: dict[str, AgentSummary]
    flat_headline: SeedMean | None
    closed: dict[str, SeedMean] = field(default_factory=dict)
    curves: dict[str, dict[int, list[tuple[int, float]]]] = field(default_factory=dict)


def task_results(study: Study) -> TaskResults:
    """Results of the trainings of a study that are complete."""
    runs = {name: study.completed(name) for name in ACTORS}
    summaries = {name: summarise(name, run) for name, run in runs.items() if run}
    longer = {name: study.until_flat(name) for name in ACTORS}
    closed = {}
    if isinstance(study.task, SiteTask):
        closed = {name: closed_by_seed(study.task, run) for name, run in runs.items() if run}
    curves = {
        name: {seed: [(e.decided, e.gap) for e in run] for seed, run in study.begun(name).items()} for name in ACTORS
    }
    return TaskResults(
        summaries,
        reduction(runs["sac"], runs["sdrl"]),
        reduction(runs["sac"], runs["sdrl"], "raw_footprint_g"),
        {name: summarise(name, run) for name, run in longer.items() if run},
        reduction(longer["sac"], longer["sdrl"]),
        closed,
        curves,
    )


def closed_by_seed(task: SiteTask, runs: Runs) -> SeedMean:
    """Part of the site's gap that an agent closes, over its seeds."""
    reference_g = sum(task.reference_g) / task.days
    return SeedMean.of([task.closed(reference_g * (1 + last_mean(run, "gap"))) for run in runs.values()])


@dataclass(frozen=True)
class Controllers:
    """Energy of the agents' own decisions.

    Attributes:
        spike_rates: of the spiking actor on held-out requests.
        proxies_j: energy of one decision by agent and proxy.
        gradient_steps: of the training, by agent.
        metered: by agent; empty if they were not metered.
    """

    spike_rates: tuple[float, ...]
    proxies_j: dict[str, dict[str, float]]
    gradient_steps: dict[str, int]
    metered: dict[str, ControllerEnergy] = field(default_factory=dict)


def controllers(study: Study, seed: int, meter: bool) -> Controllers:
    """Proxies and, on request, metered joules of both agents of a seed.

    Args:
        study: of requests.
        seed: whose agents are trained.
        meter: whether to meter 10,000 decisions and the gradient steps of each.
    """
    import torch

    assert isinstance(study.task, RequestTask), "controllers decide on requests"
    observations = study.task.held_out.observations
    agents = {name: study.trained_agent(name, seed) for name in ACTORS}
    net: Any = agents["sdrl"].model.actor.mu
    assert isinstance(net, SpikingActorNet)
    rates = tuple(net.spike_rates(torch.from_numpy(observations)))
    inputs = observations.shape[1]
    dense = dense_proxy(inputs, 2, agents["sac"].settings.hidden)
    spiking = spiking_proxy(inputs, 2, rates, agents["sdrl"].settings.hidden)
    proxies = {"sac": asdict(dense), "sdrl": asdict(spiking)}
    steps = {name: agent.gradient_steps for name, agent in agents.items()}
    metered = {name: meter_agent(agent, observations) for name, agent in agents.items()} if meter else {}
    return Controllers(rates, proxies, steps, metered)


@dataclass(frozen=True)
class AoloResults:
    """All results of the case study.

    Attributes:
        text: materiality for text, by multiple of the joules per token.
        chain: footprint of a text answer, by link.
        requests, site: results of the agents.
        myopic_excess: of the site: emissions of the myopic policy over the reference, minus one.
        planner_closed, constant_closed: part of the gap that the planner and the best constant choice close.
        days: held-out days of the site.
        sweeps: rows of :func:`carbon.aolo.parameter_sweeps.sweep_agents`.
        controllers: none before both agents are trained.
    """

    text: dict[float, Materiality]
    chain: Footprint
    requests: TaskResults
    site: TaskResults
    myopic_excess: float
    planner_closed: float
    constant_closed: float
    days: int
    sweeps: Sequence[dict[str, Any]]
    controllers: Controllers | None


def aolo_results(requests: Study, site: Study, meter: bool) -> AoloResults:
    """Collect the results of both studies."""
    assert isinstance(requests.task, RequestTask)
    assert isinstance(site.task, SiteTask)
    days, reference_g = site.task.days, sum(site.task.reference_g)
    seeds = sorted(set(requests.completed("sac")) & set(requests.completed("sdrl")))
    return AoloResults(
        text=text_materiality(),
        chain=text_chain(),
        requests=task_results(requests),
        site=task_results(site),
        myopic_excess=sum(site.task.myopic_g) / reference_g - 1,
        planner_closed=site.task.closed(sum(site.task.planner_g) / days),
        constant_closed=site.task.closed(sum(site.task.constant_g) / days),
        days=days,
        sweeps=sweep_agents(requests, requests.task.distribution, seeds) if seeds else [],
        controllers=controllers(requests, seeds[0], meter) if seeds else None,
    )


def _percent(estimate: SeedMean) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.mean:.1%} (one seed, no interval)"
    return f"{estimate.mean:.1%} ({estimate.low:.1%} to {estimate.high:.1%}, {estimate.seeds} seeds)"


def _agent_lines(title: str, results: TaskResults, steps: int) -> list[str]:
    if not results.summaries:
        return [f"{title}: no agent is trained for {steps:,} steps yet; run: leanrx carbon published aolo --train"]
    lines = [
        f"{title}, {_TITLES[name]}: {_percent(s.gap)} above the optimum after projection; without it "
        f"{_percent(s.raw_gap)} with {s.quality_violations.mean:.1%} quality and {s.deadline_violations.mean:.1%} "
        f"deadline violations; {s.flat_seeds} of {s.gap.seeds} learning curves are flat"
        for name, s in results.summaries.items()
    ]
    if results.headline is not None and results.raw_headline is not None:
        lines.append(
            f"{title}: SDRL reduces the footprint of SAC by {_percent(results.headline)} after projection, "
            f"{_percent(results.raw_headline)} without. The paper's figure is {PAPER_REDUCTION:.2%}; its setting is "
            "not public."
        )
    lines += [
        f"{title}, {_TITLES[name]}, decided further where not flat: {_percent(s.gap)} above the optimum after "
        f"projection; {s.flat_seeds} of {s.gap.seeds} learning curves are flat"
        for name, s in results.until_flat.items()
    ]
    return lines


def _site_lines(results: AoloResults) -> list[str]:
    lines = [
        f"site, {results.days} days: the myopic policy emits {results.myopic_excess:.1%} more than dynamic "
        f"programming; the planner closes {results.planner_closed:.1%} of the gap, and the best receiver and offset "
        f"that never change {results.constant_closed:.1%}"
    ]
    return lines + [f"site: {_TITLES[n]} closes {_percent(part)} of the gap" for n, part in results.site.closed.items()]


def _sweep_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    ends = [f([row[key] for row in rows]) for key in ("reduction", "sac_gap", "sdrl_gap") for f in (min, max)]
    return [
        f"over the sweeps of {len({row['parameter'] for row in rows})} parameters, SDRL reduces the footprint of SAC "
        f"by {ends[0]:.1%} to {ends[1]:.1%}; SAC is {ends[2]:.1%} to {ends[3]:.1%} above the optimum, "
        f"SDRL {ends[4]:.1%} to {ends[5]:.1%}"
    ]


def _controller_lines(parts: Controllers | None) -> list[str]:
    if parts is None:
        return []
    lines = []
    for name, proxies in parts.proxies_j.items():
        plain, updates, traffic = (1e9 * value for value in proxies.values())
        lines.append(
            f"one decision of {_TITLES[name]} in 45 nm: {plain:.1f} nJ by arithmetic, {updates:.1f} nJ with updates of "
            f"neurons, {traffic:.1f} nJ with weights and states from a cache"
        )
    for name, energy in parts.metered.items():
        decision, step_j = energy.decision, energy.gradient_step.energy_per_repeat_j
        steps = parts.gradient_steps[name]
        lines.append(
            f"one decision of {_TITLES[name]} by {decision.instrument}: {1e3 * decision.energy_per_repeat_j:.3g} mJ, "
            f"one gradient step {1e3 * step_j:.3g} mJ, the {steps:,} of its training {steps * step_j:.3g} J "
            f"({decision.provenance})"
        )
    if parts.metered:
        lower = min(parts.metered, key=lambda name: parts.metered[name].decision.energy_per_repeat_j)
        lines.append(f"by the meter, a decision of {_TITLES[lower]} needs less")
    return lines


def lines(results: AoloResults, steps: int) -> list[str]:
    """The results as text, what matters most first."""
    text = [f"text, {factor:g} x the joules: {m.text()}" for factor, m in results.text.items()]
    chain = [
        f"one answer of text, {row.stage} ({row.component}, scope {row.scope}): {row.text}"
        + (f", {row.provenance}" if row.provenance else "")
        for row in results.chain.rows
    ]
    total = f"one answer of text, total of what is modelled: {results.chain.total_g:.6g} g"
    return [
        *text,
        *chain,
        total,
        *_agent_lines("requests", results.requests, steps),
        *_sweep_lines(results.sweeps),
        *_agent_lines("site", results.site, steps),
        *_site_lines(results),
        *_controller_lines(results.controllers),
    ]


def plain(results: AoloResults) -> dict[str, Any]:
    """The results as plain values for JSON; NaN becomes None."""
    values = asdict(results)
    for part in ("requests", "site"):
        values[part].pop("curves")
    values["text"] = {f"{factor:g}": value for factor, value in values["text"].items()}
    values["chain"] = results.chain.model_dump(mode="json")["rows"]
    values["paper_reduction"] = PAPER_REDUCTION
    without_nan: dict[str, Any] = _without_nan(values)
    return without_nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def figures(results: AoloResults) -> list[Figure]:
    """Learning curves of both tasks, where a training has begun, and the sweeps."""
    charts = []
    for name, part in (("requests", results.requests), ("site", results.site)):
        if any(part.curves.values()):
            charts.append(_learning_figure(name, part))
    return [*charts, *([_sweep_figure(results.sweeps)] if results.sweeps else [])]


def _learning_figure(task: str, part: TaskResults) -> Figure:
    curves = [
        Curve(
            "" if index else _TITLES[name],
            [float(decided) for decided, _ in points],
            [gap for _, gap in points],
            colour=_COLOURS[name],
            marker="none",
        )
        for name, seeds in part.curves.items()
        for index, points in enumerate(seeds.values())
    ]
    return Figure(
        name=f"aolo-learning-{task}",
        caption=f"Excess of the footprint over the optimum on held-out cases of the task '{task}', after projection on "
        "the feasible set, over the decisions of the training, a line for each seed.",
        x_title="decisions",
        y_title="footprint / optimum - 1",
        curves=curves,
    )


PARAMETERS = {
    "min_quality": "lowest quality",
    "path_loss_db": "path loss, dB",
    "bandwidth_hz": "bandwidth, Hz",
    INTENSITY_RATIO: "radio/data-centre intensity",
    "token_bits": "bits per token",
}
"""Parameters of the sweeps in words."""


def _sweep_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    parameters = list(dict.fromkeys(row["parameter"] for row in rows))
    curves = []
    for number, parameter in enumerate(parameters):
        own = [row for row in rows if row["parameter"] == parameter]
        values = sorted({row["value"] for row in own})
        mean = [float(np.mean([r["reduction"] for r in own if r["value"] == value])) for value in values]
        x = [number + 0.15 * (index - 2) for index in range(len(values))]
        labels = [f"{parameter} {value:g}" for value in values]
        curves.append(Curve("", x, mean, colour=_SWEEP_COLOURS[number % len(_SWEEP_COLOURS)], labels=labels))
    return Figure(
        name="aolo-sweeps",
        caption="Reduction of the footprint by SDRL against SAC after projection, mean over seeds, for five values of "
        "each parameter in increasing order. The agents were trained once, on the default ranges.",
        x_title="parameter",
        y_title="1 - footprint of SDRL / footprint of SAC",
        curves=curves,
        y_log=False,
        x_labels=tuple(PARAMETERS[parameter] for parameter in parameters),
    )


_SWEEP_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
