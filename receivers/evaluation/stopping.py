"""Test points and stop rules of an evaluation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from channels.scenarios import MAX_BLOCK_SLOTS, Scenario
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.mcs import CodeRate, Mcs
from receivers.evaluation.transport_block import TransportFormat, scenario_formats

MAX_SLOTS = 10**9
"""Slots of a test point."""

MIN_TARGET_ERRORS = 10
"""Lowest target of slots or blocks with errors. A rate that stops at k errors is at most 1/(k - 1) too high on average
(J. B. S. Haldane, Biometrika 33, 1945)."""

MAX_TARGET_HALF_WIDTH = 0.5
"""Widest target of an interval, over the BER: that of about 15 slots with errors."""


class Evaluation(Record):
    """Test points of an evaluation, and when each point stops.

    A point stops when it has ``min_slots`` and every receiver meets every given target, or at ``max_slots``.

    Attributes:
        sinr_db: test points (mean powers, per receive antenna).
        interference_fractions: parts of interference in the interference-plus-noise power, I / (I + N); each gives a
            curve.
        block_slots: slots in a block.
        min_slots, max_slots: lower and upper limit of the slots of a point.
        target_slot_errors: slots with errors; ``null`` for no such target.
        target_relative_half_width: half width of the BER's 95 % interval over the BER; 0.1 is plus or minus 10 %.
        target_block_errors: wrong transport blocks.
        code_rate: target code rate of the LDPC code, as a number or a fraction such as ``308/1024``; without it, no
            transport blocks are counted.
        mcs: modulation and coding scheme; it sets the code rate.

    Example:
        >>> evaluation = Evaluation(sinr_db=(0, 10), block_slots=8, min_slots=16, max_slots=64, target_slot_errors=16)
        >>> evaluation.targets_met([Counts(slots=16, bits=1600, bit_errors=200, slot_errors=16)])
        True
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"interference_shares": "interference_fractions"}

    sinr_db: tuple[float, ...] = Field(min_length=1)
    interference_fractions: tuple[float, ...] = Field((0.0,), min_length=1)
    block_slots: int = Field(64, ge=1, le=MAX_BLOCK_SLOTS)
    min_slots: int = Field(256, ge=1, le=MAX_SLOTS)
    max_slots: int = Field(1024, ge=1, le=MAX_SLOTS)
    target_slot_errors: int | None = Field(200, ge=MIN_TARGET_ERRORS, le=MAX_SLOTS)
    target_relative_half_width: float | None = Field(None, gt=0, le=MAX_TARGET_HALF_WIDTH)
    target_block_errors: int | None = Field(None, ge=MIN_TARGET_ERRORS, le=MAX_SLOTS)
    code_rate: CodeRate | None = None
    mcs: Mcs | None = None

    @model_validator(mode="after")
    def _set_code_rate_of_mcs(self) -> Self:
        if self.mcs is None:
            return self
        if self.code_rate not in (None, self.mcs.code_rate):
            raise ValueError(
                f"mcs: code_rate {self.code_rate:g} and the scheme's {self.mcs.code_rate:.5f} differ; write one of them"
            )
        object.__setattr__(self, "code_rate", self.mcs.code_rate)  # the record is frozen
        return self

    @model_validator(mode="after")
    def _check_points(self) -> Self:
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
        for fraction in self.interference_fractions:
            if not 0 <= fraction < 1:
                raise ValueError(f"interference_fractions: {fraction} is outside 0..1 (1 excluded: noise remains)")
        if self.target_block_errors is not None and self.code_rate is None:
            raise ValueError("target_block_errors needs code_rate: without a code there are no blocks to decode")
        return self

    def transport_formats(self, scenario: Scenario) -> list[TransportFormat]:
        """Transport blocks of the scenario's slots, by modulation and number of data REs; empty where uncoded.

        Raises:
            UserError: if the code does not fit into the slots, or the scheme has another modulation than the scenario.
        """
        if self.mcs is not None and set(scenario.modulations) != {self.mcs.modulation}:
            raise UserError(
                f"mcs: index {self.mcs.index} of table {self.mcs.table} has {self.mcs.modulation}, the scenario "
                f"{', '.join(scenario.modulations)}; write 'modulations: [{self.mcs.modulation}]', or code_rate in "
                "place of mcs"
            )
        return [] if self.code_rate is None else scenario_formats(scenario, self.code_rate)

    def targets_met(self, counts: Collection[Counts]) -> bool:
        """Whether a point meets all targets with these counts, one of each receiver."""
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
