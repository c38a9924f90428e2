"""Estimates of time and memory: what grows with what, bytes by hand, and nothing written."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from run_factories import save_receivers

from leanrx.cli.main import main
from leanrx.experiment import cost_estimate
from leanrx.experiment.cost_estimate import estimate_cost
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig

TRAINING = {"steps": 1000, "batch_slots": 8, "warmup_steps": 0}
DATA = {
    "label": "x",
    "scenario": "tdl-6prb",
    "device": "cpu",
    "teacher": {"receiver": "hybrid-w4-d2", "training": TRAINING},
    "students": {"receivers": "deeprx-w0.03125-d3", "training": TRAINING},
    "evaluation": {"sinr_db": [0, 10], "interference_fractions": [0, 0.5], "min_slots": 64, "max_slots": 640},
    "metering": {"rounds": 3, "min_duration_s": 10},
}


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample of four slots takes four seconds, and a process has no memory of its own."""
    monkeypatch.setattr(cost_estimate, "_seconds", lambda call: 4.0)
    monkeypatch.setattr(cost_estimate, "_resident_bytes", lambda: 0)


def run(folder: Path, **changes: object) -> Run:
    return Run(folder, SweepConfig.parse({**DATA, **changes}, "x"))


@pytest.mark.usefixtures("one_second")
def test_times_are_those_of_the_slots(tmp_path: Path) -> None:
    """One second for a block, a step, a forward pass, each per slot.

    The teacher takes 8,000 slots of 2 s. Student and scratch baseline take 8,000 slots of 1 s for the block, 1 s for
    the teacher and 2 s for their steps. A test slot takes 1 s for the block and 8 s for three networks and five
    classical receivers. Six receivers are metered, as tested and in C, and idle windows are a thirteenth.
    """
    estimate = estimate_cost(run(tmp_path / "x"), cores=1)
    assert (estimate.trained, estimate.to_train, estimate.points) == (0, 3, 4)
    assert estimate.training_s == 8000 * 2 + 8000 * 4
    assert estimate.evaluation_s == (4 * 64 * 9, 4 * 640 * 9)
    assert estimate.metering_s == pytest.approx(1.4 * 3 * (2 * 6 + 1) * 10)
    two = estimate_cost(run(tmp_path / "x"), cores=2, workers=3)
    assert two.training_s == estimate.training_s / 2
    assert two.evaluation_s[1] == estimate.evaluation_s[1] / 3


@pytest.mark.usefixtures("one_second")
def test_memory_grows_with_the_batch(tmp_path: Path) -> None:
    """The bytes of a slot by hand; the bytes of the activations are those of the convolutions' inputs at least."""
    small, large = (
        estimate_cost(run(tmp_path / "x", students={"receivers": "deeprx-w0.03125-d3", "training": t}), 1)
        for t in (TRAINING, {**TRAINING, "batch_slots": 1008})
    )
    samples = cost_estimate._Samples(run(tmp_path / "x"))
    res = 14 * 72
    complex_values = 2 * 8 * res * 3 + 8 * res  # received, channel, interferer's channel at two antennas; pilots
    assert samples._slot_bytes == pytest.approx(complex_values + res * (1 + 4), rel=0.01)
    per_slot = samples._sampled_step("deeprx-w0.03125-d3")[1] + 2 * samples._slot_bytes
    assert large.training_bytes - small.training_bytes == 1000 * per_slot
    assert per_slot > 20 * 4 * res


@pytest.mark.usefixtures("one_second")
def test_trained_receivers_cost_nothing(tmp_path: Path) -> None:
    complete = run(tmp_path / "x")
    save_receivers(complete, training_slots=8)
    estimate = estimate_cost(complete, cores=2)
    assert (estimate.trained, estimate.to_train, estimate.training_s, estimate.training_bytes) == (3, 0, 0, 0)


def test_samples_take_the_time_that_they_take() -> None:
    """A product of two matrices takes longer than one of smaller ones, and the number of threads is restored."""
    threads = torch.get_num_threads()
    large, small = torch.ones(400, 400), torch.ones(40, 40)
    assert cost_estimate._seconds(lambda: large @ large) > cost_estimate._seconds(lambda: small @ small) > 0
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("one_second")
def test_the_command_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({**DATA, "report": {"sinr_db": 7}}))

    def answer(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["leanrx", "check", str(path), "--runs", str(tmp_path / "runs"), *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, "".join(capsys.readouterr())

    code, text = answer()
    assert code == 0
    assert "warning: report.sinr_db 7 is not tested; the report takes 10 dB" in text
    assert "train     3 receivers, 0 are trained already: " in text
    code, text = answer("--json", "--cores", "1")
    (estimate,) = json.loads(text)["runs"]
    assert estimate["training_s"] == 48_000
    path.write_text(yaml.safe_dump({**DATA, "search": {"ranges": {"temperature": [1, 2]}, "sinr_db": [500]}}))
    code, text = answer()
    assert code == 2
    assert "sinr_db: 500.0 is outside -50..100 dB" in text
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]
