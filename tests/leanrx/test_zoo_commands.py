"""``leanrx zoo``: the table and the cards say what the files of the shipped receivers hold."""

import hashlib
import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import pytest

from channels import scenario
from leanrx.cli.main import main
from receivers import build, zoo
from receivers.zoo.coded_results import CodedResults
from receivers.zoo.shipped_results import Results

SMALLEST = "tdl-6prb-hybrid-w5-d5-kd"


def leanrx_zoo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["leanrx", "zoo", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def copied_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with a copy of the smallest receiver alone."""
    shutil.copytree(zoo.SHIPPED / SMALLEST, tmp_path / SMALLEST)
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path)
    return tmp_path


def interpolated_sinr_db(bers: dict[float, float], target: float) -> float:
    """SINR of the first crossing, by a straight line over the BER's logarithm."""
    points = sorted(bers.items())
    for (low_db, before), (high_db, after) in itertools.pairwise(points):
        if before > target >= after:
            share = math.log(before / target) / math.log(before / after)
            return low_db + share * (high_db - low_db)
    return math.nan


def test_list_has_a_row_for_each_receiver(monkeypatch, capsys) -> None:
    assert leanrx_zoo(monkeypatch, "list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["receivers"]}
    assert sorted(rows) == zoo.names()
    row = rows[SMALLEST]
    net = build("hybrid-w5-d5")
    assert row["parameters"] == sum(p.numel() for p in net.parameters()) == 3548
    assert row["weights_bytes"] == (zoo.SHIPPED / SMALLEST / "weights.safetensors").stat().st_size
    assert row["macs_per_re"] == zoo.results(SMALLEST).macs / (6 * 12 * 14) == 1070
    assert row["scenario"] == scenario("tdl-6prb").name
    points = [p for p in zoo.results(SMALLEST).points if p.interference_fraction == 0]
    bers = {p.sinr_db: p.counts.bit_errors / p.counts.bits for p in points}
    assert row["required_sinr_db"] == pytest.approx(interpolated_sinr_db(bers, row["target_ber"]), abs=1e-6)
    assert row["required_sinr_low_db"] < row["required_sinr_db"] < row["required_sinr_high_db"]


def test_list_prints_what_its_json_holds(monkeypatch, capsys) -> None:
    assert leanrx_zoo(monkeypatch, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["receiver", "parameters", "MACs/RE", "bytes"]
    cells = {line.split()[0]: line.split()[1:] for line in lines[1 : 1 + len(zoo.names())]}
    assert sorted(cells) == zoo.names()
    assert cells[SMALLEST] == ["3,548", "1,070", "16,904", "16.10", "(15.54", "to", "16.68)", "tdl-6prb"]


def test_card_of_a_mixture_names_the_range_of_its_members(copied_zoo: Path, monkeypatch, capsys) -> None:
    members = [
        {"grid": {"num_rx": 8, "subcarrier_spacing_hz": 30000}, "modulations": ["256-QAM"], "max_doppler_hz": [0, 50]},
        {"grid": {"num_rx": 1, "num_prb": 4}, "interferers": [{"probability": 0.25, "sir_db": [-5, 9]}]},
        {"interferers": []},
    ]
    path = copied_zoo / SMALLEST / "card.json"
    card = json.loads(path.read_text())
    card["conditions"] = {**scenario("tdl-6prb").model_dump(mode="json", exclude={"mixture"}), "mixture": members}
    card["tested_conditions"] = {
        "cells": 2,
        "points": 6,
        "below_lmmse_irc": 3,
        "not_separated_lmmse_irc": 2,
        "above_lmmse_irc": 1,
    }
    path.write_text(json.dumps(card))
    assert leanrx_zoo(monkeypatch, "show", SMALLEST) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "tdl-6prb, a mixture of 3 conditions",
        "48, 72 subcarriers at 15, 30 kHz",
        "1, 2, 8 receive antennas",
        "256-QAM, 16-QAM",
        "0 to 500 Hz",
        "in up to 50 % of the slots at an SIR of -5 to 36 dB",
        "2 cells, 6 points; BER below LMMSE-IRC's at 3, not separated at 2, above at 1",
    ):
        assert words in text


@pytest.mark.parametrize("name", zoo.names())
def test_the_card_of_every_receiver_is_shown(monkeypatch, capsys, name: str) -> None:
    assert leanrx_zoo(monkeypatch, "show", name) == 0
    text = " ".join(capsys.readouterr().out.split())
    tested = zoo.card(name).tested_conditions
    assert tested is None or f"{tested['cells']} cells, {tested['points']} points" in text


def test_card_names_conditions_counts_training_and_file(monkeypatch, capsys) -> None:
    assert leanrx_zoo(monkeypatch, "show", SMALLEST) == 0
    text = capsys.readouterr().out
    data = (zoo.SHIPPED / SMALLEST / "weights.safetensors").read_bytes()
    card, results = zoo.card(SMALLEST), zoo.results(SMALLEST)
    assert f"SHA-256 {hashlib.sha256(data).hexdigest()}" in text
    assert "16-QAM" in text
    assert "0 to 500 Hz" in text
    assert "6,000 steps of 16 slots" in text
    assert f"SHA-256 {card.training['teachers']['teacher'][:12]}" in text
    assert all(f"{point.counts.bit_errors:,}" in text for point in results.points)
    assert f"{1e3 * results.energy[0].energy_j_per_slot:.3g} mJ" in text


def test_json_of_a_card_is_card_and_results(monkeypatch, capsys) -> None:
    assert leanrx_zoo(monkeypatch, "show", SMALLEST, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["card"] == zoo.card(SMALLEST).model_dump(mode="json")
    assert Results.model_validate(answer["results"]) == zoo.results(SMALLEST)


def coded_points(errors: dict[float, tuple[int, int]]) -> list[dict[str, float]]:
    """Points of two interference fractions from block errors and blocks by SINR."""
    return [
        {"interference_fraction": fraction, "sinr_db": sinr_db, "blocks": blocks, "block_errors": wrong}
        for fraction in (0.0, 0.8)
        for sinr_db, (wrong, blocks) in errors.items()
    ]


def test_required_sinrs_with_a_code_are_interpolated_from_the_counts(copied_zoo: Path, monkeypatch, capsys) -> None:
    """By hand: the BLER falls a hundredfold from 9 to 15 dB, so its middle, 10 %, lies at 12 dB; 1 % is the end."""
    coded = {
        "mcs": 14,
        "points": coded_points({9.0: (100, 100), 15.0: (100, 10_000), 18.0: (20, 10_000)}),
        "classical": {"LMMSE": coded_points({9.0: (150, 200), 24.0: (100, 200)})},
    }
    results = zoo.results(SMALLEST).model_copy(update={"coded": CodedResults.model_validate(coded)})
    results.write(copied_zoo / SMALLEST / "results.json")
    assert leanrx_zoo(monkeypatch, "show", SMALLEST, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["coded"]
    assert len(rows) == 8
    for row in rows:
        if row["receiver"] == "LMMSE":
            assert row["required_sinr_db"] is row["required_sinr_high_db"] is None
        else:
            assert row["required_sinr_db"] == pytest.approx({0.1: 12.0, 0.01: 15.0}[row["target_bler"]])
            assert row["required_sinr_low_db"] < row["required_sinr_db"] < row["required_sinr_high_db"]
    assert leanrx_zoo(monkeypatch, "show", SMALLEST) == 0
    text = capsys.readouterr().out
    assert "MCS 14 of table 1 (16-QAM, rate 553/1024), 2,024 bits per block, 100 to 10,000 blocks per point" in text
    assert "SINR [dB] for BLER 0.1 and 0.01, interference fraction 0.8:" in text
    lines = [line.split() for line in text.splitlines() if line.split()[:1] == ["LMMSE"]]
    assert lines == [["LMMSE", "above", "24", "above", "24"]] * 2
    assert f"  {SMALLEST}  12.00 (" in text


def test_a_receiver_without_a_coded_test_says_so(copied_zoo: Path, monkeypatch, capsys) -> None:
    zoo.results(SMALLEST).model_copy(update={"coded": None}).write(copied_zoo / SMALLEST / "results.json")
    assert leanrx_zoo(monkeypatch, "show", SMALLEST) == 0
    assert "not tested with a code" in capsys.readouterr().out
    assert leanrx_zoo(monkeypatch, "show", SMALLEST, "--json") == 0
    assert json.loads(capsys.readouterr().out)["coded"] == []


def test_a_receiver_that_never_reaches_the_ber(copied_zoo: Path, monkeypatch, capsys) -> None:
    results = zoo.results(SMALLEST)
    low = tuple(point for point in results.points if point.sinr_db < 10)
    results.model_copy(update={"points": low}).write(copied_zoo / SMALLEST / "results.json")
    assert leanrx_zoo(monkeypatch, "list") == 0
    assert "not reached" in capsys.readouterr().out
    assert leanrx_zoo(monkeypatch, "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["receivers"]
    assert row["required_sinr_db"] is row["required_sinr_low_db"] is row["required_sinr_high_db"] is None


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"other")])
def test_damaged_weights_are_refused(copied_zoo: Path, monkeypatch, capsys, damage) -> None:
    damage(copied_zoo / SMALLEST / "weights.safetensors")
    for arguments in (["list"], ["show", SMALLEST]):
        assert leanrx_zoo(monkeypatch, *arguments) == 2
        assert "weights.safetensors: missing or damaged" in capsys.readouterr().err


def test_an_unknown_receiver_is_refused_with_suggestions(monkeypatch, capsys) -> None:
    assert leanrx_zoo(monkeypatch, "show", "tdl-6prb-hybrid-w5-d5") == 2
    assert "(did you mean tdl-6prb-hybrid-w5-d5-kd" in capsys.readouterr().err
