"""``leanrx export`` of a receiver of the zoo, and what it refuses. Runs are exported in the tests of whole runs."""

import json
import sys
from pathlib import Path

import pytest
from factories import card

from channels import Scenario
from leanrx.cli.main import main
from receivers import zoo
from receivers.evaluation.error_counts import Counts
from receivers.neural.registry import build
from receivers.neural.weights import save
from receivers.runtime import OnnxSession
from receivers.zoo.shipped_results import Point, Results

NAME, SPEC = "tiny", "deeprx-w0.03125-d3"


def leanrx_export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["leanrx", "export", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Scenario) -> Path:
    """A zoo with one receiver; commands run beside it."""
    folder = tmp_path / "zoo" / NAME
    receiver = save(folder, build(SPEC, seed=1), card(SPEC, name=NAME))
    counts = Counts(slots=1, bits=1, bit_errors=0, slot_errors=0)
    Results(
        weights_sha256=receiver.digest,
        scenario=small,
        test_seed=3,
        block_slots=8,
        stream="",
        device="cpu",
        points=tuple(
            Point(interference_fraction=fraction, sinr_db=sinr_db, counts=counts, classical={})
            for fraction in (0.0, 0.5)
            for sinr_db in (0.0, 10.0)
        ),
        macs=1,
        macs_method="operators",
        energy=(),
    ).write(folder / "results.json")
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_receiver_of_the_zoo(monkeypatch: pytest.MonkeyPatch, capsys, small_zoo: Path) -> None:
    assert leanrx_export(monkeypatch, NAME, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["equal"]
    assert answer["slots"] == 32 * 4, "four points of the shipped results"
    folder = Path("exports") / NAME
    assert OnnxSession(folder / f"{NAME}.onnx").receiver == SPEC
    written = json.loads((folder / "card.json").read_text())
    page = (folder / "README.md").read_text()
    for words in (
        SPEC,
        written["sha256"],
        "positive means 1",
        "| 0.5 | 10 | 1 | 0.00e+00 |",
        "Energy: not metered",
        "Graph and weights are part of leanrx",
    ):
        assert words in page
    assert "Graph and weights are part of leanrx, under the licence Apache-2.0." in page
    assert "* Pilots: OFDM symbols 2, 11, subcarriers 0, 1, 2" in page
    assert written["receiver"]["weights_sha256"] == json.loads((small_zoo / "card.json").read_text())["weights_sha256"]
    assert sorted(p.name for p in small_zoo.iterdir()) == ["card.json", "results.json", "weights.safetensors"]


@pytest.mark.parametrize(("format", "suffix"), [("onnx", ""), ("c", "-c")])
def test_what_is_no_export_is_not_replaced(monkeypatch, capsys, small_zoo: Path, format: str, suffix: str) -> None:
    own = Path("mine") / f"{NAME}{suffix}" / "notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("keep")
    assert leanrx_export(monkeypatch, NAME, "--exports", "mine", "--format", format) == 2
    assert "is no export, so it is not replaced" in capsys.readouterr().err
    assert own.read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no 'nobody' in the zoo"),
        (["nobody"], "or give a folder, lmmse or lmmse-irc"),
        (["."], "name: give a receiver of . too"),
        ([".", "teacher"], "not a run folder"),
        ([NAME, "smallest"], "name: a receiver of the zoo takes no second name; leave out 'smallest'"),
        (["lmmse", "teacher"], "not a run folder"),
        ([".", "teacher", "--exports", "x"], "exports: files of a run go to its folder"),
        ([NAME, "--format", "gguf"], "formats: onnx"),
        (["lmmse-irc", "--format", "c"], "scenario: lmmse-irc needs one"),
        (["lmmse-irc", "--scenario", "tdl-6prb", "--int8"], "int8: lmmse-irc has no network, and computes in float32"),
        ([NAME, "--format", "c", "--fp16"], "fp16: a C file computes in float32"),
        ([NAME, "--scenario", "tdl-6prb"], f"scenario: '{NAME}' has its own"),
        ([".", "teacher", "--scenario", "tdl-6prb"], "scenario: a run has its own"),
    ],
)
def test_refusals(monkeypatch, capsys, small_zoo: Path, arguments: list[str], words: str) -> None:
    assert leanrx_export(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not Path("exports").exists()
