"""Emissions computed by hand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from carbon import (
    FUNCTIONAL_UNITS,
    CarbonIntensity,
    Site,
    carbon_intensities,
    carbon_intensity,
    parse_intensity,
    software_carbon_intensity,
)
from leanrx_core.errors import UserError

HALF = CarbonIntensity(name="half", place="x", year=2020, g_per_kwh=500, source="made up")


def test_emissions_of_a_kilowatt_hour() -> None:
    assert Site(intensity=HALF).operational_g(3.6e6) == pytest.approx(500)
    assert Site(intensity=HALF, pue=1.2).operational_g(3.6e6) == pytest.approx(600)


def test_software_carbon_intensity_by_hand() -> None:
    """2 kWh at 500 g, PUE 1.5; a tenth of a 1200 kg machine for one of its 1000 days; per million slots."""
    site = Site(intensity=HALF, pue=1.5, embodied_kg=1200, lifetime_s=1000 * 86400, resource_share=0.1)
    sci = software_carbon_intensity(site, 7.2e6, 86400, 1e6, "slot", "measured")
    assert (sci.operational_g, sci.embodied_g) == pytest.approx((1500, 120))
    assert sci.g_per_unit == pytest.approx(1620e-6)
    assert "measured energy" in sci.summary()
    assert "1200 kg" in sci.summary()
    assert "left out" in software_carbon_intensity(Site(intensity=HALF), 1, 1, 1).summary()


@pytest.mark.parametrize("unit", FUNCTIONAL_UNITS)
def test_summary_names_the_functional_unit(unit: str) -> None:
    assert f"per {unit}" in software_carbon_intensity(Site(intensity=HALF), 1.0, 1.0, 10, unit).summary()


def test_example_of_the_energy_page_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs" / "energy.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from carbon import" in b]
    exec(compile(block, "energy.md", "exec"), {})
    assert capsys.readouterr().out.startswith("SCI 5.77e-07 gCO2e per slot (modelled energy; world-2023")


def test_carbon_intensities_have_a_year_and_a_source() -> None:
    for name, record in carbon_intensities().items():
        assert name == record.name
        assert str(record.year) in name
        assert "release of" in record.source
        assert 0 < record.g_per_kwh < 1100
    france, germany, poland = (carbon_intensity(f"{country}-2023").g_per_kwh for country in ("FRA", "DEU", "POL"))
    assert france < germany < poland


def test_own_values_by_hand() -> None:
    """1 kWh at 230 g and PUE 1.5 is 345 g; a third of 1,000 kg over 5 years for a day is 182.5 g."""
    intensity = parse_intensity("230")
    site = Site(intensity=intensity, pue=1.5, embodied_kg=1000, lifetime_s=5 * 365.25 * 86400, resource_share=1 / 3)
    sci = software_carbon_intensity(site, 3.6e6, 86400, 1)
    assert (sci.operational_g, sci.embodied_g) == pytest.approx((345, 1e6 / 3 / (5 * 365.25)))
    assert "own value 230 g/kWh, PUE 1.5, 1000 kg embodied over 5 years, 33% of it" in sci.summary()
    assert parse_intensity("world-2023") == carbon_intensity("world-2023")


@pytest.mark.parametrize("text", ["0.23", "-5", "0", "4000", "1e9", "1e400"])
def test_own_values_that_are_no_grams_per_kwh_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is not plausible; give grams per kWh, 1 to 3000"):
        parse_intensity(text)


@pytest.mark.parametrize("text", ["nan", "inf", "", "230g", "2,3", "1_0"])
def test_own_values_that_are_no_numbers_are_names(text: str) -> None:
    with pytest.raises(UserError, match="no carbon intensity"):
        parse_intensity(text)


def test_unknown_names_and_impossible_values_are_refused() -> None:
    with pytest.raises(UserError, match="no carbon intensity 'Atlantis'; choose from AUT-2023"):
        carbon_intensity("Atlantis")
    with pytest.raises(UserError, match="functional unit 'frame'"):
        software_carbon_intensity(Site(intensity=HALF), 1, 1, 1, "frame")
    with pytest.raises(UserError, match="at least one"):
        software_carbon_intensity(Site(intensity=HALF), 1, 1, 0, "correct transport block")
    with pytest.raises(UserError, match="pue"):
        Site.parse({"intensity": HALF, "pue": 0.9}, "site")


def test_import_of_carbon_loads_no_torch() -> None:
    code = (
        "import sys, carbon\n"
        "assert carbon.carbon_intensity('world-2023').g_per_kwh == 481\n"
        "assert all(getattr(carbon, name) for name in carbon.__all__)\n"
        "assert not {'torch', 'pandas', 'sionna'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
