"""Soft actor-critic with a dense and with a spiking actor (SDRL), on equal terms.

Both are the SAC of stable-baselines3, with the same critics, replay, entropy rule, number of steps and multipliers.
They differ in the actor alone. Constraints enter by Lagrange multipliers: the replay keeps footprint and shortfalls
apart, and the reward of a sampled transition is formed with the present multipliers. A multiplier rises while more than
the tolerated part of decisions violate its constraint, and falls otherwise (dual ascent).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from carbon.aolo.popsan import SpikingActorNet
from leanrx_core.errors import UserError
from leanrx_core.records import Record

try:
    import gymnasium
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import DummyVecEnv
    from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy

    from carbon.aolo.actor_critic import SoftActorCritic
except ModuleNotFoundError as error:
    raise UserError(f"carbon: {error.name} is not installed; run: pip install 'leanrx[carbon]'") from None


VIOLATION = 1e-9
"""Relative shortfall from which a constraint is violated."""
FIRST_MULTIPLIER = 5.0
"""Of every constraint, before the dual ascent; footprints are relative to their mean optimum."""


class AgentSettings(Record):
    """How an agent is trained.

    Attributes:
        actor: ``dense`` is SAC, ``spiking`` is SDRL.
        task: digest of what it is trained for, so that a checkpoint of another task is not continued.
        steps: decisions of the training; the last ones that are taken at once are complete.
        seed: of weights, replay, exploration and environment.
        learning_rate: of actor, critics and entropy, by Adam.
        hidden: neurons of each hidden layer of actor and critics.
        batch: transitions of a gradient step.
        environments: decisions that are taken at once, each in an environment of its own.
        gradient_steps: after these decisions.
        target_entropy: of the exploring policy, in nats; a lower one explores in a narrower range.
        entropy_coefficient: at the begin; it then follows the target entropy.
        warmup_steps: random decisions at the beginning.
        discount: 0 where decisions are independent.
        tolerated: part of decisions that may violate a constraint.
        multiplier_rate: of the dual ascent, per decision.
        multiplier_window: decisions over which violations are counted.
    """

    actor: Literal["dense", "spiking"]
    task: str = ""
    steps: int = Field(30_000, ge=1, le=10_000_000)
    seed: int = Field(1, ge=0, lt=2**32)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((64, 64), min_length=1)
    batch: int = Field(256, ge=1)
    environments: int = Field(16, ge=1, le=1024)
    gradient_steps: int = Field(2, ge=1, le=1024)
    target_entropy: float = -6.0
    entropy_coefficient: float = Field(0.01, gt=0)
    warmup_steps: int = Field(1_000, ge=0)
    discount: float = Field(0.0, ge=0, lt=1)
    tolerated: float = Field(0.01, ge=0, lt=1)
    multiplier_rate: float = Field(0.01, ge=0)
    multiplier_window: int = Field(500, ge=1)


class SpikingActor(Actor):
    """Means from spikes, standard deviations from a dense network of their own, as in PopSAN's SAC."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        actions = int(np.prod(self.action_space.shape))
        self.mu: nn.Module = SpikingActorNet(self.features_dim, actions, tuple(self.net_arch))

    def get_action_dist_params(self, obs: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Means and logarithms of the standard deviations."""
        features = self.extract_features(obs, self.features_extractor)
        log_std = self.log_std(self.latent_pi(features))  # type: ignore[operator]
        return self.mu(features), torch.clamp(log_std, LOG_STD_MIN, LOG_STD_MAX), {}


class SpikingPolicy(SACPolicy):
    """The policy of SAC with a spiking actor."""

    def make_actor(self, features_extractor: Any = None) -> SpikingActor:
        """Build the actor."""
        options = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SpikingActor(**options).to(self.device)


class ConstrainedReplay(ReplayBuffer):
    """A replay that keeps shortfalls beside rewards, and weighs them when it is sampled.

    A relative shortfall costs its multiplier times its size. A fixed price per violation would be a cliff. Critics
    smooth a cliff, and actors keep away from it.

    Attributes:
        shortfalls: of each transition, ``(size, environments, constraints)``.
        multipliers: weights, ``(constraints,)``.
    """

    def __init__(self, *arguments: Any, constraints: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shortfalls = np.zeros((self.buffer_size, self.n_envs, constraints), dtype=np.float32)
        self.multipliers = np.full(constraints, FIRST_MULTIPLIER)

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """Store transitions with the shortfalls of their ``info``."""
        self.shortfalls[self.pos] = [info["shortfalls"] for info in infos]
        super().add(obs, next_obs, action, reward, done, infos)

    def _get_samples(self, batch_inds: NDArray[np.intp], env: Any = None) -> ReplayBufferSamples:
        index = batch_inds, np.random.randint(self.n_envs, size=len(batch_inds))  # noqa: NPY002 - as its base class
        missed = self.shortfalls[index]
        penalty = missed @ self.multipliers
        arrays = (
            self.observations[index],
            self.actions[index],
            self.next_observations[index],
            (self.dones[index] * (1 - self.timeouts[index]))[:, None],
            (self.rewards[index] - penalty).astype(np.float32)[:, None],
        )
        return ReplayBufferSamples(*(torch.from_numpy(array) for array in arrays))


def _itself(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return environment


class Agent:
    """An agent in training.

    Args:
        settings: of the training.
        environments: whose ``info`` has ``shortfalls``, as many as the settings say; driven by this agent alone.
        constraints: number of shortfalls.

    Attributes:
        model: the SAC of stable-baselines3.
        violations: whether each constraint was violated in the last decisions.
    """

    def __init__(
        self, settings: AgentSettings, make_environment: Callable[[], gymnasium.Env[Any, Any]], constraints: int = 2
    ) -> None:
        self.settings = settings
        self.environments = [make_environment() for _ in range(settings.environments)]
        torch.manual_seed(settings.seed)
        self.model = SoftActorCritic(
            SpikingPolicy if settings.actor == "spiking" else "MlpPolicy",
            # as they are: a monitor would have a state of its own
            DummyVecEnv([partial(_itself, environment) for environment in self.environments]),
            learning_rate=settings.learning_rate,
            buffer_size=settings.steps + settings.environments - 1,
            learning_starts=settings.warmup_steps,
            batch_size=settings.batch,
            train_freq=1,
            gradient_steps=settings.gradient_steps,
            ent_coef=f"auto_{settings.entropy_coefficient}",
            target_entropy=settings.target_entropy,
            gamma=settings.discount,
            replay_buffer_class=ConstrainedReplay,
            replay_buffer_kwargs={"constraints": constraints},
            policy_kwargs={"net_arch": list(settings.hidden), "optimizer_kwargs": {"fused": True}},
            seed=settings.seed,
            device="cpu",
        )
        self.model.set_logger(Logger(None, []))
        self.violations: deque[NDArray[np.bool_]] = deque(maxlen=settings.multiplier_window)

    @property
    def replay(self) -> ConstrainedReplay:
        """Its replay."""
        assert isinstance(self.model.replay_buffer, ConstrainedReplay)
        return self.model.replay_buffer

    @property
    def multipliers(self) -> NDArray[np.float64]:
        """Lagrange multipliers, one per constraint."""
        return self.replay.multipliers

    @property
    def decided(self) -> int:
        """Decisions so far."""
        return int(self.model.num_timesteps)

    @property
    def gradient_steps(self) -> int:
        """Gradient steps so far."""
        return int(self.model._n_updates)

    def train(self, chunk: int) -> Iterator[int]:
        """Train in chunks up to the number of steps; yields the decisions so far after each chunk."""
        while self.decided < self.settings.steps:
            end = min(self.settings.steps, (self.decided // chunk + 1) * chunk)
            # stable-baselines3 adds the decisions so far to the total where it does not begin anew.
            self.model.learn(
                end - self.decided, self._observe, log_interval=10**9, reset_num_timesteps=self.decided == 0
            )
            yield self.decided

    def _observe(self, local_variables: dict[str, Any], _: dict[str, Any]) -> bool:
        """Dual ascent after the decisions that were taken at once."""
        settings = self.settings
        for information in local_variables["infos"]:
            self.violations.append(np.asarray(information["shortfalls"]) > VIOLATION)
        if self.decided > settings.warmup_steps:
            excess = np.mean(self.violations, axis=0) - settings.tolerated
            step = settings.environments * settings.multiplier_rate
            self.replay.multipliers = np.maximum(self.multipliers + step * excess, 0.0)
        return True

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Deterministic actions, ``(n, actions)``, of observations ``(n, observations)``."""
        actions, _ = self.model.predict(observations, deterministic=True)
        return np.asarray(actions)
