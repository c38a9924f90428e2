"""``leanrx energy``: metered and estimated energy of a run's receivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption, RayOption, RunArgument
from leanrx.cli.sessions import json_rows, load_locked_run, make_executor

if TYPE_CHECKING:
    from leanrx.experiment.energy_metering import Agreement
    from leanrx.experiment.run import Run


def energy(
    run: RunArgument,
    rounds: Annotated[int, typer.Option(min=1, help="Metering windows per call, in random order.")] = 3,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also meter networks under torch.compile.")] = False,
    wattmeter: Annotated[
        Path | None,
        typer.Option(
            help="CSV log of a wattmeter (time, power_w) that covers the windows. It is then the measurement."
        ),
    ] = None,
    utc_offset: Annotated[
        float | None, typer.Option(help="Offset of the log's times from UTC in hours, if they have none.")
    ] = None,
    allow_model: Annotated[
        bool, typer.Option("--allow-model", help="Use CodeCarbon's model where the CPU's counter cannot be read.")
    ] = False,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Meter the energy of every receiver of a run and validate the estimates. It resumes after an interruption."""
    from energy.metering.instruments import Wattmeter
    from leanrx_core.errors import UserError

    if utc_offset is not None and wattmeter is None:
        raise UserError("energy: --utc-offset applies to the times of a wattmeter; give its log with --wattmeter")
    log = Wattmeter.read(wattmeter, utc_offset) if wattmeter else None
    executor = make_executor(ray)
    loaded, progress = load_locked_run(run, quiet=as_json)
    executor.meter_all(loaded, progress)
    agreement = executor.agree_all(loaded, progress, rounds, compiled, log, allow_model)
    if as_json:
        _print_json(loaded, agreement)
    else:
        _print_tables(loaded, agreement)


def _print_json(run: Run, agreement: Agreement) -> None:
    table = run.energy()
    rows = table.assign(energy_j_per_slot=table["energy_j"] / table["slots"])
    answer = {
        "rows": json_rows(rows),
        "instrument": agreement.instrument,
        "kind": agreement.kind,
        "agreement": json_rows(agreement.scores),
        "instruments": json_rows(agreement.instruments),
        "flops_per_clock": json_rows(agreement.clocks),
    }
    print(json.dumps(answer))


def _print_tables(run: Run, agreement: Agreement) -> None:
    table, scores, clocks = run.energy(), agreement.scores, agreement.clocks
    inference = table[table["phase"] == "inference"].copy()
    inference["mJ per slot"] = 1e3 * inference["energy_j"] / inference["slots"]
    inference["ms per slot"] = 1e3 * inference["duration_s"] / inference["slots"]
    print(inference[["receiver", "source", "kind", "mJ per slot", "ms per slot"]].to_string(index=False))
    print("\nFLOPs per clock and core, achieved and assumed")
    print(clocks.rename(columns=lambda c: c.replace("_flops_per_clock", "").replace("_", " ")).to_string(index=False))
    if agreement.instruments["instrument"].nunique() > 1:
        print("\njoules of every instrument on the same windows")
        print(agreement.by_instrument().to_string())
    percent = {c: c.removesuffix("_percent") + " [%]" for c in scores if c.endswith("_percent")}
    print(f"\nestimates against metered values; fits leave the receiver itself out: {run.agreement_folder}")
    print(scores[scores["runtime"] == "all"].drop(columns="runtime").rename(columns=percent).to_string(index=False))
    if agreement.kind == "measured":
        print(f"energy: measured by {agreement.instrument}")
    else:
        print(
            f"energy: modelled by {agreement.instrument}; no energy counter was read. The model is power times time, "
            "so this comparison tests the estimated time only."
        )
