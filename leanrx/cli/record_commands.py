"""``leanrx record``: slots with the errors of a receiver, for programs without leanrx."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BLOCK_SLOTS = 32


def record(
    source: Annotated[
        str,
        typer.Argument(help="A run folder, or a receiver of the zoo.", metavar="RUN_OR_ZOO_NAME", show_default=False),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            help="A receiver of the run, 'smallest' for its smallest student, or lmmse or lmmse-irc.", metavar="[NAME]"
        ),
    ] = None,
    slots: Annotated[
        int,
        typer.Option(
            min=1, max=10**7, help=f"Slots over all points, rounded up to a multiple of {BLOCK_SLOTS} at each point."
        ),
    ] = 2000,
    output: Annotated[Path | None, typer.Option(help="HDF5 file. The default is NAME.h5.")] = None,
) -> None:
    """Record slots with the errors of a receiver in an HDF5 file, to replay them through an exported file.

    scripts/checks/verify_recording.py does so with numpy and h5py, and a runtime.
    """
    from channels import SlotStream
    from leanrx.cli.console import show_progress
    from leanrx.cli.sessions import check_second_name
    from leanrx.experiment.run import load_run
    from leanrx.experiment.run_export import ExportSource
    from leanrx_core.errors import UserError
    from receivers.evaluation.recording import write_recording

    if name is None and Path(source).is_dir():
        raise UserError(f"name: give a receiver of {source} too, or 'smallest' for its smallest student")
    if name is not None:
        check_second_name(source, name)
    conditions = (
        ExportSource.of_zoo(source, Path()) if name is None else ExportSource.of_run(load_run(Path(source)), name)
    )
    path = output or Path(f"{conditions.receiver.name}.h5")
    if path.is_dir() or path.suffix not in (".h5", ".hdf5"):
        raise UserError(f"output: {path} is no HDF5 file; give a name that ends in .h5")
    evaluation = conditions.evaluation
    points = [(f, s) for f in evaluation.interference_fractions for s in sorted(evaluation.sinr_db)]
    blocks = -(-slots // (len(points) * BLOCK_SLOTS))
    stream = SlotStream(conditions.scenario, conditions.seed, BLOCK_SLOTS, "test", purpose="recording")
    steps = write_recording(conditions.receiver, stream, points, blocks, conditions.target_ber, path)
    show_progress("slots", steps)
    print(f"recording: {path}, {len(points) * blocks * BLOCK_SLOTS} slots, {path.stat().st_size / 1e6:.0f} MB")
