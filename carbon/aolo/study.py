"""The trainings of the comparison of SAC and SDRL: learning rates, seeds, more decisions until a curve is flat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from carbon.aolo.agent_files import load_agent, read_text, save_agent
from carbon.aolo.agent_statistics import Runs, is_flat, last_quarters
from carbon.aolo.agents import Agent, AgentSettings
from carbon.aolo.tasks import AgentEvaluation, Task
from leanrx_core.errors import UserError
from leanrx_core.files import lock
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
LONGEST = 8
"""Times the decisions of a training, up to which it is doubled unless another number is given."""


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a study.

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
        max_steps: decisions up to which a training is doubled while its curve is not flat; none to end all at
            ``steps``.
    """

    steps: int = Field(30_000, ge=8, le=10_000_000)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    learning_rate: float | None = Field(None, gt=0, le=1)
    max_steps: int | None = Field(None, ge=8, le=80_000_000)

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.max_steps is not None and self.max_steps < self.steps:
            raise ValueError(f"max_steps {self.max_steps} is below steps {self.steps}; write {self.steps} or more")
        return self


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

    def _agent_settings(self, name: str, seed: int, learning_rate: float, steps: int | None) -> AgentSettings:
        own = {"actor": ACTORS[name], "seed": seed, "learning_rate": learning_rate, "steps": steps or self._steps(seed)}
        of_task = {"discount": self.task.discount, "gradient_steps": self.task.gradient_steps}
        return AgentSettings.parse({**own, **of_task, "task": self.task.digest}, name)

    def agent(self, name: str, seed: int, learning_rate: float, steps: int | None = None) -> Agent:
        """An agent at its beginning; ``steps`` are those of the study if not given."""
        settings = self._agent_settings(name, seed, learning_rate, steps)
        return Agent(settings, self.task.environment, self.task.constraints)

    def agent_folder(self, name: str, seed: int, learning_rate: float, steps: int | None = None) -> Path:
        """Folder of its checkpoints."""
        return self.folder / f"{self.task.name}-{name}-s{seed}-lr{learning_rate:g}-n{steps or self._steps(seed)}"

    def train(self) -> Iterator[StudyProgress]:
        """Train everything that is not trained yet.

        First come the learning rates, then the seeds of the comparison. Where a curve is not flat, the decisions are
        doubled, up to ``max_steps``. Agents take turns, so that an interrupted study has as many seeds of one as of
        the other.
        """
        if self.settings.learning_rate is None:
            for seed in TUNING_SEEDS:
                for rate in LEARNING_RATES:
                    for name in ACTORS:
                        yield from self._train_agent(name, seed, rate)
        for seed in self.settings.seeds:
            for name in ACTORS:
                yield from self._train_agent(name, seed, self.learning_rate(name))
        for shorter, steps in pairwise(self._lengths()):
            for seed in self.settings.seeds:
                for name in ACTORS:
                    rate = self.learning_rate(name)
                    if not any(is_flat(run) for run in self._ended(name, seed)):
                        yield from self._train_agent(name, seed, rate, steps, shorter)

    def _lengths(self) -> list[int]:
        """Decisions after which a training ends if its curve is flat then."""
        lengths, longest = [self.settings.steps], self.settings.max_steps or self.settings.steps
        while lengths[-1] < longest:
            lengths.append(min(2 * lengths[-1], longest))
        return lengths

    def _train_agent(
        self, name: str, seed: int, learning_rate: float, steps: int | None = None, shorter: int | None = None
    ) -> Iterator[StudyProgress]:
        folder = self.agent_folder(name, seed, learning_rate, steps)
        with lock(folder):
            agent = self.agent(name, seed, learning_rate, steps)
            evaluations = self._evaluations(name, seed, learning_rate, steps)
            if not load_agent(agent, folder) and shorter is not None:
                load_agent(agent, self.agent_folder(name, seed, learning_rate, shorter), shorter=True)
                evaluations = self._evaluations(name, seed, learning_rate, shorter)
            for decided in agent.train(EVALUATION_STEPS):
                evaluations.append(self.task.evaluate(agent))
                save_agent(agent, folder, {_EVALUATIONS: json.dumps([asdict(e) for e in evaluations], indent=1) + "\n"})
                yield StudyProgress(folder.name, decided, agent.settings.steps, evaluations[-1])

    def _evaluations(
        self, name: str, seed: int, learning_rate: float, steps: int | None = None
    ) -> list[AgentEvaluation]:
        """Evaluations of the newest checkpoint of an agent; empty without one."""
        folder = self.agent_folder(name, seed, learning_rate, steps)
        text = read_text(folder, _EVALUATIONS, self._agent_settings(name, seed, learning_rate, steps))
        if text is None:
            return []
        try:
            return [AgentEvaluation(**row) for row in json.loads(text)]
        except (ValueError, TypeError):
            raise UserError(f"{folder}: {_EVALUATIONS} is damaged; delete this folder, and train again") from None

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
        return all(bool(run) and run[-1].decided >= self._steps(TUNING_SEEDS[0]) for run in runs)

    def _tuning_runs(self, name: str, learning_rate: float) -> list[list[AgentEvaluation]]:
        return [self._evaluations(name, seed, learning_rate) for seed in TUNING_SEEDS]

    def completed(self, name: str) -> Runs:
        """Evaluations of an agent's trainings that have all their decisions."""
        return {seed: run for seed, run in self._runs(name).items() if run[-1].decided >= self.settings.steps}

    def until_flat(self, name: str) -> Runs:
        """The same, where trainings that were not flat have gone on; none before all of these have ended."""
        lengths, runs = self._lengths(), {}
        if len(lengths) == 1:
            return {}
        for seed in self.completed(name):
            ended = self._ended(name, seed)
            if not is_flat(ended[-1]) and len(ended) < len(lengths):
                return {}
            runs[seed] = ended[-1]
        return runs

    def _ended(self, name: str, seed: int) -> list[list[AgentEvaluation]]:
        """Evaluations of a training at each of its lengths that it has reached, up to the first one that is flat."""
        ended = []
        for steps in self._lengths():
            run = self._evaluations(name, seed, self.learning_rate(name), steps)
            if not run or run[-1].decided < steps:
                break
            ended.append(run)
            if is_flat(run):
                break
        return ended

    def begun(self, name: str) -> Runs:
        """Evaluations of an agent's trainings, complete or not, as far as they have come."""
        runs: Runs = {}
        for steps in self._lengths():
            runs |= self._runs(name, steps)
        return runs

    def _runs(self, name: str, steps: int | None = None) -> Runs:
        if not self.is_tuned(name):
            return {}
        rate = self.learning_rate(name)
        runs = {seed: self._evaluations(name, seed, rate, steps) for seed in self.settings.seeds}
        return {seed: run for seed, run in runs.items() if run}

    def trained_agent(self, name: str, seed: int) -> Agent:
        """An agent that has all decisions of the study.

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
