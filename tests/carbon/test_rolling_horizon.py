"""Dispatch with forecasts: regret, state that goes from window to window, and budgets of carbon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from carbon.deta.dispatch import dispatch
from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.rolling_horizon import Forecast, regrets, rolling_dispatch
from leanrx_core.errors import UserError

BATTERY = {"capacity_kwh": 1.5, "charge_efficiency": 0.9, "discharge_efficiency": 0.9, "begin_kwh": 0.5}
SUNNY = {
    "name": "sunny",
    "g_per_kwh": (300, 200, 100, 400, 600),
    "batches": (8, 6, 4, 9, 10),
    "batch_kwh": 0.1,
    "harvest_kwh": (0.4, 1.2, 1.0, 0.2, 0),
    "battery": BATTERY,
}
DARK = {**SUNNY, "name": "dark", "harvest_kwh": (0,) * 5, "battery": None, "g_per_kwh": (50, 700, 650, 300, 20)}


def _network(*sites: dict[str, Any], **values: Any) -> EdgeNetwork:
    return EdgeNetwork.parse(
        {"sites": sites or (SUNNY, DARK), "slot_s": 3600, "trading_loss": 0.1, **values}, "network"
    )


@pytest.mark.parametrize("policy", ["B1", "DETA"])
def test_a_full_window_with_a_perfect_forecast_has_no_regret(policy: Any) -> None:
    network = _network()
    result = rolling_dispatch(network, policy, window=5)
    assert result.total_g == pytest.approx(dispatch(network, policy).total_g, rel=1e-6)
    assert result.dispatch.imbalance < 1e-9
    assert result.shortfall_g == 0


def test_regret_does_not_fall_with_the_error_of_the_forecast() -> None:
    results = regrets(_network(SUNNY), "B1", window=5, errors=(0.0, 0.1, 0.2, 0.4), seeds=20)
    means = [result.mean for result in results]
    assert means[0] == pytest.approx(0, abs=1e-6)
    assert means == sorted(means)
    assert means[-1] > 0.001
    assert all(result.low <= result.mean <= result.high <= 2 * result.highest + 1 for result in results)


def test_levels_stay_within_their_bounds_up_to_the_last_instant() -> None:
    network = _network(SUNNY)
    for seed in range(3):
        levels = rolling_dispatch(network, "B1", 2, Forecast(network, 0.4, seed)).dispatch.level_kwh
        assert levels.min() >= 0
        assert levels.max() <= 1.5 + 1e-9
    assert rolling_dispatch(network, "B1", 2).dispatch.level_kwh[-1, 0] >= 0.5 - 1e-9


def test_a_battery_that_cannot_be_filled_again_is_priced() -> None:
    # the forecast promises harvest in the last slot that does not come
    dusk = {**SUNNY, "g_per_kwh": (900, 100), "batches": (10, 10), "harvest_kwh": (0.0, 0.0), "battery": BATTERY}
    network = _network({**dusk, "harvest_kwh": (0.0, 0.2)})

    class Promise(Forecast):
        def profiles(self, site: int, begin: int, end: int) -> tuple[Any, Any, Any]:
            intensity, batches, _ = super().profiles(site, begin, end)
            return intensity, batches, np.full(end - begin, 0.5)

    result = rolling_dispatch(network, "B1", 2, Promise(network, 0.0))
    # it discharges 0.45 kWh of its level for 0.5 x 0.9 kWh of harvest, and 0.2 x 0.9 kWh arrive
    assert result.shortfall_kwh == pytest.approx([0.45 - 0.18], rel=1e-6)
    assert result.shortfall_g == pytest.approx(0.27 * 900 / 0.9, rel=1e-6)


def test_a_budget_goes_from_window_to_window() -> None:
    # without a budget it stores harvest of the first slots for the last one
    network = _network(SUNNY, budgets=({"slots": 3, "g": 20.0}, {"slots": 2, "g": 900.0}))
    free = _network(SUNNY)
    best, limited = dispatch(free, "B1"), dispatch(network, "B1")
    assert best.slot_g[:3].sum() > 40
    assert limited.slot_g[:3].sum() == pytest.approx(20, rel=1e-6)
    assert limited.total_g > best.total_g
    rolling = rolling_dispatch(network, "B1", window=5)
    assert rolling.dispatch.slot_g[:3].sum() <= 20 * (1 + 1e-6)
    assert rolling.total_g == pytest.approx(limited.total_g, rel=1e-6)
    # a plan of one slot keeps the level, so it takes 0.4 kWh at 300 g/kWh from the grid
    with pytest.raises(UserError, match=r"slot 1, .* is short by .*window of slots 1 to 1, numbered from 1 here"):
        rolling_dispatch(network, "B1", window=1)
    bare = _network({**SUNNY, "battery": None}, budgets=({"slots": 5, "g": 100.0},))
    with pytest.raises(UserError, match=r"all sites, slot 5, carbon budget is short by 900 g"):
        dispatch(bare, "B1")  # 0.4 x 300 + 0.7 x 400 + 1.0 x 600 are 1000 g


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        ((3, 3), r"the horizon ends inside a budget: budgets cover 6 slots and the network has 5"),
        ((3,), r"the horizon goes on after the last budget: budgets cover 3 slots"),
    ],
)
def test_budgets_that_do_not_cover_the_horizon_are_refused(slots: tuple[int, ...], text: str) -> None:
    with pytest.raises(UserError, match=text):
        _network(budgets=[{"slots": count, "g": 1.0} for count in slots])


def test_what_cannot_be_planned_slot_by_slot_is_refused() -> None:
    sleeper = {**SUNNY, "idle_kw": 0.3, "sleep_kw": 0.1, "wake_kwh": 0.1, "capacity_batches": 20}
    with pytest.raises(UserError, match="sleeps for whole slots"):
        rolling_dispatch(_network(sleeper), "DETA", 2)
    with pytest.raises(UserError, match="window: 0 is not allowed"):
        rolling_dispatch(_network(), "DETA", 0)
    with pytest.raises(UserError, match=r"forecast error: -0\.1 is not allowed"):
        Forecast(_network(), -0.1)
    nothing = _network({**SUNNY, "g_per_kwh": (0,) * 5})
    with pytest.raises(UserError, match="emits 0 g"):
        regrets(nothing, "B1", 2, (0.1,))


def test_forecasts_are_unbiased_and_within_the_capacity() -> None:
    slots = 4000
    flat = {
        **SUNNY,
        "battery": None,
        "g_per_kwh": (100,) * slots,
        "batches": (10,) * slots,
        "harvest_kwh": (2,) * slots,
    }
    intensity, batches, harvest = Forecast(_network(flat), 0.3).profiles(0, 0, slots)
    for values, mean in ((intensity, 100), (batches, 10), (harvest, 2)):
        assert values.mean() == pytest.approx(mean, rel=0.02)
        assert values.std() / mean == pytest.approx(0.3, rel=0.05)
    assert Forecast(_network({**flat, "capacity_batches": 11}), 0.3).profiles(0, 0, slots)[1].max() == 11
