"""``leanrx evaluate`` and ``leanrx merge``: error counts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from leanrx.cli.options import JsonOption, RunArgument, WorkersOption
from leanrx.cli.sessions import json_rows, load_locked_run


def evaluate(
    run: RunArgument,
    sinr_db: Annotated[list[float] | None, typer.Option(help="Also test at this SINR; may be repeated.")] = None,
    workers: WorkersOption = 1,
    shard: Annotated[
        str | None, typer.Option(help="Count one part of the blocks, such as 1/4. 'leanrx merge' joins the parts.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count bit, slot and block errors of all receivers on the same slots. It resumes after an interruption."""
    from leanrx.experiment.workflow import evaluate_all
    from receivers.evaluation.monte_carlo import Shard
    from receivers.evaluation.rates import rates
    from receivers.evaluation.stopping import Evaluation

    part = Shard.parse(shard) if shard is not None else None
    loaded, progress = load_locked_run(run, part, quiet=as_json)
    progress.show_transport_formats(loaded.config)
    evaluation = loaded.config.evaluation
    if sinr_db:
        points = tuple(sorted({*evaluation.sinr_db, *sinr_db}))
        evaluation = Evaluation.parse({**evaluation.model_dump(), "sinr_db": points}, "evaluate")
    path = evaluate_all(loaded, progress, evaluation, workers, part)
    if as_json:
        blocks = [
            {**asdict(block), "code_rate": block.code_rate}
            for block in evaluation.transport_formats(loaded.config.scenario)
        ]
        rows = json_rows(rates(loaded.counts(path)))
        print(json.dumps({"path": str(path), "transport_blocks": blocks, "rates": rows}))
        return
    print(f"counts: {path}")


def merge(
    run: RunArgument,
    parts: Annotated[
        list[Path] | None, typer.Argument(help="Tables of shards, or their folders.", metavar="[PART]...")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join the counts of shards into the table that one process would have written."""
    from leanrx.experiment.workflow import merge_shards
    from receivers.evaluation.rates import rates

    loaded, _ = load_locked_run(run, quiet=as_json)
    unfinished = merge_shards(loaded, parts or [])
    if as_json:
        rows = [] if unfinished else json_rows(rates(loaded.counts()))
        points = [{"interference_fraction": fraction, "sinr_db": sinr_db} for fraction, sinr_db in unfinished]
        print(json.dumps({"path": str(loaded.ber_path), "rates": rows, "unfinished": points}))
    elif unfinished:
        text = ", ".join(f"{sinr_db:g} dB (interference fraction {fraction:g})" for fraction, sinr_db in unfinished)
        print(f"The parts are joined, but blocks are missing at {text}.")
        print(f"Count the missing blocks with: leanrx evaluate {run}")
    else:
        print(f"counts: {loaded.ber_path}")
