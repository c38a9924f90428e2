"""Every file of a run, damaged by rule: leanrx names the file and what helps, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from command_line import answer, contents, refusal
from complete_runs import CONFIG

from energy.metering.table import ENERGY
from leanrx.experiment.run import Run
from leanrx.report.verification import verify
from leanrx_core.tables import TableSchema, write_table
from receivers.classical import LmmseIrcReceiver
from receivers.evaluation.store import COUNTS

STUDENT = "receivers/deeprx-w0.03125-d3-kd"
FILES = [
    "config.yaml",
    "environment.json",
    f"{STUDENT}/card.json",
    f"{STUDENT}/weights.safetensors",
    "ber.parquet",
    "energy.parquet",
    "metering/windows-a-computer.jsonl",
    "validation/scores.csv",
    "validation/estimates.csv",
    "ecal.json",
    "report/inputs.json",
]


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("garbage, and more\n"),
    "other-code": lambda path: path.write_bytes(b"\xff\xfe\x80" * 50),
    "nested": lambda path: path.write_text("[" * 1500),
    "list": lambda path: path.write_text("[1, 2]\n"),
    "folder": _folder,
}


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy to damage."""
    shutil.copytree(finished.folder, tmp_path / "complete")
    return replace(finished, folder=tmp_path / "complete")


def test_a_complete_run_is_intact(finished: Run) -> None:
    before = contents(finished.folder)
    code, output, errors = answer("verify", finished.folder)
    assert (code, errors) == (0, ""), output
    assert {line.split()[0] for line in output.splitlines()} == {"intact"}
    assert contents(finished.folder) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused(run: Run, name: str, damage: str) -> None:
    DAMAGES[damage](run.folder / name)
    before = {path: data for path, data in contents(run.folder).items() if path != name}
    message = refusal("verify", run.folder)
    if name == "config.yaml":
        assert str(run.folder) in message
    else:
        (state,) = [s for s in verify(run) if s.state == "damaged"]
        assert name.startswith(state.path)
        assert ("run" in state.detail) or ("delete" in state.detail) or ("restore" in state.detail), state.detail
    assert {path: data for path, data in contents(run.folder).items() if path != name} == before


def numeric_columns(schema: TableSchema) -> Iterator[tuple[str, float]]:
    for name, kind in schema.columns.items():
        if kind in (int, float):
            yield name, -1
        if kind is float:
            yield name, math.inf


@pytest.mark.parametrize("column", [f"{name}={value:g}" for name, value in numeric_columns(COUNTS)])
def test_impossible_counts_are_refused(run: Run, column: str) -> None:
    name, value = column.split("=")
    if (name, value) == ("sinr_db", "-1"):
        value = "nan"
    _assert_refused(run, run.ber_path, COUNTS, name, float(value), run.counts)


@pytest.mark.parametrize("column", [f"{name}={value:g}" for name, value in numeric_columns(ENERGY)])
def test_impossible_energy_is_refused(run: Run, column: str) -> None:
    name, value = column.split("=")
    _assert_refused(run, run.energy_path, ENERGY, name, float(value), run.energy)


def _assert_refused(
    run: Run, path: Path, schema: TableSchema, column: str, value: float, read: Callable[[], Any]
) -> None:
    table = read()
    table.loc[1, column] = schema.columns[column](value)
    write_table(path, table, replace(schema, problem=lambda table: ""))  # with a right digest
    message = refusal("ecal", run.folder)
    assert message.startswith(f"{path}: row 2 breaks: ") or "row 1 breaks: one row" in message
    assert column in message
    assert "another version; delete it and run: leanrx" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {}}, "training.slots: None is not a number above 0"),
        ({"training": {"slots": 0}}, "training.slots: 0 is not a number above 0"),
        ({"training": {"slots": "many"}}, "training.slots: 'many' is not a number above 0"),
        ({"training": {"slots": 8, "energy": {}}}, "training.steps: None is not a number above 0"),
        ({"training": {"slots": 8, "teacher_slots": {"teacher": -1}}}, "teacher_slots.teacher: -1 is not a number"),
        ({"training": {"slots": 8, "teacher_slots": 5}}, "training.teacher_slots: 5 is no mapping"),
        ({"name": "another"}, "is not the card of deeprx-w0.03125-d3-kd"),
        ({"name": "../x"}, "name cannot be read"),
        ({"role": "scratch"}, "is not the card of"),
        ({"num_rx": 10**9}, "num_rx cannot be read"),
        ({"num_bits": -1}, "num_bits cannot be read"),
        ({"receiver": "hybrid-w8-d2"}, ""),
        ({"receiver": "nonsense"}, "the configuration has deeprx-w0.03125-d3"),
        ({"weights_sha256": "0"}, "its SHA-256 is not the card's"),
    ],
)
def test_cards_that_say_something_else_are_refused(run: Run, changes: dict[str, Any], message: str) -> None:
    path = run.folder / STUDENT / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert message in refusal("export", run.folder, "deeprx-w0.03125-d3-kd")
    assert not (run.folder / "exports").exists()


def _with_digest(run: Run, data: bytes) -> None:
    folder = run.folder / STUDENT
    (folder / "weights.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "weights_sha256": hashlib.sha256(data).hexdigest()}))


@pytest.mark.parametrize("fault", ["nan", "infinite", "double", "shape", "missing", "unknown", "text", "empty"])
def test_weights_with_the_right_digest_and_other_content_are_refused(run: Run, fault: str) -> None:
    tensors = safetensors.torch.load_file(run.folder / STUDENT / "weights.safetensors")
    first = next(name for name, tensor in tensors.items() if tensor.dim() > 1)
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "nan": lambda x: x * math.nan,
        "infinite": lambda x: x + math.inf,
        "double": lambda x: x.double(),
        "shape": lambda x: x[:1].contiguous(),
    }
    if fault in changes:
        tensors[first] = changes[fault](tensors[first])
    elif fault == "missing":
        del tensors[first]
    elif fault == "unknown":
        tensors["nonsense"] = torch.ones(1)
    data = {"text": b"garbage", "empty": b""}
    _with_digest(run, data[fault] if fault in data else safetensors.torch.save(tensors))
    message = refusal("export", run.folder, "smallest")
    assert "train the receiver again" in message
    assert not (run.folder / "exports").exists()


def test_weights_of_another_training_make_results_stale(run: Run) -> None:
    tensors = safetensors.torch.load_file(run.folder / STUDENT / "weights.safetensors")
    _with_digest(run, safetensors.torch.save({name: tensor + 1 for name, tensor in tensors.items()}))
    states = {s.path: s for s in verify(run)}
    assert states[STUDENT].state == "intact"
    assert states["ber.parquet"].state == states["energy.parquet"].state == "stale"
    assert "run: leanrx evaluate" in states["ber.parquet"].detail
    assert refusal("verify", run.folder).endswith("2 of 10 files are damaged or stale; the list says what helps")


def test_results_of_other_tables_are_stale(run: Run) -> None:
    table = run.counts()
    write_table(run.ber_path, table.iloc[::-1], COUNTS)
    assert {s.path for s in verify(run) if s.state == "stale"} == {"ecal.json", "report/inputs.json"}


def test_a_student_of_another_teacher_is_stale(run: Run) -> None:
    path = run.folder / STUDENT / "card.json"
    card = json.loads(path.read_text())
    card["training"]["teachers"] = {"teacher": "0"}
    path.write_text(json.dumps(card))
    (state,) = [s for s in verify(run) if s.state == "stale"]
    assert state.path == STUDENT
    assert "teacher has other weights now" in state.detail


def test_a_journal_of_an_earlier_version_is_refused(run: Run) -> None:
    """Its rows lack columns, which must not be read as 0."""
    row = run.counts().iloc[0].to_dict()
    row.pop("bit_errors_cu")
    run.ber_path.with_suffix(".journal.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        from receivers.evaluation.monte_carlo import count_errors

        patch.setattr("leanrx.experiment.workflow.count_errors", count_errors)
        message = refusal("evaluate", run.folder)
    assert "ber.journal.jsonl: other columns: damaged or of another version; delete it" in message


def test_a_limit_of_file_sizes_ends_in_one_line_and_leaves_no_part(tmp_path: Path) -> None:
    """As a full disk does: the write fails after it has begun."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    before, limits = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        message = refusal("sweep", path, "--runs", tmp_path / "runs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "config.yaml: File too large; raise the limit of file sizes (ulimit -f)" in message
    assert {name: data for name, data in contents(tmp_path).items() if data is not None} == before


def test_a_run_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert "Not a directory; give a path" in refusal("sweep", path, "--runs", path)
    assert "give a path" in refusal("sweep", path, "--runs", "/proc/none")
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_the_files_of_a_classical_receiver_in_c_are_verified(run: Run) -> None:
    folder, source = run.folder / "exports" / "lmmse-irc-c", b"int x;"
    folder.mkdir(parents=True)
    (folder / "lmmse-irc.c").write_bytes(source)
    files = {"lmmse-irc.c": {"bytes": 6, "sha256": hashlib.sha256(source).hexdigest()}}
    digest = LmmseIrcReceiver(run.config.scenario).digest
    for card_digest, words in ((digest, ""), ("classical/lmmse-irc/0", "LMMSE-IRC has another covariance now")):
        card = {"format": "c", "files": files, "receiver": {"name": "LMMSE-IRC", "digest": card_digest}}
        (folder / "card.json").write_text(json.dumps(card))
        (export,) = [s for s in verify(run) if s.path == "exports/lmmse-irc-c"]
        assert export.state == ("stale" if words else "intact"), export
        assert export.detail.startswith(words)


def test_the_files_of_a_receiver_in_c_are_verified(run: Run) -> None:
    folder, source = run.folder / "exports" / "student-c", b"int x;"
    folder.mkdir(parents=True)
    (folder / "student.c").write_bytes(source)
    receiver = json.loads((run.folder / STUDENT / "card.json").read_text())
    files = {"student.c": {"bytes": 6, "sha256": hashlib.sha256(source).hexdigest()}}
    card = {"format": "c", "files": files, "receiver": receiver}

    def state() -> str:
        (folder / "card.json").write_text(json.dumps(card))
        (export,) = [s for s in verify(run) if s.path == "exports/student-c"]
        assert export.state == "intact" or export.detail.endswith(f"{receiver['name']} --format c")
        return export.state

    assert state() == "intact"
    card["receiver"] = {**receiver, "weights_sha256": "0"}
    assert state() == "stale"
    card["receiver"] = receiver
    (folder / "student.c").write_bytes(b"int y;")
    assert state() == "damaged"
    (folder / "student.c").unlink()
    assert state() == "damaged"
