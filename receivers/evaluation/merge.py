"""Merging the error counts of shards into one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from channels import Stream
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.error_counts import BlockCount
from receivers.evaluation.points import build_points
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import CountStore, read_counts


def merge_counts(
    receivers: Sequence[Receiver], stream: Stream, evaluation: Evaluation, path: str | Path, parts: Sequence[Path]
) -> list[tuple[float, float]]:
    """Merge tables of shards into the table that one process would have counted.

    The stop rule is applied to the merged blocks in order; blocks beyond are dropped. Points that only one part has
    are merged too.

    Args:
        receivers, stream, evaluation: those of the shards; nothing is counted here.
        path: the merged table; if it exists, the parts are added to it.
        parts: tables of shards.

    Returns:
        Interference fraction and SINR of incomplete points. If there are any, the merged rows stay in the journal, and
        :func:`receivers.evaluation.monte_carlo.count_errors` with the same arguments counts the missing blocks.

    Raises:
        UserError: if a part was counted on other slots, with other receivers or another code, or if two tables differ
            in a block.
    """
    tables = {Path(part): read_counts(part, "count this shard again") for part in parts}
    rows = [row for table in tables.values() for row in table]
    if not rows:
        raise UserError("merge: no counts to join; run leanrx evaluate RUN --shard 1/N first")
    digests, stream_id, device = {r.name: r.digest for r in receivers}, stream_digest(stream), rows[0].device
    for part, table in tables.items():
        for row in table:
            _check_part(part, row, digests, stream_id, device, evaluation)
    store = CountStore(path, _row_filter(path, digests, stream_id, device, evaluation))
    for part, table in tables.items():
        _add_part(store, part, table)
    points = build_points([r.name for r in receivers], _with_points_of(evaluation, rows), stream.block_slots)
    for point in points:
        for _ in point.advance(store, evaluation):
            pass
    unfinished = [(p.interference_fraction, p.sinr_db) for p in points if not p.stopped]
    if not unfinished:
        store.finalize({(p.interference_fraction, p.sinr_db): p.num_blocks for p in points})
    return unfinished


def _row_filter(
    path: str | Path, digests: dict[str, str], stream: str, device: str, evaluation: Evaluation
) -> Callable[[BlockCount], bool]:
    """Which rows of the existing table belong to the merge."""

    def matches(row: BlockCount) -> bool:
        if row.stream == stream and row.device != device:
            raise UserError(
                f"{path}: counted on {row.device}, the parts on {device}, where slots differ; delete one of them"
            )
        return (
            row.stream == stream
            and row.digest == digests.get(row.receiver, row.digest)
            and (evaluation.code_rate in (None, row.code_rate))
        )

    return matches


def _add_part(store: CountStore, part: Path, rows: list[BlockCount]) -> None:
    for row in rows:
        stored = store.get(row.key)
        if stored is not None and stored != row:
            raise UserError(
                f"{part}: block {row.block} of {row.receiver} at {row.sinr_db:g} dB differs from the same block of "
                "another table; count one of them again on an equal machine"
            )
    store.add(row for row in rows if store.get(row.key) is None)


def _with_points_of(evaluation: Evaluation, rows: list[BlockCount]) -> Evaluation:
    """The evaluation, with the points of the rows added."""
    fractions = {*evaluation.interference_fractions, *(row.interference_fraction for row in rows)}
    sinrs_db = {*evaluation.sinr_db, *(row.sinr_db for row in rows)}
    return evaluation.model_copy(
        update={"sinr_db": tuple(sorted(sinrs_db)), "interference_fractions": tuple(sorted(fractions))}
    )


def _check_part(
    part: Path, row: BlockCount, digests: dict[str, str], stream: str, device: str, evaluation: Evaluation
) -> None:
    problem = ""
    if row.stream != stream:
        problem = "was counted on other slots than this run's (another scenario, seed or block_slots)"
    elif row.receiver not in digests:
        problem = f"counts '{row.receiver}', which is not a receiver of this run"
    elif row.digest != digests[row.receiver]:
        problem = f"counts another '{row.receiver}' than this run's (other weights or settings)"
    elif evaluation.code_rate not in (None, row.code_rate):
        problem = f"has code_rate {row.code_rate:g}, this run {evaluation.code_rate:g} (0: uncoded)"
    elif row.device != device:
        problem = f"was counted on {row.device}, another part on {device}, where slots differ"
    if problem:
        raise UserError(f"{part}: {problem}; count this shard again from a copy of this run's folder")
