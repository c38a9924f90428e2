"""Where and how long to count: test points and stop rules."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from pydantic import Field, model_validator

from leanrx_core.records import Record
from receivers.evaluation.error_counts import Counts


class Evaluation(Record):
    """Where and how long to count.

    A point stops when it has ``min_slots`` and every receiver meets every target that is given, or at ``max_slots``.

    Attributes:
        sinr_db: test points (mean powers, per receive antenna).
        interference_fractions: parts of interference in the interference-plus-noise power; each gives a curve.
        block_slots: slots in a block.
        min_slots, max_slots: a point gets at least and at most this many slots.
        target_slot_errors: erroneous slots; ``null`` for no such target.
        target_relative_half_width: half of the BER's 95 % interval over the BER; 0.1 is plus or minus 10 %.
        target_block_errors: erroneous transport blocks.
        code_rate: of the LDPC code that transport blocks are decoded with; none counts no blocks.
    """

    sinr_db: tuple[float, ...] = Field(min_length=1)
    interference_fractions: tuple[float, ...] = Field((0.0,), min_length=1)
    block_slots: int = Field(64, ge=1)
    min_slots: int = Field(256, ge=1)
    max_slots: int = Field(1024, ge=1)
    target_slot_errors: int | None = Field(200, ge=1)
    target_relative_half_width: float | None = Field(None, gt=0, lt=1)
    target_block_errors: int | None = Field(None, ge=1)
    code_rate: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        for name in ("min_slots", "max_slots"):
            if getattr(self, name) % self.block_slots:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of block_slots {self.block_slots}")
        if self.min_slots > self.max_slots:
            raise ValueError(f"min_slots {self.min_slots} is above max_slots {self.max_slots}")
        for name in ("sinr_db", "interference_fractions"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names a point twice")
        for sinr_db in self.sinr_db:
            if not -50 <= sinr_db <= 100:
                raise ValueError(f"sinr_db: {sinr_db} is outside -50..100 dB")
        for share in self.interference_fractions:
            if not 0 <= share < 1:
                raise ValueError(f"interference_fractions: {share} is outside 0..1 (1 excluded: noise remains)")
        if self.target_block_errors is not None and self.code_rate is None:
            raise ValueError("target_block_errors needs code_rate: without a code there are no blocks to decode")
        return self

    def enough(self, counts: Collection[Counts]) -> bool:
        """Whether a point with these counts, one of each receiver, has what was asked for."""
        targets = (self.target_slot_errors, self.target_relative_half_width, self.target_block_errors)
        if all(target is None for target in targets) or any(c.slots < self.min_slots for c in counts):
            return False
        return all(self._meets(c) for c in counts)

    def _meets(self, counts: Counts) -> bool:
        if counts.slot_errors < (self.target_slot_errors or 0) or counts.block_errors < (self.target_block_errors or 0):
            return False
        if self.target_relative_half_width is None:
            return True
        low, high = counts.ber_interval()
        return high - low <= 2 * self.target_relative_half_width * counts.ber
