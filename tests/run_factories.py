"""Parts of run folders with known results: receivers with initial weights, and error counts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from leanrx.experiment.run import Run
from receivers import Card, build
from receivers.evaluation.error_counts import BlockCount
from receivers.neural.weights import save

DATA_BITS = 624
"""Bits of a slot in the counts."""


def save_receivers(run: Run, training_slots: int) -> dict[str, Card]:
    """Save every neural receiver of a run with its initial weights.

    Args:
        run: its plan names the receivers.
        training_slots: of each receiver and each of its teachers.

    Returns:
        the cards by name; ``weights_sha256`` is the digest of the receiver.
    """
    cards = {}
    for record in run.plan.neural:
        net = build(record.spec)
        card = Card(
            name=record.name,
            receiver=record.spec,
            role=record.role,
            num_rx=2,
            num_bits=4,
            parameters=sum(p.numel() for p in net.parameters()),
            scenario="tiny",
            channels=("TDL-B",),
            trained_sinr_db=(0, 30),
            seed=record.seed or 1,
            training={"slots": training_slots, "teacher_slots": dict.fromkeys(record.teachers, training_slots)},
        )
        cards[record.name] = save(run.receivers_folder / record.name, net, card).card
    return cards


def block_count_row(
    receiver: str, digest: str, sinr_db: float, slots: int, bit_errors: int, slots_in_error: int, block: int = 0
) -> dict[str, Any]:
    """Counts of one block without interference, whose errors are spread evenly over ``slots_in_error`` slots."""
    count = BlockCount(
        receiver=receiver,
        digest=digest,
        stream="s",
        device="cpu",
        code_rate=0.0,
        interference_fraction=0.0,
        sinr_db=sinr_db,
        block=block,
        slots=slots,
        bits=DATA_BITS * slots,
        bit_errors=bit_errors,
        slot_errors=min(slots, bit_errors, slots_in_error),
        correct_slot_bits=DATA_BITS * (slots - min(slots, bit_errors, slots_in_error)),
        bit_errors_sq=bit_errors**2 // slots_in_error,
        bit_errors_x_bits=bit_errors * DATA_BITS,
        bits_sq=DATA_BITS**2 * slots,
        wanted_power=float(slots),
        unwanted_power=slots * 10 ** (-sinr_db / 10),
    )
    return asdict(count)
