"""Count wrong transport blocks of the zoo's receivers, and write them into their results and docs/zoo.md.

    python scripts/reproduce/coded_zoo.py [NAME...] [--bler 0.1] [--interference-fractions 0] [--shard 1/2]

This is due when a receiver is published, and when its LLRs change. One transport block of MCS 14 (16-QAM, rate
553/1024) fills each slot. The slots are those of the shipped results, from the first one on. A receiver is counted from
the lowest SINR upwards, until the whole interval of its BLER is below ``--bler``. A point stops at 100 block errors.

Counts are stored in ``runs/zoo-coded``, one table per receiver, and a second call resumes. ``--shard 1/2`` counts every
second receiver and writes no results. So two processes can share the work. A last call without it writes the results,
at the interference fractions of that call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from publish_to_zoo import PAGE, page

from channels import SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import classical_receivers
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.mcs import Mcs
from receivers.evaluation.monte_carlo import ALL_BLOCKS, Shard, count_errors
from receivers.evaluation.stopping import Evaluation
from receivers.zoo.coded_results import CodedPoint, CodedResults
from receivers.zoo.shipped_results import Results

FOLDER = Path("runs/zoo-coded")
MCS = Mcs(index=14)
SINR_DB = (3.0, 6.0, 9.0, 12.0, 13.5, 15.0, 16.5, 18.0, 21.0, 24.0)
BLOCK_ERRORS = 100
MIN_SLOTS, MAX_SLOTS = 128, 32_768


@dataclass(frozen=True)
class Task:
    """One receiver on the test slots of a family.

    Attributes:
        family: a receiver of the zoo, whose test slots these are.
        receiver: name of a receiver of the zoo or of a classical one.
    """

    family: str
    receiver: str

    @property
    def path(self) -> Path:
        """Table of the counts, in a folder of the test slots."""
        return FOLDER / zoo.results(self.family).stream / f"{self.receiver.replace(' ', '-')}.parquet"

    def load(self) -> Receiver:
        """The receiver."""
        if self.receiver in zoo.names():
            return zoo.load(self.receiver)
        return next(r for r in classical_receivers(zoo.results(self.family).scenario) if r.name == self.receiver)


def families(names: Sequence[str]) -> list[list[str]]:
    """Receivers of the zoo, grouped by their test slots."""
    groups: dict[str, list[str]] = {}
    for name in names:
        results = zoo.results(name)
        groups.setdefault(f"{results.scenario.model_dump_json()} {results.stream}", []).append(name)
    return list(groups.values())


def tasks(family: Sequence[str]) -> list[Task]:
    """All receivers of a family, and the classical ones."""
    classical = [r.name for r in classical_receivers(zoo.results(family[0]).scenario)]
    return [Task(family[0], name) for name in [*family, *classical]]


def evaluation(results: Results, fraction: float, sinr_db: float) -> Evaluation:
    """A test point and its stop rule."""
    return Evaluation(
        sinr_db=(sinr_db,),
        interference_fractions=(fraction,),
        block_slots=results.block_slots,
        min_slots=MIN_SLOTS,
        max_slots=MAX_SLOTS,
        target_slot_errors=None,
        target_block_errors=BLOCK_ERRORS,
        mcs=MCS,
    )


def count(task: Task, fraction: float, lowest_bler: float) -> None:
    """Count a receiver at an interference fraction, up to the SINR at which its BLER is low enough."""
    results, receiver = zoo.results(task.family), task.load()
    stream = SlotStream(results.scenario, results.test_seed, results.block_slots, "test")
    for sinr_db in SINR_DB:
        counts = Counts()
        for state in count_errors([receiver], stream, evaluation(results, fraction, sinr_db), task.path):
            counts = state.counts[receiver.name]
        point = f"{task.receiver}, interference fraction {fraction:g}, {sinr_db:g} dB"
        print(f"{point}: {counts.block_errors} errors in {counts.transport_blocks} blocks", flush=True)
        if counts.bler_interval()[1] < lowest_bler:
            break


def counted(task: Task, fractions: Sequence[float]) -> tuple[CodedPoint, ...]:
    """The points of :func:`count`."""
    table = pd.read_parquet(task.path)
    table = table[table["interference_fraction"].isin(fractions)].groupby(["interference_fraction", "sinr_db"])
    sums = table[["transport_blocks", "block_errors"]].sum().reset_index()
    return tuple(
        CodedPoint(
            interference_fraction=row["interference_fraction"],
            sinr_db=row["sinr_db"],
            blocks=row["transport_blocks"],
            block_errors=row["block_errors"],
        )
        for row in sums.to_dict("records")
    )


def write_results(family: Sequence[str], fractions: Sequence[float]) -> None:
    """Write the counts of a family into the results of its receivers."""
    points = {task.receiver: counted(task, fractions) for task in tasks(family)}
    classical = {name: own for name, own in points.items() if name not in family}
    for name in family:
        coded = CodedResults(mcs=MCS, points=points[name], classical=classical)
        zoo.results(name).model_copy(update={"coded": coded}).write(zoo.SHIPPED / name / "results.json")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="receivers of the zoo; default: all")
    parser.add_argument("--bler", type=float, default=0.01, help="BLER down to which each receiver is counted")
    parser.add_argument("--interference-fractions", type=float, nargs="+", default=[0.0, 0.8])
    parser.add_argument("--shard", type=Shard.parse, default=ALL_BLOCKS, help="part of the receivers, such as 1/2")
    try:
        arguments = parser.parse_args(argv)
        shard, fractions = arguments.shard, arguments.interference_fractions
        groups = families(arguments.names or zoo.names())
        own = [task for family in groups for task in tasks(family)][shard.index - 1 :: shard.count]
        for fraction in fractions:
            for task in own:
                count(task, fraction, arguments.bler)
        if shard == ALL_BLOCKS:
            for family in groups:
                write_results(family, fractions)
            write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"coded_zoo: {error}")


if __name__ == "__main__":
    main()
