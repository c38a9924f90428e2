"""``leanrx verify``: the state of a run's files."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from leanrx.cli.options import JsonOption, RunArgument


def verify(run: RunArgument, as_json: JsonOption = False) -> None:
    """Check digests, schemas and values of a run's files, and find what is stale. Nothing is written."""
    from leanrx.experiment.run import load_run
    from leanrx.report.verification import verify as verify_run
    from leanrx_core.errors import UserError

    states = verify_run(load_run(run))
    faults = [s for s in states if s.state in ("damaged", "stale")]
    if as_json:
        print(json.dumps({"intact": not faults, "files": [asdict(s) for s in states]}))
        if faults:
            raise typer.Exit(2)
        return
    for s in states:
        print(f"{s.state:<8} {s.path}" + (f": {s.detail}" if s.detail else ""))
    if faults:
        raise UserError(f"{run}: {len(faults)} of {len(states)} files are damaged or stale; the list says what helps")
