"""Receiving sites: cases solved by hand, nesting, conservation, the price of a dB, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carbon.deta.receiver_choices import SiteSolutions, choice_steps, grams_per_db, receiver_part, stages_over_sites
from carbon.deta.receiver_dispatch import STAGES, ReceiverDispatch, receiver_dispatch
from carbon.deta.receiver_footprint import receiver_footprint
from carbon.deta.receiver_network import ReceiverNetwork, read_receiver_network
from carbon.deta.receiver_programme import SITE_POLICIES
from carbon.receiver_options import ErrorCurve, ReceiverFamily, ReceiverOption
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic

LINK = """
name: hand
transmitter: {name: hand, max_output_w: 10, slope: 1, source: hand}
noise_figure_db: 5
"""
NOISE_DBM = -174 + 5 + 10 * math.log10(180e3)
LOSS_DB = -(NOISE_DBM - 30) - 10
"""Path loss at which an SINR of 10 dB takes 1 W."""


def _option(name: str, gain_db: float, energy_j: float) -> ReceiverOption:
    """A receiver of BER 0.01 at 10 dB less its gain, 0.5 ms a slot."""
    trials = np.full(3, 1e9)
    rates = np.array([0.1, 0.01, 0.001])
    bits = ErrorCurve(np.array([0.0, 10.0, 20.0]) - gain_db, rates * trials, trials, rates, rates)
    return ReceiverOption(name, name, bits, None, 100.0, energy_j, math.nan, 5e-4, "hand", "assumed")


SMALL, LARGE = _option("small", 0.0, 1e-3), _option("large", 10 * math.log10(2), 1.6e-3)
FAMILY = ReceiverFamily("hand", (SMALL, LARGE), num_prb=1, subcarrier_spacing_hz=15e3, interference_fraction=0.0)
"""In an hour of full traffic, the small one takes 1 Wh and 1 Wh of the sender; the large one 1.6 and 0.5 Wh."""


def _site(name: str = "a", slots: int = 1, **values: Any) -> dict[str, Any]:
    fields = {"g_per_kwh": 1000.0, "activity": 1.0, "path_loss_db": LOSS_DB, "harvest_kwh": 0.0}
    profiles = {key: values.pop(key, (value,) * slots) for key, value in fields.items()}
    return {"name": name, "computers": 10, **profiles, **values}


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("link") / "hand.yaml"
    write_atomic(path, LINK)
    return str(path)


def _network(link: str, *sites: dict[str, Any], **values: Any) -> ReceiverNetwork:
    rules = {"slot_s": 3600, "ber": 0.01, "deadline_ms": 2, "network_g_per_kwh": 1000, "link": link}
    return ReceiverNetwork.parse({**rules, "sites": sites, **values}, "network")


def _share(result: ReceiverDispatch, name: str) -> list[float]:
    return result.shares[:, 0, result.receivers.index(name)].round(9).tolist()


def test_the_sun_pays_for_the_larger_receiver(link: str) -> None:
    site = _site(slots=3, harvest_kwh=(0, 1.6e-3, 1.0e-3))
    result = receiver_dispatch(_network(link, site), FAMILY, "B1")
    # by night 2.0 against 2.1 g, in the sun 1.0 against 0.5 g, in half sun 1.0 against 1.1 g
    assert result.total_g == pytest.approx(2.0 + 0.5 + 1.0, rel=1e-9)
    assert _share(result, "large") == [0, 1, 0]
    np.testing.assert_allclose(result.output_w[:, 0], [1, 0.5, 1], rtol=1e-9)
    assert receiver_dispatch(_network(link, site), FAMILY, "B0").total_g == pytest.approx(6.0)


def test_a_battery_brings_the_sun_into_the_night(link: str) -> None:
    battery = {"capacity_kwh": 1.0, "charge_efficiency": 0.5, "discharge_efficiency": 1.0}
    site = _site(slots=2, harvest_kwh=(1.6e-3 + 2e-3, 0), battery=battery)
    result = receiver_dispatch(_network(link, site), FAMILY, "B1")
    assert result.total_g == pytest.approx(0.5 + 1.0)  # 2 Wh become 1 Wh, all that the small one takes


@pytest.mark.parametrize(("kwh_per_gb", "moved"), [(3.0e-4, 1.0), (3.2e-4, 0.0)])
def test_traffic_moves_while_its_samples_cost_less_than_they_save(link: str, kwh_per_gb: float, moved: float) -> None:
    dirty, clean = _site("dirty"), _site("clean", g_per_kwh=(0.0,), activity=(0.0,))
    network = _network(link, dirty, clean, transport_kwh_per_gb=kwh_per_gb)
    result = receiver_dispatch(network, FAMILY, "DAT")
    assert result.moved_shares[0].round(9).tolist() == [moved, 0]
    transport_g = 12 * 14 * 2 * 32 / 8e9 * 3.6e6 * kwh_per_gb * 1000  # I/Q samples of an hour
    assert result.total_g == pytest.approx(0.5 + transport_g if moved else 2.0, rel=1e-6)


def test_traffic_does_not_move_where_the_way_is_too_long(link: str) -> None:
    free = {"transport_kwh_per_gb": 0.0, "transport_kwh_per_gb_km": 0.0}
    for latitude, moved in ((0.8, 1.0), (0.9, 0.0)):  # 89 and 100 km; 97.5 km take 1.5 ms there and back
        far = _site("clean", g_per_kwh=(0.0,), activity=(0.0,), latitude=latitude)
        result = receiver_dispatch(_network(link, _site("dirty"), far, **free), FAMILY, "DAT")
        assert result.moved_shares[0, 0] == pytest.approx(moved)


def test_jobs_wait_and_move(link: str) -> None:
    job = {"name": "adapt", "site": "a", "kwh": 1.0, "hours": 1.0, "gigabytes": 100, "release": 1, "deadline": 2}
    home = _site("a", 2, g_per_kwh=(500.0, 50.0), activity=(0.0, 0.0))
    other = _site("b", 2, g_per_kwh=(100.0, 10.0), activity=(0.0, 0.0), latitude=50)
    rules = {"transport_kwh_per_gb": 1e-4, "transport_kwh_per_gb_km": 0.0, "jobs": [job]}
    network = _network(link, home, other, **rules)
    totals = [receiver_dispatch(network, FAMILY, policy).total_g for policy in ("B1", "DETA", "DETA+wait")]
    np.testing.assert_allclose(totals, [500, 110, 20], rtol=1e-9)  # transport of 0.01 kWh emits 10 g
    slow = _network(link, home, other, **{**rules, "jobs": [{**job, "hours": 2.0}]})
    result = receiver_dispatch(slow, FAMILY)
    assert result.total_g == pytest.approx((100 + 10) / 2 + 10)  # half an hour's work in each slot, at one computer
    assert result.job_parts[0].round(9).tolist() == [[0, 0.5], [0, 0.5]]


def _random_network(link: str, seed: int) -> ReceiverNetwork:
    rng = np.random.default_rng(seed)
    slots, count = 4, 3
    sites = [
        _site(
            f"site {index}",
            g_per_kwh=tuple(rng.uniform(10, 900, slots)),
            activity=tuple(rng.uniform(0, 1, slots)),
            path_loss_db=tuple(LOSS_DB + rng.uniform(-10, 5, slots)),
            harvest_kwh=tuple(rng.uniform(0, 4e-3, slots)),
            battery={"capacity_kwh": 2e-3, "charge_efficiency": 0.9, "discharge_efficiency": 0.9},
            idle_kw=rng.uniform(5e-4, 1e-3),
            sleep_kw=rng.uniform(0, 5e-4),
            has_transmitter=bool(index % 2),
            latitude=rng.uniform(0, 0.5),
        )
        for index in range(count)
    ]
    jobs = [{"name": "j", "site": "site 1", "kwh": 3e-3, "hours": 1.5, "gigabytes": 1e-3, "release": 2, "deadline": 4}]
    return _network(link, *sites, jobs=jobs, transport_kwh_per_gb=rng.uniform(0, 2e-4), trading_loss=0.1)


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, 200), marks=pytest.mark.slow)])
def test_nesting_and_conservation(link: str, seeds: range) -> None:
    for seed in seeds:
        network = _random_network(link, seed)
        results = {policy: receiver_dispatch(network, FAMILY, policy) for policy in SITE_POLICIES}
        b0, b1, det, dat, deta, wait = (result.total_g for result in results.values())
        slack = 1e-6 * b0
        assert wait <= deta + slack
        assert deta <= min(det, dat) + slack
        assert max(det, dat) <= b1 + slack
        assert b1 <= b0 + slack
        for result in results.values():
            assert result.imbalance < 1e-9
            assert result.stage_g.sum() == pytest.approx(result.total_g, rel=1e-9)
            assert (result.awake.min() < 1) == SITE_POLICIES[result.policy].moves
            harvest = np.array([site.harvest_kwh for site in network.sites]).T
            assert (result.own_kwh + result.charge_kwh + result.sent_kwh <= harvest + 1e-12).all()
            np.testing.assert_allclose(result.shares.sum(2), 1, atol=1e-9)
            np.testing.assert_allclose(result.job_parts.sum((1, 2)), 1, atol=1e-9)
            np.testing.assert_allclose(result.received_kwh.sum(1), 0.9 * result.sent_kwh.sum(1), atol=1e-12)


def _stated_for_cvxpy(network: ReceiverNetwork) -> float:
    """DETA with waiting jobs, written site by site and solved by an interior-point solver of another house."""
    cvxpy = pytest.importorskip("cvxpy")
    sites, slots, n = network.sites, network.slots, len(network.sites)
    (job,) = network.jobs
    assert network.network_g_per_kwh == 1000
    total, rules, level = 0.0, [], [0.0] * n
    parts = cvxpy.Variable((slots, n), nonneg=True)
    for t in range(slots):
        load: list[Any] = [0.0] * n
        busy: list[Any] = [0.0] * n
        exports, imports, grid, own, charge, discharge, awake = (cvxpy.Variable(n, nonneg=True) for _ in range(7))
        for i, site in enumerate(sites):
            shares: list[Any] = []
            for option, sinr_db in ((SMALL, 10.0), (LARGE, 10 - 10 * math.log10(2))):
                output_w = 10 ** ((NOISE_DBM - 30 + site.path_loss_db[t] + sinr_db) / 10)
                for j in range(n) if output_w <= 10 else ():
                    km = 6371 * math.radians(abs(site.latitude - sites[j].latitude))
                    if 2 * km / 130 + 0.5 > 2:
                        continue
                    share = cvxpy.Variable(nonneg=True)
                    shares.append(share)
                    received = 3.6e6 * site.activity[t]
                    load[j] += received * option.energy_j / 3.6e6 * share
                    busy[j] += received * 5e-4 / 3600 * share
                    sent_kwh = output_w * 1e-3 * site.activity[t]
                    load[i] += sent_kwh * share * site.has_transmitter
                    total += sent_kwh * share * site.g_per_kwh[t] * (not site.has_transmitter)
                    gigabytes = received * 12 * 14 * 2 * 32 / 8e9 * (i != j)
                    per_gb = network.transport_kwh_per_gb + network.transport_kwh_per_gb_km * km
                    total += 1000 * gigabytes * per_gb * share
            rules.append(sum(shares) == 1)
        for j, site in enumerate(sites):
            km = 6371 * math.radians(abs(site.latitude - sites[1].latitude))
            moved_kwh = 1e-3 * (network.transport_kwh_per_gb + network.transport_kwh_per_gb_km * km) * (j != 1)
            total += 1000 * moved_kwh * parts[t, j] + site.g_per_kwh[t] * grid[j]
            load[j] += job.kwh * parts[t, j] + site.sleep_kw + (site.idle_kw - site.sleep_kw) * awake[j]
            busy[j] += job.hours * parts[t, j]
            level[j] = level[j] + 0.9 * charge[j] - discharge[j] / 0.9
            rules += [grid[j] + own[j] + discharge[j] + imports[j] == load[j], level[j] >= 0, level[j] <= 2e-3]
            rules += [own[j] + charge[j] + exports[j] <= site.harvest_kwh[t], busy[j] <= site.computers * awake[j]]
            rules += [exports[j] <= 0.5 * site.harvest_kwh[t], awake[j] <= 1]
        rules += [cvxpy.sum(imports) == 0.9 * cvxpy.sum(exports), cvxpy.sum(parts[t]) <= 1 / job.hours]
    rules += [cvxpy.sum(parts[: job.release - 1]) == 0, cvxpy.sum(parts) == 1]
    scaled = cvxpy.Problem(cvxpy.Minimize(total), rules)
    return float(scaled.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10))


def test_another_solver_finds_the_same_optimum(link: str) -> None:
    for seed in range(20, 23):
        network = _random_network(link, seed)
        assert receiver_dispatch(network, FAMILY).total_g == pytest.approx(_stated_for_cvxpy(network), rel=1e-6)


SLEEP = {"idle_kw": 0.3, "sleep_kw": 0.1}


@pytest.mark.parametrize(("gap", "asleep"), [(3, 0), (4, 4)])
def test_computers_sleep_where_the_gap_repays_waking(link: str, gap: int, asleep: int) -> None:
    # a slot asleep saves 0.2 kWh; waking costs 0.7 kWh, so that four slots repay it and three do not
    activity = tuple(0.0 if 2 <= slot < 2 + gap else 1.0 for slot in range(8))
    site = _site(slots=8, activity=activity, wake_kwh=0.7, **SLEEP)
    result = receiver_dispatch(_network(link, site), FAMILY, "DAT")
    assert (result.awake == 0).sum() == asleep
    awake_g = 1000 * 0.3 * 8 + 2.0 * sum(activity)  # 1 Wh of the receiver and 1 Wh of the sender
    assert result.total_g == pytest.approx(awake_g - (1000 * (0.2 * asleep - 0.7) if asleep else 0), rel=1e-6)
    assert result.imbalance < 1e-9
    assert "hold what sleeps" in result.marginal_sentences()[-1]
    assert receiver_dispatch(_network(link, site), FAMILY, "DET").total_g == pytest.approx(awake_g, rel=1e-6)


def test_the_time_of_waking_takes_computers(link: str) -> None:
    def awake(last: float) -> list[float]:
        site = _site(slots=4, activity=(1.0, 0.0, 0.0, last), computers=0.5, wake_s=1800, **SLEEP)
        return receiver_dispatch(_network(link, site), FAMILY, "DAT").awake.ravel().tolist()  # type: ignore[no-any-return]

    assert awake(1.0) == [1, 0, 1, 1]  # it wakes one slot early
    assert awake(0.5) == [1, 0, 0, 1]


def test_computers_sleep_while_a_neighbour_receives(link: str) -> None:
    sites = [_site(name, activity=(0.5,), computers=1, **SLEEP) for name in "ab"]
    network = _network(link, *sites, transport_kwh_per_gb=1e-6, whole_slot_sleep=True)
    result = receiver_dispatch(network, FAMILY, "DAT")
    assert sorted(result.awake[0].tolist()) == [0, 1]
    transport_g = 0.5 * 12 * 14 * 2 * 32 / 8e9 * 3.6e6 * 1e-6 * 1000
    assert result.total_g == pytest.approx(1000 * 0.4 + 2.0 + transport_g, rel=1e-9)


def test_marginal_emissions_by_hand(link: str) -> None:
    # the sun covers slot 2; in slot 1 a kilowatt-hour more comes from the grid
    result = receiver_dispatch(_network(link, _site(slots=2, harvest_kwh=(0, 1.0))), FAMILY, "B1")
    np.testing.assert_allclose(result.marginal_g_per_kwh, [[1000], [0]], atol=1e-9)
    assert result.marginal_sentences() == ["B1: one more kWh at a emits 0 g in slot 2, and 1000 g in slot 1."]


def test_a_db_costs_what_solving_again_says(link: str) -> None:
    network = _network(link, _site("a"), _site("b", path_loss_db=(LOSS_DB - 10,)))
    solutions = SiteSolutions(network, FAMILY)
    assert grams_per_db(solutions, "a") == pytest.approx(1 - 10**-0.1)
    assert grams_per_db(solutions, "b") == pytest.approx(0.1 * (1 - 10**-0.1))
    targets = [network.model_copy(update={"ber": ber}) for ber in (0.03, 0.01, 0.003)]
    prices = [grams_per_db(SiteSolutions(target, FAMILY), "a") for target in targets]
    assert prices == sorted(prices)
    with pytest.raises(UserError, match="site: 'c' is not known; choose from a, b"):
        grams_per_db(solutions, "c")


def test_what_receivers_save_by_hand(link: str) -> None:
    network = _network(link, _site(slots=2, harvest_kwh=(0, 1.6e-3)))
    solutions = SiteSolutions(network, FAMILY)
    part = receiver_part(solutions)
    assert part.by_receiver_g == pytest.approx({"small": 3.0, "large": 2.6})
    assert (part.single, part.menu_g, part.first_menu_g) == ("large", pytest.approx(2.5), pytest.approx(2.5))
    totals = [step.total_g for step in choice_steps(solutions)]
    np.testing.assert_allclose(totals[:3], [20 + 1, 3.0, 2.5], rtol=1e-9)  # 10 W are 10 Wh an hour


def test_the_first_sites_keep_their_jobs(link: str) -> None:
    jobs = [{"name": name, "site": name, "kwh": 1, "hours": 1, "deadline": 1} for name in "ab"]
    results = stages_over_sites(SiteSolutions(_network(link, _site("a"), _site("b"), jobs=jobs), FAMILY), (1, 2))
    np.testing.assert_allclose([results[n].total_g for n in (1, 2)], [1002, 2004], rtol=1e-9)


def test_a_footprint_by_stage_component_and_scope(link: str) -> None:
    jobs = [{"name": "j", "stage": "recycling", "site": "a", "kwh": 0.5, "hours": 0.5, "deadline": 1}]
    result = receiver_dispatch(_network(link, _site(idle_kw=0.1), jobs=jobs), FAMILY, "B1")
    footprint = receiver_footprint(result)
    assert footprint.matrix() == {
        ("preparation", "core", 2): None,
        ("application", "RAN", 2): pytest.approx(1 + 1 + 100),
        ("development", "edge/cloud", 2): 0,
        ("recycling", "edge/cloud", 2): pytest.approx(500),
        ("application", "core", 2): 0,
        ("application", "user device", 3): None,
        ("preparation", "RAN", 3): None,
    }
    assert footprint.total_g == pytest.approx(result.total_g)
    joules = {row.process: row.energy_j for row in footprint.rows if row.energy_j}
    assert joules == pytest.approx({"transmission": 3600, "reception": 3600, "idle": 3.6e5, "recycling": 1.8e6})
    phone = receiver_dispatch(_network("uplink-ue", _site(path_loss_db=(100.0,))), FAMILY, "B1")
    sent = phone.stage_g[STAGES.index("transmission")].sum()
    assert receiver_footprint(phone).sums("scope")["3"] == pytest.approx(sent)


def test_what_is_refused(link: str) -> None:
    def solve(*sites: dict[str, Any], **values: Any) -> None:
        receiver_dispatch(_network(link, *sites, **values), FAMILY)

    with pytest.raises(UserError, match=r"site a, slot 1: no receiver reaches BER 0\.01: small needs too much power"):
        solve(_site(path_loss_db=(LOSS_DB + 20,)))
    with pytest.raises(UserError, match="small has an error floor; large has an error floor; raise ber"):
        solve(_site(), ber=1e-6)
    with pytest.raises(UserError, match=r"small takes 0\.5 ms"):
        solve(_site(), deadline_ms=0.4)
    with pytest.raises(UserError, match=r"site a, slot 1, computers is short by 0\.1 computers"):
        solve(_site(computers=0.4))
    with pytest.raises(UserError, match="site a, slot 1, grid limit is short by"):
        solve(_site(grid_limit_kw=1e-4))
    with pytest.raises(UserError, match="site b, slot 1, grid limit is short by"):
        solve(_site(), _site("b", grid_limit_kw=1e-4, latitude=50))
    with pytest.raises(UserError, match="site a: wake_kwh and wake_s have no effect without sleep_kw"):
        solve(_site(wake_kwh=1.0))
    with pytest.raises(UserError, match="site a: wake_s 3601 is longer than a slot"):
        solve(_site(wake_s=3601, **SLEEP))
    with pytest.raises(UserError, match="2 sites have the name 'a'"):
        solve(_site(), _site())
    with pytest.raises(UserError, match="site b: activity has 2 values; give 1"):
        solve(_site(), _site("b", activity=(1.0, 1.0)))
    job = {"name": "j", "site": "a", "kwh": 1, "hours": 2, "release": 1, "deadline": 1}
    with pytest.raises(UserError, match=r"job j: 2 h do not fit into slots 1 to 1 \(1 h\)"):
        solve(_site(), jobs=[job])
    with pytest.raises(UserError, match="job j: slots 1 to 5 are not allowed"):
        solve(_site(), jobs=[{**job, "deadline": 5}])
    with pytest.raises(UserError, match="job j: no site 'x'; choose from a"):
        solve(_site(), jobs=[{**job, "site": "x", "hours": 1}])


FILE = """
slot_s: 3600
slots: 2
link: uplink-ue
ber: 0.01
deadline_ms: 4
network_intensity: {network}
sites:
  - {{name: a, intensity: {a}, computers: 2, path_loss_db: 100, activity: {{mean: 0.3}}}}
  - {{name: b, intensity: US-WA-2023, computers: 2, path_loss_db: {loss}, activity: 0.1}}
"""


def test_files(tmp_path: Path) -> None:
    def read(**values: Any) -> ReceiverNetwork:
        path = tmp_path / "network.yaml"
        write_atomic(path, FILE.format(**{"network": "US-2023", "a": "US-VT-2023", "loss": "[90, 91]", **values}))
        return read_receiver_network(path)

    network = read()
    assert network.sites[1].path_loss_db == (90, 91)
    assert network.network_g_per_kwh == pytest.approx(349.7, abs=0.1)
    # a cosine with its peak at 20 h: the lowest is a quarter of the highest
    assert network.sites[0].activity[0] == pytest.approx(0.3 + 0.18 * math.cos(2 * math.pi * (0.5 - 20) / 24))
    for values in ({"a": "ESP-2023"}, {"network": "USA-2023"}):
        with pytest.raises(UserError, match=r"network_intensity and sites have two bases: .* life cycle"):
            read(**values)
    with pytest.raises(UserError, match="site b: path_loss_db has 3 values; give 2"):
        read(loss="[90, 91, 92]")
    with pytest.raises(UserError, match=r"path_loss_db"):
        read(loss="-3")
    with pytest.raises(UserError, match="intensity"):
        read(a="nowhere")
