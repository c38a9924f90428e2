"""The console command ``leanrx``: it parses options, calls one function of the packages, and prints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from leanrx import __version__
from leanrx.cli.count_commands import count
from leanrx.cli.data_commands import data
from leanrx.cli.ecal_commands import ecal
from leanrx.cli.energy_commands import energy
from leanrx.cli.evaluate_commands import evaluate, merge
from leanrx.cli.export_commands import export
from leanrx.cli.machine_commands import doctor
from leanrx.cli.report_commands import report
from leanrx.cli.train_commands import sweep, train, tune

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (doctor, data, train, sweep, tune, evaluate, merge, count, energy, ecal, report, export):
    app.command()(command)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"leanrx {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the smallest neural OFDM receiver that still does its job, and what it costs in joules."""


def main() -> None:
    """Entry point. A user's mistake is one line on standard error and exit code 2; Ctrl-C gives exit code 130."""
    try:
        app()
    except SystemExit as end:
        if end.code == 130:
            print("interrupted; run the same command again to resume", file=sys.stderr)
        raise
    except Exception as error:
        from leanrx_core.errors import UserError

        if isinstance(error, OSError) and error.filename is not None:
            error = UserError(f"{error.filename}: {error.strerror}; give a path that can be written")
        if not isinstance(error, UserError):
            raise
        print(f"leanrx: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
