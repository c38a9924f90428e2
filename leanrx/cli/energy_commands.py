"""``leanrx energy``: metered and estimated energy of a run's receivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption, ReferenceOption, RunArgument
from leanrx.cli.sessions import json_rows, load_locked_run, make_executor

if TYPE_CHECKING:
    from leanrx.experiment.energy_metering import Validation
    from leanrx.experiment.run import Run


def energy(
    run: RunArgument,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Metering windows per call, in random order; the run's own by default."),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also meter networks under torch.compile.")] = False,
    wattmeter: Annotated[
        Path | None,
        typer.Option(
            help="Log of a wattmeter that covers the windows: times, and power or direct voltage and current."
        ),
    ] = None,
    utc_offset: Annotated[
        float | None, typer.Option(help="Offset of the log's times from UTC in hours, if they have none.")
    ] = None,
    allow_model: Annotated[
        bool, typer.Option("--allow-model", help="Use CodeCarbon alone where the device's own counter cannot be read.")
    ] = False,
    reference: ReferenceOption = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="HOST:PORT", help="Meter on the Ray cluster with this head.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Meter the energy of every receiver of a run and validate the estimates. It resumes after an interruption."""
    from energy.metering.power_log import Wattmeter
    from leanrx.experiment.energy_metering import ValidationOptions
    from leanrx.report.estimator_charts import write_estimator_charts
    from leanrx_core.errors import UserError

    if utc_offset is not None and wattmeter is None:
        raise UserError("energy: --utc-offset applies to the times of a wattmeter; give its log with --wattmeter")
    log = Wattmeter.read(wattmeter, utc_offset) if wattmeter else None
    options = ValidationOptions(rounds, compiled, log, allow_model, reference)
    executor = make_executor(ray)
    loaded, progress = load_locked_run(run, quiet=as_json)
    validation = executor.validate_all(loaded, progress, options)
    write_estimator_charts(validation.rows, loaded.validation_folder)
    if as_json:
        _print_json(loaded, validation)
    else:
        _print_tables(loaded, validation)


def _print_json(run: Run, validation: Validation) -> None:
    from energy.metering.workloads import OMITTED_OF_NETWORKS

    table = run.energy()
    rows = table.assign(energy_j_per_slot=table["energy_j"] / table["slots"])
    answer = {
        "rows": json_rows(rows),
        "reference_instrument": validation.reference,
        "provenance": validation.provenance,
        "omitted": OMITTED_OF_NETWORKS,
        "scores": json_rows(validation.scores),
        "instruments": json_rows(validation.instruments),
        "flops_per_clock": json_rows(validation.clocks),
    }
    print(json.dumps(answer))


def _print_tables(run: Run, validation: Validation) -> None:
    import pandas as pd

    from energy.metering.table import file_rows, inference_rows
    from energy.metering.workloads import OMITTED_OF_NETWORKS

    table, scores, clocks = run.energy(), validation.scores, validation.clocks
    rows = pd.concat([inference_rows(table), file_rows(table)], ignore_index=True)
    rows["mJ per slot"] = 1e3 * rows["energy_j"] / rows["slots"]
    rows["+-"] = 1e3 * rows["uncertainty_j"] / rows["slots"]
    rows["ms per slot"] = 1e3 * rows["duration_s"] / rows["slots"]
    columns = ["receiver", "runtime", "batch_slots", "method", "provenance", "mJ per slot", "+-", "ms per slot"]
    print(rows[columns].rename(columns={"batch_slots": "slots a call"}).to_string(index=False))
    print("\nFLOPs per clock and core, achieved and assumed")
    print(clocks.rename(columns=lambda c: c.replace("_flops_per_clock", "").replace("_", " ")).to_string(index=False))
    if validation.instruments["method"].nunique() > 1:
        print("\njoules of every instrument on the same windows")
        print(validation.by_instrument().to_string())
    percent = {c: c.removesuffix("_percent") + " [%]" for c in scores if c.endswith("_percent")}
    print(f"\nestimates against metered values; fits leave the receiver itself out: {run.validation_folder}")
    overall = scores[scores["runtime"] == "all"].drop(columns="runtime")  # empty if only classical receivers are scored
    print((overall if len(overall) else scores).rename(columns=percent).to_string(index=False))
    print(OMITTED_OF_NETWORKS)
    print(f"reference instrument: {validation.reference}, {validation.provenance}")
    if validation.provenance != "measured":
        print(
            "No energy counter was read. The model is power times time, so this comparison tests the estimated "
            "time only."
        )
