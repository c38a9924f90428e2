"""Eight students trained in one group, compared with the same students trained one after the other.

The students are four networks at two temperatures, with full DeepRx as teacher, at 26 PRB. Both cases run in processes
of their own, in turns. All steps are timed but the first, which is the warm-up. Peak resident memory is read at the
end. The weights must be equal byte for byte.

With d seconds for a block, t for the teacher's pass and s_i for a step of student i, the expected ratio is
``sum(d + t + s_i) / (d + t + sum(s_i))``. It is printed with the timed ratio.

    python scripts/benchmarks/bench_sweep.py [--steps 6] [--repeats 3] [--quick]

``--quick`` gives a rough result.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from channels import Grid, scenario
from distillation import Distillation, Job, Training, train
from receivers import Card, NeuralReceiver, build

SIZES = ("hybrid-w5-d5", "hybrid-w13-d8", "deeprx-w0.0625-d5", "deeprx-w0.125-d5")
TEACHER = "deeprx"
TEMPERATURES = (1.0, 4.0)
CONSOLE = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three steps, one repeat: a rough result")
    parser.add_argument("--worker", nargs="*", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        print(json.dumps(_train(arguments.worker, arguments.steps)))
        return
    steps, repeats = (3, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    students = list(range(len(SIZES) * len(TEMPERATURES)))
    group_runs, separate_runs = [], []
    for _ in range(repeats):
        group_runs.append(_run(students, steps))
        separate_runs.append([_run([index], steps) for index in students])
    for runs in separate_runs:
        digests = {name: digest for run in runs for name, digest in run["digests"].items()}
        assert digests == group_runs[0]["digests"], "weights differ"
    group_s = statistics.median(run["seconds"] for run in group_runs)
    separate_s = statistics.median(sum(run["seconds"] for run in runs) for runs in separate_runs)
    group_mib = statistics.median(run["peak_mib"] for run in group_runs)
    separate_mib = statistics.median(max(run["peak_mib"] for run in runs) for runs in separate_runs)
    table = Table(
        "", "wall clock [s]", "peak memory [MiB]", title=f"{len(students)} students, 26 PRB, {steps - 1} steps"
    )
    table.add_row("one after the other", f"{separate_s:.1f}", f"{separate_mib:.0f}")
    table.add_row("in one group", f"{group_s:.1f}", f"{group_mib:.0f}")
    CONSOLE.print(table)
    blocks_s, teacher_s = (statistics.median(run[key] for run in group_runs) for key in ("blocks_s", "teacher_s"))
    own_s = group_s - blocks_s - teacher_s
    expected_ratio = (len(students) * (blocks_s + teacher_s) + own_s) / group_s
    CONSOLE.print(
        f"shared: blocks {blocks_s:.1f} s, teacher {teacher_s:.1f} s; own steps of the students: {own_s:.1f} s; "
        f"expected ratio {expected_ratio:.2f}"
    )
    cases = {
        "together_s": group_s,
        "separate_s": separate_s,
        "together_peak_mib": group_mib,
        "separate_peak_mib": separate_mib,
        "blocks_s": blocks_s,
        "teacher_s": teacher_s,
        "own_steps_s": own_s,
        "ratio_of_parts": expected_ratio,
    }
    result = {
        "bench": "sweep",
        "peer": "the same trainings one after the other",
        "ratio": separate_s / group_s,
        "runs": repeats,
        "cases": cases,
    }
    print(json.dumps(result))


def _run(indices: list[int], steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--steps", str(steps), "--worker", *map(str, indices)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def _train(indices: list[int], steps: int) -> dict[str, Any]:
    radio = scenario("tdl-6prb").model_copy(update={"grid": Grid(num_prb=26, pilot_patterns=((2,),))})
    training = Training(
        steps=steps, batch_slots=16, optimizer="adamw", learning_rate=1e-3, warmup_steps=0, checkpoint_steps=steps
    )
    card = Card(
        name="teacher",
        receiver=TEACHER,
        role="teacher",
        num_rx=2,
        num_bits=4,
        parameters=0,
        scenario=radio.name,
        channels=tuple(radio.channels.train),
        trained_sinr_db=(0, 0),
        seed=0,
        training={},
        weights_sha256="untrained",
    )
    teacher = NeuralReceiver(build(TEACHER), card)
    jobs = [
        Job(f"{spec}-T{t:g}", "student", spec, radio, training, 1, Distillation(temperature=t), (teacher,))
        for spec in SIZES
        for t in TEMPERATURES
    ]
    selection = [jobs[i] for i in indices]
    with tempfile.TemporaryDirectory() as folder:
        end_times: dict[int, float] = {}
        receivers = train(
            selection, Path(folder), on_step=lambda job, state: end_times.update({state.step: time.perf_counter()})
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": end_times[steps] - end_times[1],
        "peak_mib": peak_mib,
        "digests": {r.name: r.digest for r in receivers},
        **(_parts(selection[0], teacher, steps - 1) if len(selection) > 1 else {}),
    }


def _parts(job: Job, teacher: NeuralReceiver, steps: int) -> dict[str, float]:
    """Seconds of the shared parts: blocks of slots and the teacher's passes."""
    stream = job.stream("cpu")
    begin = time.perf_counter()
    blocks = [stream.block(i) for i in range(4)]
    block_s = (time.perf_counter() - begin) / len(blocks)
    begin = time.perf_counter()
    for slots in blocks:
        teacher(slots)
    teacher_s = (time.perf_counter() - begin) / len(blocks)
    return {"blocks_s": steps * block_s, "teacher_s": steps * teacher_s}


if __name__ == "__main__":
    main()
