"""Statistics of trainings over seeds: flat curves, gaps with their intervals, and the reduction by one agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from carbon.aolo.tasks import AgentEvaluation

Runs = dict[int, list[AgentEvaluation]]
"""Evaluations of an agent's trainings, by seed."""


def last_quarters(run: Sequence[AgentEvaluation]) -> tuple[Sequence[AgentEvaluation], Sequence[AgentEvaluation]]:
    """The third and the fourth quarter of the evaluations."""
    quarter = max(1, len(run) // 4)
    return run[-2 * quarter : -quarter], run[-quarter:]


FLAT = 0.01
"""Relative change of a flat learning curve."""


def is_flat(run: Sequence[AgentEvaluation], tolerance: float = FLAT) -> bool:
    """Whether the mean footprints of the last two quarters differ by less than the tolerance.

    A quarter needs two evaluations or more, so a shorter run is never flat.
    """
    if len(run) < 8:
        return False
    third, fourth = (np.mean([e.footprint_g for e in part]) for part in last_quarters(run))
    return bool(abs(fourth / third - 1) < tolerance)


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds with its 95 % interval by Student's t; NaN ends with one seed.

    Attributes:
        mean: over seeds.
        low, high: ends of the interval.
        seeds: number of seeds.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> SeedMean:
        """The mean of one value per seed."""
        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean, float("nan"), float("nan"), count)
        half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
        return cls(mean, mean - half, mean + half, count)


@dataclass(frozen=True)
class AgentSummary:
    """An agent over its seeds, from the last quarter of the evaluations of each.

    Attributes:
        name: ``sac`` or ``sdrl``.
        gap: to the optimum, projected.
        raw_gap: without projection.
        quality_violations, deadline_violations: without projection.
        flat_seeds: seeds whose learning curve is flat.
    """

    name: str
    gap: SeedMean
    raw_gap: SeedMean
    quality_violations: SeedMean
    deadline_violations: SeedMean
    flat_seeds: int


def summarise(name: str, runs: Runs) -> AgentSummary:
    """Summarise the complete trainings of an agent.

    Args:
        name: of the agent.
        runs: evaluations by seed, at least one.
    """

    def over_seeds(attribute: str) -> SeedMean:
        return SeedMean.of([last_mean(run, attribute) for run in runs.values()])

    return AgentSummary(
        name=name,
        gap=over_seeds("gap"),
        raw_gap=over_seeds("raw_gap"),
        quality_violations=over_seeds("quality_violations"),
        deadline_violations=over_seeds("deadline_violations"),
        flat_seeds=sum(is_flat(run) for run in runs.values()),
    )


def last_mean(run: Sequence[AgentEvaluation], attribute: str) -> float:
    """Mean of an attribute over the last quarter of the evaluations."""
    return float(np.mean([getattr(e, attribute) for e in last_quarters(run)[1]]))


def reduction(sac: Runs, sdrl: Runs, attribute: str = "footprint_g") -> SeedMean | None:
    """Relative reduction of the footprint by SDRL against SAC, paired over the seeds that both have.

    Args:
        sac, sdrl: evaluations by seed.
        attribute: ``footprint_g`` after projection, ``raw_footprint_g`` without.

    Returns:
        none if they have no seed in common.
    """
    seeds = sorted(set(sac) & set(sdrl))
    if not seeds:
        return None
    return SeedMean.of([1 - last_mean(sdrl[s], attribute) / last_mean(sac[s], attribute) for s in seeds])
