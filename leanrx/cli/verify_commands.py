"""``leanrx verify``: the state of a run's files, or the errors of an exported file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption, OptionalWorkersOption
from leanrx.cli.sessions import lock_folder

if TYPE_CHECKING:
    from leanrx.experiment.file_verification import FileVerdict, FileVerification


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or an exported file: ONNX, LiteRT, C, compiled C, or its folder.",
            metavar="RUN_OR_FILE",
            show_default=False,
        ),
    ],
    slots: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Slots for a file, over all points. The default is 100000.")
    ] = None,
    workers: OptionalWorkersOption = None,
    target_ber: Annotated[
        float | None, typer.Option(help="BER of the SINR gap of a file. The default is the report's, 0.01.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Receiver of a file: a name of the zoo, or a receiver's folder in a run. The default is its card's."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a run's files, or prove an exported file: count its errors on new slots beside those of its receiver.

    For a run, digests, schemas and values are checked, and nothing is written. For a file, the command resumes after an
    interruption. It ends with exit code 1 if the file is not proven equal.
    """
    from leanrx_core.errors import UserError

    if not path.exists():
        raise UserError(
            f"{path}: no such file or folder; give a run folder, an ONNX file, a LiteRT file, a C file, or the folder "
            "of an export"
        )
    if (path / "config.yaml").is_file():
        options = {"slots": slots, "workers": workers, "target-ber": target_ber, "checkpoint": checkpoint}
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise UserError(f"{given[0]}: is for an exported file, and {path} is a run; leave it out")
        _verify_run(path, as_json)
        return
    if target_ber is not None and not 0 < target_ber < 0.5:
        raise UserError(f"target_ber: {target_ber} is outside 0..0.5; give a BER such as 0.01")
    _verify_file(path, slots, workers, target_ber, checkpoint, as_json)


def _verify_run(folder: Path, as_json: bool) -> None:
    from leanrx.experiment.run import load_run
    from leanrx.report.verification import verify as verify_run
    from leanrx_core.errors import UserError

    states = verify_run(load_run(folder))
    faults = [s for s in states if s.state in ("damaged", "stale")]
    if as_json:
        print(json.dumps({"intact": not faults, "files": [asdict(s) for s in states]}))
        if faults:
            raise typer.Exit(2)
        return
    for s in states:
        print(f"{s.state:<8} {s.path}" + (f": {s.detail}" if s.detail else ""))
    if faults:
        raise UserError(
            f"{folder}: {len(faults)} of {len(states)} files are damaged or stale; the list says what helps"
        )


def _verify_file(
    path: Path,
    slots: int | None,
    workers: int | None,
    target_ber: float | None,
    checkpoint: str | None,
    as_json: bool,
) -> None:
    import os

    from leanrx.cli.console import show_progress
    from leanrx.experiment.file_verification import FOLDER, SLOTS, judge, open_verification, write_verdict
    from receivers.export.exported_file import exported_file

    file = exported_file(path)
    lock_folder(file.parent / FOLDER)
    verification = open_verification(file, checkpoint)
    target = target_ber or verification.source.target_ber
    evaluation = verification.evaluation(slots or SLOTS)
    screening = verification.screening(target)
    verdict = judge(verification, screening, None, target)
    if not verdict.faults:
        steps = verification.count(evaluation, workers or len(os.sched_getaffinity(0)))
        show_progress("slots", steps)
        verdict = judge(verification, screening, verification.counts(evaluation), target)
    result = write_verdict(verification, verdict)
    if as_json:
        print(json.dumps({"path": str(result), **verdict.as_json()}))
    else:
        _print_verdict(verification, verdict, result)
    for fault in verdict.faults:
        print(f"leanrx: {file}: not proven: {fault}", file=sys.stderr)
    if verdict.faults:
        raise typer.Exit(1)


def _print_verdict(verification: FileVerification, verdict: FileVerdict, result: Path) -> None:
    screening, (name, receiver) = verdict.screening, verification.names
    print(
        f"{name} beside {receiver}: on {screening.slots} slots, {screening.differing_decisions} of {screening.bits} "
        f"bits are decided differently. The largest LLR difference is {screening.max_llr_difference:.1e}, with LLRs up "
        f"to {screening.max_llr:.1f}."
    )
    if verdict.rates is not None and verdict.differences is not None:
        print(f"Errors on {verdict.rates.groupby('receiver')['slots'].sum().max():,} new slots:")
        point = ["interference_fraction", "sinr_db"]
        tables = {key: rows.set_index(point) for key, rows in verdict.rates.groupby("receiver")}
        for (fraction, sinr_db), row in verdict.differences.set_index(point).iterrows():
            file_row, receiver_row = tables[name].loc[(fraction, sinr_db)], tables[receiver].loc[(fraction, sinr_db)]
            print(
                f"{sinr_db:>6g} dB, interference fraction {fraction:g}: BER {receiver_row['ber']:.3e} of the receiver, "
                f"{file_row['ber']:.3e} of the file, difference {row['difference']:+.1e} "
                f"({row['difference_low']:+.1e} to {row['difference_high']:+.1e}), {file_row['slots']:.0f} slots"
            )
    for test in (*screening.information, *verdict.tests):
        gap = test.gap
        print(
            f"gap at {test.measure} {test.target:.3g}, interference fraction {test.interference_fraction:g}: "
            f"{gap.gap_db:+.4f} dB (95 %: {gap.low_db:+.4f} to {gap.high_db:+.4f}), allowed {test.margin_db:g} dB: "
            f"{test.verdict}"
        )
    print(f"{'not proven' if verdict.faults else 'proven'}: {result}")
