"""``leanrx report``: the page with figures and tables, emissions, and receiving sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanrx.cli.options import JsonOption, RunArgument
from leanrx.cli.sessions import json_rows, load_locked_run

if TYPE_CHECKING:
    from leanrx.report.emissions import EmissionBasis


def report(
    run: RunArgument,
    intensity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|G_PER_KWH",
            help="Add emissions for a named carbon intensity, such as world-2023, or for your own in gCO2e per kWh.",
        ),
    ] = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the site, for emissions.")] = 1.0,
    embodied_kg: Annotated[
        float, typer.Option(help="Emissions of making the hardware in kgCO2e. With 0 they are left out.")
    ] = 0.0,
    lifetime_years: Annotated[float, typer.Option(help="Lifespan of the hardware, for its emissions.")] = 4.0,
    resource_share: Annotated[
        float, typer.Option(help="Part of the hardware that is reserved for the receiver, above 0 and up to 1.")
    ] = 1.0,
    unit: Annotated[
        str, typer.Option(help="Emissions per 'slot', 'decoded bit' or 'correct transport block'.")
    ] = "slot",
    network: Annotated[
        Path | None,
        typer.Option(help="Add a day of receiving sites that run the receivers, from a YAML file of a network."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report on BER and energy: one HTML page, figures and tables."""
    import pandas as pd

    from carbon.deta.receiver_network import read_receiver_network
    from leanrx.report.impact_statement import statement_lines
    from leanrx.report.page import write_report

    basis = _emission_basis(intensity, pue, embodied_kg, lifetime_years, resource_share, unit)
    sites = None if network is None else read_receiver_network(network)
    loaded, _ = load_locked_run(run, quiet=as_json)
    page = write_report(loaded, basis, sites)
    emissions = pd.read_csv(page.parent / "carbon.csv") if basis else pd.DataFrame(columns=["receiver", "line"])
    statement = pd.read_csv(page.parent / "carbon-statement.csv")
    if as_json:
        answer = {"path": str(page), "carbon_statement": json_rows(statement)}
        print(json.dumps({**answer, **({"carbon": json_rows(emissions)} if basis else {})}))
        return
    for row in emissions.itertuples():
        print(f"{row.receiver:<28} {row.line}")
    for line in statement_lines(loaded, basis.site if basis else None):
        print(line)
    print(f"report: {page}")


def _emission_basis(
    intensity: str | None, pue: float, embodied_kg: float, lifetime_years: float, resource_share: float, unit: str
) -> EmissionBasis | None:
    """Site and functional unit of the emissions; none without an intensity.

    Raises:
        UserError: if an option has no effect without another one, or a value is not allowed.
    """
    from carbon import Site, parse_intensity
    from leanrx.report.emissions import EmissionBasis
    from leanrx_core.errors import UserError
    from leanrx_core.units import SECONDS_PER_YEAR

    defaults = {
        "--pue": (pue, 1.0),
        "--embodied-kg": (embodied_kg, 0.0),
        "--lifetime-years": (lifetime_years, 4.0),
        "--resource-share": (resource_share, 1.0),
        "--unit": (unit, "slot"),
    }
    emission_options = [option for option, (value, default) in defaults.items() if value != default]
    if intensity is None and emission_options:
        raise UserError(
            f"report: {', '.join(emission_options)} applies to emissions only; give --intensity, such as world-2023 "
            "or 230"
        )
    if not embodied_kg and {"--lifetime-years", "--resource-share"} & set(emission_options):
        raise UserError("report: --lifetime-years and --resource-share apply to embodied emissions; give --embodied-kg")
    if intensity is None:
        return None
    values = {
        "intensity": parse_intensity(intensity),
        "pue": pue,
        "embodied_kg": embodied_kg,
        "lifetime_s": lifetime_years * SECONDS_PER_YEAR,
        "resource_share": resource_share,
    }
    return EmissionBasis(Site.parse(values, "report"), unit)
