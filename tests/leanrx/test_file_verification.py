"""``leanrx verify FILE``: intact files are proven, files with a fault are refused, and interruptions change nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from factories import perturbed_receiver

from channels import Scenario, SlotStream
from leanrx.cli import sessions
from leanrx.cli.main import main
from leanrx.experiment.file_verification import FOLDER, FileVerification, judge, open_verification
from leanrx.experiment.run_export import ExportSource
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.classical import LmmseIrcReceiver
from receivers.evaluation.equivalence import (
    Equivalence,
    ber_differences,
    ber_equivalence,
    bler_equivalence,
    information_equivalence,
)
from receivers.evaluation.information_loss import information_loss_bits
from receivers.evaluation.required_sinr import SinrGap
from receivers.evaluation.stopping import Evaluation
from receivers.export.c_export import example_program, export_c
from receivers.export.c_source import c_sources
from receivers.neural.registry import parse_spec
from scripts.checks import planted_faults

NAME = "tdl-6prb-hybrid-w5-d5-kd"
STALE = "tdl-6prb-hybrid-w5-d5-scratch"
SINRS_DB = (3.0, 12.0, 24.0)
SLOTS = 144
"""Slots over all points, which decide on the margin of a float file."""

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


def source(slots: int = 64) -> ExportSource:
    """The smallest receiver of the package, at a few points and slots."""
    evaluation = Evaluation(sinr_db=SINRS_DB, block_slots=8, min_slots=slots, max_slots=slots)
    return ExportSource(zoo.load(NAME), Path(NAME), zoo.results(NAME).scenario, 1, evaluation, 0.05)


def leanrx_verify(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["leanrx", "verify", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sessions.release_locks()
    return 0


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a C export, without the comparison of its slots; verification takes a few points."""
    import hashlib

    folder = tmp_path / f"{NAME}-c"
    folder.mkdir()
    receiver = zoo.load(NAME)
    for name, text in {**c_sources(receiver, source().scenario.grid), "main.c": example_program(NAME)}.items():
        (folder / name).write_text(text)
    files = {p.name: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in folder.iterdir()}
    card = {"format": "c", "files": files, "receiver": {"name": NAME, "weights_sha256": receiver.digest}}
    (folder / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr(ExportSource, "of_zoo", lambda name, root: source())
    return folder


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """C sources by fault."""
    return dict(planted_faults.faulty_sources(zoo.load(NAME), source(), zoo.load(STALE)))


def test_many_faults_are_planted(sources: dict[str, str]) -> None:
    assert len(sources) == len(set(sources.values())) >= 13


@needs_compiler
@pytest.mark.parametrize("fault", ["none", *planted_faults.HYBRID_FAULTS, "weights of another training"])
def test_each_planted_fault_is_caught(
    sources: dict[str, str], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    file = planted_faults.c_file(sources[fault], source(), tmp_path / "file", ("-O0",))
    verdict = planted_faults.verdict_on(file, source(), tmp_path / "file", SLOTS)
    assert bool(verdict.faults) == (fault != "none"), verdict.faults


DEEPRX, INTERPOLATED_DEEPRX = "deeprx-w0.03125-d3", "deeprx-interpolated-w0.03125-d3"


def deeprx_source(spec: str) -> ExportSource:
    """A DeepRx without training."""
    return dataclasses.replace(source(), receiver=perturbed_receiver(spec))


@pytest.fixture(scope="module")
def deeprx_texts() -> dict[str, dict[str, str]]:
    """C sources of DeepRx by spec and fault."""
    sources = {spec: deeprx_source(spec) for spec in (DEEPRX, INTERPOLATED_DEEPRX)}
    return {spec: planted_faults.faulty_sources(s.neural_receiver, s, None) for spec, s in sources.items()}


def own_faults(spec: str) -> list[str]:
    """Faults in C of a DeepRx that hybrids do not have."""
    faults = planted_faults.FAULTS_BY_NETWORK[parse_spec(spec).family.network]
    return sorted(faults.keys() - planted_faults.FAULTS)


@needs_compiler
@pytest.mark.parametrize(
    ("spec", "fault"),
    [(spec, fault) for spec in (DEEPRX, INTERPOLATED_DEEPRX) for fault in ("none", "LLR sign", *own_faults(spec))],
)
def test_the_screening_refuses_each_fault_of_a_deeprx(
    deeprx_texts: dict[str, dict[str, str]], spec: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLRs of a network without training say nothing, so its errors are not counted."""
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    own_source = deeprx_source(spec)
    file = planted_faults.c_file(deeprx_texts[spec][fault], own_source, tmp_path / "file", ("-O0",))
    verification = FileVerification(file, own_source, tmp_path / "file")
    verdict = judge(verification, verification.screening(0.05), None, 0.05)
    assert bool(verdict.faults) == (fault != "none"), verdict.faults


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """ONNX graphs by fault."""
    receiver, folder = zoo.load(NAME), tmp_path_factory.mktemp("onnx") / "export"
    return dict(
        planted_faults.faulty_graphs(planted_faults.exported_graph(receiver, source(), folder), receiver.net, None)
    )


@pytest.mark.parametrize("fault", ["none", *planted_faults.HYBRID_GRAPH_FAULTS])
def test_each_fault_of_a_graph_is_caught(
    graphs: dict[str, object], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    file = planted_faults.onnx_file(graphs[fault], source(), tmp_path / "file")
    verdict = planted_faults.verdict_on(file, source(), tmp_path / "file", SLOTS)
    assert bool(verdict.faults) == (fault != "none"), verdict.faults


@pytest.fixture(scope="module")
def deeprx_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """ONNX graphs of an interpolated DeepRx by fault."""
    own_source, folder = deeprx_source(INTERPOLATED_DEEPRX), tmp_path_factory.mktemp("onnx") / "export"
    receiver = own_source.neural_receiver
    graph = planted_faults.exported_graph(receiver, own_source, folder)
    return dict(planted_faults.faulty_graphs(graph, receiver.net, None))


@pytest.mark.parametrize(
    "fault", ["none", "LLR sign", *sorted(planted_faults.DEEPRX_GRAPH_FAULTS.keys() - planted_faults.GRAPH_FAULTS)]
)
def test_the_screening_refuses_each_fault_of_the_graph_of_a_deeprx(
    deeprx_graphs: dict[str, object], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    own_source = deeprx_source(INTERPOLATED_DEEPRX)
    file = planted_faults.onnx_file(deeprx_graphs[fault], own_source, tmp_path / "file")
    verification = FileVerification(file, own_source, tmp_path / "file")
    verdict = judge(verification, verification.screening(0.05), None, 0.05)
    assert bool(verdict.faults) == (fault != "none"), verdict.faults


@needs_compiler
def test_a_file_is_proven_and_an_interruption_changes_nothing(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    assert leanrx_verify(monkeypatch, exported, "--slots", SLOTS, "--workers", 1, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["proven"]
    assert {row["slots"] for row in answer["points"]} == {SLOTS // len(SINRS_DB)}
    assert {test["verdict"] for test in answer["tests"]} == {"equivalent"}
    assert json.loads(Path(answer["path"]).read_text())["points"] == answer["points"]
    table = pd.read_parquet(exported / FOLDER / "ber.parquet")
    (exported / FOLDER / "ber.parquet").unlink()
    verification = open_verification(exported)
    steps = verification.count(verification.evaluation(SLOTS), 1)
    for _ in range(3):  # a kill leaves the journal, and perhaps a part of a line
        next(steps)
    steps.close()
    journal = exported / FOLDER / "ber.journal.jsonl"
    journal.write_text(journal.read_text() + '{"receiver": "tdl')
    done = [state for state, _ in open_verification(exported).count(verification.evaluation(SLOTS), 1)]
    assert done[-1] == SLOTS
    pd.testing.assert_frame_equal(pd.read_parquet(exported / FOLDER / "ber.parquet"), table)
    assert (table.groupby("receiver")["bits"].sum() == SLOTS * 3744).all()


@needs_compiler
def test_a_classical_file_is_proven_against_the_receiver_of_its_scenario(
    small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card has the digest and the scenario of the receiver, and no hash of weights."""
    folder, receiver = tmp_path / "exports" / "lmmse-irc-c", LmmseIrcReceiver(small)
    stream = SlotStream(small, 1, 2, "test", purpose="export")
    export_c(receiver, folder, stream, (10.0,))
    verification = open_verification(folder)
    assert verification.source.receiver.digest == receiver.digest
    assert verification.names == ("lmmse-irc.c", "LMMSE-IRC")
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 2)
    assert verification.screening(0.05).differing_decisions == 0
    card = json.loads((folder / "card.json").read_text())
    for changes, words in (
        ({"digest": "classical/lmmse-irc/0"}, "exported from another covariance than that of LMMSE-IRC now"),
        ({"scenario": {**card["receiver"]["scenario"], "snr_db": [3]}}, "card.json: snr_db"),
        ({"scenario": None}, "card.json: "),
        ({"digest": 3}, "damaged, or of another program"),
    ):
        (folder / "card.json").write_text(json.dumps({**card, "receiver": {**card["receiver"], **changes}}))
        with pytest.raises(UserError, match=words):
            open_verification(folder)


@needs_compiler
def test_a_changed_file_is_refused_by_its_card_and_counted_on_request(
    exported: Path, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("leanrx.experiment.file_verification.SCREENING_SLOTS", 4)
    (exported / f"{NAME}.c").write_text(sources["LLR sign"])
    assert leanrx_verify(monkeypatch, exported) == 2
    assert "changed since its export" in capsys.readouterr().err
    assert leanrx_verify(monkeypatch, exported, "--checkpoint", NAME, "--slots", SLOTS) == 1
    output = capsys.readouterr()
    assert "not proven: " in output.err
    assert "are decided differently" in output.err
    assert not json.loads((exported / FOLDER / f"{NAME}.c.json").read_text())["proven"]


def test_a_margin_decides_by_the_whole_interval() -> None:
    def verdict(gap_db: float, half_db: float) -> str:
        return Equivalence("BER", 0.0, 1e-2, 0.05, SinrGap(gap_db, gap_db - half_db, gap_db + half_db)).verdict

    assert verdict(0.03, 0.01) == verdict(-0.03, 0.01) == "equivalent"
    assert verdict(0.08, 0.01) == verdict(-0.08, 0.01) == "different"
    assert verdict(0.04, 0.02) == verdict(0.0, 0.06) == verdict(float("nan"), 0.0) == "undecided"
    assert Equivalence("BER", 0.0, 1e-2, 0.05, SinrGap(0.0, -0.1, 0.1)).slots_factor == pytest.approx(4.0)


def counts(errors: dict[str, list[list[int]]]) -> pd.DataFrame:
    """Rows of receivers: errors of each block at each point, 1000 bits each."""
    return pd.DataFrame(
        {
            "receiver": name,
            "interference_fraction": 0.0,
            "block": block,
            "sinr_db": 3.0 * point,
            "bit_errors": error,
            "bits": 1000,
            "transport_blocks": 50,
            "block_errors": error // 20,
        }
        for name, blocks in errors.items()
        for block, row in enumerate(blocks)
        for point, error in enumerate(row)
    )


def test_the_difference_of_two_rates_has_the_interval_of_a_paired_t_test() -> None:
    table = counts({"file": [[105], [111], [102]], "receiver": [[100], [103], [104]]})
    row = ber_differences(table, ("file", "receiver")).iloc[0]
    differences = np.array([5, 8, -2]) / 1000
    half = 4.302653 * differences.std(ddof=1) / np.sqrt(3)
    assert row["difference"] == pytest.approx(differences.mean())
    assert (row["difference_high"] - row["difference_low"]) / 2 == pytest.approx(half, rel=1e-6)


def test_gaps_of_ber_and_bler() -> None:
    table = counts({"file": [[200, 20], [220, 22]], "receiver": [[100, 10], [110, 11]]})
    (ber,) = ber_equivalence(table, ("file", "receiver"), 0.05, 0.02)
    assert ber.gap.gap_db == pytest.approx(3 * np.log10(2), abs=1e-9)
    assert ber.verdict == "different"
    (bler,) = bler_equivalence(table, ("file", "receiver"), 0.02)
    assert bler.target == 0.1
    assert bler_equivalence(table.assign(transport_blocks=0), ("file", "receiver"), 0.02) == []


def test_information_that_llrs_lose(small: Scenario) -> None:
    slots = SlotStream(small, 1, 4, "test").block(0)
    signs = torch.where(slots.bits.bool(), 1.0, -1.0)
    bits = slots.bit_mask.sum((1, 2, 3)).double()
    assert torch.allclose(information_loss_bits(signs * 1.5, slots), bits * np.log2(1 + np.exp(-1.5)))
    assert torch.allclose(information_loss_bits(-signs * 20, slots), bits * 20 / np.log(2))


def test_soft_bits_that_never_reach_the_information_of_the_receiver_are_different() -> None:
    bits = np.full((4, 2), 1000.0)
    receiver = np.array([[300.0, 20.0]] * 4)
    saturated = np.array([[310.0, 180.0]] * 4)
    arguments = (np.array([[100.0, 5.0]] * 4), bits, 1e-2, 0.02)
    losses = np.stack([saturated, receiver])
    assert information_equivalence(0.0, (0.0, 10.0), losses, *arguments).verdict == "different"
    same = np.stack([receiver, receiver])
    assert information_equivalence(0.0, (0.0, 10.0), same, *arguments).verdict == "equivalent"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no exported file"),
        ({"a.onnx": b"", "b.onnx": b""}, "several exported files"),
        ({"a.onnx": b"no graph"}, "has no card.json"),
        ({"a.onnx": b"", "card.json": b"{"}, "damaged, or of another program"),
        ({"a.onnx": b"", "card.json": b'{"receiver": {"name": "nobody", "weights_sha256": ""}}'}, "neither in a run"),
        (
            {"a.onnx": b"", "card.json": json.dumps({"receiver": {"name": NAME, "weights_sha256": "0"}}).encode()},
            "exported from other weights",
        ),
        ({"a.c": b"int x;", "main.c": b"", "card.json": b'{"receiver": 3}'}, "damaged, or of another program"),
    ],
)
def test_folders_that_are_no_export_are_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        open_verification(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.onnx", b"no graph", "ONNX Runtime cannot load it"),
        ("a.so", b"no library", "no shared library of this machine"),
        ("a.tflite", b"no model", "damaged, or not exported by leanrx"),
        ("a.gguf", b"", "is no exported file"),
        ("a.c", b"int x;\n", r"a\.h: cannot be read"),
        ("none.onnx", None, "missing"),
    ],
)
def test_files_that_are_no_receiver_are_refused(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        open_verification(tmp_path / name, NAME)


def test_a_c_file_needs_a_compiler(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C compiler \(no-such-compiler\)"):
        open_verification(exported)
