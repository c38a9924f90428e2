"""The table of federated trainings in the form of DETA's Table I: energy and carbon by servers, stage and target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from carbon import intensity_set
from carbon.deta.dispatch import ladder
from carbon.deta.equal_sites import equal_network, regions
from carbon.deta.programme import POLICIES
from leanrx.experiment.federated_study import FederatedRow, FederatedStudySettings
from leanrx.report.charts import Curve, Figure
from leanrx_core.units import JOULES_PER_KWH

HARVEST_SHARE = 0.2
_COLOURS = {"MLP": "#0072b2", "CNN": "#d55e00"}
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_STAGES = ("preparation", "development", "application")
_R2 = 0.9


@dataclass(frozen=True)
class FederatedTable:
    """Trainings of a study.

    Attributes:
        rows: complete trainings.
        settings: of the study.
        digits: name of the images.
    """

    rows: tuple[FederatedRow, ...]
    settings: FederatedStudySettings
    digits: str

    def lines(self) -> list[str]:
        """The table and its signs as text."""
        return lines(self.rows, self.settings, self.digits)

    def plain(self) -> dict[str, Any]:
        """The table as plain values for JSON."""
        return plain(self.rows, self.settings)

    def figures(self) -> list[Figure]:
        """Carbon by stage over servers and by target, and policies over servers."""
        return figures(self.rows, self.settings)


@dataclass(frozen=True)
class Sign:
    """A statement about the table, and whether it holds.

    Attributes:
        statement: what is expected.
        holds: whether it does.
        values: that decide it.
    """

    statement: str
    holds: bool
    values: str


def picked_g_per_kwh(servers: int) -> list[float]:
    """Intensities of servers in the areas of ``pnas2016-10`` from the cleanest on: a picked order."""
    values = sorted(record.g_per_kwh for record in intensity_set("pnas2016-10").values())
    return [values[index % len(values)] for index in range(servers)]


def row_kwh(row: FederatedRow, settings: FederatedStudySettings, target: float | None = None) -> float:
    """Energy of a training up to a target, the last one if not given; NaN if it was not reached."""
    target = settings.targets[-1] if target is None else target
    return sum(row.stages_j(target, settings.served_images).values()) / JOULES_PER_KWH


def mean_state_g_per_kwh() -> float:
    """Mean over the states of the USA: the expectation of a random place."""
    return float(np.mean([record.g_per_kwh for record in regions("egrid2023-states")]))


def lines(rows: Sequence[FederatedRow], settings: FederatedStudySettings, digits: str) -> list[str]:
    """The table and its signs as text."""
    if not rows:
        return ["No federated training is complete; run with --train."]
    energy = rows[0].energy
    text = [f"Own table, {digits}: joules {energy.provenance} by {energy.instrument}; the router is assumed."]
    for row in rows:
        kwh = row_kwh(row, settings)
        if math.isnan(kwh):
            text.append(
                f"{row.model}, {row.servers} servers: {settings.targets[-1]:.1%} not reached, {row.accuracy:.1%}"
            )
            continue
        picked = kwh * float(np.mean(picked_g_per_kwh(row.servers)))
        text.append(
            f"{row.model}, {row.servers} servers, batch {row.batch_size}: {row.rounds_to[settings.targets[-1]]} epochs "
            f"to {settings.targets[-1]:.0%}, {kwh:.3g} kWh, {picked:.3g} g from the cleanest area on, "
            f"{kwh * mean_state_g_per_kwh():.3g} g expected at random states"
        )
        parties = row.parties_j(settings.targets[-1], settings.served_images)
        text.append("  " + ", ".join(f"{name} {joules:.3g} J" for name, joules in parties.items()))
    for sign in signs(rows, settings):
        text.append(f"{'holds' if sign.holds else 'does not hold'}: {sign.statement} ({sign.values})")
    return text


def signs(rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> list[Sign]:
    """What the article's table shows, checked on this one."""
    result = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model and settings.targets[-1] in row.rounds_to]
        if len(own) < 2:
            continue
        servers = np.array([row.servers for row in own], dtype=float)
        kwh = np.array([row_kwh(row, settings) for row in own])
        slope, r2 = float(np.polyfit(servers, kwh, 1)[0]), float(np.corrcoef(servers, kwh)[0, 1] ** 2)
        is_rising = bool(slope > 0 and r2 >= _R2)
        result.append(Sign(f"{model}: energy rises with the servers, R2 at least {_R2:g}", is_rising, f"R2 {r2:.3f}"))
        g = kwh * [float(np.mean(picked_g_per_kwh(row.servers))) for row in own]
        growth = g[-1] / g[0], kwh[-1] / kwh[0]
        text = f"x{growth[0]:.3g} against x{growth[1]:.3g}; at random states both grow alike"
        result.append(
            Sign(f"{model}: carbon grows faster than energy in the picked order", bool(growth[0] > growth[1]), text)
        )
        for stage in _STAGES:
            values = [row.stages_j(settings.targets[-1], settings.served_images)[stage] for row in own]
            is_growing = bool((np.diff(values) > 0).all())
            text = ", ".join(f"{v:.3g}" for v in values) + " J"
            text += "; servers share the images, so together they receive as many" * (stage == "preparation")
            result.append(Sign(f"{model}: {stage} grows with the servers", is_growing, text))
        result.append(_share_sign(model, own, settings))
    return result + _size_sign(rows, settings)


def _share_sign(model: str, rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> Sign:
    """The part of development over the targets, at every number of servers."""
    shares = []
    for row in rows:
        stages = [row.stages_j(target, settings.served_images) for target in settings.targets]
        shares.append([s["development"] / sum(s.values()) for s in stages])
    parts = np.array(shares)
    is_rising = bool((np.diff(parts) >= 0).all() and (parts[:, -1] > parts[:, 0]).all())
    text = "; ".join(", ".join(f"{value:.1%}" for value in values) for values in shares)
    text += "; targets that are reached in one epoch have equal parts"
    return Sign(f"{model}: development's part rises over the targets", is_rising, text)


def _size_sign(rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> list[Sign]:
    kwh = {(row.model, row.servers): row_kwh(row, settings) for row in rows}
    pairs = [(kwh["CNN", n], kwh["MLP", n]) for model, n in kwh if model == "CNN" and ("MLP", n) in kwh]
    ratios = [cnn / mlp for cnn, mlp in pairs if cnn == cnn and mlp == mlp]
    if not ratios:
        return []
    text = ", ".join(f"x{ratio:.3g}" for ratio in ratios)
    return [Sign("CNN needs more energy than MLP at equal accuracy", bool(min(ratios) > 1), text)]


def plain(rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> dict[str, Any]:
    """The table as plain values for JSON."""
    return {
        "rows": [{**asdict(row), "rounds_to": {str(t): r for t, r in row.rounds_to.items()}} for row in rows],
        "signs": [asdict(sign) for sign in signs(rows, settings)],
    }


def figures(rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> list[Figure]:
    """Carbon by stage over servers and by target, and policies over servers."""
    complete = [row for row in rows if settings.targets[-1] in row.rounds_to]
    if not complete:
        return []
    by_stage, by_target = [], []
    for model in dict.fromkeys(row.model for row in complete):
        own = [row for row in complete if row.model == model]
        x = [float(row.servers) for row in own]
        g_per_j = [float(np.mean(picked_g_per_kwh(row.servers))) / JOULES_PER_KWH for row in own]
        for stage, dash, marker in zip(_STAGES, ("dot", "solid", "dash"), ("square", "circle", "diamond"), strict=True):
            values = [row.stages_j(settings.targets[-1], settings.served_images)[stage] for row in own]
            grams = [j * g for j, g in zip(values, g_per_j, strict=True)]
            by_stage.append(Curve(f"{model}, {stage}", x, grams, colour=_COLOURS[model], dash=dash, marker=marker))
        targets = list(settings.targets)
        ends = [(own[0], g_per_j[0], "circle"), (own[-1], g_per_j[-1], "square")]
        for row, g, marker in ends[: len(own)]:
            values = [row_kwh(row, settings, target) * JOULES_PER_KWH * g for target in targets]
            name = f"{model}, {row.servers} servers"
            by_target.append(Curve(name, [100 * t for t in targets], values, colour=_COLOURS[model], marker=marker))
    caption = "Emissions of federated trainings, with servers from the cleanest area on (a picked order)"
    y_title = "emissions [gCO2e]"
    return [
        Figure("deta-own-stages", f"{caption}, by stage.", "servers", y_title, by_stage),
        Figure(
            "deta-own-targets",
            f"{caption}, by target, with the fewest and the most servers.",
            "target accuracy [%]",
            y_title,
            by_target,
        ),
        _policies(complete, settings),
    ]


def _policies(rows: Sequence[FederatedRow], settings: FederatedStudySettings) -> Figure:
    """Emissions of the last network by policy over servers, with the measured energy as equal loads."""
    own = [row for row in rows if row.model == rows[-1].model]
    places = sorted(intensity_set("pnas2016-10").values(), key=lambda record: record.g_per_kwh)
    grams: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for row in own:
        cases = ladder(equal_network(places[: row.servers], HARVEST_SHARE))
        for policy, result in cases.items():
            grams[policy].append(result.total_g * row_kwh(row, settings) / row.servers)
    x = [float(row.servers) for row in own]
    pairs = zip(grams.items(), _PALETTE, strict=True)
    return Figure(
        name="deta-own-policies",
        caption=f"Emissions of the {own[0].model} by policy over servers, from the cleanest area on, with a harvest of "
        f"{HARVEST_SHARE:g} of the load.",
        x_title="servers",
        y_title="emissions [gCO2e]",
        curves=[Curve(policy, x, values, colour=colour) for (policy, values), colour in pairs],
    )
