"""Emissions by hand."""

import re
from pathlib import Path

import pytest

from carbon.accounting import FUNCTIONAL_UNITS, Intensity, Site, intensities, intensity, sci
from leanrx_core.errors import UserError

HALF = Intensity(name="half", place="x", year=2020, g_per_kwh=500, source="made up")


def test_a_kilowatt_hour() -> None:
    assert Site(intensity=HALF).grams(3.6e6) == pytest.approx(500)
    assert Site(intensity=HALF, pue=1.2).grams(3.6e6) == pytest.approx(600)


def test_sci_by_hand() -> None:
    """2 kWh at 500 g, PUE 1.5; a tenth of a 1200 kg machine for one of its 1000 days; per million slots."""
    site = Site(intensity=HALF, pue=1.5, embodied_kg=1200, lifetime_s=1000 * 86400, share=0.1)
    found = sci(site, 7.2e6, 86400, 1e6, "slot", "measured")
    assert (found.operational_g, found.embodied_g) == pytest.approx((1500, 120))
    assert found.g_per_unit == pytest.approx(1620e-6)
    assert "measured energy" in found.line()
    assert "1200 kg" in found.line()
    assert "left out" in sci(Site(intensity=HALF), 1, 1, 1).line()


@pytest.mark.parametrize("unit", FUNCTIONAL_UNITS)
def test_units(unit: str) -> None:
    assert f"per {unit}" in sci(Site(intensity=HALF), 1.0, 1.0, 10, unit).line()


def test_the_documents_example_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs" / "energy.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "energy.md", "exec"), {})
    assert capsys.readouterr().out.startswith("SCI 5.77e-07 gCO2e per slot (modelled energy; world-2023")


def test_named_sets_are_dated_and_sourced() -> None:
    for name, record in intensities().items():
        assert name == record.name
        assert str(record.year) in name
        assert "release of" in record.source
        assert 0 < record.g_per_kwh < 1100
    assert intensity("FRA-2023").g_per_kwh < intensity("DEU-2023").g_per_kwh < intensity("POL-2023").g_per_kwh


def test_nothing_is_assumed() -> None:
    with pytest.raises(UserError, match="no intensity 'Atlantis'"):
        intensity("Atlantis")
    with pytest.raises(UserError, match="functional unit 'frame'"):
        sci(Site(intensity=HALF), 1, 1, 1, "frame")
    with pytest.raises(UserError, match="at least one"):
        sci(Site(intensity=HALF), 1, 1, 0, "correct transport block")
    with pytest.raises(UserError, match="pue"):
        Site.parse({"intensity": HALF, "pue": 0.9}, "site")
