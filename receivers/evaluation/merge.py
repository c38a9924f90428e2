"""Joining the error counts of shards into one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from channels import Stream
from leanrx_core.errors import UserError
from receivers.base import Receiver
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.error_counts import BlockCount
from receivers.evaluation.monte_carlo import _points
from receivers.evaluation.stopping import Evaluation
from receivers.evaluation.store import CountStore, read_table


def merge_counts(
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

    def matches(row: BlockCount) -> bool:
        if row.stream == stream_id and row.device != device:
            raise UserError(
                f"{path}: counted on {row.device}, the parts on {device}, where slots differ; delete one of them"
            )
        return (
            row.stream == stream_id
            and row.digest == digests.get(row.receiver, row.digest)
            and (evaluation.code_rate in (None, row.code_rate))
        )

    ledger = CountStore(path, matches)
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
    evaluation = evaluation.model_copy(
        update={
            "sinr_db": tuple(sorted({*evaluation.sinr_db, *(r.sinr_db for r in every)})),
            "interference_fractions": tuple(
                sorted({*evaluation.interference_fractions, *(r.interference_fraction for r in every)})
            ),
        }
    )
    points = _points([r.name for r in receivers], evaluation, stream.block_slots)
    for point in points:
        for _ in point.advance(ledger, evaluation):
            pass
    unfinished = [(p.interference_fraction, p.sinr_db) for p in points if not p.stopped]
    if not unfinished:
        ledger.close({(p.interference_fraction, p.sinr_db): p.end for p in points})
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
