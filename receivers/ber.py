"""Counting bit and slot errors of several receivers on the same slots, over SINR.

Every block of every test point is one row per receiver, so that runs resume at the block, more receivers or points
can be added later, and receivers can be compared block by block. Rows go to an append-only journal while counting
and to one Parquet table at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from pydantic import Field, model_validator

from channels import Record, Slots, SlotStream, UserError
from channels.records import write_atomic
from receivers.intervals import slot_clustered, wilson
from receivers.protocol import Receiver

FIRM_SLOT_ERRORS = 100
"""Erroneous slots below which a point's interval is weak and nothing can be said about an error floor."""


class Evaluation(Record):
    """Where and how long to count.

    Attributes:
        sinr_db: test points (mean powers, per receive antenna).
        interference_shares: parts of interference in the interference-plus-noise power; each gives a curve.
        block_slots: slots in a block.
        min_slots, max_slots: a point gets at least and at most this many slots.
        target_slot_errors: a point is done when every receiver has this many erroneous slots (and ``min_slots``).
    """

    sinr_db: tuple[float, ...] = Field(min_length=1)
    interference_shares: tuple[float, ...] = Field((0.0,), min_length=1)
    block_slots: int = Field(64, ge=1)
    min_slots: int = Field(256, ge=1)
    max_slots: int = Field(1024, ge=1)
    target_slot_errors: int = Field(200, ge=1)

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        for name in ("min_slots", "max_slots"):
            if getattr(self, name) % self.block_slots:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of block_slots {self.block_slots}")
        if self.min_slots > self.max_slots:
            raise ValueError(f"min_slots {self.min_slots} is above max_slots {self.max_slots}")
        for name in ("sinr_db", "interference_shares"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names a point twice")
        for sinr_db in self.sinr_db:
            if not -50 <= sinr_db <= 100:
                raise ValueError(f"sinr_db: {sinr_db} is outside -50..100 dB")
        for share in self.interference_shares:
            if not 0 <= share < 1:
                raise ValueError(f"interference_shares: {share} is outside 0..1 (1 excluded: noise remains)")
        return self


@dataclass(frozen=True)
class BlockCount:
    """Errors of one receiver in one block. Sums of squares over slots serve the clustered interval."""

    receiver: str
    digest: str
    stream: str
    interference_share: float
    sinr_db: float
    block: int
    slots: int
    bits: int
    bit_errors: int
    slot_errors: int
    bit_errors_sq: int
    bit_errors_x_bits: int
    bits_sq: int
    realised_sinr_db: float


@dataclass(frozen=True)
class PointState:
    """Where a test point stands after a block: total counts per receiver, and why it stopped, if it did."""

    interference_share: float
    sinr_db: float
    slots: int
    bit_errors: dict[str, int]
    bits: int
    slot_errors: dict[str, int]
    stopped: str


def count_block(receiver: Receiver, slots: Slots) -> dict[str, int]:
    """Errors of one receiver on one batch of slots, as the counting fields of :class:`BlockCount`."""
    mask = slots.bit_mask
    wrong = ((receiver(slots) > 0) != slots.bits.bool()) & mask
    errors, bits = wrong.sum((1, 2, 3)), mask.sum((1, 2, 3))
    return {
        "slots": len(slots),
        "bits": int(bits.sum()),
        "bit_errors": int(errors.sum()),
        "slot_errors": int((errors > 0).sum()),
        "bit_errors_sq": int((errors * errors).sum()),
        "bit_errors_x_bits": int((errors * bits).sum()),
        "bits_sq": int((bits * bits).sum()),
    }


def device_name(device: str) -> str:
    """``cpu``, or the name of a GPU: random numbers and arithmetic are equal on equal devices only."""
    return "cpu" if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device)


def stream_digest(stream: SlotStream) -> str:
    """Fingerprint of what a stream draws apart from its SINR, and of the device that draws it."""
    scenario = stream.scenario.model_dump_json(exclude={"name", "snr_db"})
    text = f"{scenario}/{stream.name}/{stream.seed}/{stream.block_slots}/{device_name(stream.device)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def count_errors(
    receivers: Sequence[Receiver], stream: SlotStream, evaluation: Evaluation, path: str | Path
) -> Iterator[PointState]:
    """Count all receivers on the same slots of every test point; yield the state after each block.

    Counts are kept in ``path`` (Parquet); rows found there, or in the journal of an interrupted call, are not counted
    again. The outcome does not depend on interruptions.

    Args:
        receivers: all see the same slots; names must differ.
        stream: slots to test on; its SNR and interference are replaced at each point.
        evaluation: points and stop rule.
        path: the table of counts; the journal lies beside it.

    Raises:
        UserError: if two receivers share a name, or the table cannot be read.
    """
    names = [r.name for r in receivers]
    if len(set(names)) < len(names):
        raise UserError(f"receivers: names must differ, given {', '.join(names)}")
    path = Path(path)
    digest = stream_digest(stream)
    current = {r.name: r.digest for r in receivers}
    done = {
        (row.receiver, row.interference_share, row.sinr_db, row.block): row
        for row in _read(path)
        if row.stream == digest and current.get(row.receiver, row.digest) == row.digest
    }
    journal = path.with_suffix(".journal.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        for share in evaluation.interference_shares:
            for sinr_db in evaluation.sinr_db:
                at_point = stream.at_sinr(sinr_db, share)
                totals: dict[str, list[BlockCount]] = {n: [] for n in names}
                for number in range(evaluation.max_slots // stream.block_slots):
                    missing = [r for r in receivers if (r.name, share, sinr_db, number) not in done]
                    if missing:
                        slots = at_point.block(number)
                        realised = float(slots.sinr_db.mean())
                        for receiver in missing:
                            row = BlockCount(
                                receiver.name, receiver.digest, digest, share, sinr_db, number,
                                **count_block(receiver, slots), realised_sinr_db=realised,
                            )  # fmt: skip
                            done[receiver.name, share, sinr_db, number] = row
                            file.write(json.dumps(asdict(row)) + "\n")
                        file.flush()
                        os.fsync(file.fileno())
                    for name in names:
                        totals[name].append(done[name, share, sinr_db, number])
                    state = _state(share, sinr_db, totals, evaluation)
                    yield state
                    if state.stopped:
                        break
    _write(path, list(done.values()))
    journal.unlink()


def _state(share: float, sinr_db: float, totals: dict[str, list[BlockCount]], evaluation: Evaluation) -> PointState:
    rows = next(iter(totals.values()))
    slots = sum(r.slots for r in rows)
    slot_errors = {n: sum(r.slot_errors for r in rows) for n, rows in totals.items()}
    stopped = ""
    if slots >= evaluation.min_slots and min(slot_errors.values()) >= evaluation.target_slot_errors:
        stopped = "target errors"
    elif slots + rows[0].slots > evaluation.max_slots:
        stopped = "most slots"
    return PointState(
        share, sinr_db, slots,
        {n: sum(r.bit_errors for r in rows) for n, rows in totals.items()},
        sum(r.bits for r in rows), slot_errors, stopped,
    )  # fmt: skip


def _read(path: Path) -> list[BlockCount]:
    rows: list[BlockCount] = []
    journal = path.with_suffix(".journal.jsonl")
    reading = path
    try:
        if path.exists():
            rows += [BlockCount(**r) for r in pd.read_parquet(path).to_dict("records")]
        reading = journal
        if journal.exists():
            lines = journal.read_bytes().split(b"\n")
            if lines[-1]:  # killed while writing: drop the part of a line, so that appending starts a fresh one
                write_atomic(journal, b"".join(line + b"\n" for line in lines[:-1]))
            rows += [BlockCount(**json.loads(line)) for line in lines[:-1]]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{reading}: not a table of counts ({type(error).__name__}); delete it to count again"
        ) from None
    return rows


def _write(path: Path, rows: list[BlockCount]) -> None:
    order = ["interference_share", "sinr_db", "receiver", "block"]
    table = pd.DataFrame([asdict(r) for r in rows]).sort_values(order, ignore_index=True)
    write_atomic(path, table.to_parquet())


def rates(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """BER and slot error rate per receiver and point, with intervals at ``level``.

    Args:
        counts: rows of :class:`BlockCount`.

    Returns:
        columns ``receiver, interference_share, sinr_db, realised_sinr_db, slots, bits, bit_errors, slot_errors, ber,
        ber_low, ber_high, slot_error_rate, slot_error_rate_low, slot_error_rate_high, firm``; a point is firm with at
        least :data:`FIRM_SLOT_ERRORS` erroneous slots.
    """
    keys = ["interference_share", "receiver", "sinr_db"]
    sums = ["slots", "bits", "bit_errors", "slot_errors", "bit_errors_sq", "bit_errors_x_bits", "bits_sq"]
    grouped = counts.groupby(keys, sort=True)
    table = grouped[sums].sum()
    table["realised_sinr_db"] = grouped["realised_sinr_db"].mean()
    table = table.reset_index()
    table["ber"] = table["bit_errors"] / table["bits"]
    clustered = [
        slot_clustered(
            r.slots, r.slot_errors, r.bits, r.bit_errors, r.bit_errors_sq, r.bit_errors_x_bits, r.bits_sq, level
        )  # fmt: skip
        for r in table.itertuples()
    ]
    table["ber_low"], table["ber_high"] = zip(*clustered, strict=True)
    table["slot_error_rate"] = table["slot_errors"] / table["slots"]
    binomial = [wilson(r.slot_errors, r.slots, level) for r in table.itertuples()]
    table["slot_error_rate_low"], table["slot_error_rate_high"] = zip(*binomial, strict=True)
    table["firm"] = table["slot_errors"] >= FIRM_SLOT_ERRORS
    return table.drop(columns=sums[4:])


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
