"""The coupled environment: its physics by hand, Gymnasium's checker, and dynamic programming against enumeration."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from carbon import Site, carbon_intensity
from carbon.aolo import receiver_site
from carbon.aolo.planner import (
    closed_part,
    constant_policy,
    greedy_policy,
    myopic_policy,
    reference_values,
    run_day,
    site_values,
)
from carbon.aolo.receiver_site import (
    QUARTERS,
    ReceiverSite,
    SiteDay,
    SiteEnvironment,
    expected_day,
    random_day,
    site_of_link,
)
from carbon.aolo.study import Study, StudySettings
from carbon.aolo.tasks import SiteTask
from carbon.link_table import LinkCase, carrier_link, link_table
from carbon.receiver_options import zoo_family
from leanrx_core.errors import UserError

RECEIVERS = (
    {"name": "small", "received_j": 7e-3, "sent_j": 7e-3},
    {"name": "large", "received_j": 15e-3, "sent_j": 4e-3},
)


def _site(**changes: Any) -> ReceiverSite:
    return ReceiverSite.parse({"receivers": RECEIVERS, **changes}, "site")


def test_a_quarter_hour_by_hand() -> None:
    """1,000 slots at offset 0 are sent twice: 14 J at the site and 14 J at the sender, plus 100 J of reload."""
    site = _site(battery_j=50.0, charge_efficiency=0.8, discharge_efficiency=0.5, reload_j=100.0)
    day = SiteDay(np.array([20.0]), np.array([2.0]), np.array([1000.0]))
    grams, battery = site.quarter(day, 0, 10.0, current=0, receiver=0, offset_db=0.0)
    assert (grams, battery) == pytest.approx((2 * 14, 10 + 0.8 * 6))
    grams, battery = site.quarter(day, 0, 10.0, current=1, receiver=0, offset_db=0.0)
    assert (grams, battery) == pytest.approx((2 * (14 + 114 - 20 - 5), 0))
    full = site.quarter(SiteDay(np.array([1e6]), day.g_per_j, day.slots), 0, 10.0, 0, 0, 0.0)[1]
    assert full == 50
    repeated = site.quarter(day, 0, 10.0, 0, 0, 2.0)[0]
    sent = 1000 / 0.8413447  # Q(-1): an offset of one standard deviation
    assert repeated == pytest.approx(2 * sent * 7e-3 * 10**0.2, rel=1e-6)


def test_checker_of_gymnasium() -> None:
    check_env(SiteEnvironment(_site()), skip_render_check=True)


def test_days_repeat_and_differ() -> None:
    site = _site()
    first, again, other = random_day(site, 1), random_day(site, 1), random_day(site, 2)
    assert (first.sun_j == again.sun_j).all()
    assert not (first.sun_j == other.sun_j).all()
    mean = expected_day(site)
    assert mean.slots.mean() == pytest.approx(site.traffic_slots)
    sun = np.mean([random_day(site, n).sun_j.sum() for n in range(200)])
    assert sun == pytest.approx(mean.sun_j.sum(), rel=0.1)


def test_actions_and_states() -> None:
    environment = SiteEnvironment(_site())
    environment.reset(seed=1)
    assert environment.decision(np.array([-1.0, -1.0])) == (0, 0.0)
    assert environment.decision(np.array([1.0, 1.0])) == (1, 8.0)
    environment.step(np.array([1.0, 0.0], dtype=np.float32))
    other = SiteEnvironment(_site())
    other.reset(seed=9)
    other.restore(environment.state())
    action = np.array([-1.0, 0.3], dtype=np.float32)
    assert other.step(action)[1] == environment.step(action)[1]


def test_dynamic_programming_against_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of five quarter hours with two receivers and two offsets: all 4^5 sequences."""
    monkeypatch.setattr("carbon.aolo.planner.QUARTERS", 5)
    monkeypatch.setattr("carbon.aolo.planner.OFFSETS", 2)
    site = _site(battery_j=2000.0, reload_j=150.0)
    rng = np.random.default_rng(2)
    day = SiteDay(rng.uniform(0, 900, 5), rng.uniform(1e-5, 2e-4, 5), rng.uniform(2e4, 6e4, 5))
    best = np.inf
    for sequence in itertools.product(itertools.product((0, 1), site.offset_db), repeat=5):
        battery, current, total = 1000.0, 0, 0.0
        for index, (chosen, offset_db) in enumerate(sequence):
            grams, charge = site.quarter(day, index, battery, current, chosen, offset_db)
            battery, current, total = float(charge), chosen, total + float(grams)
        best = min(best, total)
    values = site_values(site, day, levels=801)
    assert values.at(0, np.array([1000.0]), 0).item() == pytest.approx(best, rel=1e-3)
    assert run_day(site, day, greedy_policy(site, values)).total_g == pytest.approx(best, rel=1e-3)


def test_constant_policy_against_all_days() -> None:
    site, day = _site(), random_day(_site(), 4)
    receiver, offset_db = constant_policy(site, day)(day, 0, 0.0, 0)
    best = run_day(site, day, constant_policy(site, day)).total_g
    for other in range(2):
        for offset in np.linspace(*site.offset_db, 33):
            assert best <= run_day(site, day, lambda *_, r=other, o=offset: (r, o)).total_g * (1 + 1e-12)
    reference = run_day(site, day, greedy_policy(site, reference_values(site, day))).total_g
    assert reference <= best * 1.005
    assert receiver in (0, 1)
    assert 0 < offset_db < 8


def test_grid_of_the_battery_is_halved_until_the_value_stands() -> None:
    site, day = _site(), random_day(_site(), 5)
    begin = np.array([site.battery_begin * site.battery_j])
    found = reference_values(site, day, levels=5)
    value = found.at(0, begin, 0).item()
    coarser, finer = (
        site_values(site, day, levels).at(0, begin, 0).item()
        for levels in ((len(found.levels_j) + 1) // 2, 4 * len(found.levels_j) - 3)
    )
    assert coarser == pytest.approx(value, rel=0.005)
    assert finer == pytest.approx(value, rel=0.005)
    assert len(found.levels_j) >= 9


@pytest.fixture(scope="module")
def shipped_site() -> ReceiverSite:
    world = Site(intensity=carbon_intensity("world-2023"))
    family = zoo_family("tdl-6prb")
    family = replace(family, options=tuple(o for o in family.options if not o.name.endswith("scratch")))
    return site_of_link(link_table(family, LinkCase(carrier_link("radio-head"), world, world)))


def test_policies_are_ordered_on_the_shipped_receivers(shipped_site: ReceiverSite) -> None:
    assert len(shipped_site.receivers) == 3  # LMMSE does not reach the target
    day = random_day(shipped_site, 3)
    values = reference_values(shipped_site, day)
    reference = run_day(shipped_site, day, greedy_policy(shipped_site, values))
    planner = run_day(
        shipped_site, day, greedy_policy(shipped_site, reference_values(shipped_site, expected_day(shipped_site)))
    )
    myopic = run_day(shipped_site, day, myopic_policy(shipped_site))
    assert reference.total_g <= planner.total_g <= myopic.total_g
    assert myopic.total_g > 1.1 * reference.total_g
    begin = np.array([shipped_site.battery_begin * shipped_site.battery_j])
    assert reference.total_g == pytest.approx(values.at(0, begin, 0).item(), rel=0.01)
    assert (reference.battery_j >= -1e-9).all()
    assert (reference.battery_j <= shipped_site.battery_j + 1e-9).all()


def test_agents_of_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbon.aolo.study.EVALUATION_STEPS", 40)
    task = SiteTask(_site(), days=1)
    study = Study(tmp_path, task, StudySettings(steps=40, seeds=(1,), learning_rate=1e-3))
    progress = list(study.train())
    assert [p.name for p in progress] == ["site-sac-s1-lr0.001-n40", "site-sdrl-s1-lr0.001-n40"]
    evaluation = progress[0].evaluation
    assert evaluation.gap > 0
    assert evaluation.footprint_g == pytest.approx((1 + evaluation.gap) * task.reference_g[0])
    assert task.closed(task.reference_g[0]) == pytest.approx(1)
    assert task.closed(task.myopic_g[0]) == pytest.approx(0)


def test_cases_that_compare_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"5\.0% worse than the reference, below 10%; change the site"):
        closed_part([10.5], [10.2], [10.0])
    with pytest.raises(UserError, match="battery_j"):
        _site(battery_j=0)
    with pytest.raises(UserError, match="discharge_efficiency"):
        _site(discharge_efficiency=1.2)
    assert receiver_site.QUARTERS == QUARTERS == 96
