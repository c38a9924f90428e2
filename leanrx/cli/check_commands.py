"""``leanrx check``: what a configuration would do, without doing it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import ConfigArgument, JsonOption, RootOption, WorkersOption

if TYPE_CHECKING:
    from leanrx.experiment.cost_estimate import CostEstimate


def check(
    config: ConfigArgument,
    runs: RootOption = Path("runs"),
    workers: WorkersOption = 1,
    cores: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU cores for training. The default is all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check all that can be known of a configuration and estimate time and memory. Nothing is written."""
    from leanrx.experiment.cost_estimate import estimate_cost
    from leanrx.experiment.run import Run
    from leanrx.experiment.search import check_search
    from leanrx.experiment.sweep_config import SweepConfig
    from leanrx.experiment.workflow import check_run, num_cores

    sweeps = [Run(runs / sweep_config.label, sweep_config) for sweep_config in SweepConfig.load_all(config)]
    for run in sweeps:
        check_run(run)
        if run.config.search is not None:
            check_search(run)
    answers = []
    for run in sweeps:
        estimate = estimate_cost(run, cores or num_cores(), workers)
        if as_json:
            answers.append({"folder": str(run.folder), "warnings": run.config.warnings(), **asdict(estimate)})
            continue
        print(f"{run.config.label}: {run.folder}")
        for warning in run.config.warnings():
            print(f"warning: {warning}")
        _print_estimate(estimate)
    if as_json:
        print(json.dumps({"runs": answers}))


def _print_estimate(estimate: CostEstimate) -> None:
    shortest_s, longest_s = estimate.evaluation_s
    total_s = [estimate.training_s + s + estimate.metering_s for s in estimate.evaluation_s]
    cores = f"{estimate.cores} core" + "s" * (estimate.cores > 1)
    workers = f"{estimate.workers} process" + "es" * (estimate.workers > 1)
    print(
        f"train     {estimate.to_train} receivers, {estimate.trained} are trained already: "
        f"{_duration(estimate.training_s)} on {cores}"
    )
    print(
        f"evaluate  {estimate.points} points: {_duration(shortest_s)} to {_duration(longest_s)} in {workers}, "
        "if nothing is counted yet"
    )
    print(f"meter     {_duration(estimate.metering_s)}, if nothing is metered yet")
    print(f"together  {_duration(total_s[0])} to {_duration(total_s[1])}, within a factor of two on a quiet machine")
    most_bytes = max(estimate.training_bytes, estimate.evaluation_bytes)
    print(
        f"memory    {_gigabytes(estimate.training_bytes)} in training, {_gigabytes(estimate.evaluation_bytes)} in "
        f"evaluation; {_gigabytes(estimate.available_bytes)} are free"
    )
    if most_bytes > estimate.available_bytes:
        print("warning: this is more memory than is free; lower batch_slots or block_slots, or use fewer processes")


def _duration(seconds: float) -> str:
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
