"""A sweep on a real cluster of two nodes on this machine: lost workers and nodes, mistakes, metering."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from leanrx.cli.main import main
from leanrx.experiment.executors import ray_executor
from leanrx.experiment.run import load_run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import train_all
from leanrx_core.errors import UserError

ROOT = Path(__file__).parents[2]
TRAINING = {
    "steps": 150,
    "batch_slots": 1,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "warmup_steps": 4,
    "checkpoint_steps": 5,
}
CONFIG = {
    "label": "small",
    "scenario": {"name": "tiny", "grid": {"num_prb": 1}, "channels": {"train": ["Rayleigh"], "test": ["AWGN"]}},
    "device": "cpu",
    "teacher": {"receiver": "deeprx-w0.03125-d3", "training": {**TRAINING, "steps": 5}},
    "students": {"receivers": ["hybrid-w4-d2"], "seeds": [1, 2], "training": TRAINING},
    "evaluation": {"sinr_db": [10], "block_slots": 8, "min_slots": 8, "max_slots": 8},
    "metering": {"batch_slots": 2, "min_duration_s": 1, "cpu_power_w": 10, "c_files": False},
}
KD = ["hybrid-w4-d2-kd-s1", "hybrid-w4-d2-kd-s2"]
"""The first students of the two groups after the teacher's; the groups have different seeds, so different slots."""

SECOND_NODE = {"node_ip_address": "127.0.0.2", "object_store_memory": 80 * 2**20}
"""Settings of the second node. A driver joins the node with its own address, which no test may kill."""


class SilentProgress:
    def on_training(self, jobs):
        return lambda job, state: None

    def on_skipped(self, name: str) -> None: ...
    def on_metering(self, name: str, index: int, total: int) -> None: ...
    def on_warning(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head of one core; a test adds the other node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=small)
        try:
            yield cluster
        finally:
            with warnings.catch_warnings():  # Ray leaves pipes of its processes to the garbage collector
                warnings.simplefilter("ignore", ResourceWarning)
                cluster.shutdown()
                del cluster
                gc.collect()


def write(folder: Path, **changes: object) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return path


def leanrx(*arguments: object) -> subprocess.Popen[str]:
    code = "from leanrx.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


def progress_lines(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / "cluster" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_sweep_survives_the_loss_of_a_worker_and_of_a_node(tmp_path: Path, nodes: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    local = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path / "embedded")
    train_all(local, SilentProgress())  # type: ignore[arg-type]
    torch.set_num_threads(threads)

    second = nodes.add_node(num_cpus=1, **SECOND_NODE)
    nodes.wait_for_nodes()
    command = leanrx("train", write(tmp_path), "--runs", tmp_path, "--ray", nodes.address)
    run = tmp_path / "small"
    killed: dict[bool, str] = {}

    def kill_both() -> bool:
        """Kill the worker on the first node and the whole second node, each after two checkpoints."""
        for name in KD:
            last = (progress_lines(run, name) or [{"step": 0, "node": ""}])[-1]
            is_second = last["node"] == second.node_id
            if 10 < last["step"] < 140 and is_second not in killed:
                killed[is_second] = name
                if is_second:
                    second.kill_raylet()
                else:
                    os.kill(last["pid"], signal.SIGKILL)
        return len(killed) == 2

    wait_until(kill_both, command)
    assert sorted(killed.values()) == KD
    out, err = command.communicate(timeout=300)
    nodes.remove_node(second, allow_graceful=False)
    assert command.returncode == 0, err
    assert all(f"train {name}: step 150/150" in out for name in KD)

    cluster_run = load_run(run)
    assert cluster_run.receiver_names() == local.receiver_names()
    for name in cluster_run.receiver_names():
        weights = [r.receivers_folder / name / "weights.safetensors" for r in (cluster_run, local)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name
        logs = [r.folder / "training" / f"{name}.jsonl" for r in (cluster_run, local)]
        assert logs[0].read_text() == logs[1].read_text()
        measurements = cluster_run.receiver(name).card.training["energy"]["measurements"]
        assert sum(m["energy_j"] for m in measurements if m["component"] == "cpu") > 0
    for name in KD:
        steps: dict[int, list[int]] = {}
        for line in progress_lines(run, name):
            if line["receiver"] == name:
                steps.setdefault(line["pid"], []).append(line["step"])
        before, after = steps.values()  # two workers, one after the other
        assert before == list(range(1, before[-1] + 1))
        assert 10 < before[-1] < 150
        assert after == list(range(after[0], 151))
        assert before[-1] + 1 - after[0] in range(TRAINING["checkpoint_steps"] + 1)  # lost since its last checkpoint


DRIVER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from leanrx.experiment.executors.ray_executor import RayExecutor
from leanrx.experiment.run import load_run

address, node, folder = sys.argv[1:]
gate, run, free_cores = Path(folder) / "gate", load_run(Path(folder) / "small"), []


class ProgressCallback:
    def on_metering(self, name, index, total):
        free_cores.append(ray.state.available_resources_per_node()[node].get("CPU", 0.0))


def other_task():
    while not gate.exists():
        time.sleep(0.05)
    return time.time()


executor = RayExecutor(address)
on_node = NodeAffinitySchedulingStrategy(node, soft=False)
other = ray.remote(num_cpus=1, scheduling_strategy=on_node)(other_task).remote()
with ThreadPoolExecutor() as pool:
    metered = pool.submit(executor.meter_all, run, ProgressCallback())
    waited = not wait([metered], timeout=2).done and not (run.folder / "cluster" / "metering.jsonl").exists()
    gate.touch()
    metered.result(timeout=300)
print(json.dumps({"waited": waited, "free_cores": free_cores, "other_task_ended": ray.get(other)}))
"""
"""Meters while another task runs on the same node. It is a separate process, because a driver may end with its node."""


def test_metering_claims_a_whole_node(tmp_path: Path, nodes: Any) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path)
    train_all(run, SilentProgress(), "teacher")  # type: ignore[arg-type]
    node = nodes.add_node(num_cpus=2, **SECOND_NODE)
    nodes.wait_for_nodes()
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, nodes.address, node.node_id, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    nodes.remove_node(node)
    assert driver.returncode == 0, driver.stderr
    answer = json.loads(driver.stdout.splitlines()[-1])
    assert answer["waited"]
    lines = progress_lines(run.folder, "metering")
    assert {line["node"] for line in lines} == {node.node_id}
    metered = sorted(line["metering"].split("/")[0] for line in lines)
    assert metered == sorted(2 * ["LS", "LMMSE", "LMMSE-IRC", "teacher"]), "two rounds"
    assert len(answer["free_cores"]) == len(lines)
    assert set(answer["free_cores"][:-1]) == {0.0}  # the last window may have ended before the log is read
    assert answer["other_task_ended"] <= os.stat(run.folder / "cluster" / "metering.jsonl").st_ctime
    assert set(run.energy()["receiver"]) == {"LS", "LMMSE", "LMMSE-IRC", "teacher"}


@pytest.fixture
def driver(nodes: Any) -> Iterator[None]:
    """This process, which may join the cluster, leaves it."""
    import ray

    yield
    ray.shutdown()


def test_mistakes_of_users_are_reported_and_not_retried(
    tmp_path: Path, capsys, monkeypatch, nodes: Any, driver: Any
) -> None:
    diverging = write(
        tmp_path, teacher={**CONFIG["teacher"], "training": {**TRAINING, "steps": 5, "learning_rate": 1e30}}
    )
    line = error_line(capsys, monkeypatch, "train", diverging, "--runs", tmp_path, "--ray", nodes.address)
    assert line.startswith("leanrx: teacher: loss is not finite; lower learning_rate and change label")
    assert all("scratch" in name for name in load_run(tmp_path / "small").receiver_names())
    assert len({line["pid"] for line in progress_lines(tmp_path / "small", "teacher")}) == 1


def test_more_cores_than_a_node_has(tmp_path: Path, capsys, monkeypatch, nodes: Any, driver: Any) -> None:
    line = error_line(capsys, monkeypatch, "train", write(tmp_path), "--ray", nodes.address, "--cores", 64)
    assert line == "leanrx: cores: 64 is more than any node has; give 1 or less"


def test_a_node_that_cannot_read_the_run(tmp_path: Path) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path / "here")
    with pytest.raises(UserError, match=r"cannot read this folder .* file system that all nodes share"):
        ray_executor._setup_worker("/elsewhere", 1, replace(run, folder=Path("runs/small")))


def test_a_lost_worker_that_still_runs_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "WORKER_EXIT_TIMEOUT_S", 0.6)
    path = tmp_path / "cluster" / "teacher.jsonl"
    with ThreadPoolExecutor() as pool:
        with ray_executor._locked(path):
            with (
                pytest.raises(UserError, match="locked by a worker that is not responding"),
                ray_executor._locked(path),
            ):
                pass
            monkeypatch.setattr(ray_executor, "WORKER_EXIT_TIMEOUT_S", 60)
            second = pool.submit(lambda: ray_executor._locked(path).__enter__())
            assert wait([second], timeout=0.7).not_done
        second.result(timeout=10).close()


def error_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """The single line in which a mistake is reported."""
    monkeypatch.setattr(sys, "argv", ["leanrx", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999"])
def test_malformed_addresses(tmp_path: Path, capsys, monkeypatch, address: str) -> None:
    line = error_line(capsys, monkeypatch, "sweep", write(tmp_path), "--runs", tmp_path / "runs", "--ray", address)
    assert line.startswith(f"leanrx: ray: '{address}' is not an address; write HOST:PORT")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("server", ["none", "silent", "other"])
def test_an_address_that_does_not_answer(tmp_path: Path, capsys, monkeypatch, server: str) -> None:
    monkeypatch.setattr(ray_executor, "CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        if server != "none":
            listener.listen()
        if server == "other":

            def answer() -> None:
                with listener.accept()[0] as client:
                    client.recv(100)
                    client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

            threading.Thread(target=answer, daemon=True).start()
        line = error_line(capsys, monkeypatch, "sweep", write(tmp_path), "--runs", tmp_path / "runs", "--ray", address)
    assert f"ray: no Ray cluster answers at {address}; start one with: ray start --head" in line
    assert not (tmp_path / "runs").exists()


def test_ray_is_not_installed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = error_line(
        capsys, monkeypatch, "train", write(tmp_path), "--runs", tmp_path / "runs", "--ray", "127.0.0.1:1"
    )
    assert line == "leanrx: ray: not installed; run: pip install 'leanrx[cluster]'"


def test_more_cores_than_this_machine_has(tmp_path: Path, capsys, monkeypatch) -> None:
    assert "cores: 1024 is outside 1.." in error_line(capsys, monkeypatch, "train", write(tmp_path), "--cores", 1024)
