"""Monte Carlo error counts of several receivers on the same slots, over SINR.

Every block of every test point is one row per receiver. So runs resume at the block, receivers and points can be added
later, and receivers can be compared block by block::

    points, in order  --(point, block number)-->  worker pool: one process or several
         ^                                              |
         |  a point reads its blocks in order           v
         +--and stops by them alone  <------------  count store: journal, then table

The blocks of a point are decided from its blocks in order. Workers may count a few blocks more; those rows are dropped.
So the table is the same for any number of workers, after an interruption, and when shards are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from channels import Stream
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.evaluation.block_counter import BlockCounter
from receivers.evaluation.points import ALL_BLOCKS, PointProgress, PointState, Shard, build_points
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import CountStore
from receivers.evaluation.workers import Task, WorkerPool, worker_pool

__all__ = ["ALL_BLOCKS", "PointState", "Shard", "count_errors", "sinr_range_warnings"]


def count_errors(
    receivers: Sequence[Receiver],
    stream: Stream,
    evaluation: Evaluation,
    path: str | Path,
    workers: int = 1,
    shard: Shard = ALL_BLOCKS,
) -> Iterator[PointState]:
    """Count the errors of all receivers on the same slots of every test point.

    Counts are stored in ``path`` (Parquet). Rows stored there, or in the journal of an interrupted call, are not
    counted again. The result depends neither on interruptions nor on ``workers``.

    Args:
        receivers: all see the same slots; names must differ.
        stream: test slots; SNR and interference are set at each point.
        evaluation: points and stop rule.
        path: the table of counts; the journal lies next to it.
        workers: number of processes that count in parallel.
        shard: count only these block numbers, and stop by them alone.
            :func:`receivers.evaluation.merge.merge_counts` applies the stop rule to all shards.

    Yields:
        The state of a point after each of its blocks.

    Raises:
        UserError: if two receivers share a name, the code does not fit into the slots, the table cannot be read, or a
            worker process ends.

    Example:
        >>> import tempfile, pandas as pd
        >>> from channels import SlotStream, scenario
        >>> from receivers.classical import LsReceiver, PerfectCsiReceiver
        >>> from receivers.evaluation.rates import rates
        >>> evaluation = Evaluation(sinr_db=(10,), block_slots=8, min_slots=8, max_slots=16)
        >>> stream = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=8, split="test")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/ber.parquet"
        ...     states = list(count_errors([LsReceiver(), PerfectCsiReceiver()], stream, evaluation, path))
        ...     table = rates(pd.read_parquet(path)).set_index("receiver")
        >>> states[-1].stopped, states[-1].slots
        ('most slots', 16)
        >>> bool(table.loc["perfect CSI", "ber"] < table.loc["LS", "ber"])
        True
    """
    names = [r.name for r in receivers]
    if len(set(names)) < len(names):
        raise UserError(f"receivers: names must differ, given {', '.join(names)}")
    if workers < 1:
        raise UserError(f"workers: {workers} is too few; give 1 or more")
    evaluation.transport_formats(stream.scenario)  # refuses a code that does not fit
    counter = BlockCounter(receivers, stream, evaluation.code_rate)
    points = build_points(names, evaluation, stream.block_slots, shard)
    store = CountStore(path, counter.matches)
    for point in points:
        yield from point.advance(store, evaluation)
    if any(not point.stopped for point in points):
        with worker_pool(counter, workers) as pool:
            yield from _count_points(points, pool, store, evaluation)
    store.finalize({(p.interference_fraction, p.sinr_db): p.num_blocks for p in points})


def _count_points(
    points: Sequence[PointProgress], pool: WorkerPool, store: CountStore, evaluation: Evaluation
) -> Iterator[PointState]:
    """Keep the pool busy until every point has stopped."""
    by_key = {(p.interference_fraction, p.sinr_db): p for p in points}
    num_running = 0
    while active := [point for point in points if not point.stopped]:
        while num_running < pool.size and (choice := _next_task(active, store)):
            point, task = choice
            point.in_flight.add(task[2])
            pool.submit(task)
            num_running += 1
        (fraction, sinr_db, number, _), rows = pool.collect()
        num_running -= 1
        store.add(rows)
        point = by_key[fraction, sinr_db]
        point.in_flight.discard(number)
        yield from point.advance(store, evaluation)


def _next_task(points: Sequence[PointProgress], store: CountStore) -> tuple[PointProgress, Task] | None:
    """A task of the first point with the fewest blocks in flight, so that few blocks are discarded."""
    for point in sorted(points, key=lambda p: len(p.in_flight)):
        task = point.next_task(store)
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
