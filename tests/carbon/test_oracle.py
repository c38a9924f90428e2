"""The optimum of requests: values worked out elsewhere, stationarity, brute force, and what is refused."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special

from carbon.aolo.ergodic_rate import snr_for_efficiency, snr_of_least_energy, spectral_efficiency
from carbon.aolo.oracle import solve
from carbon.aolo.requests import Array, Requests
from carbon.aolo.service import snr_per_w
from leanrx_core.errors import UserError


def _requests(path_loss_db: float = 110.0, **changes: Any) -> Requests:
    """10 MHz, noise figure 9 dB, 84 W + 2.8 P, 201 tokens of 32 bits; grams are joules."""
    values: dict[str, Any] = {
        "fixed_g": np.zeros(1),
        "token_g": 0.0,
        "radio_g_per_j": 1.0,
        "fixed_s": 0.0,
        "token_s": 0.0,
        "token_bits": 32.0,
        "bandwidth_hz": 10e6,
        "snr_per_w": snr_per_w(path_loss_db, 10e6),
        "rayleigh": 0,
        "static_w": 84.0,
        "slope": 2.8,
        "min_power_w": 0.1,
        "max_power_w": 20.0,
        "min_tokens": 201,
        "max_tokens": 201,
        "token_scale": 32.0,
        "min_quality": 0.0,
    }
    return Requests(**{**values, **changes})


COUPLED = {
    "token_g": 0.32,
    "token_s": 0.025,
    "token_bits": 32e3,
    "min_tokens": 1,
    "max_tokens": 512,
    "min_quality": 0.6,
}


def test_mean_rate_under_fading_is_that_of_the_integral() -> None:
    expected = {0.1: 0.132098, 1: 0.860347, 10: 2.906515, 100: 5.884048}
    for snr, value in expected.items():
        assert spectral_efficiency(snr, True) == pytest.approx(value, abs=1e-6)
        integral, _ = integrate.quad(lambda h, s=snr: np.log2(1 + s * h) * np.exp(-h), 0, np.inf)
        assert spectral_efficiency(snr, True) == pytest.approx(integral, rel=1e-8)


def test_mean_time_under_fading_has_no_finite_value() -> None:
    """E[1/R] grows by a constant for each decade that the integral begins closer to 0."""

    def part(low: float, high: float) -> float:
        return float(integrate.quad(lambda h: np.exp(-h) / np.log2(1 + h), low, high)[0])

    decades = [part(10.0**-n, 10.0 ** (1 - n)) for n in range(6, 10)]
    assert decades == pytest.approx([np.log(2) * np.log(10)] * 4, rel=1e-4)


@pytest.mark.parametrize("rayleigh", [False, True])
def test_efficiency_is_inverted(rayleigh: bool) -> None:
    snr = np.logspace(-4, 6, 60)
    assert snr_for_efficiency(spectral_efficiency(snr, rayleigh), rayleigh) == pytest.approx(snr, rel=1e-8)
    assert snr_for_efficiency(0.0, rayleigh) == 0
    assert snr_for_efficiency(np.inf, rayleigh) == np.inf


@pytest.mark.parametrize("rayleigh", [False, True])
def test_power_of_least_energy_is_stationary(rayleigh: bool) -> None:
    ratio = np.logspace(-3, 8, 40)
    x = snr_of_least_energy(ratio, rayleigh)
    if not rayleigh:
        assert (1 + x) * np.log1p(x) == pytest.approx(ratio + x, rel=1e-10)
    energy = (ratio + x) / spectral_efficiency(x, rayleigh)
    for factor in (0.99, 1.01):
        assert (energy < (ratio + factor * x) / spectral_efficiency(factor * x, rayleigh)).all()
    assert snr_of_least_energy(0.0, rayleigh) == 0


@pytest.mark.parametrize(
    ("rayleigh", "path_loss_db", "power_w", "energy_mj"),
    [
        (0, 90, 3.5971, 4.4907),
        (0, 110, 6.8143, 8.5460),
        (0, 125, 15.2297, 20.260),
        (1, 90, 3.830, 4.7851),
        (1, 110, 7.469, 9.5215),
        (1, 125, 16.306, 23.900),
    ],
)
def test_best_power(rayleigh: int, path_loss_db: float, power_w: float, energy_mj: float) -> None:
    optimum = solve(_requests(path_loss_db, rayleigh=rayleigh))
    assert optimum.power_w[0] == pytest.approx(power_w, rel=1e-3 if rayleigh else 1e-4)
    assert 1e3 * optimum.footprint_g[0] == pytest.approx(energy_mj, rel=1e-4)
    assert optimum.binding[0] == "interior"


def test_delay_in_the_quality_couples_length_and_power() -> None:
    late = {**COUPLED, "free_delay_s": 2.0, "patience_s": 20.0}
    optimum = solve(_requests(125, **late))
    assert (optimum.tokens[0], optimum.binding[0]) == (205, "quality")
    assert optimum.power_w[0] == pytest.approx(19.956, rel=1e-4)
    assert optimum.footprint_g[0] == pytest.approx(86.505, rel=1e-4)
    after = solve(_requests(125, **{**late, "min_tokens": 206}))
    assert after.tokens[0] == 206
    assert after.power_w[0] == pytest.approx(15.230, rel=1e-4)
    assert after.footprint_g[0] == pytest.approx(86.684, rel=1e-4)
    assert solve(_requests(125, **COUPLED)).tokens[0] == 144


def _random_requests(count: int, delayed: bool, seed: int) -> Requests:
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> Array:
        return np.exp(rng.uniform(np.log(low), np.log(high), count))

    max_tokens = rng.integers(8, 49, count)
    return _requests(
        fixed_g=draw(0.01, 1),
        token_g=draw(1e-3, 1),
        radio_g_per_j=draw(0.1, 10),
        fixed_s=draw(0.01, 0.3),
        token_s=draw(0.005, 0.05),
        token_bits=draw(32, 1e6),
        snr_per_w=snr_per_w(rng.uniform(90, 125, count), 10e6),
        rayleigh=rng.integers(0, 2, count),
        static_w=draw(1, 500),
        slope=draw(1, 10),
        min_tokens=rng.integers(1, 8, count),
        max_tokens=max_tokens,
        min_quality=rng.uniform(0.1, 0.95, count),
        deadline_s=draw(0.3, 10),
        free_delay_s=draw(0.1, 2) if delayed else np.inf,
        patience_s=draw(0.5, 20) if delayed else np.inf,
    )


@pytest.mark.parametrize("delayed", [False, True])
def test_oracle_against_brute_force(delayed: bool) -> None:
    """All lengths and 3,000 powers of 250 random requests: never above the best of them, and within 0.1 % of it."""
    requests = _random_requests(250, delayed, seed=7)
    optimum = solve(requests)
    r = {f.name: requests.array(f.name)[:, None] for f in fields(requests)}
    power = np.geomspace(0.1, 20, 3000)
    snr = power * r["snr_per_w"]
    faded = special.exp1(1 / snr) * np.exp(1 / snr)
    rate = r["bandwidth_hz"] * np.where(r["rayleigh"] > 0, faded, np.log(1 + snr)) / np.log(2)
    sent_s = r["token_bits"] / rate
    token_g = r["token_g"] + r["radio_g_per_j"] * (r["static_w"] + r["slope"] * power) * sent_s
    best = np.full(250, np.inf)
    for tokens in range(1, 49):
        time = r["fixed_s"] + tokens * (r["token_s"] + sent_s)
        quality = np.log(1 + tokens / r["token_scale"]) / np.log(1 + r["max_tokens"] / r["token_scale"])
        if delayed:
            quality = quality * np.exp(-np.maximum(time - r["free_delay_s"], 0) / r["patience_s"])
        allowed = (quality >= r["min_quality"]) & (time <= r["deadline_s"])
        allowed &= (tokens >= r["min_tokens"]) & (tokens <= r["max_tokens"])
        best = np.minimum(best, np.where(allowed, r["fixed_g"] + tokens * token_g, np.inf).min(1))
    assert 50 < optimum.feasible.sum() < 250
    assert np.isinf(best[~optimum.feasible]).all()
    reached = optimum.feasible & np.isfinite(best)  # a feasible corner may lie between two powers of the grid
    assert reached.sum() >= optimum.feasible.sum() - 3
    assert (optimum.footprint_g[reached] <= best[reached] * (1 + 1e-12)).all()
    assert optimum.footprint_g[reached] == pytest.approx(best[reached], rel=1e-3)


def test_optimum_keeps_its_constraints_and_names_the_binding_one() -> None:
    requests = _random_requests(400, True, seed=3)
    optimum = solve(requests)
    ok = optimum.feasible
    kept = requests[ok]
    tokens, power = optimum.tokens[ok], optimum.power_w[ok]
    assert (kept.time_s(tokens, power) <= kept.array("deadline_s") * (1 + 1e-9)).all()
    assert (kept.quality(tokens, power) >= kept.array("min_quality") * (1 - 1e-9)).all()
    assert ((power >= 0.1) & (power <= 20)).all()
    late = optimum.binding[ok] == "deadline"
    assert kept.time_s(tokens, power)[late] == pytest.approx(kept.array("deadline_s")[late], rel=1e-6)
    assert set(optimum.binding[~ok]) <= {"quality", "deadline", "power limit"}


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"max_tokens": 100, "min_tokens": 100, "min_quality": 1.01}, "quality"),
        ({"token_s": 1.0, "deadline_s": 10.0}, "deadline"),
        ({"deadline_s": 1e-5}, "power limit"),
    ],
)
def test_infeasible_requests_name_the_constraint(changes: dict[str, float], constraint: str) -> None:
    optimum = solve(_requests(**changes))
    assert not optimum.feasible[0]
    assert optimum.binding[0] == constraint
    assert np.isnan([optimum.tokens[0], optimum.power_w[0], optimum.footprint_g[0]]).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"min_power_w": 30.0}, "min_power_w 30 is above max_power_w 20"),
        ({"min_tokens": 300}, "min_tokens 300 is above max_tokens 201"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz: 0 is not allowed; give a number above 0"),
        ({"min_power_w": -1.0}, "min_power_w: -1 is not allowed"),
        ({"radio_g_per_j": -0.1}, "radio_g_per_j: -0.1 is not allowed; give a number of 0 or more"),
        ({"static_w": np.nan}, "static_w: nan is not allowed"),
    ],
)
def test_impossible_requests_are_refused(changes: dict[str, float], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        _requests(**changes)


def test_footprint_rises_with_the_length() -> None:
    tokens = np.arange(1.0, 202.0)
    assert (np.diff(_requests(token_g=0.3).footprint_g(tokens, 5.0)) > 0).all()
