"""``leanrx data``: slots in HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def data(
    config: Annotated[
        Path, typer.Argument(help="A YAML file such as configs/dataset.yaml.", metavar="CONFIG", show_default=False)
    ],
    root: Annotated[Path, typer.Option("--data", help="Folder that contains the datasets.")] = Path("data"),
) -> None:
    """Write slots to HDF5 files that can be read without leanrx. The command resumes after an interruption."""
    from channels.dataset import Dataset, write_dataset
    from leanrx.cli.console import show_progress

    dataset = Dataset.load(config)
    show_progress("blocks", write_dataset(dataset, root))
    print(f"dataset: {root / dataset.label}")
