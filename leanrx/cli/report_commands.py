"""``leanrx report``: the page with figures and tables, and emissions."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from leanrx.cli.options import JsonOption, RunArgument
from leanrx.cli.sessions import json_rows, load_locked_run


def report(
    run: RunArgument,
    intensity: Annotated[
        str | None, typer.Option(help="Add emissions for a named carbon intensity, such as world-2023.")
    ] = None,
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the site, for emissions.")] = 1.0,
    unit: Annotated[
        str, typer.Option(help="Emissions per 'slot', 'decoded bit' or 'correct transport block'.")
    ] = "slot",
    as_json: JsonOption = False,
) -> None:
    """Write the report on BER and energy: one HTML page, figures and tables."""
    import pandas as pd

    from carbon import Site, carbon_intensity
    from leanrx.report.emissions import EmissionBasis
    from leanrx.report.page import write_report
    from leanrx_core.errors import UserError

    loaded, _ = load_locked_run(run, quiet=as_json)
    if intensity is None and (pue, unit) != (1.0, "slot"):
        raise UserError("report: --pue and --unit apply to emissions only; give --intensity, such as world-2023")
    site = Site.parse({"intensity": carbon_intensity(intensity), "pue": pue}, "report") if intensity else None
    page = write_report(loaded, EmissionBasis(site, unit) if site else None)
    emissions = pd.read_csv(page.parent / "carbon.csv") if site else pd.DataFrame(columns=["receiver", "line"])
    if as_json:
        print(json.dumps({"path": str(page), **({"carbon": json_rows(emissions)} if site else {})}))
        return
    for row in emissions.itertuples():
        print(f"{row.receiver:<28} {row.line}")
    print(f"report: {page}")
