"""The environment of independent requests: Gymnasium's checker, rewards by hand, and projection."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from carbon.aolo.oracle import solve
from carbon.aolo.request_environment import (
    RequestDistribution,
    RequestEnvironment,
    RequestPool,
    decisions,
    project,
    shortfalls,
)
from carbon.aolo.tasks import excess_by_length
from leanrx_core.errors import UserError


@pytest.fixture(scope="module")
def pool() -> RequestPool:
    return RequestDistribution().draw(400, seed=5)


def test_checker_of_gymnasium(pool: RequestPool) -> None:
    check_env(RequestEnvironment(pool), skip_render_check=True)


def test_requests_are_feasible_standardised_and_repeatable(pool: RequestPool) -> None:
    assert pool.optimum.feasible.all()
    assert np.abs(pool.observations).max() <= 3
    assert np.abs(pool.observations.mean(0)).max() < 0.35  # feasibility favours some values
    again = RequestDistribution().draw(400, seed=5)
    assert (again.observations == pool.observations).all()
    assert not (RequestDistribution().draw(400, seed=6).observations == pool.observations).all()


def test_actions_span_lengths_and_powers(pool: RequestPool) -> None:
    ends = [decisions(pool.requests[:1], np.array([[a, a]])) for a in (-1.0, 0.0, 1.0)]
    assert [t.item() for t, _ in ends] == [16, 264, 512]
    assert [p.item() for _, p in ends] == pytest.approx([0.1, np.sqrt(2), 20])


def test_steps_give_the_footprint_of_the_request(pool: RequestPool) -> None:
    environment = RequestEnvironment(pool, episode_requests=2)
    environment.reset(seed=1)
    for truncated_expected in (False, True):
        request = pool.requests[environment.index : environment.index + 1]
        action = np.array([0.2, -0.5], dtype=np.float32)
        tokens, power = decisions(request, action[None])
        _, reward, terminated, truncated, info = environment.step(action)
        assert reward == pytest.approx(-request.footprint_g(tokens, power).item() / pool.reference_g)
        assert info["shortfalls"] == pytest.approx(shortfalls(request, tokens, power)[0])
        assert not terminated
        assert truncated == truncated_expected


def test_optimal_policy_has_a_return_of_minus_one(pool: RequestPool) -> None:
    footprint = pool.requests.footprint_g(pool.optimum.tokens, pool.optimum.power_w)
    assert -footprint.mean() / pool.reference_g == pytest.approx(-1)
    assert (shortfalls(pool.requests, pool.optimum.tokens, pool.optimum.power_w) <= 1e-9).all()


def test_projection_is_feasible_and_keeps_what_is_feasible(pool: RequestPool) -> None:
    rng = np.random.default_rng(1)
    tokens, power = decisions(pool.requests, rng.uniform(-1, 1, (400, 2)))
    assert (shortfalls(pool.requests, tokens, power).max(1) > 1e-9).any()
    moved_tokens, moved_power = project(pool.requests, tokens, power)
    assert (shortfalls(pool.requests, moved_tokens, moved_power) <= 1e-9).all()
    assert (pool.requests.footprint_g(moved_tokens, moved_power) >= pool.optimum.footprint_g * (1 - 1e-9)).all()
    again = project(pool.requests, moved_tokens, moved_power)
    assert again[0] == pytest.approx(moved_tokens)
    assert again[1] == pytest.approx(moved_power)
    best = project(pool.requests, pool.optimum.tokens, pool.optimum.power_w)
    assert best[0] == pytest.approx(pool.optimum.tokens)
    assert best[1] == pytest.approx(pool.optimum.power_w)


def test_excess_is_split_into_length_and_power(pool: RequestPool) -> None:
    low, high = pool.requests.array("min_tokens"), pool.requests.array("max_tokens")
    of_length = 2 * (pool.optimum.tokens - low) / (high - low) - 1
    of_power = 2 * np.log(pool.optimum.power_w / 0.1) / np.log(20 / 0.1) - 1
    highest = np.ones(400)
    assert excess_by_length(pool, np.stack([of_length, highest], 1)) == pytest.approx(0, abs=1e-9)
    assert excess_by_length(pool, np.stack([of_length + 0.1, of_power], 1)) == pytest.approx(1, abs=1e-3)
    both = excess_by_length(pool, np.stack([of_length + 0.1, highest], 1))
    assert 0.1 < both < 0.99


def test_infeasible_distributions_are_refused() -> None:
    with pytest.raises(UserError, match="the constraint of most others is deadline; relax it"):
        RequestDistribution(deadline_s=(0.1, 0.2)).draw(50, seed=1)
    with pytest.raises(UserError, match="deadline_s"):
        RequestDistribution.parse({"deadline_s": [20, 4]}, "requests")


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("radio_g_per_kwh", (-1, 20)),
        ("bandwidth_hz", (0, 1e6)),
        ("power_w", (0, 20)),
        ("tokens", (0, 20)),
        ("deadline_s", (0, 20)),
        ("min_quality", (0.5, 1.2)),
        ("min_quality", (-0.5, 0.2)),
    ],
)
def test_impossible_ranges_are_refused(name: str, ends: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=name):
        RequestDistribution.parse({name: ends}, "requests")


def test_power_and_length_both_matter(pool: RequestPool) -> None:
    """The best constant decision, projected, is far from the optimum; so is the best length at the worst power."""
    tokens = pool.optimum.tokens
    worst = pool.requests.footprint_g(tokens, np.full(400, 20.0)).mean() / pool.reference_g
    assert worst > 1.01
    assert solve(pool.requests[:3]).footprint_g == pytest.approx(pool.optimum.footprint_g[:3])
