"""The comparison of SAC and SDRL with the optimum: training, held-out evaluations, statistics and sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy import stats

from carbon.aolo.agent_files import checkpoints, load_agent, save_agent
from carbon.aolo.agents import Agent, AgentSettings
from carbon.aolo.request_environment import RequestDistribution
from carbon.aolo.tasks import HELD_OUT_REQUESTS, HELD_OUT_SEED, AgentEvaluation, Task, evaluate_requests
from leanrx_core.errors import UserError
from leanrx_core.records import Record

ACTORS = {"sac": "dense", "sdrl": "spiking"}
"""Names of the agents, and their actors."""
PAPER_REDUCTION = 0.1877
"""Reduction of SDRL against SAC in the abstract of AOLO; the setting that gave it is not public."""
TUNING_SEEDS = (101, 102)
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
TUNING_FRACTION = 0.25
"""Part of the decisions of a training that a tuning run has."""
EVALUATION_STEPS = 2_000


@dataclass(frozen=True)
class StudyProgress:
    """StudyProgress of a study.

    Attributes:
        name: of the training.
        decided, steps: decisions so far, and in all.
        evaluation: the newest one.
    """

    name: str
    decided: int
    steps: int
    evaluation: AgentEvaluation


class StudySettings(Record):
    """What a study trains.

    Attributes:
        steps: decisions of each training.
        seeds: of the comparison.
        learning_rate: of both agents; none to tune it for each on further seeds.
    """

    steps: int = Field(30_000, ge=8, le=10_000_000)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    learning_rate: float | None = Field(None, gt=0, le=1)


class Study:
    """Trains both agents on equal terms, and resumes after an interruption.

    Args:
        folder: of the checkpoints.
        task: what the agents are trained for.
        settings: what is trained.
    """

    def __init__(self, folder: Path, task: Task, settings: StudySettings | None = None) -> None:
        self.folder, self.task, self.settings = folder, task, settings or StudySettings()

    def _steps(self, seed: int) -> int:
        """Decisions of a training: a part for the seeds of the tuning."""
        return max(1, int(TUNING_FRACTION * self.settings.steps)) if seed in TUNING_SEEDS else self.settings.steps

    def agent(self, name: str, seed: int, learning_rate: float) -> Agent:
        """An agent at its beginning."""
        own = {"actor": ACTORS[name], "seed": seed, "learning_rate": learning_rate, "discount": self.task.discount}
        settings = AgentSettings.parse({**own, "steps": self._steps(seed)}, name)
        return Agent(settings, self.task.environment, self.task.constraints)

    def agent_folder(self, name: str, seed: int, learning_rate: float) -> Path:
        """Folder of its checkpoints."""
        return self.folder / f"{self.task.name}-{name}-s{seed}-lr{learning_rate:g}-n{self._steps(seed)}"

    def train(self) -> Iterator[StudyProgress]:
        """Train everything that is not trained yet: first the learning rates, then the seeds of the comparison.

        Agents take turns, so that an interrupted study has as many seeds of one as of the other.
        """
        if self.settings.learning_rate is None:
            for seed in TUNING_SEEDS:
                for rate in LEARNING_RATES:
                    for name in ACTORS:
                        yield from self._train_agent(name, seed, rate)
        for seed in self.settings.seeds:
            for name in ACTORS:
                yield from self._train_agent(name, seed, self.learning_rate(name))

    def _train_agent(self, name: str, seed: int, learning_rate: float) -> Iterator[StudyProgress]:
        folder = self.agent_folder(name, seed, learning_rate)
        agent = self.agent(name, seed, learning_rate)
        load_agent(agent, folder)
        evaluations = read_evaluations(folder)
        for decided in agent.train(EVALUATION_STEPS):
            evaluations.append(self.task.evaluate(agent))
            save_agent(agent, folder, {_EVALUATIONS: json.dumps([asdict(e) for e in evaluations], indent=1) + "\n"})
            yield StudyProgress(folder.name, decided, self._steps(seed), evaluations[-1])

    def learning_rate(self, name: str) -> float:
        """The given learning rate, or the one with the least gap in the last quarter of the tuning runs.

        Raises:
            UserError: if the tuning is incomplete.
        """
        if self.settings.learning_rate is not None:
            return self.settings.learning_rate
        if not self.is_tuned(name):
            raise UserError(f"study: {name}: the learning rates are not tuned yet; run with --train")
        gaps = {
            rate: np.mean([e.gap for run in self._tuning_runs(name, rate) for e in last_quarters(run)[1]])
            for rate in LEARNING_RATES
        }
        return min(gaps, key=lambda rate: gaps[rate])

    def is_tuned(self, name: str) -> bool:
        """Whether an agent has a learning rate, given or tuned."""
        if self.settings.learning_rate is not None:
            return True
        runs = [run for rate in LEARNING_RATES for run in self._tuning_runs(name, rate)]
        return all(self._is_complete(run, TUNING_SEEDS[0]) for run in runs)

    def _tuning_runs(self, name: str, learning_rate: float) -> list[list[AgentEvaluation]]:
        return [read_evaluations(self.agent_folder(name, seed, learning_rate)) for seed in TUNING_SEEDS]

    def _is_complete(self, run: Sequence[AgentEvaluation], seed: int) -> bool:
        return bool(run) and run[-1].decided >= self._steps(seed)

    def completed(self, name: str) -> dict[int, list[AgentEvaluation]]:
        """Evaluations of an agent's complete trainings, by seed."""
        return {seed: run for seed, run in self.begun(name).items() if self._is_complete(run, seed)}

    def begun(self, name: str) -> dict[int, list[AgentEvaluation]]:
        """Evaluations of an agent's trainings, by seed, complete or not."""
        if not self.is_tuned(name):
            return {}
        rate = self.learning_rate(name)
        runs = {seed: read_evaluations(self.agent_folder(name, seed, rate)) for seed in self.settings.seeds}
        return {seed: run for seed, run in runs.items() if run}

    def trained_agent(self, name: str, seed: int) -> Agent:
        """A completely trained agent.

        Raises:
            UserError: if it is not trained yet.
        """
        rate = self.learning_rate(name)
        folder = self.agent_folder(name, seed, rate)
        agent = self.agent(name, seed, rate)
        if not load_agent(agent, folder) or agent.decided < self.settings.steps:
            raise UserError(f"study: {folder.name} is not trained yet; run with --train")
        return agent


_EVALUATIONS = "evaluations.json"


def read_evaluations(folder: Path) -> list[AgentEvaluation]:
    """Evaluations of the newest checkpoint of an agent; empty without one."""
    complete = checkpoints(folder)
    if not complete:
        return []
    try:
        return [AgentEvaluation(**row) for row in json.loads((complete[-1] / _EVALUATIONS).read_text())]
    except (OSError, ValueError, TypeError):
        raise UserError(f"{complete[-1] / _EVALUATIONS}: damaged; delete its folder, and train again") from None


def last_quarters(run: Sequence[AgentEvaluation]) -> tuple[Sequence[AgentEvaluation], Sequence[AgentEvaluation]]:
    """The third and the fourth quarter of the evaluations."""
    quarter = max(1, len(run) // 4)
    return run[-2 * quarter : -quarter], run[-quarter:]


def is_flat(run: Sequence[AgentEvaluation], tolerance: float = 0.01) -> bool:
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


def summarise(name: str, runs: dict[int, list[AgentEvaluation]]) -> AgentSummary:
    """Summarise the complete trainings of an agent.

    Args:
        name: of the agent.
        runs: evaluations by seed, at least one.
    """

    def over_seeds(attribute: str) -> SeedMean:
        return SeedMean.of([_last_mean(run, attribute) for run in runs.values()])

    return AgentSummary(
        name=name,
        gap=over_seeds("gap"),
        raw_gap=over_seeds("raw_gap"),
        quality_violations=over_seeds("quality_violations"),
        deadline_violations=over_seeds("deadline_violations"),
        flat_seeds=sum(is_flat(run) for run in runs.values()),
    )


def _last_mean(run: Sequence[AgentEvaluation], attribute: str) -> float:
    return float(np.mean([getattr(e, attribute) for e in last_quarters(run)[1]]))


def reduction(
    sac: dict[int, list[AgentEvaluation]], sdrl: dict[int, list[AgentEvaluation]], attribute: str = "footprint_g"
) -> SeedMean:
    """Relative reduction of the footprint by SDRL against SAC, paired over the seeds that both have.

    Args:
        sac, sdrl: evaluations by seed.
        attribute: ``footprint_g`` after projection, ``raw_footprint_g`` without.
    """
    seeds = sorted(set(sac) & set(sdrl))
    return SeedMean.of([1 - _last_mean(sdrl[s], attribute) / _last_mean(sac[s], attribute) for s in seeds])


SWEEPS: dict[str, list[dict[str, tuple[float, float]]]] = {
    "min_quality": [{"min_quality": (q, q)} for q in (0.3, 0.45, 0.6, 0.75, 0.9)],
    "path_loss_db": [{"path_loss_db": (p, p)} for p in (90.0, 100.0, 110.0, 120.0, 125.0)],
    "bandwidth_hz": [{"bandwidth_hz": (w, w)} for w in (5e6, 10e6, 20e6, 50e6, 100e6)],
    "intensity ratio": [
        {"data_centre_g_per_kwh": (150.0, 150.0), "radio_g_per_kwh": (150.0 * r, 150.0 * r)}
        for r in (0.2, 0.5, 1.0, 2.0, 5.0)
    ],
    "token_bits": [{"token_bits": (b, b)} for b in (32.0, 1e3, 10e3, 32e3, 64e3)],
}
"""Five values of each parameter of the sweeps; the agents are those of the comparison, and are not trained again."""


def sweep_agents(study: Study, distribution: RequestDistribution, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Gaps and reduction over the sweeps.

    Args:
        study: of requests, whose agents are trained for ``seeds``.
        distribution: of the requests before a parameter is changed.
        seeds: of both agents.

    Returns:
        one row per parameter, value and seed: ``parameter, value, seed, sac_gap, sdrl_gap, reduction``, projected.
    """
    rows = []
    for seed in seeds:
        agents = {name: study.trained_agent(name, seed) for name in ACTORS}
        for parameter, settings in SWEEPS.items():
            for number, changes in enumerate(settings):
                pool = distribution.model_copy(update=changes).draw(HELD_OUT_REQUESTS, HELD_OUT_SEED)
                results = {name: evaluate_requests(agent, pool) for name, agent in agents.items()}
                rows.append(
                    {
                        "parameter": parameter,
                        "value": list(changes.values())[-1][0] if parameter != "intensity ratio" else _RATIOS[number],
                        "seed": seed,
                        "sac_gap": results["sac"].gap,
                        "sdrl_gap": results["sdrl"].gap,
                        "reduction": 1 - results["sdrl"].footprint_g / results["sac"].footprint_g,
                    }
                )
    return rows


_RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)
