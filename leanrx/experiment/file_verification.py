"""Verification of an exported file: its errors on new slots, beside those of the receiver that it was exported from.

Two steps use the same receivers and slots that neither was trained, tested or exported on:

* A screening compares the LLRs of a few slots at each point: decisions, and the information that the LLRs lose.
* A count compares the errors of all slots. It resumes after an interruption.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from channels import Scenario, SlotStream
from leanrx.experiment.run import load_run
from leanrx.experiment.run_export import CLASSICAL, ExportSource
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers import zoo
from receivers.base import Receiver
from receivers.evaluation.equivalence import (
    Equivalence,
    ber_differences,
    ber_equivalence,
    bler_equivalence,
)
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.screening import Screening, screen
from receivers.evaluation.stopping import MAX_SLOTS, Evaluation
from receivers.evaluation.store import read_counts
from receivers.export.exported_file import (
    CARD,
    card_of,
    card_receiver,
    check_digests,
    exported_file,
    open_exported,
)
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.parity import MAX_DIFFERING_DECISIONS, MAX_LLR_DIFFERENCE

FOLDER = "verification"
"""Folder of the counts, beside the file."""

MARGIN_DB = {"float": 0.02, "fp16": 0.02, "int8": 0.05}
"""Largest SINR gap of a file to its receiver at the target BER, by its arithmetic."""

SLOTS = 100_000
"""Slots over all points."""

SCREENING_SLOTS = 32
"""Slots of the screening at each point."""

_PURPOSE = "verification"


@dataclass(frozen=True)
class FileVerification:
    """A file, its receiver, and the conditions of their comparison.

    Attributes:
        file: under test.
        source: the receiver, with scenario, seed and points.
        folder: of the counts.
    """

    file: ExportedReceiver
    source: ExportSource
    folder: Path

    @property
    def margin_db(self) -> float:
        """Largest allowed gap."""
        return MARGIN_DB[self.file.arithmetic]

    @property
    def names(self) -> tuple[str, str]:
        """Names of the file and the receiver in tables."""
        return self.file.name, self.source.receiver.name

    @property
    def counts_path(self) -> Path:
        """Table of counts; files of one folder share it, and so the counts of their receiver."""
        return self.folder / "ber.parquet"

    def evaluation(self, slots: int) -> Evaluation:
        """Points, and the same number of slots at each: at least two blocks."""
        evaluation = self.source.evaluation
        block, points = evaluation.block_slots, len(evaluation.sinr_db) * len(evaluation.interference_fractions)
        per_point = min(MAX_SLOTS // block * block, block * max(2, -(-slots // (points * block))))
        update = dict.fromkeys(("target_slot_errors", "target_relative_half_width", "target_block_errors"))
        return evaluation.model_copy(update={**update, "min_slots": per_point, "max_slots": per_point})

    def screening(self, target_ber: float) -> Screening:
        """Compare the LLRs of :data:`SCREENING_SLOTS` at each point.

        Raises:
            UserError: if the file refuses a slot or gives LLRs that are not finite.
        """
        evaluation = self.source.evaluation
        purpose = f"{_PURPOSE}/screening"
        stream = SlotStream(self.source.scenario, self.source.seed, SCREENING_SLOTS, "test", purpose=purpose)
        receivers, fractions = (self.file, self.source.receiver), evaluation.interference_fractions
        return screen(receivers, stream, evaluation.sinr_db, fractions, target_ber, self.margin_db)

    def count(self, evaluation: Evaluation, workers: int) -> Iterator[tuple[int, int]]:
        """Count the errors of file and receiver on the same slots.

        Yields:
            numbers of complete slots and of all slots.

        Raises:
            UserError: as :func:`receivers.evaluation.monte_carlo.count_errors`.
        """
        stream = SlotStream(self.source.scenario, self.source.seed, evaluation.block_slots, "test", purpose=_PURPOSE)
        total = evaluation.max_slots * len(evaluation.sinr_db) * len(evaluation.interference_fractions)
        slots: dict[tuple[float, float], int] = {}
        receivers: list[Receiver] = [self.file, self.source.receiver]
        for state in count_errors(receivers, stream, evaluation, self.counts_path, workers):
            slots[state.interference_fraction, state.sinr_db] = state.slots
            yield sum(slots.values()), total

    def counts(self, evaluation: Evaluation) -> pd.DataFrame:
        """The counted blocks of file and receiver at the points of an evaluation."""
        table = pd.DataFrame([asdict(row) for row in read_counts(self.counts_path)])
        digests = [self.file.digest, self.source.receiver.digest]
        rows = table[table["receiver"].isin(self.names) & table["digest"].isin(digests)]
        rows = rows[
            rows["sinr_db"].isin(evaluation.sinr_db) & (rows["block"] < evaluation.max_slots // evaluation.block_slots)
        ]
        return rows[rows["interference_fraction"].isin(evaluation.interference_fractions)]


@dataclass(frozen=True)
class FileVerdict:
    """Result of a verification.

    Attributes:
        screening: LLRs of a few slots.
        rates: error rates of both by point; none if the screening alone decides.
        differences: BER of the file minus that of the receiver, by point.
        tests: equivalence of BER and BLER, by interference fraction.
        faults: why the file is not proven; empty if it is.
    """

    screening: Screening
    rates: pd.DataFrame | None
    differences: pd.DataFrame | None
    tests: tuple[Equivalence, ...]
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All values as JSON has them."""
        tables = {"points": self.rates, "differences": self.differences}
        return {
            "proven": not self.faults,
            "faults": list(self.faults),
            "screening": self.screening.as_json(),
            "tests": [t.as_json() for t in self.tests],
            **{
                name: [] if table is None else json.loads(table.to_json(orient="records", double_precision=15))
                for name, table in tables.items()
            },
        }


def open_verification(path: str | Path, checkpoint: str | None = None) -> FileVerification:
    """Open an exported file and find the receiver that it was exported from.

    Args:
        path: as for :func:`receivers.export.exported_file.open_exported`.
        checkpoint: a receiver of the zoo, or the folder of a receiver in a run; its card says which if not given.

    Raises:
        UserError: if the file or the receiver is missing or damaged, or the receiver has other weights now.
    """
    path = exported_file(path)
    card = card_of(path)
    if checkpoint is None:
        if not card:
            raise UserError(f"{path}: has no card.json beside it, so its receiver is unknown; give --checkpoint")
        check_digests(path, card)
        source = _source_of_card(path, card)
    else:
        source = _source_of_checkpoint(checkpoint, path.parent)
    folder = path.parent / FOLDER
    return FileVerification(open_exported(path, folder), source, folder)


def _source_of_card(path: Path, card: dict[str, Any]) -> ExportSource:
    name, digest = card_receiver(card)
    root = path.resolve().parent.parent
    run = root.parent / "config.yaml"
    if root.name == "exports" and run.is_file():
        source = ExportSource.of_run(load_run(run.parent), name)
    elif name.lower() in CLASSICAL:
        scenario = Scenario.parse(card["receiver"].get("scenario"), str(path.parent / CARD))
        source = ExportSource.of_scenario(name.lower(), scenario, root)
    elif name in zoo.names():
        source = ExportSource.of_zoo(name, root)
    else:
        raise UserError(f"{path}: its receiver {name} is neither in a run around it nor in the zoo; give --checkpoint")
    if source.receiver.digest != digest:
        is_classical = name.lower() in CLASSICAL
        parts = "another covariance than that" if is_classical else "other weights than those"
        raise UserError(f"{path}: exported from {parts} of {name} now; export the receiver again")
    return source


def _source_of_checkpoint(checkpoint: str, root: Path) -> ExportSource:
    folder = Path(checkpoint)
    if (folder / "card.json").is_file() and (folder.resolve().parent.parent / "config.yaml").is_file():
        return ExportSource.of_run(load_run(folder.resolve().parent.parent), folder.resolve().name)
    return ExportSource.of_zoo(checkpoint, root)


def judge(
    verification: FileVerification, screening: Screening, counts: pd.DataFrame | None, target_ber: float
) -> FileVerdict:
    """Verdict on a file.

    Args:
        verification: of the file.
        screening: of the file.
        counts: of the file and its receiver; without them, the screening alone is judged.
        target_ber: BER of the gap.
    """
    faults = _screening_faults(verification, screening)
    if counts is None:
        return FileVerdict(screening, None, None, (), tuple(faults))
    tests = ber_equivalence(counts, verification.names, target_ber, verification.margin_db)
    coded = bler_equivalence(counts, verification.names, verification.margin_db)
    faults += [_fault(test) for test in tests if test.verdict != "equivalent"]
    faults += [_fault(test) for test in coded if test.verdict == "different"]
    differences = ber_differences(counts, verification.names)
    return FileVerdict(screening, rates(counts), differences, (*tests, *coded), tuple(faults))


def write_verdict(verification: FileVerification, verdict: FileVerdict) -> Path:
    """Write the result beside the counts, with the digests of file and receiver."""
    receiver, file = verification.source.receiver, verification.file
    path = verification.folder / f"{file.name}.json"
    values = {
        "file": {"name": file.name, "digest": file.digest, "arithmetic": file.arithmetic},
        "receiver": {"name": receiver.name, "weights_sha256": receiver.digest},
        "scenario": verification.source.scenario.name,
        "margin_db": verification.margin_db,
        **verdict.as_json(),
    }
    write_atomic(path, json.dumps(values, indent=1) + "\n")
    return path


def _screening_faults(verification: FileVerification, screening: Screening) -> list[str]:
    faults = []
    allowed = MAX_DIFFERING_DECISIONS * screening.bits
    is_float = verification.file.arithmetic == "float"
    if is_float and screening.differing_decisions > allowed:
        faults.append(
            f"{screening.differing_decisions} of {screening.bits} bits are decided differently, at most "
            f"{allowed:.0f} are allowed; bit errors: {screening.bit_errors_file} (file), "
            f"{screening.bit_errors_receiver} (receiver)"
        )
    if is_float and screening.max_llr_difference > MAX_LLR_DIFFERENCE * screening.max_llr:
        faults.append(
            f"an LLR differs by {screening.max_llr_difference:.3g}, and the largest LLR is {screening.max_llr:.3g}"
        )
    return faults + [_fault(test) for test in screening.information if test.verdict == "different"]


def _fault(test: Equivalence) -> str:
    where = f"at {test.measure} {test.target:.3g}, interference fraction {test.interference_fraction:g}"
    gap = test.gap
    if np.isnan(gap.gap_db):
        return f"a curve does not reach the target {where}; give another --target-ber"
    if np.isnan(gap.low_db):
        return f"the gap of {gap.gap_db:+.3f} dB has no interval {where}; count more --slots"
    if np.isinf(gap.gap_db):
        return f"the file loses more information than its receiver {where}"
    text = f"gap of {gap.gap_db:+.3f} dB (95 %: {gap.low_db:+.3f} to {gap.high_db:+.3f}) {where}"
    if test.verdict == "different":
        return f"{text}; allowed: {test.margin_db:g} dB"
    return (
        f"{text}: too few slots to decide on {test.margin_db:g} dB; about {test.slots_factor:.1f} times as many would"
    )
