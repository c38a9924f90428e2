"""Students trained together on one stream beside the same students trained one after the other.

Eight students of DeepRx (four sizes, two temperatures) at 26 PRB. Both ways run in processes of their own, in turns;
all steps but the first, which warms up, are timed, and the peak of resident memory is read at the end. The weights
must be equal byte for byte.

With d seconds for a block, t for the teacher's pass and s_i for a step of student i, the ratio is
``sum(d + t + s_i) / (d + t + sum(s_i))``: printed beside what was timed.

    python scripts/benchmarks/bench_sweep.py [--steps 6] [--repeats 3] [--quick]
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
from distillation import trainer
from distillation.job import Job, Training
from distillation.objective import Distillation
from receivers.neural.registry import build
from receivers.neural.weights import Card, NeuralReceiver

SIZES = ("hybrid-w5-d5", "hybrid-w13-d8", "deeprx-w0.0625-d5", "deeprx-w0.125-d5")
TEACHER = "deeprx"
TEMPERATURES = (1.0, 4.0)
CONSOLE = Console(width=120)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=6)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--quick", action="store_true", help="three steps, once: rough")
    arguments.add_argument("--worker", nargs="*", type=int, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker is not None:
        print(json.dumps(_train(given.worker, given.steps)))
        return
    steps, repeats = (3, 1) if given.quick else (given.steps, given.repeats)
    everyone = list(range(len(SIZES) * len(TEMPERATURES)))
    together, separate = [], []
    for _ in range(repeats):
        together.append(_run(everyone, steps))
        separate.append([_run([i], steps) for i in everyone])
    for one in separate:
        assert {k: v for part in one for k, v in part["digests"].items()} == together[0]["digests"], "weights differ"
    joint_s = statistics.median(r["seconds"] for r in together)
    apart_s = statistics.median(sum(r["seconds"] for r in one) for one in separate)
    joint_mib = statistics.median(r["peak_mib"] for r in together)
    apart_mib = statistics.median(max(r["peak_mib"] for r in one) for one in separate)
    shown = Table(
        "", "wall clock [s]", "peak memory [MiB]", title=f"{len(everyone)} students, 26 PRB, {steps - 1} steps"
    )
    shown.add_row("separately, one after the other", f"{apart_s:.1f}", f"{apart_mib:.0f}")
    shown.add_row("together", f"{joint_s:.1f}", f"{joint_mib:.0f}")
    CONSOLE.print(shown)
    blocks_s, teacher_s = (statistics.median(r[k] for r in together) for k in ("blocks_s", "teacher_s"))
    own_s = joint_s - blocks_s - teacher_s
    bound = (len(everyone) * (blocks_s + teacher_s) + own_s) / joint_s
    CONSOLE.print(
        f"of which blocks {blocks_s:.1f} s, teacher {teacher_s:.1f} s, learners' own steps {own_s:.1f} s, which "
        f"nothing can share: {bound:.2f} times less in all"
    )
    print(
        json.dumps(
            {
                "bench": "sweep",
                "peer": "the same trainings one after the other",
                "ratio": apart_s / joint_s,
                "runs": repeats,
                "cases": {
                    "together_s": joint_s,
                    "separate_s": apart_s,
                    "together_peak_mib": joint_mib,
                    "separate_peak_mib": apart_mib,
                    "blocks_s": blocks_s,
                    "teacher_s": teacher_s,
                    "own_steps_s": own_s,
                    "ratio_of_parts": bound,
                },
            }
        )
    )


def _run(members: list[int], steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--steps", str(steps), "--worker", *map(str, members)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _train(members: list[int], steps: int) -> dict[str, Any]:
    wide = scenario("tdl-6prb").model_copy(update={"grid": Grid(num_prb=26, pilot_patterns=((2,),))})
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
        scenario=wide.name,
        channels=tuple(wide.channels.train),
        trained_sinr_db=(0, 0),
        seed=0,
        training={},
        weights_sha256="untrained",
    )
    teacher = NeuralReceiver(build(TEACHER), card)
    jobs = [
        Job(f"{spec}-T{t:g}", "student", spec, wide, training, 1, Distillation(temperature=t), (teacher,))
        for spec in SIZES
        for t in TEMPERATURES
    ]
    chosen = [jobs[i] for i in members]
    with tempfile.TemporaryDirectory() as folder:
        ends: dict[int, float] = {}
        receivers = trainer.train(
            chosen, Path(folder), on_step=lambda job, state: ends.update({state.step: time.perf_counter()})
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": ends[steps] - ends[1],
        "peak_mib": peak_mib,
        "digests": {r.name: r.digest for r in receivers},
        **(_parts(chosen[0], teacher, steps - 1) if len(chosen) > 1 else {}),
    }


def _parts(job: Job, teacher: NeuralReceiver, steps: int) -> dict[str, float]:
    """What the steps spend on what is shared."""
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
