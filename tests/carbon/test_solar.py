"""Harvest of solar panels: clear sky against geometry, clouds against their set mean and correlation."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from carbon.deta.network_file import read_network
from carbon.deta.solar import Clouds, SolarPanel
from leanrx_core.errors import UserError

EQUINOX = datetime.fromisoformat("2023-03-20T00:00+00:00")
HOURS = 24


def test_a_day_at_the_equator() -> None:
    pytest.importorskip("pvlib")
    panel = SolarPanel(latitude=0, longitude=0, peak_kw=2, performance_ratio=0.8)
    harvest = np.array(panel.harvest_kwh(EQUINOX, HOURS, 3600))
    # the sun rises at 6 and sets at 18 h, but for 7 minutes of the equation of time; refraction adds some minutes
    assert harvest[:6].max() < 0.01
    assert harvest[19:].max() == 0
    assert harvest[11:13].min() == pytest.approx(2 * 0.8, rel=0.1)  # about 1 kW/m2 with the sun in the zenith
    assert harvest.sum() < 2 * 0.8 * 1.361 * 24 / np.pi  # without an atmosphere, 1361 W/m2 times the mean cosine
    quarters = panel.harvest_kwh(EQUINOX, 4 * HOURS, 900)
    assert sum(quarters) == pytest.approx(harvest.sum())
    east = SolarPanel(latitude=0, longitude=90, peak_kw=2).harvest_kwh(EQUINOX, HOURS, 3600)
    assert int(np.argmax(east)) in (5, 6)  # six hours earlier


def test_the_polar_night() -> None:
    pytest.importorskip("pvlib")
    winter = datetime.fromisoformat("2023-12-21T00:00+00:00")
    assert max(SolarPanel(latitude=80, longitude=0, peak_kw=2).harvest_kwh(winter, HOURS, 3600)) == 0


@pytest.mark.parametrize(("mean", "correlation"), [(0.7, 0.5), (0.5, 0.8)])
def test_clouds_have_their_mean_and_correlation(mean: float, correlation: float) -> None:
    factors = Clouds(mean_factor=mean, correlation=correlation, cloudy_factor=0.2, seed=2).factors(10_000)
    assert factors.mean() == pytest.approx(mean, rel=0.02)
    assert np.corrcoef(factors[1:], factors[:-1])[0, 1] == pytest.approx(correlation, rel=0.02)


def test_clouds_depend_on_their_seed_alone() -> None:
    first, again, other = (Clouds(mean_factor=0.6, seed=seed).factors(50) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert Clouds(mean_factor=1).factors(9).tolist() == [1] * 9
    assert Clouds(mean_factor=0.25).factors(9).tolist() == [0.25] * 9


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mean_factor": 0.1}, "mean_factor 0.1 is below cloudy_factor 0.25"),
        ({"mean_factor": 0.5, "correlation": 1.0}, "correlation: .*less than 1"),
        ({"mean_factor": 1.5}, "mean_factor: .*less than or equal to 1"),
    ],
)
def test_impossible_clouds_are_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Clouds.parse(values, "clouds")


NETWORK = """
slot_s: 3600
slots: 24
begin: 2023-06-21T12:00-07:00
sites:
  - name: desert
    intensity: US-AZ-2023
    batch_kwh: 0.1
    batches: {mean_batches: 4, peak_hour: 20.5}
    harvest_kwh: {latitude: 33.4, longitude: -112.1, peak_kw: 1, clouds: {mean_factor: 0.8}}
"""


def test_a_network_file_with_a_panel(tmp_path: Path) -> None:
    pytest.importorskip("pvlib")
    path = tmp_path / "network.yaml"
    path.write_text(NETWORK)
    site = read_network(path).sites[0]
    assert max(site.harvest_kwh[8:17]) == 0  # from 20 h to 5 h
    assert max(site.harvest_kwh) > 0.6
    assert int(np.argmax(site.batches)) == 8  # the first slot begins at 12 h
    for old, new, text in [
        ("begin: 2023-06-21T12:00-07:00\n", "", "site desert: a solar panel needs the time of the first slot"),
        ("T12:00-07:00", "T12:00", "with its offset from UTC; add begin"),
        ("latitude: 33.4", "latitude: 93.4", "harvest_kwh.record.latitude: .*less than or equal to 90"),
    ]:
        path.write_text(NETWORK.replace(old, new))
        with pytest.raises(UserError, match=text):
            read_network(path)
