"""What agents are trained for: independent requests, and days of a receiver site; both with their reference."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from carbon.aolo.agents import VIOLATION, Agent
from carbon.aolo.planner import (
    closed_part,
    constant_policy,
    greedy_policy,
    myopic_policy,
    reference_values,
    run_day,
)
from carbon.aolo.receiver_site import QUARTERS, ReceiverSite, SiteEnvironment, expected_day, random_day
from carbon.aolo.request_environment import (
    RequestDistribution,
    RequestEnvironment,
    RequestPool,
    decisions,
    project,
    shortfalls,
)

HELD_OUT_REQUESTS, HELD_OUT_SEED = 400, 12
_TRAINING_POOL, _TRAINING_SEED, _HELD_OUT_DAYS = 20_000, 11, 10


@dataclass(frozen=True)
class AgentEvaluation:
    """An agent on held-out requests or days.

    Attributes:
        decided: decisions of its training.
        gap: excess of the footprint over the optimum, after every decision is projected on the feasible set.
        raw_gap: the same without projection; it may be negative, because violations save carbon.
        quality_violations, deadline_violations: part of the decisions, without projection; 0 where nothing can be
            violated.
        footprint_g, raw_footprint_g: mean per request or day.
    """

    decided: int
    gap: float
    raw_gap: float
    quality_violations: float
    deadline_violations: float
    footprint_g: float
    raw_footprint_g: float


class Task(Protocol):
    """What agents are trained for.

    Attributes:
        name: of the task.
        constraints: number of shortfalls.
        discount: of the agents.
        gradient_steps: after the decisions that are taken at once.
        digest: of all that the task consists of.
    """

    name: str
    constraints: int
    discount: float
    gradient_steps: int
    digest: str

    def environment(self) -> gymnasium.Env[Any, Any]:
        """An environment for one agent."""

    def evaluate(self, agent: Agent) -> AgentEvaluation:
        """The agent's deterministic decisions on held-out cases."""


def _digest(*parts: Any) -> str:
    """Twelve hexadecimal digits of plain values. Numbers count with nine digits: machines differ in the last ones."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(entry) for entry in value]
        return f"{value:.9g}" if isinstance(value, float) else value

    return hashlib.sha256(json.dumps(rounded(parts), sort_keys=True).encode()).hexdigest()[:12]


class RequestTask:
    """Independent requests of a distribution.

    Args:
        distribution: of the requests.
    """

    name, constraints, discount, gradient_steps = "requests", 2, 0.0, 2

    def __init__(self, distribution: RequestDistribution | None = None) -> None:
        self.distribution = distribution or RequestDistribution()
        self.pool = self.distribution.draw(_TRAINING_POOL, _TRAINING_SEED)
        self.held_out = self.distribution.draw(HELD_OUT_REQUESTS, HELD_OUT_SEED)
        draws = (_TRAINING_POOL, _TRAINING_SEED, HELD_OUT_REQUESTS, HELD_OUT_SEED)
        self.digest = _digest(self.name, self.distribution.model_dump(), draws)

    def environment(self) -> RequestEnvironment:
        """The environment of the training requests."""
        return RequestEnvironment(self.pool)

    def evaluate(self, agent: Agent) -> AgentEvaluation:
        """Evaluate on the held-out requests."""
        return evaluate_requests(agent, self.held_out)


def evaluate_requests(agent: Agent, pool: RequestPool) -> AgentEvaluation:
    """Evaluate an agent's deterministic decisions on requests."""
    tokens, power_w = decisions(pool.requests, agent.act(pool.observations))
    missed = (shortfalls(pool.requests, tokens, power_w) > VIOLATION).mean(0)
    raw_g = float(pool.requests.footprint_g(tokens, power_w).mean())
    projected_g = float(pool.requests.footprint_g(*project(pool.requests, tokens, power_w)).mean())
    best_g = pool.reference_g
    return AgentEvaluation(
        decided=agent.decided,
        gap=projected_g / best_g - 1,
        raw_gap=raw_g / best_g - 1,
        quality_violations=float(missed[0]),
        deadline_violations=float(missed[1]),
        footprint_g=projected_g,
        raw_footprint_g=raw_g,
    )


def excess_by_length(pool: RequestPool, actions: NDArray[np.floating[Any]]) -> float:
    """Part of the excess over the optimum that answers longer than the optimal ones cause, after projection.

    The rest remains if every answer has the optimal length, and the power is that of the action.
    """
    requests, best_g = pool.requests, pool.reference_g
    tokens, power_w = decisions(requests, actions)
    total_g = float(requests.footprint_g(*project(requests, tokens, power_w)).mean())
    power_g = float(requests.footprint_g(*project(requests, pool.optimum.tokens, power_w)).mean())
    return 1 - (power_g - best_g) / (total_g - best_g)


class SiteTask:
    """Days of a receiver site.

    Args:
        site: its hardware.
        days: number of held-out days; 10 if not given.

    Attributes:
        reference_g, myopic_g, planner_g: emissions of each held-out day.
        constant_g: those of the receiver and the offset that are best on the expected day, and never change.
    """

    # Values of later quarter hours reach earlier ones one gradient step at a time, so there are more of these.
    name, constraints, discount, gradient_steps = "site", 1, 0.99, 4

    def __init__(self, site: ReceiverSite, days: int | None = None) -> None:
        self.site, self.days = site, days or _HELD_OUT_DAYS
        forecast = greedy_policy(site, reference_values(site, expected_day(site)))
        constant_choice = constant_policy(site, expected_day(site))
        reference, myopic, planner, constant = [], [], [], []
        for number in range(self.days):
            day = random_day(site, number)
            best = greedy_policy(site, reference_values(site, day))
            reference.append(run_day(site, day, best).total_g)
            myopic.append(run_day(site, day, myopic_policy(site)).total_g)
            planner.append(run_day(site, day, forecast).total_g)
            constant.append(run_day(site, day, constant_choice).total_g)
        self.reference_g, self.myopic_g, self.planner_g, self.constant_g = reference, myopic, planner, constant
        self.digest = _digest(self.name, site.model_dump(), self.days)

    def environment(self) -> SiteEnvironment:
        """The environment of the training days, none of which is held out."""
        return SiteEnvironment(self.site)

    def evaluate(self, agent: Agent) -> AgentEvaluation:
        """Evaluate on the held-out days, all at once."""
        environments = [self.environment() for _ in range(self.days)]
        observations = []
        for number, environment in enumerate(environments):
            environment.begin(number)
            observations.append(environment.observe(0, environment.battery_j, 0))
        total_g = 0.0
        for _ in range(QUARTERS):
            actions = agent.act(np.stack(observations))
            steps = [environment.step(action) for environment, action in zip(environments, actions, strict=True)]
            observations = [step[0] for step in steps]
            total_g += sum(step[4]["footprint_g"] for step in steps)
        gap, mean_g = total_g / sum(self.reference_g) - 1, total_g / self.days
        return AgentEvaluation(agent.decided, gap, gap, 0.0, 0.0, mean_g, mean_g)

    def closed(self, mean_g: float) -> float:
        """Part of the gap between the myopic policy and the reference that a mean footprint per day closes."""
        return closed_part(self.myopic_g, [mean_g * self.days], self.reference_g)
