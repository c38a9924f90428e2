"""Run folders: what is resumed, and what is refused and left as it was."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from leanrx.cli import sessions
from leanrx.cli.main import main
from leanrx.experiment.run import Run, load_run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx_core.errors import UserError
from receivers.neural import registry
from receivers.neural.deeprx import DeepRx

OLD_CONFIG = """
label: old
scenario:
  name: tiny
  grid: {num_prb: 1, pilot_patterns: [[2]]}
  channels: {train: {TDL-B: 1.0}, test: {TDL-A: 1.0}}
seed: 1
device: cpu
teacher:
  receiver: [deeprx-w0.0625-d3]
  training: {steps: 8, batch_slots: 4, decay_from: 0.3, early_weight: 0.0}
  trained: {}
students:
  receivers: [hybrid-w2-d1]
  training: {steps: 8, batch_slots: 4, decay_from: 0.3, early_weight: 0.0}
evaluation: {sinr_db: [0.0], interference_shares: [0.0]}
ecal: {teacher: charged}
recorded: {train: null, test: null}
"""
OLD_COUNTS = pd.DataFrame({"receiver": ["LS"], "interference_share": [0.0], "sinr_db": [0.0], "bit_errors": [1]})
OLD_ENERGY = pd.DataFrame({"receiver": ["LS"], "phase": ["inference"], "kind": ["modelled"], "energy_j": [1.0]})
CONFIG = {
    "label": "old",
    "scenario": yaml.safe_load(OLD_CONFIG)["scenario"],
    "device": "cpu",
    "teacher": {"receiver": "deeprx-w0.0625-d3"},
    "students": {"receivers": ["hybrid-w2-d1"]},
    "evaluation": {"sinr_db": [0]},
}


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run folder in the format of an earlier version."""
    folder = tmp_path / "runs" / "old"
    (folder / "receivers" / "hybrid-w2-d1-twin").mkdir(parents=True)
    (folder / "receivers" / "hybrid-w2-d1-twin" / "card.json").write_text("{}")
    (folder / "config.yaml").write_text(OLD_CONFIG)
    OLD_COUNTS.to_parquet(folder / "ber.parquet")
    OLD_ENERGY.to_parquet(folder / "energy.parquet")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but the lock, which every command takes."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def error_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["leanrx", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    sessions.release_locks()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("command", ["evaluate", "energy", "ecal", "report", "merge", "export"])
def test_a_run_of_an_earlier_version_is_refused_and_not_touched(
    old_run: Path, capsys, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    before = contents(old_run)
    line = error_line(capsys, monkeypatch, command, old_run, *(["teacher"] if command == "export" else []))
    assert line.startswith(f"leanrx: {old_run}: a run of an earlier version of leanrx (config.yaml: ")
    assert "teacher.training.decay_from: renamed to 'decay_start' (and 7 more)" in line
    assert "run leanrx sweep with another 'label'" in line
    assert contents(old_run) == before


def test_a_sweep_does_not_resume_a_run_of_an_earlier_version(
    old_run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(old_run)
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    line = error_line(capsys, monkeypatch, "sweep", path, "--runs", old_run.parent)
    assert "a run of an earlier version of leanrx" in line
    assert contents(old_run) == before


def test_old_receivers_under_a_new_configuration_are_refused(old_run: Path) -> None:
    (old_run / "config.yaml").write_text(SweepConfig.parse(CONFIG, "x").to_yaml())
    with pytest.raises(UserError, match=r"earlier version of leanrx \(it has receivers/hybrid-w2-d1-twin\); keep it"):
        load_run(old_run)


def test_old_tables_are_refused_with_the_command_that_writes_them_again(old_run: Path) -> None:
    run = Run(old_run, SweepConfig.parse(CONFIG, "x"))
    with pytest.raises(UserError, match=r"ber\.parquet: .* another version; delete it and run: leanrx evaluate"):
        run.counts()
    with pytest.raises(UserError, match=r"energy\.parquet: .* another version; delete it and run: leanrx energy"):
        run.energy()


def test_a_run_computes_its_plan_once(tmp_path: Path) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "x"), tmp_path)
    assert run.plan is run.plan
    assert load_run(run.folder).plan.names == run.plan.names


def test_a_run_without_receivers_takes_over_another_configuration(tmp_path: Path) -> None:
    config = SweepConfig.parse(CONFIG, "x")
    open_run(config, tmp_path)
    other = config.model_copy(update={"seed": 2})
    assert load_run(open_run(other, tmp_path).folder).config == other


class Spectral(DeepRx):
    """A network with an operator whose arithmetic is not known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.fft.fft(x).real)


def test_a_network_that_cannot_be_counted_is_refused_before_training(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    registry.register(replace(registry.FAMILIES["deeprx"], name="spectral", network=Spectral))
    config = {**CONFIG, "students": {"receivers": ["spectral-w0.0625-d3"]}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    line = error_line(capsys, monkeypatch, "sweep", tmp_path / "c.yaml", "--runs", tmp_path / "runs")
    assert "spectral-w0.0625-d3: the arithmetic of aten::_fft_r2c is not known" in line
    assert not (tmp_path / "runs").exists()


MIXED = """
label: mixed
scenario:
  name: mixed
  grid: {num_prb: 1, pilot_patterns: [[2]]}
  channels: {train: [TDL-B], test: [TDL-A]}
  mixture: [{grid: {num_rx: 1}, modulations: [QPSK]}, {grid: {num_rx: 4}, modulations: [64-QAM]}]
device: cpu
teacher: {receiver: hybrid-shared-w3-d1, training: {steps: 2, batch_slots: 2, warmup_steps: 0}}
students: {receivers: hybrid-shared-w3-d2, training: {steps: 2, batch_slots: 2, warmup_steps: 0}}
evaluation: {sinr_db: [5], block_slots: 4, min_slots: 4, max_slots: 4}
"""


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["leanrx", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    sessions.release_locks()
    streams = capsys.readouterr()
    return int(end.value.code or 0), streams.out + streams.err


def test_a_run_trains_on_a_mixture_and_tests_on_the_scenario_itself(tmp_path: Path, monkeypatch, capsys) -> None:
    path, folder = tmp_path / "mixed.yaml", tmp_path / "runs"
    path.write_text(MIXED)
    assert command(monkeypatch, capsys, "train", str(path), "--runs", str(folder))[0] == 0
    code, text = command(monkeypatch, capsys, "evaluate", str(folder / "mixed"))
    assert code == 0, text
    assert "teacher: tested at receive antennas 2, trained on receive antennas 1, 4" in text
    counts = pd.read_parquet(folder / "mixed" / "ber.parquet").set_index("receiver")
    assert set(counts["bits"]) == {4 * 13 * 12 * 4}  # 16-QAM of the scenario, though the networks have 6 LLRs
    path.write_text(MIXED.replace("num_rx: 4", "num_rx: 8"))
    code, text = command(monkeypatch, capsys, "train", str(path), "--runs", str(folder))
    assert code == 2
    assert "trained with scenario.mixture" in text
