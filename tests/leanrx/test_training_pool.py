"""Training on several cores: the weights of one process, also after a process was killed, and shares of the work."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from leanrx.experiment.executors import LocalExecutor, training_pool
from leanrx.experiment.executors.training_pool import next_share
from leanrx.experiment.run import Run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import default_workers, num_cores, train_all
from leanrx_core.errors import UserError

TRAINING = {
    "steps": 40,
    "batch_slots": 2,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "warmup_steps": 4,
    "checkpoint_steps": 5,
}
CONFIG = {
    "label": "small",
    "scenario": {"name": "tiny", "grid": {"num_prb": 1}, "channels": {"train": ["Rayleigh"], "test": ["AWGN"]}},
    "device": "cpu",
    "teacher": {"receiver": "hybrid-w4-d2", "training": TRAINING},
    "students": {"receivers": ["hybrid-w4-d2", "deeprx-w0.03125-d3"], "training": TRAINING},
    "evaluation": {"sinr_db": [10]},
    "metering": {"cpu_power_w": 10, "c_files": False},
}


class SilentProgress:
    """Calls ``on_state`` after each logged step of any receiver."""

    def __init__(self, on_state=lambda job, state: None) -> None:
        self._on_state = on_state

    def on_training(self, jobs):
        return self._on_state

    def on_skipped(self, name: str) -> None: ...
    def on_warning(self, text: str) -> None: ...


def new_run(root: Path) -> Run:
    return open_run(SweepConfig.parse(CONFIG, "small.yaml"), root)


def digests(run: Run) -> dict[str, str]:
    return {name: run.receiver(name, "cpu").digest for name in run.receiver_names()}


def test_weights_are_those_of_one_process_also_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is killed at step 13, eight steps after its second checkpoint."""
    monkeypatch.setattr(training_pool, "MIN_SLOTS", 0)
    killed: list[str] = []

    def kill(job, state) -> None:
        if state.step == 13 and not killed:
            killed.append(job.name)
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    one, pool = new_run(tmp_path / "one"), new_run(tmp_path / "pool")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_all(one, SilentProgress())
    torch.set_num_threads(threads)
    with pytest.raises(UserError, match="ended unexpectedly"):
        training_pool.train_in_pool(pool, SilentProgress(kill), 2)
    assert killed
    assert not multiprocessing.active_children()
    training_pool.train_in_pool(pool, SilentProgress(), 2)
    assert len(digests(one)) == 5
    assert digests(pool) == digests(one)


def test_a_free_process_takes_its_share_of_what_is_ready(tmp_path: Path) -> None:
    groups = new_run(tmp_path).plan.training_groups()
    names = {"LS", "perfect CSI"}
    assert [r.name for r in next_share(groups, names, 2)] == ["teacher"]
    rest = groups[1:]
    assert [r.role for r in next_share(rest, names, 2)] == ["scratch"], "they need no teacher"
    assert [r.role for r in next_share(rest, names, 1)] == ["scratch", "scratch"]
    assert len(next_share(rest, {*names, "teacher"}, 2)) == 2
    assert len(next_share(rest, {*names, "teacher"}, 3)) == 2
    assert len(next_share(rest, {*names, "teacher"}, 16)) == 1
    assert next_share([tuple(r for r in rest[0] if r.role == "student")], names, 2) == ()


def test_a_divergence_does_not_stop_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher diverges, and its students are not trained; scratch baselines are complete."""
    monkeypatch.setattr(training_pool, "MIN_SLOTS", 0)
    diverging = {**CONFIG, "teacher": {"receiver": "hybrid-w4-d2", "training": {**TRAINING, "learning_rate": 1e30}}}
    run = open_run(SweepConfig.parse(diverging, "small.yaml"), tmp_path)
    failures = training_pool.train_in_pool(run, SilentProgress(), 2)
    assert failures["teacher"].startswith("teacher: loss is not finite")
    students = {r.name for r in run.plan.neural if r.role == "student"}
    assert {name for name in failures if "because its teacher teacher diverged" in failures[name]} == students
    assert set(run.receiver_names()) == {r.name for r in run.plan.neural} - failures.keys()


@pytest.mark.parametrize(
    ("cores", "threads", "message"),
    [
        (0, 1, r"cores: 0 is outside 1\.\."),
        (100_000, 1, r"cores: 100000 is outside 1\.\."),
        (1, 0, r"threads: 0 is outside 1\.\.1"),
        (1, 2, r"threads: 2 is outside 1\.\.1"),
        (None, 100_000, r"threads: 100000 is outside 1\.\."),
    ],
)
def test_there_must_be_the_cores(cores: int | None, threads: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LocalExecutor(cores, threads)


def test_a_small_sweep_counts_in_this_process(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    points = {"sinr_db": (0.0, 10.0), "interference_fractions": (0.0, 0.5)}
    workers = []
    for min_slots in (999, 1000):
        evaluation = run.config.evaluation.model_copy(update={**points, "min_slots": min_slots})
        workers.append(default_workers(Run(run.folder, run.config.model_copy(update={"evaluation": evaluation}))))
    assert workers == [1, num_cores()]
