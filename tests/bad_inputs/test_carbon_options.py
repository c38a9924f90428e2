"""Options and arguments of ``leanrx carbon``, with values that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import contents, refusal

from leanrx_core.files import write_atomic

LINK = ("carbon", "link", "tdl-6prb", "--link=radio-head", "--intensity=world-2023")
NUMBERS = ["x", "", "nan", "inf", "1e400", "1" + "0" * 30, "-1" + "0" * 30, "9" * 5000]
TEXTS = ["nonsense", "a\nb", "a\x1b[31mb", "x" * 5000, "", "../..", "/dev/null"]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("option", ["ber", "bler", "path-loss", "deadline-ms", "interference-fraction", "pue"])
def test_numbers_of_a_link_are_refused(option: str, value: str) -> None:
    if option == "deadline-ms" and value.startswith("1000"):
        pytest.skip("a deadline of 1e30 ms is no limit")
    refusal(*LINK, f"--{option}={value}")


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("option", ["steps", "seeds", "learning-rate"])
def test_numbers_of_a_study_are_refused(option: str, value: str, tmp_path: Path) -> None:
    refusal("carbon", "published", "aolo", "--folder", tmp_path, f"--{option}={value}")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["target", "link", "intensity", "transmitter-intensity", "study"])
def test_texts_that_name_nothing_are_refused(place: str, text: str) -> None:
    if place == "study":
        refusal("carbon", "published", text)
    elif place == "target":
        refusal("carbon", "link", text, *LINK[3:])
    elif (place, text) != ("transmitter-intensity", ""):  # an empty one is that of the receiver
        refusal(*LINK, f"--{place}={text}")


@pytest.mark.parametrize("text", ["- 1\n", "name: x\n", "name: x\ntransmitter: 3\n", "\x00", "name: [\n"])
def test_files_that_are_no_link_are_refused(text: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / "link.yaml", text)
    refusal("carbon", "link", "tdl-6prb", "--link", tmp_path / "link.yaml", "--intensity", "world-2023")


SITE = "{name: one, intensity: 100, batches: 2, batch_kwh: 0.1"
HEAD = "slot_s: 3600\nslots: 2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write keys and values"),
        ("sites: []\n" + HEAD, "sites: too few entries"),
        (f"{HEAD}sites: [{SITE}, capacity_batches: 1}}]\n", "site one, slot 1, capacity is short by 1 batches"),
        (f"{HEAD}sites: [{SITE}, harvest_kwh: -1}}]\n", "harvest_kwh"),
        (f"{HEAD}sites: [{SITE}, harvest_kwh: [1]}}]\n", "harvest_kwh has 1 values; give 2"),
        (f"{HEAD}sites: [{{name: one, intensity: 100, batch_kwh: 0.1}}]\n", "batches is missing"),
        (f"{HEAD}sites: [{SITE}, battery: {{capacity_kwh: 1, charge_efficiency: 0}}}}]\n", "charge_efficiency"),
        (f"{HEAD}sites: [{SITE}, battery: {{capacity_kwh: 1, end_kwh: 2}}}}]\n", "end_kwh 2 is above capacity_kwh"),
        (f"{HEAD}sites: [{SITE}}}, {{name: two, intensity: FRA-2023, batches: 1, batch_kwh: 0.1}}]\n", "two bases"),
        (f"{HEAD}sites: [{{name: one, intensity: nowhere, batches: 2, batch_kwh: 0.1}}]\n", "no carbon intensity"),
        (f"{HEAD}budgets: [{{slots: 3, g: 1}}]\nsites: [{SITE}}}]\n", "the horizon ends inside a budget"),
        (f"{HEAD}budgets: [{{slots: 2, g: 1}}]\nsites: [{SITE}}}]\n", "carbon budget is short by 39 g"),
        (f"{HEAD}sites: [{SITE}, harvest_kwh: {{latitude: 91, longitude: 0, peak_kw: 1}}}}]\n", "latitude"),
        (f"{HEAD}sites: [{SITE}, harvest_kwh: {{latitude: 9, longitude: 0, peak_kw: 1}}}}]\n", "add begin"),
        (f"{HEAD}begin: noon\nsites: [{SITE}}}]\n", "begin"),
    ],
)
def test_networks_that_cannot_be_solved(text: str, message: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / "network.yaml", text)
    assert message in refusal("carbon", "network", "--network", tmp_path / "network.yaml")


@pytest.mark.parametrize("value", ["x", "", "nan", "inf", "-0.1", "0,,1", "1e30", "9" * 5000])
def test_forecast_errors_are_refused(value: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / "network.yaml", f"{HEAD}sites: [{SITE}}}]\n")
    refusal("carbon", "horizon", "--network", tmp_path / "network.yaml", f"--forecast-errors={value}")


@pytest.mark.parametrize(
    "option", ["--window=0", "--seeds=0", "--window=x", "--seeds=1e9", "--policy=DTA", "--policy="]
)
def test_options_of_a_horizon_are_refused(option: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / "network.yaml", f"{HEAD}sites: [{SITE}}}]\n")
    refusal("carbon", "horizon", "--network", tmp_path / "network.yaml", option)


@pytest.mark.parametrize("text", ["nowhere", "", "-5", "0.1", "1e9"])
@pytest.mark.parametrize("option", ["intensity", "development-intensity"])
def test_intensities_of_a_life_cycle_are_refused(option: str, text: str, tmp_path: Path) -> None:
    if (option, text) != ("development-intensity", ""):  # an empty one is that in service
        options = {"intensity": "world-2023", option: text}
        refusal("carbon", "life-cycle", tmp_path, *(f"--{key}={value}" for key, value in options.items()))
