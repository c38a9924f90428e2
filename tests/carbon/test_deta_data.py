"""Regions, random draws, traffic, and networks from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from carbon import intensity_set
from carbon.deta.dispatch import ladder
from carbon.deta.equal_sites import (
    PICKED_STATES,
    cut,
    drawn_cuts,
    equal_network,
    harvest_share_of_cut,
    regions,
)
from carbon.deta.network_file import DailyTraffic, read_network
from leanrx_core.errors import UserError

STATES = regions("egrid2023-states")
PICKED = [intensity_set("egrid2023-states")[name] for name in PICKED_STATES]
LADDER = regions("tableI-ladder")


def test_published_sets_of_regions() -> None:
    areas = intensity_set("pnas2016-10")
    assert [areas[f"{code}-2016"].g_per_kwh for code in ("GCPD", "CISO", "PACE")] == [8.4, 230.6, 709.7]
    assert {str(area.basis) for area in areas.values()} == {"consumption, average, direct"}
    assert len(areas) == len(LADDER) == 10
    assert {place.basis for place in LADDER} == {None}
    assert len(STATES) == 51


@pytest.mark.parametrize(("sites", "percent"), [(2, 21.5), (3, 30.2), (5, 39.9), (8, 44.1), (10, 48.0)])
def test_cuts_of_random_states(sites: int, percent: float) -> None:
    summary = drawn_cuts(STATES, sites, harvest_share=0.2, draws=30, seed=2)
    assert 100 * summary.mean == pytest.approx(percent, abs=5)
    assert summary.low < summary.mean < summary.high


def test_draws_depend_on_their_seed_alone() -> None:
    results = [drawn_cuts(STATES, 2, draws=2, seed=seed).mean for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]
    with pytest.raises(UserError, match="sites: 52 is not allowed; give 1 to 51"):
        drawn_cuts(STATES, 52)


def test_cuts_of_ten_picked_states() -> None:
    assert 100 * cut(equal_network(PICKED, 0.0), "DETA") == pytest.approx(47.1, abs=0.05)
    grams = {policy: result.total_g for policy, result in ladder(equal_network(PICKED, 0.2)).items()}
    cuts = [100 * (1 - grams[policy] / grams["B1"]) for policy in ("DET", "DAT", "DETA")]
    np.testing.assert_allclose([*cuts, 100 * (1 - grams["DETA"] / grams["B0"])], [13.8, 58.8, 71.0, 76.8], atol=0.05)


@pytest.mark.parametrize(("share", "percents"), [(0.2, (17.0, 56.7, 70.5, 76.4)), (0.4, (36.7, 75.7, 90.5, 94.3))])
def test_cuts_of_the_ladder(share: float, percents: tuple[float, ...]) -> None:
    grams = {policy: result.total_g for policy, result in ladder(equal_network(LADDER, share)).items()}
    cuts = [1 - grams[policy] / grams["B1"] for policy in ("DET", "DAT", "DETA")]
    np.testing.assert_allclose(100 * np.array([*cuts, 1 - grams["DETA"] / grams["B0"]]), percents, atol=0.05)


def test_the_harvest_that_gives_the_published_cut() -> None:
    assert harvest_share_of_cut(PICKED, "B0") == pytest.approx(0.185, abs=0.005)
    assert harvest_share_of_cut(PICKED, "B1") == pytest.approx(0.232, abs=0.005)
    ladder_share = harvest_share_of_cut(LADDER, "B1")
    assert ladder_share is not None
    assert 0.224 <= ladder_share <= 0.252
    assert harvest_share_of_cut(PICKED, "B1", target=0.999) is None
    assert harvest_share_of_cut(PICKED, "B1", target=0.2) == 0.0


def test_daily_traffic_has_its_mean_and_its_ratio() -> None:
    traffic = DailyTraffic(mean_batches=7, lowest_over_highest=0.2, peak_hour=20.125)
    values = traffic.batches(slots=96, slot_s=900)
    assert np.mean(values) == pytest.approx(7)
    assert min(values) / max(values) == pytest.approx(0.2)
    assert int(np.argmax(values)) == 80


NETWORK = """
slot_s: 3600
slots: 2
trading_loss: 0.05
transport_kwh: 0.001
network_intensity: US-2023
profiles: profiles.csv
sites:
  - {name: north, intensity: US-VT-2023, batch_kwh: 0.1, batches: 4}
  - {name: south, intensity: US-MO-2023, batch_kwh: 0.1, batches: {mean_batches: 5}}
"""
PROFILES = """slot,site,harvest_kwh
2,north,0.5
1,north,0
1,south,0.1
2,south,0
"""


def _write(folder: Path, network: str = NETWORK, profiles: str = PROFILES) -> Path:
    (folder / "profiles.csv").write_text(profiles)
    (folder / "network.yaml").write_text(network)
    return folder / "network.yaml"


def test_a_network_from_files(tmp_path: Path) -> None:
    network = read_network(_write(tmp_path))
    north, south = network.sites
    assert north.g_per_kwh == pytest.approx((23.7, 23.7), abs=0.05)
    assert (north.harvest_kwh, south.harvest_kwh) == ((0, 0.5), (0.1, 0))
    assert north.batches == (4, 4)
    assert south.batches == DailyTraffic(mean_batches=5).batches(2, 3600)
    assert network.network_g_per_kwh == pytest.approx(349.7, abs=0.1)
    assert str(south.basis) == "production, average, direct"


def test_intensities_by_hour_from_a_file(tmp_path: Path) -> None:
    hours = "time,g_per_kwh\n2026-01-01T00:00+00:00,100\n2026-01-01T01:00+00:00,300\n"
    (tmp_path / "hours.csv").write_text(hours)
    text = NETWORK.replace("US-VT-2023", "hours.csv").replace("US-MO-2023", "[50, 60]").replace("US-2023", "US-MO-2023")
    with pytest.raises(UserError, match=r"two bases: not stated and production, average, direct"):
        read_network(_write(tmp_path, text))
    basis = "basis: {place: production, kind: average, boundary: direct}\n"
    network = read_network(_write(tmp_path, text + basis))
    assert [site.g_per_kwh for site in network.sites] == [(100, 300), (50, 60)]
    with pytest.raises(UserError, match=r"hours\.csv has steps of 3600 s; slot_s is 900"):
        read_network(_write(tmp_path, text.replace("slot_s: 3600", "slot_s: 900") + basis))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("US-MO-2023", "FRA-2023", r"two bases"),
        ("US-MO-2023", "Missouri", r"no carbon intensity 'Missouri'"),
        ("batches: 4", "batches: [4]", r"site north: batches has 1 values; give 2, one a slot"),
        ("batches: 4", "harvest_kwh: 1, batches: 4", r"harvest_kwh is given here and in profiles\.csv"),
        (", batches: 4", "", r"site north: batches is missing; add it"),
        ("batch_kwh: 0.1", "batch_kwh: 0", r"batch_kwh: Input should be greater than 0"),
        ("slots: 2", "slots: 3", r"site north, slot 3 is missing; add its row"),
        ("trading_loss", "trade_loss", r"trade_loss: unknown key; did you mean 'trading_loss'"),
        ("network_intensity: US-2023", "", r"transport_kwh needs a carbon intensity"),
        ("network_intensity: US-2023", "network_intensity: FRA-2023", r"sites have two bases"),
        ("profiles.csv", "none.csv", r"none\.csv: cannot be read"),
    ],
)
def test_bad_network_files_are_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        read_network(_write(tmp_path, NETWORK.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("2,north,0.5", "2,north,-0.5", r"line 2: harvest_kwh: '-0\.5' is not allowed"),
        ("2,north,0.5", "2,north,", r"line 2: harvest_kwh: '' is not allowed"),
        ("2,north,0.5", "2,north,nan", r"line 2: harvest_kwh: 'nan' is not allowed"),
        ("2,north,0.5", "0,north,1", r"line 2: slot '0' is not allowed; give a whole number from 1 to 2"),
        ("2,north,0.5", "2,nord,1", r"site 'nord' is not in the network; choose from north, south"),
        ("2,north,0.5", "1,north,1", r"line 3: site north, slot 1 is there twice"),
        ("2,north,0.5\n", "", r"site north, slot 2 is missing"),
        ("harvest_kwh", "sun", r"columns slot, site, sun; give slot, site, and any of"),
    ],
)
def test_bad_profiles_are_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        read_network(_write(tmp_path, profiles=PROFILES.replace(old, new, 1)))
