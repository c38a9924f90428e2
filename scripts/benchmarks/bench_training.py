"""Training speed as installed, compared with another version of leanrx in turns.

    git worktree add ../base COMMIT
    python scripts/benchmarks/bench_training.py ../base [--teacher hybrid-w16-d6] [--student hybrid-w5-d5] [--busy 1]

Each turn runs ``leanrx train`` with a version's own processes and threads. It trains a teacher, a student and its
scratch baseline. The rate counts the steps of all three, from the first line of the training logs to the last. So the
start of the program does not count, and a turn that takes longer than ``--limit`` is stopped and still counts. Short
trainings do not start processes, see ``MIN_SLOTS`` of :mod:`leanrx.experiment.executors.training_pool`.

Versions take turns, and medians are compared, because other programs may use the machine. With ``--busy``, busy
processes run beside all turns. Checkouts before the package ``leanrx`` have other names of settings and commands.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
CONSOLE = Console(width=120)
POLL_S = 0.2


@dataclass(frozen=True)
class Turn:
    """One training.

    Attributes:
        steps_per_s: steps of all receivers per second; 0 if the limit came before the second line.
        cpu_s: processor time of the command and its processes, with the start of the program.
        complete: whether all receivers were trained within the limit.
    """

    steps_per_s: float
    cpu_s: float
    complete: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="checkout of the other version")
    parser.add_argument("--teacher", default="hybrid-w16-d6")
    parser.add_argument("--student", default="hybrid-w5-d5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="of each receiver")
    parser.add_argument("--limit", type=float, default=120, help="seconds of a turn at most")
    parser.add_argument("--busy", type=int, default=0, help="busy processes beside")
    arguments = parser.parse_args()
    versions = {"base": arguments.base.resolve(), "this": ROOT}
    turns: dict[str, list[Turn]] = {version: [] for version in versions}
    with tempfile.TemporaryDirectory() as folder, _busy_processes(arguments.busy):
        for number in range(arguments.rounds):
            for version, root in versions.items():
                place = Path(folder) / f"{version}-{number}"
                place.mkdir()
                config = _configuration(root, arguments.teacher, arguments.student, arguments.steps)
                turns[version].append(_turn(root, config, place, arguments.limit))
                CONSOLE.print(f"round {number + 1}, {version}: {turns[version][-1]}")
    _print(turns, arguments)


def _configuration(root: Path, teacher: str, student: str, steps: int) -> dict[str, Any]:
    """The same training in the names of a version."""
    present = (root / "leanrx").is_dir()
    training = {"steps": steps, "batch_slots": 16, "optimizer": "adamw", "learning_rate": 5e-3, "warmup_steps": 5}
    training |= {"max_gradient_norm": 1.0, "checkpoint_steps": steps}
    return {
        "label": "bench",
        "scenario": "tdl-6prb" if present else "desk",
        "seed": 1,
        "device": "cpu",
        "teacher": {"receiver": teacher, "training": training},
        "students": {"receivers": [student], "seeds": [1], "training": dict(training)},
        "evaluation": {"sinr_db": [10]},
    }


def _turn(root: Path, config: dict[str, Any], folder: Path, limit_s: float) -> Turn:
    """Train in one version, and read its logs while it works."""
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(config))
    module = "leanrx.cli.main" if (root / "leanrx").is_dir() else "distillation.cli"
    code = f"import sys\nfrom {module} import main\nif __name__ == '__main__':\n    sys.exit(main())"
    command = [sys.executable, "-c", code, "train", str(path), "--runs", str(folder)]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(root)}
    before_s, begin = _cpu_s(), time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        first, last = (0.0, 0), (0.0, 0)
        while process.poll() is None and time.perf_counter() - begin < limit_s:
            time.sleep(POLL_S)
            steps = _logged_steps(folder)
            if steps and not first[1]:
                first = (time.perf_counter(), steps)
            if steps > last[1]:
                last = (time.perf_counter(), steps)
        complete = process.poll() is not None
        if not complete:
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() != 0 and complete:
            sys.exit(f"bench_training: {root} failed:\n{(folder / 'log').read_text()[-2000:]}")
    steps_per_s = (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0
    return Turn(round(steps_per_s, 3), round(_cpu_s() - before_s, 1), complete)


def _logged_steps(folder: Path) -> int:
    """Steps of all receivers, by the last complete line of each training log."""
    logs = [path.read_text().rpartition("\n")[0].splitlines() for path in folder.glob("bench/training/*.jsonl")]
    return sum(json.loads(lines[-1])["step"] for lines in logs if lines)


def _cpu_s() -> float:
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _print(turns: dict[str, list[Turn]], arguments: argparse.Namespace) -> None:
    rates = {version: statistics.median(turn.steps_per_s for turn in rows) for version, rows in turns.items()}
    ratio = rates["this"] / rates["base"] if rates["base"] else None
    table = Table("version", "steps/s", "CPU s of a turn", "complete", title=f"medians of {arguments.rounds} rounds")
    for version, rows in turns.items():
        cpu_s = statistics.median(turn.cpu_s for turn in rows)
        complete = sum(turn.complete for turn in rows)
        table.add_row(version, f"{rates[version]:.2f}", f"{cpu_s:.1f}", f"{complete}/{len(rows)}")
    CONSOLE.print(table)
    load = os.getloadavg()[0]
    CONSOLE.print(f"load average at the end: {load:.1f} on {os.cpu_count()} cores")
    answer = {"bench": "training", "peer": str(arguments.base), "busy": arguments.busy, "load": load, "ratio": ratio}
    print(json.dumps(answer))


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
