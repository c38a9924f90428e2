"""Measure the peak memory of a long evaluation: scenario tdl-6prb, classical receivers, 0 to 21 dB.

python scripts/benchmarks/bench_memory.py [--slots 100000] [--workers 2]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from channels import SlotStream, scenario
from receivers.classical import classical_receivers
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation

BLOCK_SLOTS, POINTS_DB = 64, (0.0, 7.0, 14.0, 21.0)


def peak_gib(who: int) -> float:
    """Return the largest resident set of this process, or of its largest child process that has ended."""
    return resource.getrusage(who).ru_maxrss / 2**20  # Linux counts KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=100_000, help="number of slots over all test points")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    arguments = parser.parse_args()
    evaluated_scenario = scenario("tdl-6prb")
    slots = max(1, arguments.slots // (BLOCK_SLOTS * len(POINTS_DB))) * BLOCK_SLOTS
    evaluation = Evaluation(
        sinr_db=POINTS_DB, block_slots=BLOCK_SLOTS, min_slots=slots, max_slots=slots, target_slot_errors=None
    )
    stream, begin = SlotStream(evaluated_scenario, 1, BLOCK_SLOTS, "test"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ber.parquet"
        for state in count_errors(classical_receivers(evaluated_scenario), stream, evaluation, path, arguments.workers):
            if state.stopped or state.slots % (100 * BLOCK_SLOTS) == 0:
                memory_gib = peak_gib(resource.RUSAGE_SELF)
                elapsed_s = time.monotonic() - begin
                print(f"{state.sinr_db:g} dB: {state.slots} slots, {elapsed_s:.0f} s, {memory_gib:.2f} GiB")
        size = path.stat().st_size
    main_gib, worker_gib = peak_gib(resource.RUSAGE_SELF), peak_gib(resource.RUSAGE_CHILDREN)
    total_gib = main_gib + (arguments.workers * worker_gib if arguments.workers > 1 else 0)
    print(f"{slots * len(POINTS_DB)} slots in {arguments.workers} process(es): at most {total_gib:.2f} GiB resident")
    print(f"(main process {main_gib:.2f}, largest worker {worker_gib:.2f}); table of counts {size / 2**10:.0f} KiB")


if __name__ == "__main__":
    main()
