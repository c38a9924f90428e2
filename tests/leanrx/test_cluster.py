"""A sweep on a real cluster of two nodes on this machine: lost workers and nodes, mistakes, and metering."""

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
from leanrx.experiment import ray_cluster as cluster_module
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
    "metering": {"batch_slots": 2, "min_duration_s": 1, "cpu_power_w": 10},
}
KD = ["hybrid-w4-d2-kd-s1", "hybrid-w4-d2-kd-s2"]
"""The first of the two cohorts that follow the teacher's, whose slots differ by their seeds."""

APART = {"node_ip_address": "127.0.0.2", "object_store_memory": 80 * 2**20}
"""Of the second node; a driver joins a node of its own address, which must not be the one that a test kills."""


class Silent:
    def training(self, jobs):
        return lambda job, state: None

    def skipped(self, name: str) -> None: ...
    def metering(self, name: str, index: int, total: int) -> None: ...


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
            with warnings.catch_warnings():  # Ray leaves ends of its processes to the collector
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


def until(found: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    due = time.monotonic() + 300
    while time.monotonic() < due and process.poll() is None:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


def diary(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / "cluster" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_sweep_outlives_a_worker_and_a_node(tmp_path: Path, nodes: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path / "embedded")
    train_all(alone, Silent())  # type: ignore[arg-type]
    torch.set_num_threads(threads)

    second = nodes.add_node(num_cpus=1, **APART)
    nodes.wait_for_nodes()
    command = leanrx("train", write(tmp_path), "--runs", tmp_path, "--ray", nodes.address)
    run = tmp_path / "small"
    hits: dict[bool, str] = {}

    def hit() -> bool:
        """Kill the worker on the first node, and the whole second node, when each is past two checkpoints."""
        for name in KD:
            last = (diary(run, name) or [{"step": 0, "node": ""}])[-1]
            is_second = last["node"] == second.node_id
            if 10 < last["step"] < 140 and is_second not in hits:
                hits[is_second] = name
                if is_second:
                    second.kill_raylet()
                else:
                    os.kill(last["pid"], signal.SIGKILL)
        return len(hits) == 2

    until(hit, command)
    assert sorted(hits.values()) == KD
    out, err = command.communicate(timeout=300)
    nodes.remove_node(second, allow_graceful=False)
    assert command.returncode == 0, err
    assert all(f"train {name}: step 150/150" in out for name in KD)

    there = load_run(run)
    assert there.receiver_names() == alone.receiver_names()
    for name in there.receiver_names():
        weights = [r.receivers_folder / name / "weights.safetensors" for r in (there, alone)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name
        logs = [r.folder / "training" / f"{name}.jsonl" for r in (there, alone)]
        assert logs[0].read_text() == logs[1].read_text()
        assert there.receiver(name).card.training["energy"]["cpu_j"] > 0
    for name in KD:
        steps: dict[int, list[int]] = {}
        for line in diary(run, name):
            if line["receiver"] == name:
                steps.setdefault(line["pid"], []).append(line["step"])
        lost, after = steps.values()  # two workers, one after the other
        assert lost == list(range(1, lost[-1] + 1))
        assert 10 < lost[-1] < 150
        assert after == list(range(after[0], 151))
        assert lost[-1] + 1 - after[0] in range(TRAINING["checkpoint_steps"] + 1)  # lost since its last checkpoint


DRIVER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from leanrx.experiment.ray_cluster import Cluster
from leanrx.experiment.run import load_run

address, node, folder = sys.argv[1:]
gate, run, free = Path(folder) / "gate", load_run(Path(folder) / "small"), []


class ProgressCallback:
    def metering(self, name, index, total):
        free.append(ray.state.available_resources_per_node()[node].get("CPU", 0.0))


def neighbour():
    while not gate.exists():
        time.sleep(0.05)
    return time.time()


cluster = Cluster(address)
here = NodeAffinitySchedulingStrategy(node, soft=False)
before = ray.remote(num_cpus=1, scheduling_strategy=here)(neighbour).remote()
with ThreadPoolExecutor() as pool:
    metered = pool.submit(cluster.meter_all, run, ProgressCallback())
    waited = not wait([metered], timeout=2).done and not (run.folder / "cluster" / "metering.jsonl").exists()
    gate.touch()
    metered.result(timeout=300)
print(json.dumps({"waited": waited, "free": free, "neighbour_left": ray.get(before)}))
"""
"""Meters while a neighbour is at work on the same node; a process of its own, since a driver may die with its node."""


def test_metering_has_a_node_to_itself(tmp_path: Path, nodes: Any) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path)
    train_all(run, Silent(), "teacher")  # type: ignore[arg-type]
    node = nodes.add_node(num_cpus=2, **APART)
    nodes.wait_for_nodes()
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, nodes.address, node.node_id, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    nodes.remove_node(node)
    assert driver.returncode == 0, driver.stderr
    seen = json.loads(driver.stdout.splitlines()[-1])
    assert seen["waited"]
    lines = diary(run.folder, "metering")
    assert {line["node"] for line in lines} == {node.node_id}
    assert [line["metering"] for line in lines] == ["LS", "LMMSE", "LMMSE-IRC", "teacher"]
    assert len(seen["free"]) == 4
    assert set(seen["free"][:-1]) == {0.0}  # the last window may be over when it is told
    assert seen["neighbour_left"] <= os.stat(run.folder / "cluster" / "metering.jsonl").st_ctime
    assert set(run.energy()["receiver"]) == {"LS", "LMMSE", "LMMSE-IRC", "teacher"}


@pytest.fixture
def driver(nodes: Any) -> Iterator[None]:
    """This process, which may join the cluster, leaves it."""
    import ray

    yield
    ray.shutdown()


def test_mistakes_of_users_reach_them_and_are_not_tried_again(
    tmp_path: Path, capsys, monkeypatch, nodes: Any, driver: Any
) -> None:
    hot = write(tmp_path, teacher={**CONFIG["teacher"], "training": {**TRAINING, "steps": 5, "learning_rate": 1e30}})
    line = mistake(capsys, monkeypatch, "train", hot, "--runs", tmp_path, "--ray", nodes.address)
    assert line == "leanrx: teacher: loss is not finite; lower learning_rate, change label"
    assert len({line["pid"] for line in diary(tmp_path / "small", "teacher")}) == 1


def test_more_cores_than_a_node_has(tmp_path: Path, capsys, monkeypatch, nodes: Any, driver: Any) -> None:
    line = mistake(capsys, monkeypatch, "train", write(tmp_path), "--ray", nodes.address, "--cores", 64)
    assert line == "leanrx: cores: 64 is more than any node has; give 1 or less"


def test_a_node_that_does_not_see_the_run(tmp_path: Path) -> None:
    run = open_run(SweepConfig.parse(CONFIG, "test"), tmp_path / "here")
    with pytest.raises(UserError, match=r"does not see this folder .* file system that all nodes share"):
        cluster_module._enter("/elsewhere", 1, replace(run, folder=Path("runs/small")))


def test_a_lost_worker_that_still_runs_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "GONE_S", 0.6)
    path = tmp_path / "cluster" / "teacher.jsonl"
    with ThreadPoolExecutor() as pool:
        with cluster_module._held(path):
            with (
                pytest.raises(UserError, match="held by a worker that was given up for lost"),
                cluster_module._held(path),
            ):
                pass
            monkeypatch.setattr(cluster_module, "GONE_S", 60)
            second = pool.submit(lambda: cluster_module._held(path).__enter__())
            assert wait([second], timeout=0.7).not_done
        second.result(timeout=10).close()


def mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """The one line that a mistake is told in."""
    monkeypatch.setattr(sys, "argv", ["leanrx", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999"])
def test_what_is_no_address(tmp_path: Path, capsys, monkeypatch, address: str) -> None:
    line = mistake(capsys, monkeypatch, "sweep", write(tmp_path), "--runs", tmp_path / "runs", "--ray", address)
    assert line.startswith(f"leanrx: ray: '{address}' is not an address; write HOST:PORT")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("there", ["nobody", "mute", "other"])
def test_an_address_that_does_not_answer(tmp_path: Path, capsys, monkeypatch, there: str) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER_S", 0.5)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{door.getsockname()[1]}"
        if there != "nobody":
            door.listen()
        if there == "other":

            def answer() -> None:
                with door.accept()[0] as visitor:
                    visitor.recv(100)
                    visitor.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

            threading.Thread(target=answer, daemon=True).start()
        line = mistake(capsys, monkeypatch, "sweep", write(tmp_path), "--runs", tmp_path / "runs", "--ray", address)
    assert f"ray: no Ray cluster answers at {address}; start one with: ray start --head" in line
    assert not (tmp_path / "runs").exists()


def test_ray_that_is_not_installed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = mistake(capsys, monkeypatch, "train", write(tmp_path), "--runs", tmp_path / "runs", "--ray", "127.0.0.1:1")
    assert line == "leanrx: ray: not installed; run: pip install 'leanrx[cluster]'"


def test_cores_without_a_cluster(tmp_path: Path, capsys, monkeypatch) -> None:
    assert "cores: goes with --ray" in mistake(capsys, monkeypatch, "train", write(tmp_path), "--cores", 2)
