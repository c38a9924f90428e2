"""Dispatch of edge sites: cases solved by hand, limiting cases, nesting, conservation, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from carbon.accounting import IntensityBasis
from carbon.deta import solution
from carbon.deta.dispatch import dispatch, ladder
from carbon.deta.edge_network import EdgeNetwork
from carbon.deta.programme import POLICIES
from carbon.deta.sleep_modes import SleepMode, best_sleep_mode, nr_sleep_modes, raspberry_pi_modes
from leanrx_core.errors import UserError

SITE = {"g_per_kwh": (50,), "batches": (10,), "batch_kwh": 0.1, "harvest_kwh": (0,)}
CLEAN = {**SITE, "name": "clean", "harvest_kwh": (0.6,)}
DIRTY = {**SITE, "name": "dirty", "g_per_kwh": (500,), "harvest_kwh": (0.2,)}


def _network(*sites: dict[str, Any], **values: Any) -> EdgeNetwork:
    return EdgeNetwork.parse({"sites": sites, "slot_s": 3600, **values}, "network")


def _random_network(seed: int, scale: float = 1.0) -> EdgeNetwork:
    """Two to four sites, one to four slots, batteries, limits, and sleep in parts of a slot."""
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 5))
    sites = []
    for index in range(int(rng.integers(2, 5))):
        batches = rng.uniform(0, 10, slots)
        battery = {
            "capacity_kwh": scale * rng.uniform(0, 1),
            "charge_efficiency": rng.uniform(0.7, 1),
            "discharge_efficiency": rng.uniform(0.7, 1),
            "self_discharge": rng.uniform(0, 0.1),
            "charge_kw": scale * rng.uniform(0, 1),
        }
        site = {
            "name": f"site {index}",
            "g_per_kwh": tuple(rng.uniform(10, 900, slots)),
            "batches": tuple(batches),
            "batch_kwh": scale * rng.uniform(0.05, 0.2),
            "harvest_kwh": tuple(scale * rng.uniform(0, 1.5, slots)),
            "battery": battery,
            "idle_kw": scale * 0.3,
            "sleep_kw": scale * 0.1,
            "capacity_batches": float(batches.max() * rng.uniform(1, 2)),
            "storage_batches": rng.uniform(0, 5),
        }
        sites.append(site)
    loss, transport = rng.uniform(0, 0.3), scale * rng.uniform(0, 0.05)
    return _network(*sites, trading_loss=loss, transport_kwh=transport, network_g_per_kwh=300.0)


def test_two_sites_by_hand() -> None:
    results = ladder(_network(CLEAN, DIRTY, trading_loss=0.1))
    totals = [result.total_g for result in results.values()]
    np.testing.assert_allclose(totals, [550, 420, 300, 195, 75], rtol=1e-6)
    np.testing.assert_allclose(results["DETA"].marginal_g_per_kwh, [[50, 500]], rtol=1e-6)
    assert results["DETA"].marginal_sentences() == [
        "DETA: one more kWh at clean emits 50 g in slot 1.",
        "DETA: one more kWh at dirty emits 500 g in slot 1.",
    ]
    # its own 0.2 kWh and 0.3 kWh sent, less a tenth, are below the 0.5 kWh of its five batches that stay
    np.testing.assert_allclose(results["DETA"].grid_kwh, [[1.2, 0.03]], atol=1e-9)


@pytest.mark.parametrize(("transport_g", "moved"), [(44.9, 5.0), (45.1, 0.0)])
def test_a_batch_moves_while_transport_costs_less_than_it_saves(transport_g: float, moved: float) -> None:
    network = _network(CLEAN, DIRTY, transport_kwh=0.1, network_g_per_kwh=transport_g / 0.1)
    result = dispatch(network, "DAT")
    np.testing.assert_allclose(result.sent_batches, [[0, moved]], atol=1e-7)
    assert result.transport_g == pytest.approx(moved * transport_g)


def test_a_battery_by_hand() -> None:
    battery = {"capacity_kwh": 1, "charge_efficiency": 0.9, "discharge_efficiency": 0.9}
    site = {
        **SITE,
        "name": "one",
        "g_per_kwh": (500, 500, 50, 50),
        "batches": (10,) * 4,
        "harvest_kwh": (2, 0, 0, 0),
        "battery": battery,
    }
    result = dispatch(_network(site), "B1")
    assert result.total_g == pytest.approx(195, rel=1e-6)
    np.testing.assert_allclose(result.level_kwh[-1], 0, atol=1e-9)
    assert result.marginal_sentences() == ["B1: one more kWh at one emits 50 g in slot 3, and 500 g in slot 2."]
    np.testing.assert_allclose(result.marginal_g_per_kwh[0], 0.9 * 0.9 * 500)


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 200), marks=pytest.mark.slow)])
def test_nesting_and_conservation_on_random_networks(seeds: range) -> None:
    for seed in seeds:
        network = _random_network(seed)
        results = ladder(network)
        b0, b1, det, dat, deta = (results[policy].total_g for policy in POLICIES)
        slack = 1e-6 * b0
        assert deta <= min(det, dat) + slack, seed
        assert max(det, dat) <= b1 + slack, seed
        assert b1 <= b0 + slack, seed
        for result in results.values():
            assert result.imbalance <= 1e-9, seed
            arrived = (1 - network.trading_loss) * result.sent_kwh.sum(1)  # type: ignore[operator]
            np.testing.assert_allclose(result.received_kwh.sum(1), arrived, atol=1e-9)
            np.testing.assert_allclose(result.run_batches.sum(1), np.sum([s.batches for s in network.sites], 0))
            used = result.own_kwh + result.charge_kwh + result.sent_kwh + result.curtailed_kwh
            harvest = np.array([site.harvest_kwh for site in network.sites]).T
            np.testing.assert_allclose(used, 0 if result.policy == "B0" else harvest, atol=1e-9)


def test_values_do_not_depend_on_the_size_of_the_energies() -> None:
    for seed in range(3):
        small, large = (dispatch(_random_network(seed, scale), "DETA").total_g for scale in (1e-6, 1e6))
        assert 1e12 * small == pytest.approx(large, rel=1e-6)


def test_pool_equals_pairs_and_a_plain_statement_of_the_equations() -> None:
    for seed in range(5):
        network = _random_network(seed)
        for policy in ("DET", "DAT", "DETA"):
            pooled, pairwise = dispatch(network, policy), dispatch(network, policy, pairwise=True)
            assert pairwise.total_g == pytest.approx(pooled.total_g, rel=1e-6)
        assert pooled.total_g == pytest.approx(_plain_deta_g(network), rel=1e-6)


def _plain_deta_g(network: EdgeNetwork) -> float:
    """DETA with every flow of the equations as a variable, written row by row for the interior-point method."""
    columns: dict[tuple[Any, ...], int] = {}
    grams: list[float] = []
    bounds: list[tuple[float, float | None]] = []
    equal: list[tuple[dict[int, float], float]] = []
    limits: list[tuple[dict[int, float], float]] = []

    def variable(key: tuple[Any, ...], g: float = 0.0, high: float | None = None) -> int:
        columns[key] = len(grams)
        grams.append(g)
        bounds.append((0.0, high))
        return columns[key]

    sites, slots, hours = network.sites, network.slots, network.slot_s / 3600
    n = len(sites)
    for t in range(slots):
        for i, site in enumerate(sites):
            assert site.battery is not None
            assert site.battery.charge_kw is not None
            variable(("q", i, t), site.g_per_kwh[t])
            for name in ("r", "w", "d"):
                variable((name, i, t))
            variable(("c", i, t), 0.0, hours * site.battery.charge_kw)
            variable(("b", i, t), 0.0, site.battery.capacity_kwh)
            variable(("z", i, t), 0.0, 1.0)
            for j in range(n):
                transport_g = network.transport_kwh * (network.network_g_per_kwh or 0)  # type: ignore[operator]
                variable(("x", i, j, t), transport_g if i != j else 0.0)
                variable(("y", i, j, t), 0.0, None if i != j else 0.0)
    v = columns
    for t in range(slots):
        for i, site in enumerate(sites):
            b = site.battery
            assert b is not None
            others = [j for j in range(n) if j != i]
            equal.append(({v["x", i, j, t]: 1.0 for j in range(n)}, site.batches[t]))
            limits.append(({v["x", i, j, t]: 1.0 for j in others}, network.offload_cap * site.batches[t]))
            runs = {v["x", j, i, t]: 1.0 for j in range(n)}
            limits.append(({**runs, v["z", i, t]: -site.capacity_batches}, 0.0))  # type: ignore[operator]
            limits.append(({v["x", j, i, t]: 1.0 for j in others}, site.storage_batches))  # type: ignore[arg-type]
            arrivals = {v["y", j, i, t]: 1 - network.trading_loss for j in others}  # type: ignore[operator]
            supply = {v["q", i, t]: 1.0, v["r", i, t]: 1.0, v["d", i, t]: 1.0, **arrivals}
            sleep, idle = site.sleep_kw or 0.0, site.idle_kw
            load = {v["z", i, t]: -hours * (idle - sleep), **dict.fromkeys(runs, -site.batch_kwh)}
            equal.append(({**supply, **load}, hours * sleep))
            sent = {v["y", i, j, t]: 1.0 for j in others}
            equal.append(({v["r", i, t]: 1.0, v["c", i, t]: 1.0, v["w", i, t]: 1.0, **sent}, site.harvest_kwh[t]))
            limits.append((sent, network.trade_cap * site.harvest_kwh[t]))
            level = {v["b", i, t]: 1.0, v["c", i, t]: -b.charge_efficiency, v["d", i, t]: 1 / b.discharge_efficiency}
            if t:
                level[v["b", i, t - 1]] = b.self_discharge - 1
            equal.append((level, 0.0))
    rows = (*_matrix(limits, len(grams)), *_matrix(equal, len(grams)))
    return float(linprog(grams, *rows, bounds, method="highs-ipm").fun)


def _matrix(rows: list[tuple[dict[int, float], float]], num_columns: int) -> tuple[sparse.csr_array, list[float]]:
    matrix = sparse.lil_array((len(rows), num_columns))
    for index, (row, _) in enumerate(rows):
        for column, value in row.items():
            matrix[index, column] = value
    return matrix.tocsr(), [value for _, value in rows]


def test_whole_batches_by_hand() -> None:
    # half of nine batches may move, so four do, and five of 0.1 kWh stay at 500 g/kWh
    dirty = {**DIRTY, "batches": (9,), "harvest_kwh": (0,)}
    clean = {**CLEAN, "batches": (1,), "harvest_kwh": (0,)}
    parts, whole = (dispatch(_network(clean, dirty, whole_batches=flag), "DAT") for flag in (False, True))
    np.testing.assert_allclose(parts.sent_batches, [[0, 4.5]], atol=1e-9)
    np.testing.assert_allclose(whole.sent_batches, [[0, 4]], atol=1e-9)
    assert parts.total_g == pytest.approx(0.45 * 500 + 0.55 * 50)
    assert whole.total_g == pytest.approx(0.5 * 500 + 0.5 * 50)
    assert dispatch(_network(clean, dirty, whole_batches=True), "B1").gap == 0


def test_interior_point_and_simplex_agree_on_many_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    slots = 3
    sites = [
        {
            "name": str(index),
            "g_per_kwh": tuple(rng.uniform(10, 900, slots)),
            "batches": tuple(rng.uniform(1, 10, slots)),
            "batch_kwh": 0.1,
            "harvest_kwh": tuple(rng.uniform(0, 1, slots)),
            "battery": {"capacity_kwh": 0.5},
        }
        for index in range(solution.INTERIOR_POINT_SITES)
    ]
    network = _network(*sites, trading_loss=0.05, transport_kwh=0.001, network_g_per_kwh=300.0)
    interior = dispatch(network, "DETA")
    monkeypatch.setattr(solution, "INTERIOR_POINT_SITES", len(sites) + 1)
    assert interior.total_g == pytest.approx(dispatch(network, "DETA").total_g, rel=1e-6)
    assert interior.imbalance < 1e-9


def test_caps_of_zero_turn_deta_into_a_part_of_it() -> None:
    for seed in range(3):
        network = _random_network(seed)
        awake = [site.model_copy(update={"sleep_kw": None}) for site in network.sites]
        network = network.model_copy(update={"sites": tuple(awake)})
        no_moves = network.model_copy(update={"offload_cap": 0.0})
        no_trades = network.model_copy(update={"trade_cap": 0.0})
        assert dispatch(no_moves, "DETA").total_g == pytest.approx(dispatch(network, "DET").total_g)
        assert dispatch(no_trades, "DETA").total_g == pytest.approx(dispatch(network, "DAT").total_g)


def test_equal_sites_exchange_nothing() -> None:
    sites = [{**SITE, "name": name, "harvest_kwh": (0.5,)} for name in "abc"]
    result = dispatch(_network(*sites, trading_loss=0.1, transport_kwh=0.01, network_g_per_kwh=50.0), "DETA")
    assert result.sent_kwh.max() < 1e-9
    assert result.sent_batches.max() < 1e-9


def test_moving_tasks_alone_reaches_its_bound() -> None:
    g = [23.6, 24.4, 24.4, 50, 50, 375, 375, 500, 500, 640]
    sites = [{**SITE, "name": str(index), "g_per_kwh": (value,)} for index, value in enumerate(g)]
    network = _network(*sites)
    cut = 1 - dispatch(network, "DAT").total_g / dispatch(network, "B1").total_g
    assert cut == pytest.approx(0.5 * (1 - min(g) / np.mean(g)), rel=1e-6)
    assert round(100 * cut, 1) == 45.4


@pytest.mark.parametrize(("gap", "asleep"), [(3, 0), (4, 4)])
def test_a_site_sleeps_where_the_gap_repays_waking(gap: int, asleep: int) -> None:
    # a slot asleep saves 0.2 kWh; waking costs 0.7 kWh, so that four slots repay it and three do not
    slots = 8
    batches = tuple(0 if 2 <= slot < 2 + gap else 10 for slot in range(slots))
    sleep = {"idle_kw": 0.3, "sleep_kw": 0.1, "wake_kwh": 0.7, "capacity_batches": 10}
    site = {**SITE, **sleep, "name": "one", "g_per_kwh": (100,) * slots, "batches": batches}
    result = dispatch(_network({**site, "harvest_kwh": (0,) * slots}), "DAT")
    assert (result.awake == 0).sum() == asleep
    awake_g = 100 * (0.3 * slots + 0.1 * sum(batches))
    assert result.total_g == pytest.approx(awake_g - (100 * (0.2 * asleep - 0.7) if asleep else 0), rel=1e-6)
    assert result.gap <= 1e-6
    assert "hold what sleeps" in result.marginal_sentences()[-1]


def test_the_time_of_waking_takes_capacity() -> None:
    slots = 4
    sleep = {"idle_kw": 0.3, "sleep_kw": 0, "wake_s": 1800, "capacity_batches": 10}
    site = {**SITE, **sleep, "name": "one", "g_per_kwh": (100,) * slots, "harvest_kwh": (0,) * slots}
    full = dispatch(_network({**site, "batches": (10, 0, 0, 10)}), "DAT")
    half = dispatch(_network({**site, "batches": (10, 0, 0, 5)}), "DAT")
    assert full.awake.ravel().tolist() == [1, 0, 1, 1]  # it wakes one slot early
    assert half.awake.ravel().tolist() == [1, 0, 0, 1]


def test_sleep_modes_of_base_stations() -> None:
    first, second = nr_sleep_modes("category 1, set 1"), nr_sleep_modes("category 2, set 1")
    names = [best_sleep_mode(first, gap_s).name.split()[0] for gap_s in (5.99e-3, 6e-3, 49.9e-3, 50e-3)]
    assert names == ["micro", "light", "light", "deep"]
    names = [best_sleep_mode(second, gap_s).name.split()[0] for gap_s in (0.63, 0.64, 14.46, 14.47)]
    assert names == ["micro", "light", "light", "deep"]
    # halting a Raspberry Pi saves 1.7 W of idling, and its boot takes 192 J
    gaps_s = (29.0, 192 / 1.7 - 0.1, 192 / 1.7 + 0.1)
    names = [best_sleep_mode(raspberry_pi_modes(), gap_s).name for gap_s in gaps_s]
    assert names == ["idle", "idle", "halted"]
    with pytest.raises(UserError, match=r"no mode fits into 0\.5 s"):
        best_sleep_mode([SleepMode(name="off", power=0, transition_s=1)], 0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"capacity_batches": 6}, "B1 is infeasible: site dirty, slot 1, capacity is short by 4 batches"),
        ({"grid_limit_kw": 0.5}, "B1 is infeasible: site dirty, slot 1, grid limit is short by 0.3 kWh"),
        (
            {"battery": {"capacity_kwh": 1, "begin_kwh": 1, "self_discharge": 0.3}},
            "B1 is infeasible: site dirty, slot 1, battery level at the end is short by 0.1 kWh",
        ),
    ],
)
def test_infeasible_limits_are_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        dispatch(_network(CLEAN, {**DIRTY, **changes}), "B1")


def test_an_infeasible_programme_with_whole_numbers_is_named() -> None:
    sleep = {"idle_kw": 0.3, "sleep_kw": 0.1, "wake_kwh": 0.7, "capacity_batches": 3}
    with pytest.raises(UserError, match=r"DETA is infeasible: .*capacity is short by"):
        dispatch(_network({**CLEAN, **sleep}, {**DIRTY, **sleep}), "DETA")


def test_limits_that_whole_numbers_alone_cannot_meet_are_named() -> None:
    # half a slot awake would do: 0.5 kWh of tasks, 0.15 and 0.05 kWh of idling; a whole one takes 0.8 kWh
    sleep = {"idle_kw": 0.3, "sleep_kw": 0.1, "capacity_batches": 10, "grid_limit_kw": 0.75, "batches": (5,)}
    site = {**SITE, **sleep, "name": "one"}
    assert dispatch(_network(site), "DAT").total_g == pytest.approx(50 * 0.7)
    with pytest.raises(UserError, match=r"site one, slot 1, grid limit is short by 0\.05 kWh; raise"):
        dispatch(_network(site, whole_slot_sleep=True), "DAT")


@pytest.mark.parametrize(
    ("site", "network", "text"),
    [
        ({"batches": (-1,)}, {}, "sites.1.batches.0: Input should be greater than or equal to 0"),
        ({"batches": (1, 2)}, {}, r"site dirty: profiles have different numbers of slots .*batches 2"),
        ({"batches": None}, {}, "sites.1.batches"),
        ({"battery": {"capacity_kwh": 1, "charge_efficiency": 0}}, {}, "charge_efficiency: .*greater than 0"),
        ({"battery": {"capacity_kwh": 1, "discharge_efficiency": 1.1}}, {}, "discharge_efficiency: .*less than or"),
        ({"battery": {"capacity_kwh": 1, "begin_kwh": 2}}, {}, "begin_kwh 2 is above capacity_kwh 1"),
        ({"name": "clean"}, {}, "2 sites have the name 'clean'"),
        ({"sleep_kw": 0.1, "idle_kw": 0.2}, {}, "a site that sleeps needs a capacity"),
        ({"sleep_kw": 0.1, "capacity_batches": 1}, {}, "sleep_kw 0.1 is above idle_kw 0"),
        ({"wake_kwh": 0.1}, {}, "no effect without sleep_kw"),
        ({}, {"transport_kwh": 0.1}, "add network_g_per_kwh"),
        ({}, {"trading_loss": [[0, 0.1]]}, "trading_loss needs 2 rows and columns"),
        ({}, {"trading_loss": [[0, 1], [0, 0]]}, "trading_loss must be below 1"),
        ({"g_per_kwh": (1, 2), "batches": (1, 2), "harvest_kwh": (0, 0)}, {}, "site dirty has 2 slots"),
        (
            {"basis": IntensityBasis(place="production", kind="average", boundary="direct")},
            {},
            "intensities have two bases: 'not stated' .clean. and 'production, average, direct' .dirty.",
        ),
    ],
)
def test_bad_networks_are_refused(site: dict[str, Any], network: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        _network(CLEAN, {**DIRTY, **site}, **network)


def test_unknown_policies_and_many_pairs_are_refused() -> None:
    with pytest.raises(UserError, match="policy: 'DTA' is not known; choose from B0, B1, DET, DAT, DETA"):
        dispatch(_network(CLEAN), "DTA")  # type: ignore[arg-type]
    sites = [{**CLEAN, "name": str(index)} for index in range(31)]
    with pytest.raises(UserError, match="31 sites with values per pair; 30 are allowed"):
        _network(*sites, trading_loss=[[0.1] * 31] * 31)


def test_values_per_pair_matter() -> None:
    far = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]  # moving from dirty to clean alone costs energy
    sites = (CLEAN, {**SITE, "name": "middle", "g_per_kwh": (100,)}, DIRTY)
    result = dispatch(_network(*sites, transport_kwh=far, network_g_per_kwh=1000.0), "DAT")
    np.testing.assert_allclose(result.sent_batches, [[0, 5, 5]], atol=1e-7)
    np.testing.assert_allclose(result.received_batches, [[5, 5, 0]], atol=1e-7)


def _stated_for_cvxpy(network: EdgeNetwork) -> float:
    """DETA written as matrix equations and solved by an interior-point solver of another house."""
    cvxpy = pytest.importorskip("cvxpy")
    sites, n, slots, hours = network.sites, len(network.sites), network.slots, network.slot_s / 3600
    batteries = [site.battery for site in sites]
    grams, tasks, harvest = (
        np.array([getattr(s, key) for s in sites]) for key in ("g_per_kwh", "batches", "harvest_kwh")
    )
    shape = (n, slots)
    grid, own, charge, discharge, level, awake = (cvxpy.Variable(shape, nonneg=True) for _ in range(6))
    moves, trades = ([cvxpy.Variable((n, n), nonneg=True) for _ in range(slots)] for _ in range(2))

    def column(key: str) -> Any:
        return np.array([getattr(site, key) for site in sites])[:, None]

    def of_battery(key: str) -> Any:
        return np.array([getattr(battery, key) for battery in batteries])[:, None]

    sent, received, exported, imported = (
        cvxpy.vstack([cvxpy.sum(part, axis=axis) for part in parts]).T
        for parts, axis in ((moves, 1), (moves, 0), (trades, 1), (trades, 0))
    )
    run = tasks - sent + received
    load = hours * (column("sleep_kw") + cvxpy.multiply(column("idle_kw") - column("sleep_kw"), awake))
    load += cvxpy.multiply(column("batch_kwh"), run)
    before = cvxpy.hstack([np.zeros((n, 1)), level[:, :-1]]) if slots > 1 else np.zeros(shape)
    kept = cvxpy.multiply(1 - of_battery("self_discharge"), before)
    rules = [
        grid + own + discharge + (1 - network.trading_loss) * imported == load,
        own + charge + exported <= harvest,
        level
        == kept
        + cvxpy.multiply(of_battery("charge_efficiency"), charge)
        - cvxpy.multiply(1 / of_battery("discharge_efficiency"), discharge),
        level <= of_battery("capacity_kwh"),
        charge <= hours * of_battery("charge_kw"),
        run <= cvxpy.multiply(column("capacity_batches"), awake),
        received <= column("storage_batches"),
        sent <= network.offload_cap * tasks,
        exported <= network.trade_cap * harvest,
        awake <= 1,
        *(cvxpy.diag(part) == 0 for part in (*moves, *trades)),
    ]
    transport_g = network.transport_kwh * (network.network_g_per_kwh or 0)
    total = cvxpy.sum(cvxpy.multiply(grams, grid)) + transport_g * cvxpy.sum(sent)
    return float(cvxpy.Problem(cvxpy.Minimize(total), rules).solve(solver=cvxpy.CLARABEL))


def test_another_solver_finds_the_same_optimum() -> None:
    for seed in range(20, 25):
        network = _random_network(seed)
        assert dispatch(network, "DETA").total_g == pytest.approx(_stated_for_cvxpy(network), rel=1e-6, abs=1e-6)
