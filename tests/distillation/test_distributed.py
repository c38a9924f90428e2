"""Two processes train one receiver: the weights of one process, the same on both, through a kill as well."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.torch
import torch
import yaml
from energy_factories import training_energy
from torch import distributed, multiprocessing

from channels import Channels, Scenario, SlotStream
from distillation import distributed as process_group
from distillation import trainer
from distillation.distributed import ProcessGroup, init
from distillation.job import Job, Training
from distillation.losses import bit_loss
from energy.metering.training import TrainingEnergy
from leanrx.experiment import workflow
from leanrx.experiment.run import load_run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import train_all
from leanrx_core.errors import UserError
from receivers.neural.registry import build
from receivers.neural.weights import load

ROOT = Path(__file__).parents[2]
TRAINING = Training(
    steps=5,
    batch_slots=3,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_steps=2,
    checkpoint_steps=2,
    deep_supervision_weight=0.5,
)
RECEIVERS = ["hybrid-w4-d2", "deeprx-w0.03125-d3"]


def train_rank(rank: int, port: int, scenario: Scenario, folder: Path) -> None:
    """One of two processes; saves its final weights."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    assert init() == ProcessGroup(rank, 2, rank)
    save_receiver = trainer._Trainer.save_receiver

    def save_with_parameters(trainer_: Any, names: list[str]) -> Any:
        own = {k: v.detach().contiguous() for k, v in trainer_.net.named_parameters()}
        safetensors.torch.save_file(own, folder / f"{trainer_.job.name}-{rank}.safetensors")
        return save_receiver(trainer_, names)

    trainer._Trainer.save_receiver = save_with_parameters  # type: ignore[method-assign]
    for receiver in RECEIVERS:
        (trained,) = trainer.train([Job(receiver, "teacher", receiver, scenario, TRAINING, 5)], folder)
        assert trained.digest == load(folder / "receivers" / receiver).digest
    distributed.destroy_process_group()


def test_two_processes_take_the_steps_of_one(tmp_path: Path, small: Scenario) -> None:
    """One slot for the first, two for the second, of unequal numbers of bits."""
    scenario = small.model_copy(update={"channels": Channels(train=("Rayleigh",), test=("AWGN",))})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train_rank, (port, scenario, tmp_path), nprocs=2)
    for name in RECEIVERS:
        first, second = (safetensors.torch.load_file(tmp_path / f"{name}-{r}.safetensors") for r in (0, 1))
        assert all(torch.equal(first[k], second[k]) for k in first)
        card = load(tmp_path / "receivers" / name).card
        assert (card.training["processes"], card.training["slots"]) == (2, 15)
    hybrid = RECEIVERS[0]
    single = trainer.train([Job(hybrid, "teacher", hybrid, scenario, TRAINING, 5)], tmp_path / "single")[0].net
    parallel = safetensors.torch.load_file(tmp_path / f"{hybrid}-0.safetensors")
    initial = build(hybrid, small.grid.num_rx, small.bits_per_symbol, 5).state_dict()
    training_change = max((v - initial[k]).abs().max().item() for k, v in single.named_parameters())
    deviation = max((v - parallel[k]).abs().max().item() for k, v in single.named_parameters())
    assert deviation < 1e-3 * training_change
    parallel_log, single_log = (
        [json.loads(line) for line in (folder / "training" / f"{hybrid}.jsonl").read_text().splitlines()]
        for folder in (tmp_path, tmp_path / "single")
    )
    assert [x["step"] for x in parallel_log] == [1, 2, 3, 4, 5]
    assert [x["loss"] for x in parallel_log] == pytest.approx([x["loss"] for x in single_log], rel=1e-5)
    assert [x["ber"] for x in parallel_log] == pytest.approx([x["ber"] for x in single_log], rel=1e-4)


def test_weighted_gradients_of_shards_add_up(small: Scenario) -> None:
    """In double precision, on parts of unequal numbers of slots and bits."""
    mixed = small.model_copy(update={"modulations": ("QPSK", "64-QAM")})
    slots = SlotStream(mixed, 3, 5).block(0)
    llrs = torch.randn(slots.bits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    llrs.requires_grad_()
    (whole,) = torch.autograd.grad(bit_loss(llrs, slots), llrs)
    gradient, counts = torch.zeros_like(whole), []
    for rank in range(3):
        own, weight = ProcessGroup(rank, 3).shard(slots)
        first, last = 5 * rank // 3, 5 * (rank + 1) // 3
        (shard_gradient,) = torch.autograd.grad(weight * bit_loss(llrs[first:last], own), llrs)
        gradient += shard_gradient / 3  # DistributedDataParallel's mean
        counts.append(len(own))
    assert counts == [1, 2, 2]
    torch.testing.assert_close(gradient, whole, rtol=1e-6, atol=0)


CONFIG = {
    "label": "small",
    "scenario": {"name": "tiny", "grid": {"num_prb": 1}, "channels": {"train": ["Rayleigh"], "test": ["AWGN"]}},
    "device": "cpu",
    "teacher": {
        "receiver": "hybrid-w4-d2",
        "training": {
            "steps": 60,
            "batch_slots": 4,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "warmup_steps": 4,
            "checkpoint_steps": 5,
        },
    },
    "students": {"receivers": ["hybrid-w2-d2"]},
    "evaluation": {"sinr_db": [10], "block_slots": 8, "min_slots": 8, "max_slots": 8},
    "metering": {"cpu_power_w": 10, "c_files": False},
}


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            "leanrx.cli.main",
            "train",
            str(path),
            *arguments,
            "--runs",
            str(folder),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


class Silent:
    def on_training(self, jobs):
        return lambda job, state: None


def test_torchrun_resumes_after_all_were_killed(tmp_path: Path) -> None:
    log, checkpoint = (tmp_path / "small" / x for x in ("training/teacher.jsonl", "checkpoints/teacher.safetensors"))
    command, due = torchrun(tmp_path, "teacher"), time.monotonic() + 300
    while not (checkpoint.exists() and len(log.read_text().splitlines()) > 15):
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < due
        time.sleep(0.01)
    workers = psutil.Process(command.pid).children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    command.communicate(timeout=60)
    assert command.returncode != 0
    with safetensors.safe_open(str(checkpoint), "pt") as file:
        assert 10 <= int(file.metadata()["step"]) < 60
    log_before = log.read_text()

    command = torchrun(tmp_path, "teacher")
    out, err = command.communicate(timeout=300)
    assert command.returncode == 0, err
    assert out.count("train teacher (hybrid-w4-d2): step 60/60") == 1
    assert out.count("receivers: ") == 1
    assert log.read_text().startswith("\n".join(log_before.splitlines()[:10]))
    run = load_run(tmp_path / "small")
    assert (
        TrainingEnergy.from_json(run.receiver("teacher").card.training["energy"], "teacher").energy_j("CodeCarbon") > 0
    )

    single = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path / "single")
    train_all(single, Silent(), "teacher")  # type: ignore[arg-type]
    parameters = (dict(r.receiver("teacher").net.named_parameters()) for r in (run, single))
    initial = build("hybrid-w4-d2", 2, 4, 1).state_dict()
    parallel, single_parameters = parameters
    training_change = max((single_parameters[k] - initial[k]).abs().max().item() for k in single_parameters)
    deviation = max((single_parameters[k] - parallel[k]).abs().max().item() for k in single_parameters)
    assert deviation < 1e-2 * training_change


def test_torchrun_is_for_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path)
    monkeypatch.setattr(workflow, "current", lambda: ProcessGroup(0, 2))
    with pytest.raises(UserError, match="trains teachers and scratch baselines only, and hybrid-w2-d2-kd is a student"):
        train_all(run, Silent(), "hybrid-w2-d2-kd")  # type: ignore[arg-type]
    assert not (run.folder / "training").exists()


def test_more_processes_than_slots_are_refused(
    tmp_path: Path, small: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "current", lambda: ProcessGroup(0, 4))
    with pytest.raises(UserError, match="batch_slots: 3 is too few for 4 processes"):
        trainer.train([Job("teacher", "teacher", "hybrid-w4-d2", small, TRAINING, 5)], tmp_path)


def test_energy_is_summed_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines of two ranks each, with CPU counters of whole machines, or models of single processes."""

    def gather(readings: list[Any], own: Any) -> None:
        readings[:] = [(0, own[1]), (1, own[1]), (0, own[1]), (1, own[1])]

    monkeypatch.setattr(process_group.distributed, "all_gather_object", gather)
    for provenance, cpu_j in (("modelled", 4.0), ("measured", 2.0)):
        energy = training_energy(1.0, 3.0, 0.5, provenance)
        total = ProcessGroup(1, 4, 1).sum_energy(energy)
        assert {m.component: m.energy_j for m in total.measurements} == {"cpu": cpu_j, "gpu": 12.0, "ram": 1.0}
        assert {m.duration_s for m in total.measurements} == {2.0}
        assert total.windows == energy.windows


def test_each_process_uses_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    backends: list[str] = []
    monkeypatch.setattr(process_group.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(process_group.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(process_group.distributed, "init_process_group", backends.append)
    for key, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "4,6"}.items():
        monkeypatch.setenv(key, value)
    init()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
    assert backends == ["cpu:gloo,cuda:nccl"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="2 processes for 2 GPUs"):
        init()
