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
