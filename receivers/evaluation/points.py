"""Progress of the test points of an evaluation: which blocks are counted, and whether a point has stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from leanrx_core.errors import UserError
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import CountStore
from receivers.evaluation.workers import Task


@dataclass(frozen=True)
class Shard:
    """The part of one machine of ``count``: block numbers ``index - 1``, ``index - 1 + count``, and so on.

    Attributes:
        index: from 1 to ``count``.
        count: number of machines.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shard such as ``"1/4"``.

        Raises:
            UserError: if the text is not a shard.

        Example:
            >>> Shard.parse("2/4")
            Shard(index=2, count=4)
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard: '{text}' is not a shard; write 1/4 for the first of four, up to 4/4")
        return cls(int(match[1]), int(match[2]))


ALL_BLOCKS = Shard()
"""The only shard of one machine."""


@dataclass(frozen=True)
class PointState:
    """State of a test point after a block.

    Attributes:
        interference_fraction, sinr_db: the point.
        counts: error counts by receiver.
        stopped: why the point stopped; empty while it runs.
    """

    interference_fraction: float
    sinr_db: float
    counts: dict[str, Counts]
    stopped: str

    @property
    def slots(self) -> int:
        """Slots counted so far."""
        return next(iter(self.counts.values())).slots


@dataclass
class PointProgress:
    """A test point: blocks read in order, and blocks that workers count now.

    Attributes:
        interference_fraction, sinr_db: the point.
        numbers: block numbers of this shard.
        counts: error counts by receiver over the blocks read.
        num_read: number of blocks read.
        in_flight: numbers of blocks that are being counted.
        stopped: why the point stopped; empty while it runs.
    """

    interference_fraction: float
    sinr_db: float
    numbers: range
    counts: dict[str, Counts]
    num_read: int = 0
    in_flight: set[int] = field(default_factory=set)
    stopped: str = ""

    def advance(self, store: CountStore, evaluation: Evaluation) -> Iterator[PointState]:
        """Read stored blocks in order, and apply the stop rule after each."""
        while not self.stopped:
            number = self.numbers[self.num_read]
            rows = [store.get((name, self.interference_fraction, self.sinr_db, number)) for name in self.counts]
            if any(row is None for row in rows):
                return
            self.counts = {row.receiver: self.counts[row.receiver] + row for row in rows if row is not None}
            self.num_read += 1
            if evaluation.targets_met(self.counts.values()):
                self.stopped = "targets met"
            elif self.num_read == len(self.numbers):
                self.stopped = "most slots"
            yield PointState(self.interference_fraction, self.sinr_db, self.counts, self.stopped)

    def next_task(self, store: CountStore) -> Task | None:
        """The first block that is neither stored nor being counted, if there is one."""
        for number in self.numbers[self.num_read :]:
            if number not in self.in_flight:
                point = self.interference_fraction, self.sinr_db, number
                missing = tuple(name for name in self.counts if store.get((name, *point)) is None)
                if missing:
                    return *point, missing
        return None

    @property
    def num_blocks(self) -> int:
        """Number of blocks up to the last one read, blocks of other shards included."""
        return self.numbers[self.num_read - 1] + 1 if self.num_read else 0


def build_points(
    names: Sequence[str], evaluation: Evaluation, block_slots: int, shard: Shard = ALL_BLOCKS
) -> list[PointProgress]:
    """All test points of an evaluation, before any block is read.

    Args:
        names: receivers.
        evaluation: points and stop rule.
        block_slots: slots per block.
        shard: block numbers to count.

    Raises:
        UserError: if the shard has no block.
    """
    numbers = range(shard.index - 1, evaluation.max_slots // block_slots, shard.count)
    if not numbers:
        raise UserError(
            f"shard: {shard.index}/{shard.count} has no block, max_slots {evaluation.max_slots} is "
            f"{evaluation.max_slots // block_slots} blocks; write fewer shards"
        )
    return [
        PointProgress(fraction, sinr_db, numbers, dict.fromkeys(names, Counts()))
        for fraction in evaluation.interference_fractions
        for sinr_db in evaluation.sinr_db
    ]
