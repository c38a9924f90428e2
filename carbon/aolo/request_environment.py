"""Requests as a Gymnasium environment: one decision a request, and no coupling between requests.

The reward is minus the footprint over the mean footprint of the optimum. Constraints are not part of it: ``info`` has
the relative shortfall of quality and the relative delay, which the agents weigh by Lagrange multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from carbon.aolo.oracle import Optimum, lowest_power_w, shortest_length, solve
from carbon.aolo.requests import Array, Requests
from carbon.aolo.service import snr_per_w
from leanrx_core.errors import UserError
from leanrx_core.records import Range, Record
from leanrx_core.units import JOULES_PER_KWH

try:
    import gymnasium
except ModuleNotFoundError:
    raise UserError("carbon: gymnasium is not installed; run: pip install 'leanrx[carbon]'") from None

OBSERVATION_RANGE = 3.0
"""Observations are clipped to it on both sides."""


class RequestDistribution(Record):
    """Where requests are drawn from. Every range is uniform, or uniform in its logarithm where it says so.

    The token is one of speech or images, with 32 kbit: for text of 32 bits, the power would not matter.

    Attributes:
        path_loss_db: from the base station to the user.
        data_centre_g_per_kwh, radio_g_per_kwh: intensities, logarithmic.
        prompt_tokens: length of the prompt, logarithmic.
        min_quality: lowest quality that is allowed.
        deadline_s: longest time.
        token_bits, bandwidth_hz: logarithmic.
        token_j, token_s, prompt_token_j, prompt_token_s: energy and time per token of output and prompt.
        static_w, slope: of the transmitter; the defaults are EARTH's remote radio head.
        power_w: bounds of the power sent.
        tokens: bounds of the length.
        token_scale: of the quality.
        noise_figure_db: of the receiver.
    """

    path_loss_db: Range = (90.0, 125.0)
    data_centre_g_per_kwh: Range = (25.0, 900.0)
    radio_g_per_kwh: Range = (25.0, 900.0)
    prompt_tokens: Range = (16.0, 2048.0)
    min_quality: Range = (0.3, 0.9)
    deadline_s: Range = (4.0, 20.0)
    token_bits: Range = (32e3, 32e3)
    bandwidth_hz: Range = (10e6, 10e6)
    token_j: float = Field(0.32, gt=0)
    token_s: float = Field(0.025, gt=0)
    prompt_token_j: float = Field(0.0032, ge=0)
    prompt_token_s: float = Field(0.0005, ge=0)
    static_w: float = Field(84.0, ge=0)
    slope: float = Field(2.8, gt=0)
    power_w: Range = (0.1, 20.0)
    tokens: Range = (16.0, 512.0)
    token_scale: float = Field(32.0, gt=0)
    noise_figure_db: float = Field(9.0, ge=0, le=100)

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in (*sorted(_LOGARITHMIC), "deadline_s", "power_w", "tokens"):
            low, high = getattr(self, name)
            if low <= 0:
                raise ValueError(f"{name} ({low:g}, {high:g}): begin the range above 0")
        if self.min_quality[0] < 0 or self.min_quality[1] > 1:
            raise ValueError(f"min_quality {self.min_quality}: write a range from 0 to 1")
        return self

    def draw(self, count: int, seed: int) -> RequestPool:
        """Draw feasible requests and solve them.

        Raises:
            UserError: if under a tenth of the draws are feasible.
        """
        rng = np.random.default_rng([seed, 0x41])
        draws = 2 * count
        for _ in range(4):
            features = {name: _uniform(rng, getattr(self, name), draws, name in _LOGARITHMIC) for name in _FEATURES}
            requests = self._requests(features)
            optimum = solve(requests)
            index = np.flatnonzero(optimum.feasible)[:count]
            if len(index) == count:
                break
            draws *= 2
        else:
            binding, counts = np.unique(optimum.binding[~optimum.feasible], return_counts=True)
            raise UserError(
                f"requests: {len(index)} of {draws} draws are feasible; the constraint of most others is "
                f"{binding[counts.argmax()]}; relax it"
            )
        columns = [_standardised(features[n][index], _DEFAULT_RANGES[n], n in _LOGARITHMIC) for n in _OBSERVED]
        observations = np.clip(np.stack(columns, 1), -OBSERVATION_RANGE, OBSERVATION_RANGE)
        solved = Optimum(*(getattr(optimum, n)[index] for n in Optimum.__dataclass_fields__))
        return RequestPool(requests[index], solved, observations.astype(np.float32))

    def _requests(self, features: dict[str, Array]) -> Requests:
        centre_g_per_j = features["data_centre_g_per_kwh"] / JOULES_PER_KWH
        prompt = np.round(features["prompt_tokens"])
        return Requests(
            fixed_g=prompt * self.prompt_token_j * centre_g_per_j,
            token_g=self.token_j * centre_g_per_j,
            radio_g_per_j=features["radio_g_per_kwh"] / JOULES_PER_KWH,
            fixed_s=prompt * self.prompt_token_s,
            token_s=self.token_s,
            token_bits=features["token_bits"],
            bandwidth_hz=features["bandwidth_hz"],
            snr_per_w=snr_per_w(features["path_loss_db"], features["bandwidth_hz"], self.noise_figure_db),
            rayleigh=0.0,
            static_w=self.static_w,
            slope=self.slope,
            min_power_w=self.power_w[0],
            max_power_w=self.power_w[1],
            min_tokens=self.tokens[0],
            max_tokens=self.tokens[1],
            token_scale=self.token_scale,
            min_quality=features["min_quality"],
            deadline_s=features["deadline_s"],
        )


_OBSERVED = (
    *("path_loss_db", "data_centre_g_per_kwh", "radio_g_per_kwh", "prompt_tokens", "min_quality", "deadline_s"),
)
_FEATURES = (*_OBSERVED, "token_bits", "bandwidth_hz")
_LOGARITHMIC = {"data_centre_g_per_kwh", "radio_g_per_kwh", "prompt_tokens", "token_bits", "bandwidth_hz"}
_DEFAULT_RANGES = {name: RequestDistribution.model_fields[name].default for name in _OBSERVED}


def _uniform(rng: np.random.Generator, ends: tuple[float, float], count: int, logarithmic: bool) -> Array:
    low, high = np.log(ends) if logarithmic else ends
    values = rng.uniform(low, high, count)
    return np.exp(values) if logarithmic else values


def _standardised(values: Array, ends: tuple[float, float], logarithmic: bool) -> Array:
    """Mean 0 and standard deviation 1 over the default range, also for values of another distribution."""
    low, high = np.log(ends) if logarithmic else ends
    scaled = np.log(values) if logarithmic else values
    return (scaled - (low + high) / 2) / ((high - low) / np.sqrt(12))


@dataclass(frozen=True)
class RequestPool:
    """Requests with their optimum and what an agent sees of them.

    Attributes:
        requests: of shape ``(requests,)``.
        optimum: of each.
        observations: ``(requests, 6)``, standardised and clipped.
    """

    requests: Requests
    optimum: Optimum
    observations: NDArray[np.float32]

    @property
    def reference_g(self) -> float:
        """Mean footprint of the optimum."""
        return float(self.optimum.footprint_g.mean())


def decisions(requests: Requests, actions: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
    """Lengths and powers of actions.

    Args:
        requests: of shape ``(requests,)``.
        actions: ``(requests, 2)`` in [-1, 1]: the length, linear, and the power, logarithmic.
    """
    share = (np.clip(np.asarray(actions, dtype=float), -1, 1) + 1) / 2
    low, high = requests.array("min_tokens"), requests.array("max_tokens")
    tokens = np.clip(np.round(low + share[:, 0] * (high - low)), np.ceil(low), np.floor(high))
    ends = np.log(requests.array("min_power_w")), np.log(requests.array("max_power_w"))
    return tokens, np.exp(ends[0] + share[:, 1] * (ends[1] - ends[0]))


def shortfalls(requests: Requests, tokens: Array, power_w: Array) -> Array:
    """Relative shortfall of quality and relative delay of decisions, ``(requests, 2)``, each from 0 to 1."""
    least = requests.array("min_quality")
    quality = np.maximum(least - requests.quality(tokens, power_w), 0) / np.maximum(least, 1e-9)
    late = np.maximum(requests.time_s(tokens, power_w) / requests.array("deadline_s") - 1, 0)
    return np.minimum(np.stack([quality, late], 1), 1.0)


def project(requests: Requests, tokens: Array, power_w: Array) -> tuple[Array, Array]:
    """The nearest feasible decisions: first the length is moved into its feasible range, then the power.

    Args:
        requests: feasible ones, without delay in the quality.
        tokens, power_w: decisions of any kind.

    Raises:
        UserError: if the quality depends on the delay, where the feasible set has another shape.
    """
    if np.isfinite(requests.array("patience_s")).any():
        raise UserError("requests: a projection needs a quality without delay; leave out patience_s")
    shortest = shortest_length(requests)
    rate = requests.rate_bps(requests.array("max_power_w"))
    token_s = requests.array("token_s") + requests.array("token_bits") / rate
    longest = np.floor((requests.array("deadline_s") - requests.array("fixed_s")) / token_s * (1 + 1e-12))
    moved = np.clip(tokens, shortest, np.maximum(np.minimum(longest, requests.array("max_tokens")), shortest))
    low_w = np.maximum(lowest_power_w(requests, moved), requests.array("min_power_w"))
    return moved, np.clip(power_w, low_w, np.maximum(requests.array("max_power_w"), low_w))


class RequestEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Independent requests, one decision each.

    Args:
        pool: requests are drawn from it with equal probability.
        episode_requests: length of an episode, which is truncated and never terminated.

    Example:
        >>> environment = RequestEnvironment(RequestDistribution().draw(100, seed=1))
        >>> observation, _ = environment.reset(seed=1)
        >>> observation.shape, environment.action_space.shape
        ((6,), (2,))
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - the name and type are Gymnasium's

    def __init__(self, pool: RequestPool, episode_requests: int = 50) -> None:
        self.pool = pool
        self.episode_requests = episode_requests
        shape = pool.observations.shape[1:]
        self.observation_space = gymnasium.spaces.Box(-OBSERVATION_RANGE, OBSERVATION_RANGE, shape, np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.index = self.answered = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode with a random request."""
        super().reset(seed=seed, options=options)
        self.answered = 0
        return self._next(), {}

    def _next(self) -> NDArray[np.float32]:
        self.index = int(self.np_random.integers(len(self.pool.observations)))
        return self.pool.observations[self.index].copy()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Answer the request, and show the next one."""
        request = self.pool.requests[self.index : self.index + 1]
        tokens, power_w = decisions(request, action[None])
        footprint_g = float(request.footprint_g(tokens, power_w).item())
        missed = shortfalls(request, tokens, power_w)[0]
        self.answered += 1
        info = {"shortfalls": missed, "footprint_g": footprint_g}
        reward = -footprint_g / self.pool.reference_g
        return self._next(), reward, False, self.answered >= self.episode_requests, info

    def state(self) -> dict[str, int]:
        """What the environment remembers between two decisions, beside its generator."""
        return {"index": self.index, "answered": self.answered}

    def restore(self, state: dict[str, int]) -> None:
        """Continue from a state of :meth:`state`."""
        self.index, self.answered = state["index"], state["answered"]
