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

import pandas as pd

from channels import Stream, UserError
from receivers.counting import COUNTED, POWER_SUMS, BlockCount, Counter, Counts, count_block, device_name, stream_digest
from receivers.crew import Task, crew
from receivers.evaluation import Evaluation
from receivers.ledger import Ledger, read_table
from receivers.protocol import Receiver

__all__ = [
    "FIRM_ERRORS",
    "BlockCount",
    "Counts",
    "Evaluation",
    "PointState",
    "Shard",
    "count_block",
    "count_errors",
    "device_name",
    "merge",
    "out_of_range",
    "rates",
    "stream_digest",
]

FIRM_ERRORS = 100
"""Erroneous slots or transport blocks below which an interval is weak and nothing can be said of an error floor."""


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


WHOLE = Shard()


@dataclass(frozen=True)
class PointState:
    """Where a test point stands after a block: counts per receiver, and why it stopped, if it did."""

    interference_share: float
    sinr_db: float
    counts: dict[str, Counts]
    stopped: str

    @property
    def slots(self) -> int:
        return next(iter(self.counts.values())).slots


@dataclass
class _Point:
    """A test point on its way: the blocks read so far, in order, and those that are being counted."""

    interference_share: float
    sinr_db: float
    numbers: range
    counts: dict[str, Counts]
    read: int = 0
    in_flight: set[int] = field(default_factory=set)
    stopped: str = ""

    def advance(self, ledger: Ledger, evaluation: Evaluation) -> Iterator[PointState]:
        """Read blocks as far as they are counted, and see after each whether that is enough."""
        while not self.stopped:
            keys = [(name, self.interference_share, self.sinr_db, self.numbers[self.read]) for name in self.counts]
            rows = [ledger.get(key) for key in keys]
            if any(row is None for row in rows):
                return
            self.counts = {row.receiver: self.counts[row.receiver].plus(row) for row in rows if row is not None}
            self.read += 1
            if evaluation.enough(self.counts.values()):
                self.stopped = "targets met"
            elif self.read == len(self.numbers):
                self.stopped = "most slots"
            yield PointState(self.interference_share, self.sinr_db, self.counts, self.stopped)

    def next_task(self, ledger: Ledger) -> Task | None:
        """The first block that nobody has counted or counts; none if there is no such block."""
        for number in self.numbers[self.read :]:
            if number not in self.in_flight:
                at = self.interference_share, self.sinr_db, number
                missing = tuple(name for name in self.counts if ledger.get((name, *at)) is None)
                if missing:
                    return *at, missing
        return None

    @property
    def end(self) -> int:
        """Blocks up to the last one read."""
        return self.numbers[self.read - 1] + 1 if self.read else 0


def _points(names: Sequence[str], evaluation: Evaluation, block_slots: int, shard: Shard = WHOLE) -> list[_Point]:
    numbers = range(shard.index - 1, evaluation.max_slots // block_slots, shard.count)
    if not numbers:
        raise UserError(
            f"shard: {shard.index}/{shard.count} has no block, max_slots {evaluation.max_slots} is "
            f"{evaluation.max_slots // block_slots} blocks; write fewer shards"
        )
    return [
        _Point(share, sinr_db, numbers, dict.fromkeys(names, Counts()))
        for share in evaluation.interference_shares
        for sinr_db in evaluation.sinr_db
    ]


def count_errors(
    receivers: Sequence[Receiver],
    stream: Stream,
    evaluation: Evaluation,
    path: str | Path,
    workers: int = 1,
    shard: Shard = WHOLE,
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
    counter = Counter(receivers, stream, evaluation.code_rate)
    points = _points(names, evaluation, stream.block_slots, shard)
    at = {(p.interference_share, p.sinr_db): p for p in points}
    ledger = Ledger(path, counter.serves)
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


def _choose(points: Sequence[_Point], ledger: Ledger) -> tuple[_Point, Task] | None:
    """The next task: of the first point with the fewest blocks under way, so that few are counted in vain."""
    for point in sorted(points, key=lambda p: len(p.in_flight)):
        task = point.next_task(ledger)
        if task is not None:
            return point, task
    return None


def merge(
    receivers: Sequence[Receiver], stream: Stream, evaluation: Evaluation, path: str | Path, parts: Sequence[Path]
) -> list[tuple[float, float]]:
    """Join tables of shards into the table that one process would have counted.

    The stop rule is applied to the joined blocks in order, and blocks beyond are dropped. Points that only a part has
    are joined too.

    Args:
        receivers, stream, evaluation: those that the shards counted; nothing is counted here.
        path: the joined table; if it exists, the parts join it.
        parts: tables of shards.

    Returns:
        interference share and SINR of points that still miss blocks. If there are any, what was joined stays in the
        journal, and :func:`count_errors` with the same arguments counts the rest.

    Raises:
        UserError: if a part was counted on other slots, with other receivers or another code, or if two tables differ
            in a block.
    """
    tables = {Path(part): read_table(Path(part)) for part in parts}
    if not any(tables.values()):
        raise UserError("merge: no counts to join; run leanrx evaluate RUN --shard 1/N first")
    digests, stream_id = {r.name: r.digest for r in receivers}, stream_digest(stream)
    device = next(row.device for rows in tables.values() for row in rows)
    for part, rows in tables.items():
        for row in rows:
            _check_part(part, row, digests, stream_id, device, evaluation)

    def serves(row: BlockCount) -> bool:
        if row.stream == stream_id and row.device != device:
            raise UserError(
                f"{path}: counted on {row.device}, the parts on {device}, where slots differ; delete one of them"
            )
        return row.stream == stream_id and row.digest == digests.get(row.receiver, row.digest) and (
            evaluation.code_rate in (None, row.code_rate)
        )  # fmt: skip

    ledger = Ledger(path, serves)
    for part, rows in tables.items():
        for row in rows:
            known = ledger.get(row.key)
            if known is not None and known != row:
                raise UserError(
                    f"{part}: block {row.block} of {row.receiver} at {row.sinr_db:g} dB differs from the same block of "
                    "another table; count one of them again on an equal machine"
                )
        ledger.add(row for row in rows if ledger.get(row.key) is None)
    every = [row for rows in tables.values() for row in rows]
    evaluation = evaluation.model_copy(update={
        "sinr_db": tuple(sorted({*evaluation.sinr_db, *(r.sinr_db for r in every)})),
        "interference_shares": tuple(sorted({*evaluation.interference_shares, *(r.interference_share for r in every)})),
    })  # fmt: skip
    points = _points([r.name for r in receivers], evaluation, stream.block_slots)
    for point in points:
        for _ in point.advance(ledger, evaluation):
            pass
    unfinished = [(p.interference_share, p.sinr_db) for p in points if not p.stopped]
    if not unfinished:
        ledger.close({(p.interference_share, p.sinr_db): p.end for p in points})
    return unfinished


def _check_part(
    part: Path, row: BlockCount, digests: dict[str, str], stream: str, device: str, evaluation: Evaluation
) -> None:
    wrong = ""
    if row.stream != stream:
        wrong = "was counted on other slots than this run's (another scenario, seed or block_slots)"
    elif row.receiver not in digests:
        wrong = f"counts '{row.receiver}', which is not a receiver of this run"
    elif row.digest != digests[row.receiver]:
        wrong = f"counts another '{row.receiver}' than this run's (other weights or settings)"
    elif evaluation.code_rate not in (None, row.code_rate):
        wrong = f"has code_rate {row.code_rate:g}, this run {evaluation.code_rate:g} (0: uncoded)"
    elif row.device != device:
        wrong = f"was counted on {row.device}, another part on {device}, where slots differ"
    if wrong:
        raise UserError(f"{part}: {wrong}; count this shard again from a copy of this run's folder")


def rates(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """BER, slot error rate and BLER per receiver and point, with intervals at ``level``.

    Args:
        counts: rows of :class:`BlockCount`.

    Returns:
        columns ``receiver, interference_share, sinr_db, realised_sinr_db, slots, bits, bit_errors, slot_errors,
        transport_blocks, block_errors, ber, ber_low, ber_high, slot_error_rate, slot_error_rate_low,
        slot_error_rate_high, bler, bler_low, bler_high, firm, bler_firm``; a rate is firm with at least
        :data:`FIRM_ERRORS` erroneous slots or transport blocks. BLER is NaN where uncoded.
    """
    keys = ["interference_share", "receiver", "sinr_db"]
    grouped = counts.astype(dict.fromkeys(POWER_SUMS, float)).groupby(keys, sort=True)
    table = grouped[list(COUNTED)].sum()
    table["realised_sinr_db"] = grouped["realised_sinr_db"].mean()
    table = table.reset_index()
    sums = [Counts(**row) for row in table[list(COUNTED)].to_dict("records")]
    table["ber"] = table["bit_errors"] / table["bits"]
    table["slot_error_rate"] = table["slot_errors"] / table["slots"]
    table["bler"] = table["block_errors"] / table["transport_blocks"]
    for name, interval in (
        ("ber", Counts.ber_interval), ("slot_error_rate", Counts.slot_error_interval), ("bler", Counts.bler_interval)
    ):  # fmt: skip
        table[[f"{name}_low", f"{name}_high"]] = [interval(c, level) for c in sums]
    table["firm"] = table["slot_errors"] >= FIRM_ERRORS
    table["bler_firm"] = table["block_errors"] >= FIRM_ERRORS
    return table.drop(columns=list(POWER_SUMS))


def out_of_range(receivers: Sequence[Receiver], evaluation: Evaluation) -> list[str]:
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
