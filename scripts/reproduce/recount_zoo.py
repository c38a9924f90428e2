"""Count the errors of the zoo's receivers anew, on the slots of their shipped results, and rewrite docs/zoo.md.

    python scripts/reproduce/recount_zoo.py [NAME...] [--workers 2]

This is due when a receiver's LLRs change but its weights stay: after a change of the front end or of a classical
receiver. The results keep their points, slots and energy; error counts and operations become those of this version.
They lose the test with a code, which ``scripts/reproduce/coded_zoo.py`` runs anew. Each finished point is kept in
``runs/zoo-recount``, and a second call resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import torch
from publish_to_zoo import PAGE, page
from rich.progress import track

from channels import SlotStream
from energy.counting.counter import count
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import classical_receivers
from receivers.evaluation.error_counts import COUNTED, Counts, count_block
from receivers.zoo.shipped_results import Results

FOLDER = Path("runs/zoo-recount")


def count_point(names: Sequence[str], position: int) -> None:
    """Count receivers and the classical ones at one point of their results, unless that was done before.

    Args:
        names: receivers of the zoo with equal test slots.
        position: of the point among their points.
    """
    torch.set_num_threads(1)
    path = FOLDER / f"{names[0]}-{position}.json"
    if path.exists():
        return
    results = zoo.results(names[0])
    point = results.points[position]
    stream = SlotStream(results.scenario, results.test_seed, results.block_slots, "test")
    stream = stream.at_sinr(point.sinr_db, point.interference_fraction)
    receivers: list[Receiver] = [*map(zoo.load, names), *classical_receivers(results.scenario)]
    totals = {r.name: Counts() for r in receivers}
    for number in range(point.counts.slots // results.block_slots):
        slots = stream.block(number)
        for r in receivers:
            counts = count_block(r, slots)
            totals[r.name] += Counts(**{name: counts[name] for name in COUNTED})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({r: asdict(counts) for r, counts in totals.items()}))


def recounted(name: str, group: Sequence[str]) -> Results:
    """The results of a receiver with the counts of :func:`count_point` and the operations of this version."""
    results, receiver = zoo.results(name), zoo.load(name)
    points = []
    for position, point in enumerate(results.points):
        counts = json.loads((FOLDER / f"{group[0]}-{position}.json").read_text())
        totals = {r: Counts(**values) for r, values in counts.items()}
        classical = {r: totals[r] for r in point.classical}
        points.append(point.model_copy(update={"counts": totals[name], "classical": classical}))
    operations = count(receiver, results.scenario.grid)
    update = {"points": tuple(points), "macs": operations.macs, "macs_method": operations.method, "coded": None}
    return results.model_copy(update=update)


def groups_of_equal_slots(names: Sequence[str]) -> list[list[str]]:
    """Receivers grouped by their test slots and the number of slots at each point."""
    groups: dict[str, list[str]] = {}
    for name in names:
        results = zoo.results(name)
        slots = [(p.interference_fraction, p.sinr_db, p.counts.slots) for p in results.points]
        groups.setdefault(f"{results.stream} {slots}", []).append(name)
    return list(groups.values())


def recount(names: Sequence[str], workers: int) -> None:
    """Count all points of some receivers in processes, then rewrite their results and the page."""
    groups = groups_of_equal_slots(names)
    tasks = [(group, position) for group in groups for position in range(len(zoo.results(group[0]).points))]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(count_point, *task) for task in tasks]
        for future in track(futures, description="points"):
            future.result()
    for group in groups:
        for name in group:
            recounted(name, group).write(zoo.SHIPPED / name / "results.json")
    write_atomic(PAGE, page())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="receivers of the zoo; default: all")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    try:
        recount(arguments.names or zoo.names(), arguments.workers)
    except UserError as error:
        sys.exit(f"recount_zoo: {error}")


if __name__ == "__main__":
    main()
