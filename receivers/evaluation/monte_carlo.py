"""Counting errors of several receivers on the same slots, over SINR.

Every block of every test point is one row per receiver, so that runs resume at the block, more receivers or points
can be added later, and receivers can be compared block by block::

    points, in order  --(point, block number)-->  crew: one process or several
         ^                                              |
         |  a point reads its blocks in order,          v
         +--and stops by them alone  <------------  ledger: journal, then table

Which blocks a point has is decided on its blocks in order. Processes may count a little beyond; those rows are dropped,
so the table is the same for any number of processes, after an interruption, and when shards are merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from channels import Stream
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.evaluation.block_counter import BlockCounter
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import CountStore
from receivers.evaluation.workers import Task, crew


@dataclass(frozen=True)
class Shard:
    """Block numbers ``index - 1``, ``index - 1 + count``, ...: the part of one machine of ``count``."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"1/4"``.

        Raises:
            UserError: if that is not a shard.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard: '{text}' is not a shard; write 1/4 for the first of four, up to 4/4")
        return cls(int(match[1]), int(match[2]))


ALL_BLOCKS = Shard()


@dataclass(frozen=True)
class PointState:
    """Where a test point stands after a block: counts per receiver, and why it stopped, if it did."""

    interference_fraction: float
    sinr_db: float
    counts: dict[str, Counts]
    stopped: str

    @property
    def slots(self) -> int:
        return next(iter(self.counts.values())).slots


@dataclass
class _Point:
    """A test point on its way: the blocks read so far, in order, and those that are being counted."""

    interference_fraction: float
    sinr_db: float
    numbers: range
    counts: dict[str, Counts]
    read: int = 0
    in_flight: set[int] = field(default_factory=set)
    stopped: str = ""

    def advance(self, ledger: CountStore, evaluation: Evaluation) -> Iterator[PointState]:
        """Read blocks as far as they are counted, and see after each whether that is enough."""
        while not self.stopped:
            keys = [(name, self.interference_fraction, self.sinr_db, self.numbers[self.read]) for name in self.counts]
            rows = [ledger.get(key) for key in keys]
            if any(row is None for row in rows):
                return
            self.counts = {row.receiver: self.counts[row.receiver].plus(row) for row in rows if row is not None}
            self.read += 1
            if evaluation.enough(self.counts.values()):
                self.stopped = "targets met"
            elif self.read == len(self.numbers):
                self.stopped = "most slots"
            yield PointState(self.interference_fraction, self.sinr_db, self.counts, self.stopped)

    def next_task(self, ledger: CountStore) -> Task | None:
        """The first block that nobody has counted or counts; none if there is no such block."""
        for number in self.numbers[self.read :]:
            if number not in self.in_flight:
                at = self.interference_fraction, self.sinr_db, number
                missing = tuple(name for name in self.counts if ledger.get((name, *at)) is None)
                if missing:
                    return *at, missing
        return None

    @property
    def end(self) -> int:
        """Blocks up to the last one read."""
        return self.numbers[self.read - 1] + 1 if self.read else 0


def _points(names: Sequence[str], evaluation: Evaluation, block_slots: int, shard: Shard = ALL_BLOCKS) -> list[_Point]:
    numbers = range(shard.index - 1, evaluation.max_slots // block_slots, shard.count)
    if not numbers:
        raise UserError(
            f"shard: {shard.index}/{shard.count} has no block, max_slots {evaluation.max_slots} is "
            f"{evaluation.max_slots // block_slots} blocks; write fewer shards"
        )
    return [
        _Point(share, sinr_db, numbers, dict.fromkeys(names, Counts()))
        for share in evaluation.interference_fractions
        for sinr_db in evaluation.sinr_db
    ]


def count_errors(
    receivers: Sequence[Receiver],
    stream: Stream,
    evaluation: Evaluation,
    path: str | Path,
    workers: int = 1,
    shard: Shard = ALL_BLOCKS,
) -> Iterator[PointState]:
    """Count all receivers on the same slots of every test point; yield the state of a point after each block.

    Counts are kept in ``path`` (Parquet); rows found there, or in the journal of an interrupted call, are not counted
    again. The outcome depends neither on interruptions nor on ``workers``.

    Args:
        receivers: all see the same slots; names must differ.
        stream: slots to test on; its SNR and interference are replaced at each point.
        evaluation: points and stop rule.
        path: the table of counts; the journal lies beside it.
        workers: processes that count side by side.
        shard: count these block numbers alone, and stop by these alone; :func:`merge` finds the common end.

    Raises:
        UserError: if two receivers share a name, the table cannot be read, or a worker process ends.
    """
    names = [r.name for r in receivers]
    if len(set(names)) < len(names):
        raise UserError(f"receivers: names must differ, given {', '.join(names)}")
    if workers < 1:
        raise UserError(f"workers: {workers} is too few; give 1 or more")
    counter = BlockCounter(receivers, stream, evaluation.code_rate)
    points = _points(names, evaluation, stream.block_slots, shard)
    at = {(p.interference_fraction, p.sinr_db): p for p in points}
    ledger = CountStore(path, counter.matches)
    for point in points:
        yield from point.advance(ledger, evaluation)
    if any(not p.stopped for p in points):
        with crew(counter, workers) as hands:
            running = 0
            while going := [p for p in points if not p.stopped]:
                while running < hands.size and (chosen := _choose(going, ledger)):
                    point, task = chosen
                    point.in_flight.add(task[2])
                    hands.submit(task)
                    running += 1
                (share, sinr_db, number, _), rows = hands.collect()
                running -= 1
                ledger.add(rows)
                at[share, sinr_db].in_flight.discard(number)
                yield from at[share, sinr_db].advance(ledger, evaluation)
    ledger.close({key: point.end for key, point in at.items()})


def _choose(points: Sequence[_Point], ledger: CountStore) -> tuple[_Point, Task] | None:
    """The next task: of the first point with the fewest blocks under way, so that few are counted in vain."""
    for point in sorted(points, key=lambda p: len(p.in_flight)):
        task = point.next_task(ledger)
        if task is not None:
            return point, task
    return None


def sinr_range_warnings(receivers: Sequence[Receiver], evaluation: Evaluation) -> list[str]:
    """One warning per learned receiver that is tested outside the SINR range of its training data."""
    warnings = []
    for receiver in receivers:
        card = getattr(receiver, "card", None)
        if card is None:
            continue
        low, high = card.trained_sinr_db
        outside = [s for s in evaluation.sinr_db if not low <= s <= high]
        if outside:
            points = ", ".join(f"{s:g}" for s in outside)
            warnings.append(f"{receiver.name}: tested at {points} dB SINR, trained on {low:.1f}..{high:.1f} dB")
    return warnings
