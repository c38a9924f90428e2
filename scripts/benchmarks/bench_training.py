"""Training speed of a configuration, compared with another version of leanrx in turns.

Two things are compared. ``one thread`` is the code alone: a training group in one process with one thread, seconds and
CPU seconds per step of the group. ``as installed`` is what a user gets: ``leanrx train`` with each version's own
processes and threads, twice with different numbers of steps, so that the start of the programs cancels.

Versions take turns in many short rounds, and medians are compared, because other programs may use the machine. With
``--busy``, one busy process per core runs beside every round.

    python scripts/benchmarks/bench_training.py BASE [--config CONFIG] [--rounds 5] [--steps 6] [--busy] [--installed]

``BASE`` is a checkout of the other version, such as ``git worktree add BASE COMMIT`` makes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
CONSOLE = Console(width=120)
GROUPS = ("teacher", "students and scratch baselines")
INSTALLED_STEPS = (40, 120)

GROUP_WORKER = """
import json, sys, time
from pathlib import Path
import torch
from leanrx.experiment import workflow
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SweepConfig
from receivers.neural.weights import save

torch.set_num_threads(1)
run = Run(Path(sys.argv[2]), SweepConfig.load(sys.argv[1]))
groups = run.plan.training_groups()
if int(sys.argv[3]):
    for record in groups[0]:
        receiver = workflow._untrained(run.config, record)
        save(run.receivers_folder / record.name, receiver.net, receiver.card)
times = {}
def on_training(jobs):
    return lambda job, state: times.setdefault(state.step, (time.perf_counter(), time.process_time()))
workflow.train_group(run, groups[int(sys.argv[3])], on_training, None)
pairs = zip(times[1], times[max(times)])
print(json.dumps([(end - begin) / (max(times) - 1) for begin, end in pairs]))
"""
"""Prints wall-clock and CPU seconds per step of a training group. It runs in either version."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="checkout of the other version")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/quickstart.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="steps of a group in a round, the first is not timed")
    parser.add_argument("--busy", action="store_true", help="run one busy process per core beside")
    parser.add_argument("--installed", action="store_true", help="also compare leanrx train as installed")
    arguments = parser.parse_args()
    versions = {"base": arguments.base.resolve(), "this": ROOT}
    cases: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, _busy_processes(arguments.busy):
        for number in range(arguments.rounds):
            for version, root in versions.items():
                for index, group in enumerate(GROUPS):
                    config = _short(arguments.config, Path(folder), arguments.steps)
                    seconds = _run_group(root, config, Path(folder) / f"{number}-{version}-{index}", index)
                    for unit, value in zip(("wall", "CPU"), seconds, strict=True):
                        case = f"one thread, {group}: {unit} s per step"
                        cases.setdefault(case, {}).setdefault(version, []).append(value)
                if arguments.installed:
                    value = _installed_s(root, arguments.config, Path(folder) / f"{number}-{version}")
                    cases.setdefault("as installed: s per step of all", {}).setdefault(version, []).append(value)
    table = Table("", "base", "this", "ratio", title=f"medians of {arguments.rounds} rounds in turns")
    ratios = {}
    for case, by_version in cases.items():
        base, this = (statistics.median(by_version[version]) for version in versions)
        ratios[case] = statistics.median(b / t for b, t in zip(*by_version.values(), strict=True))
        table.add_row(case, f"{base:.3f}", f"{this:.3f}", f"{ratios[case]:.2f}")
    CONSOLE.print(table)
    load = os.getloadavg()[0]
    CONSOLE.print(f"load average at the end: {load:.1f} on {os.cpu_count()} cores")
    print(json.dumps({"bench": "training", "peer": str(arguments.base), "busy": arguments.busy, "ratios": ratios}))


def _short(config: Path, folder: Path, steps: int) -> Path:
    """The configuration with this number of steps."""
    data: dict[str, Any] = yaml.safe_load(config.read_text())
    for role in ("teacher", "students"):
        data[role]["training"] |= {"steps": steps, "checkpoint_steps": steps}
    path = folder / f"{steps}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def _run_group(root: Path, config: Path, folder: Path, index: int) -> list[float]:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GROUP_WORKER, str(config), str(folder), str(index)]
    process = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return list(json.loads(process.stdout.splitlines()[-1]))


def _installed_s(root: Path, config: Path, folder: Path) -> float:
    """Seconds for one more step of all receivers."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(root)}
    durations_s = []
    for steps in INSTALLED_STEPS:
        folder.mkdir(exist_ok=True)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "leanrx", "train", str(_short(config, folder, steps)), "--runs"]
        subprocess.run([*command, str(folder / str(steps))], env=environment, cwd=root, capture_output=True, check=True)
        durations_s.append(time.perf_counter() - begin)
    return (durations_s[1] - durations_s[0]) / (INSTALLED_STEPS[1] - INSTALLED_STEPS[0])


@contextmanager
def _busy_processes(wanted: bool) -> Iterator[None]:
    count = (os.cpu_count() or 1) if wanted else 0
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()
