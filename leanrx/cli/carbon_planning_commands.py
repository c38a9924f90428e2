"""``leanrx carbon life-cycle`` and ``leanrx carbon horizon``: footprints by stage, and dispatch with forecasts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from leanrx.cli.carbon_commands import check_edge_sites
from leanrx.cli.options import JsonOption, ReferenceOption, RunArgument
from leanrx.cli.sessions import json_rows, load_locked_run, write_figures


def life_cycle(
    run: RunArgument,
    intensity: Annotated[str, typer.Option(help="Carbon intensity in service: a name such as world-2023, or g/kWh.")],
    development_intensity: Annotated[
        str | None, typer.Option(help="Carbon intensity of development. The default is that in service.")
    ] = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the place of development.")] = 1.0,
    inferences: Annotated[
        int | None, typer.Option(help="Slots in service. The default is the run's own setting.", min=1)
    ] = None,
    adaptations: Annotated[
        int, typer.Option(help="Adaptations to other scenarios in service. Each is a measured part of the training.")
    ] = 1,
    csv: Annotated[Path | None, typer.Option(help="Write the footprint by stage and process into this file.")] = None,
    reference: ReferenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run's carbon by stage, component and scope: preparation, development, application, recycling."""
    from carbon import Site, parse_intensity
    from leanrx.life_cycle.inventory import LifeCycleInventory
    from leanrx.life_cycle.stage_footprint import LifeCycleSites
    from leanrx.report import life_cycle_footprint
    from leanrx_core.checks import MAX_COUNT, integer
    from leanrx_core.files import write_atomic

    if inferences is not None:
        integer("inferences", inferences, 1, MAX_COUNT)
    integer("adaptations", adaptations, 0, MAX_COUNT)
    development = parse_intensity(development_intensity or intensity)
    sites = LifeCycleSites(
        development=Site.parse({"intensity": development, "pue": pue}, "life-cycle"),
        application=Site(intensity=parse_intensity(intensity)),
    )
    loaded, _ = load_locked_run(run, quiet=as_json)
    inventory = LifeCycleInventory(loaded, reference=reference)
    frame = life_cycle_footprint.footprint_frame(inventory, sites, inferences, adaptations)
    if csv is not None:
        write_atomic(csv, frame.to_csv(index=False, lineterminator="\n"))
    if as_json:
        receivers = json_rows(life_cycle_footprint.receiver_frame(inventory, sites, inferences, adaptations))
        print(json.dumps({"receivers": receivers, "footprint": json_rows(frame)}))
        return
    for line in life_cycle_footprint.sentences(inventory, sites, inferences, adaptations):
        print(line)


def horizon(
    file: Annotated[Path, typer.Option("--network", help="A YAML file of a network of edge sites.")],
    window: Annotated[int, typer.Option(help="Slots of a plan.")] = 24,
    policy: Annotated[str, typer.Option(help="B0, B1, DET, DAT or DETA.")] = "DETA",
    forecast_errors: Annotated[
        str, typer.Option(help="Relative standard deviations of the forecasts, with commas.")
    ] = "0,0.1,0.2,0.4",
    seeds: Annotated[int, typer.Option(help="Number of seeds of each error.")] = 20,
    figures: Annotated[Path | None, typer.Option(help="Draw regret over forecast error into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Plan slot by slot with forecasts, and compare with the dispatch that knows everything."""
    from dataclasses import asdict

    from carbon.deta.network_file import read_network
    from carbon.deta.programme import POLICIES
    from carbon.deta.rolling_horizon import regrets
    from leanrx.report.carbon_network import regret_figure, regret_lines
    from leanrx_core.checks import choice, integer

    choice("policy", policy, tuple(POLICIES))
    integer("window", window, 1)
    integer("seeds", seeds, 1, 1000)
    errors = _numbers(forecast_errors)
    check_edge_sites(file, "carbon horizon plans edge sites, as in configs/network.yaml")
    network = read_network(file)
    results = []
    for error in errors:
        results += regrets(network, policy, window, [error], seeds)  # type: ignore[arg-type]
        print(f"forecast error {error:g}: {len(results)} of {len(errors)} done", file=sys.stderr)
    if figures is not None:
        write_figures([regret_figure(results, policy, window)], figures)
    if as_json:
        print(json.dumps({"policy": policy, "window": window, "regrets": [asdict(result) for result in results]}))
        return
    for line in regret_lines(results, policy, window):
        print(line)


def _numbers(text: str) -> list[float]:
    from leanrx_core.checks import number
    from leanrx_core.errors import UserError
    from leanrx_core.messages import echo

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"forecast-errors: {echo(text)} is not allowed; give numbers with commas, such as 0,0.2"
        ) from None
    return [number("forecast-errors", value, 0.0, 10.0) for value in values]
