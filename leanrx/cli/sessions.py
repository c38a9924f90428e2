"""What a command needs before it can work: locked run folders, progress on the console, and an executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from leanrx.cli.console import ConsoleProgress
    from leanrx.experiment.executors import Executor
    from leanrx.experiment.run import Run
    from leanrx.report.charts import Figure, HeatMap
    from receivers.evaluation.monte_carlo import Shard

_locks: list[IO[str]] = []  # locks of run folders, until the process ends


def open_runs(config: Path, root: Path, quiet: bool = False) -> Iterator[tuple[Run, ConsoleProgress]]:
    """The runs of a configuration, one after the other. All are checked before the first begins.

    Raises:
        UserError: if the configuration has a mistake, or another process uses a run folder.
    """
    from distillation.distributed import current
    from leanrx.experiment.run import Run, open_run
    from leanrx.experiment.sweep_config import SweepConfig
    from leanrx.experiment.workflow import check_run
    from leanrx_core.files import lock

    configs = SweepConfig.load_all(config)
    for sweep_config in configs:
        check_run(Run(root / sweep_config.label, sweep_config))
    group = current()
    for sweep_config in configs:
        if group.rank == 0:
            _locks.append(lock(root / sweep_config.label))
            open_run(sweep_config, root)
        group.barrier()
        yield Run(root / sweep_config.label, sweep_config), console_progress(quiet, silent=group.rank != 0)


def load_locked_run(folder: Path, shard: Shard | None = None, quiet: bool = False) -> tuple[Run, ConsoleProgress]:
    """An existing run, locked for this process. Processes that count different shards may use one run together.

    Raises:
        UserError: if the folder is not a run, or another process uses it.
    """
    from leanrx.experiment.run import load_run
    from leanrx_core.files import lock

    run = load_run(folder)
    _locks.append(lock(run.shard_path(shard).parent if shard else folder))
    return run, console_progress(quiet)


def lock_folder(folder: Path) -> None:
    """Lock a folder for this process, and make it if it is missing.

    Raises:
        UserError: if another process uses it.
    """
    from leanrx_core.files import lock

    _locks.append(lock(folder))


def release_locks() -> None:
    """Unlock all folders. The end of the process does the same."""
    while _locks:
        _locks.pop().close()


def make_executor(ray: str | None, cores: int | None = None, threads: int = 1) -> Executor:
    """The executor that trains and meters: this machine, or a Ray cluster.

    Raises:
        UserError: if there are not so many cores or threads, or the cluster cannot be used.
    """
    if ray is None:
        from leanrx.experiment.executors import LocalExecutor

        return LocalExecutor(cores, threads)
    if threads != 1:
        from leanrx_core.errors import UserError

        raise UserError("threads: a task on a cluster has one thread per core; give --cores instead")
    from leanrx.experiment.executors.ray_executor import RayExecutor

    return RayExecutor(ray, cores if cores is not None else 1)


def console_progress(quiet: bool = False, silent: bool = False) -> ConsoleProgress:
    """Progress on standard output; on standard error if ``quiet``, and nowhere if ``silent``."""
    from rich.console import Console

    from leanrx.cli.console import ConsoleProgress

    return ConsoleProgress(Console(stderr=quiet, quiet=silent, highlight=False, soft_wrap=True))


def write_figures(figures: Sequence[Figure | HeatMap], folder: Path) -> None:
    """Write each figure as PNG and PDF into a folder, and say so on standard error."""
    from leanrx.report.charts import to_files
    from leanrx_core.files import write_atomic

    for figure in figures:
        for name, data in to_files(figure).items():
            write_atomic(folder / name, data)
    print(f"figures: {folder}", file=sys.stderr)


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values. NaN becomes None, because JSON has no NaN."""
    return list(json.loads(table.to_json(orient="records", double_precision=15)))
