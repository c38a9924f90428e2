"""The table of federated trainings in the form of DETA's Table I: energy and carbon by servers, stage and target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from carbon import intensity_set
from carbon.deta.dispatch import ladder
from carbon.deta.equal_sites import equal_network, regions
from carbon.deta.programme import POLICIES
from leanrx.experiment.federated_study import FederatedRow
from leanrx.report.bar_charts import Bars
from leanrx.report.charts import AnyFigure, Curve, Figure
from leanrx_core.units import JOULES_PER_KWH

HARVEST_SHARE = 0.2
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_STAGES = ("preparation", "development", "application")
_R2 = 0.9
_GROWTH = 0.01
"""Smaller relative growth of a stage counts as noise of the meter."""
_EQUAL_STEPS = 1.1
"""Ratio up to which numbers of steps count as equal. Servers round them up."""


@dataclass(frozen=True)
class FederatedTable:
    """Trainings of several networks.

    Attributes:
        rows: complete trainings.
        samples: names of the samples.
    """

    rows: tuple[FederatedRow, ...]
    samples: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table and its signs as text."""
        return lines(self.rows, self.samples)

    def plain(self) -> dict[str, Any]:
        """The table as plain values for JSON."""
        return plain(self.rows)

    def figures(self) -> list[AnyFigure]:
        """Carbon by stage over servers and targets, and policies over servers, of every network."""
        return figures(self.rows)


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


def row_kwh(row: FederatedRow, target: float | None = None) -> float:
    """Energy of a training up to a target; NaN if it was not reached. Without a target, of all of its rounds."""
    return sum(row.stages_j(target).values()) / JOULES_PER_KWH


def mean_state_g_per_kwh() -> float:
    """Mean over the states of the USA: the expectation of a random place."""
    return float(np.mean([record.g_per_kwh for record in regions("egrid2023-states")]))


def lines(rows: Sequence[FederatedRow], samples: Sequence[str]) -> list[str]:
    """The table and its signs as text."""
    if not rows:
        return ["No federated training is complete; run with --train."]
    energy = rows[0].energy
    text = [
        f"Own table, {', '.join(samples)}: joules {energy.provenance} by {energy.instrument}; the router is assumed."
    ]
    for row in rows:
        kwh = row_kwh(row)
        reached = f"to {row.last_target:.0%}"
        if not row.is_reached:
            reached = f"to {row.accuracy:.1%}; {row.last_target:.0%} was not reached"
        text.append(
            f"{row.model}, {row.servers} servers, batch {row.batch_size}: {row.trained_rounds} epochs {reached}, "
            f"{kwh:.3g} kWh, {kwh * float(np.mean(picked_g_per_kwh(row.servers))):.3g} g from the cleanest area on, "
            f"{kwh * mean_state_g_per_kwh():.3g} g expected at random states"
        )
        text.append("  " + ", ".join(f"{name} {joules:.3g} J" for name, joules in row.parties_j().items()))
    for sign in signs(rows):
        text.append(f"{'holds' if sign.holds else 'does not hold'}: {sign.statement} ({sign.values})")
    return text


def signs(rows: Sequence[FederatedRow]) -> list[Sign]:
    """What the article's table shows, checked on this one, over the trainings to the last target.

    Where a training of a network does not reach it, all of its trainings are compared after equal epochs, as in the
    article.
    """
    result = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        if len(own) > 1:
            result += _model_signs(model, own)
        reached = [row for row in own if row.is_reached]
        if reached and len(own) > 1:
            result.append(_share_sign(model, reached))
    return result + _size_sign(rows)


def _model_signs(model: str, rows: Sequence[FederatedRow]) -> list[Sign]:
    own, condition = rows, ""
    if not all(row.is_reached for row in rows):
        epochs = max(row.trained_rounds for row in rows)
        own, condition = [replace(row, trained_rounds=epochs) for row in rows], f" after {epochs} epochs"
    servers, kwh = np.array([row.servers for row in own], dtype=float), np.array([row_kwh(row) for row in own])
    slope, r2 = float(np.polyfit(servers, kwh, 1)[0]), float(np.corrcoef(servers, kwh)[0, 1] ** 2)
    is_rising = bool(slope > 0 and r2 >= _R2)
    statement = f"{model}: energy rises with the servers{condition}, R2 at least {_R2:g}"
    text = f"R2 {r2:.3f}" + "; two trainings always have 1" * (len(own) == 2)
    result = [Sign(statement, is_rising, text)]
    g = kwh * [float(np.mean(picked_g_per_kwh(row.servers))) for row in own]
    growth = g[-1] / g[0], kwh[-1] / kwh[0]
    text = f"x{growth[0]:.3g} against x{growth[1]:.3g}; at random states both grow alike"
    is_faster = bool(growth[0] > growth[1])
    result.append(Sign(f"{model}: carbon grows faster than energy{condition} in the picked order", is_faster, text))
    return [*result, *_stage_signs(model, own, condition)]


def _stage_signs(model: str, rows: Sequence[FederatedRow], condition: str) -> list[Sign]:
    steps = [row.servers * row.steps for row in rows]
    are_steps_equal = max(steps) <= _EQUAL_STEPS * min(steps)
    reasons = {
        "preparation": "; servers share the samples, so together they receive as many",
        "development": "; servers share the samples, so together they take as many steps" * are_steps_equal,
        "application": "",
    }
    result = []
    for stage in _STAGES:
        values = [row.stages_j()[stage] for row in rows]
        text = ", ".join(f"{float(f'{v:.3g}'):g}" for v in values) + f" J{reasons[stage]}"
        is_growing = bool((np.diff(values) > _GROWTH * np.array(values[:-1])).all())
        result.append(Sign(f"{model}: {stage} grows with the servers{condition}", is_growing, text))
    return result


def _share_sign(model: str, rows: Sequence[FederatedRow]) -> Sign:
    """The part of development over the targets, at every number of servers."""
    shares = []
    for row in rows:
        stages = [row.stages_j(target) for target in row.targets]
        shares.append([s["development"] / sum(s.values()) for s in stages])
    parts = np.array(shares)
    is_rising = bool((np.diff(parts) >= 0).all() and (parts[:, -1] > parts[:, 0]).all())
    text = "; ".join(", ".join(f"{value:.1%}" for value in values) for values in shares)
    text += "; targets that are reached in one epoch have equal parts"
    return Sign(f"{model}: development's part rises over the targets", is_rising, text)


def _size_sign(rows: Sequence[FederatedRow]) -> list[Sign]:
    kwh = {(row.model, row.servers): row_kwh(row) for row in rows if row.is_reached}
    pairs = [(kwh["CNN", n], kwh["MLP", n]) for model, n in kwh if model == "CNN" and ("MLP", n) in kwh]
    ratios = [cnn / mlp for cnn, mlp in pairs]
    if not ratios:
        return []
    text = ", ".join(f"x{ratio:.3g}" for ratio in ratios)
    return [Sign("CNN needs more energy than MLP at equal accuracy", bool(min(ratios) > 1), text)]


def plain(rows: Sequence[FederatedRow]) -> dict[str, Any]:
    """The table as plain values for JSON."""
    places = mean_state_g_per_kwh()
    return {
        "rows": [
            {
                **asdict(row),
                "rounds_to": {str(t): r for t, r in row.rounds_to.items()},
                "kwh": row_kwh(row),
                "picked_g": row_kwh(row) * float(np.mean(picked_g_per_kwh(row.servers))),
                "drawn_g": row_kwh(row) * places,
                "stages_j": row.stages_j(),
                "parties_j": row.parties_j(),
            }
            for row in rows
        ],
        "signs": [asdict(sign) for sign in signs(rows)],
    }


def figures(rows: Sequence[FederatedRow]) -> list[AnyFigure]:
    """Carbon by stage over servers and targets, and policies over servers, of every network."""
    result: list[AnyFigure] = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        result += [_stages(own), _policies(own)]
    return result


def _stages(rows: Sequence[FederatedRow]) -> Bars:
    """Emissions by stage, for every number of servers and every target that was reached."""
    cases: list[tuple[FederatedRow, float | None]] = [
        (row, t) for row in rows for t in row.targets if t in row.rounds_to
    ]
    cases += [(row, None) for row in rows if not row.rounds_to]
    columns, layers = [], {stage: np.zeros(len(cases)) for stage in _STAGES}
    for index, (row, target) in enumerate(cases):
        accuracy = row.accuracy if target is None else target
        columns.append(f"{row.servers}, {accuracy:.0%}")
        g_per_j = float(np.mean(picked_g_per_kwh(row.servers))) / JOULES_PER_KWH
        for stage, joules in row.stages_j(target).items():
            layers[stage][index] = 1e3 * joules * g_per_j
    model = rows[0].model
    return Bars(
        name=f"deta-own-stages-{model.lower()}",
        caption=f"Emissions of federated trainings of the {model} by stage, over servers and accuracies. Servers "
        "are in a picked order, from the cleanest area on.",
        x_title="servers, accuracy",
        y_title="emissions [mgCO2e]",
        columns=tuple(columns),
        layers=layers,
        colours=dict(zip(_STAGES, _PALETTE, strict=False)),
    )


def _policies(rows: Sequence[FederatedRow]) -> Figure:
    """Emissions by policy over servers, with the measured energy as equal loads."""
    places = sorted(intensity_set("pnas2016-10").values(), key=lambda record: record.g_per_kwh)
    grams: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for row in rows:
        cases = ladder(equal_network(places[: row.servers], HARVEST_SHARE))
        for policy, result in cases.items():
            grams[policy].append(1e3 * result.total_g * row_kwh(row) / row.servers)
    x, model = [float(row.servers) for row in rows], rows[0].model
    pairs = zip(grams.items(), _PALETTE, strict=True)
    return Figure(
        name=f"deta-own-policies-{model.lower()}",
        caption=f"Emissions of the {model} by policy over servers, from the cleanest area on, with a harvest of "
        f"{HARVEST_SHARE:g} of the load.",
        x_title="servers",
        y_title="emissions [mgCO2e]",
        curves=[Curve(policy, x, values, colour=colour) for (policy, values), colour in pairs],
    )
