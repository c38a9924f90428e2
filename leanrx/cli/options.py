"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(help="A run folder: runs/<label>.", metavar="RUN", show_default=False)]
ConfigArgument = Annotated[
    Path, typer.Argument(help="A YAML file as in configs/.", metavar="CONFIG", show_default=False)
]
RootOption = Annotated[Path, typer.Option("--runs", help="Folder that contains the runs.")]
WorkersOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Number of processes that count errors, one thread each.")
]
OptionalWorkersOption = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Number of processes that count errors. The default is one per core."),
]
RayOption = Annotated[
    str | None, typer.Option("--ray", metavar="HOST:PORT", help="Train and meter on the Ray cluster with this head.")
]
CoresOption = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="CPU cores for training. The default is all; with --ray, 1 per task."),
]
ThreadsOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Threads of each training. 2 or more suit one large network alone.")
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(help="Reference instrument: wattmeter, RAPL, NVML or CodeCarbon. The default is the run's own."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
