"""Peak memory of a long evaluation: the desk scenario and the classical receivers, at 0 to 21 dB.

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
    """Largest resident set of this process, or of the largest of its children that have ended."""
    return resource.getrusage(who).ru_maxrss / 2**20  # Linux counts KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=100_000, help="slots, over all points")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    tdl_6prb = scenario("tdl-6prb")
    slots = max(1, arguments.slots // (BLOCK_SLOTS * len(POINTS_DB))) * BLOCK_SLOTS
    evaluation = Evaluation(
        sinr_db=POINTS_DB, block_slots=BLOCK_SLOTS, min_slots=slots, max_slots=slots, target_slot_errors=None
    )
    stream, begin = SlotStream(tdl_6prb, 1, BLOCK_SLOTS, "test"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ber.parquet"
        for state in count_errors(classical_receivers(tdl_6prb), stream, evaluation, path, arguments.workers):
            if state.stopped or state.slots % (100 * BLOCK_SLOTS) == 0:
                here = peak_gib(resource.RUSAGE_SELF)
                print(f"{state.sinr_db:g} dB: {state.slots} slots, {time.monotonic() - begin:.0f} s, {here:.2f} GiB")
        size = path.stat().st_size
    here, child = peak_gib(resource.RUSAGE_SELF), peak_gib(resource.RUSAGE_CHILDREN)
    together = here + (arguments.workers * child if arguments.workers > 1 else 0)
    print(f"{slots * len(POINTS_DB)} slots by {arguments.workers} process(es): at most {together:.2f} GiB resident")
    print(f"(this process {here:.2f}, the largest worker {child:.2f}); table of counts {size / 2**10:.0f} KiB")


if __name__ == "__main__":
    main()
