"""Intensities with their basis, embodied emissions with their boundary, and footprints that refuse to mix either."""

from pathlib import Path

import pytest

from carbon import (
    INTENSITY_SETS,
    CarbonIntensity,
    Emission,
    Footprint,
    IntensitySeries,
    carbon_intensities,
    carbon_intensity,
    embodied_carbon,
    intensity_set,
)
from leanrx_core.errors import UserError

WORLD = carbon_intensity("world-2023")


@pytest.mark.parametrize(
    ("name", "g_per_kwh"),
    [
        ("US-2023", 349.7),
        ("US-VT-2023", 23.7),
        ("US-WA-2023", 120.9),
        ("US-MO-2023", 659.8),
        ("US-WV-2023", 893.1),
    ],
)
def test_states_of_egrid_in_grams(name: str, g_per_kwh: float) -> None:
    assert carbon_intensity(name).g_per_kwh == pytest.approx(g_per_kwh, abs=0.1)
    assert str(carbon_intensity(name).basis) == "production, average, direct"


def test_sets_have_places_years_and_one_basis_each() -> None:
    sizes = {name: len(intensity_set(name)) for name in INTENSITY_SETS}
    assert sizes == {
        "egrid2023-states": 52,  # 50 states, the District of Columbia, and the nation
        "china2023-provinces": 30,
        "nordic2025-zones": 10,
        "owid-countries": 212,  # without the one of 0 g/kWh
        "pnas2016-10": 10,
        "tableI-ladder": 10,  # synthetic, so without a year
    }
    for name in INTENSITY_SETS:
        records = intensity_set(name)
        assert len({record.basis for record in records.values()}) == 1
        assert all(key == r.name and str(r.year or "ladder") in key and r.source for key, r in records.items())


def test_shipped_countries_equal_those_of_the_set() -> None:
    countries = intensity_set("owid-countries")
    for name, record in carbon_intensities().items():
        if name in countries:
            assert record.g_per_kwh == pytest.approx(countries[name].g_per_kwh, abs=0.51)
            assert record.basis == countries[name].basis


def test_unknown_set_is_refused() -> None:
    with pytest.raises(UserError, match="no set of intensities 'egrid'; choose from egrid2023-states"):
        intensity_set("egrid")


def test_series_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("time,g_per_kwh\n2026-01-01T00:00+01:00,100\n2026-01-01T00:15+01:00,300\n")
    series = IntensitySeries.read_csv(path)
    assert (series.step_s, series.mean.g_per_kwh) == (900, 200)
    assert series.operational_g([3.6e6, 3.6e6]) == pytest.approx(400)
    with pytest.raises(UserError, match="needs 2 values"):
        series.operational_g([1.0])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("2026-01-01T00:00,100\n2026-01-01T01:00,100\n", "line 2: the time has no offset from UTC"),
        ("2026-01-01T00:00+00:00,\n", "line 2: not a time and a number"),
        ("2026-01-01T00:00+00:00,1\n2026-01-01T01:00+00:00,1\n2026-01-01T03:00+00:00,1\n", "2 different steps"),
        ("2026-01-01T00:00+00:00,1\n2026-01-01T01:00+00:00,-1\n", "g_per_kwh.1"),
        ("2026-01-01T00:00+00:00,1\n2026-01-01T00:00+00:00,1\n", "step_s"),
    ],
)
def test_damaged_series_are_refused(tmp_path: Path, rows: str, problem: str) -> None:
    path = tmp_path / "day.csv"
    path.write_text("time,g_per_kwh\n" + rows)
    with pytest.raises(UserError, match=problem):
        IntensitySeries.read_csv(path)


def test_embodied_emissions_name_their_boundary() -> None:
    kg = {boundary: embodied_carbon("NVIDIA H100", boundary).kg for boundary in ("die", "board", "share of server")}
    assert kg == {"die": 14.65, "board": 273.0, "share of server": 985.5}
    record = embodied_carbon("NVIDIA H100")
    assert record.boundary == "share of server"
    assert record.embodied_g(record.lifetime_s / 1000, utilisation=0.5) == pytest.approx(2 * 985.5)
    with pytest.raises(UserError, match="utilisation 0 is not allowed"):
        record.embodied_g(1.0, utilisation=0.0)
    with pytest.raises(UserError, match=r"choose from NVIDIA H100 \(die\)"):
        embodied_carbon("NVIDIA H100", "whole device")


def _chain() -> Footprint:
    return Footprint(
        rows=(
            Emission.of_energy("uplink", "user device", 3, 0.3, WORLD, "modelled"),
            Emission(stage="transport", component="core", scope=2),
            Emission.of_energy("decode", "edge/cloud", 2, 96.0, WORLD, "assumed", pue=1.2),
            Emission.of_hardware("embodied", "edge/cloud", embodied_carbon("NVIDIA H100"), duration_s=5.0),
        )
    )


def test_rows_add_up_and_the_matrix_has_stage_component_and_scope() -> None:
    footprint = _chain()
    by_hand = (0.3 + 96.0 * 1.2) / 3.6e6 * 481 + 985.5e3 * 5 / 94_608_000
    assert footprint.total_g == pytest.approx(by_hand, rel=1e-12)
    matrix = footprint.matrix()
    assert matrix["transport", "core", 2] is None
    assert sum(g for g in matrix.values() if g is not None) == pytest.approx(footprint.total_g, rel=1e-12)
    assert sum(footprint.sums("scope")[s] or 0 for s in "23") == pytest.approx(footprint.total_g, rel=1e-12)
    assert set(footprint.sums("provenance")) == {"modelled", "assumed"}
    assert (footprint + footprint).total_g == pytest.approx(2 * footprint.total_g)


def test_what_is_not_modelled_is_no_zero() -> None:
    footprint = _chain()
    assert footprint.not_modelled == ["transport"]
    assert footprint.rows[1].text == "not modelled"
    assert footprint.sums("component")["core"] is None


def test_two_bases_or_boundaries_in_one_sum_are_refused() -> None:
    direct = Emission.of_energy("downlink", "RAN", 2, 1.0, carbon_intensity("US-VT-2023"), "modelled")
    with pytest.raises(UserError, match=r"two bases: 'production, average, life cycle' \(decode\) and 'production"):
        _chain() + Footprint(rows=(direct,))
    unstated = CarbonIntensity(name="own", place="x", year=2026, g_per_kwh=100, source="own")
    with pytest.raises(UserError, match=r"'not stated' \(downlink\)"):
        _chain() + Footprint(rows=(Emission.of_energy("downlink", "RAN", 2, 1.0, unstated, "modelled"),))
    die = Emission.of_hardware("embodied", "edge/cloud", embodied_carbon("NVIDIA H100", "die"), 5.0)
    with pytest.raises(UserError, match="two boundaries: 'share of server'"):
        _chain() + Footprint(rows=(die,))
