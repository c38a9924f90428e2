"""What a command needs before it can work: locked run folders, progress on the console, and an executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from leanrx.cli.console import ConsoleProgress
    from leanrx.experiment.executors import Executor
    from leanrx.experiment.run import Run
    from leanrx.report.charts import AnyFigure
    from receivers.evaluation.monte_carlo import Shard

_locks: list[IO[str]] = []  # locks of run folders, until the process ends


def open_runs(
    config: Path, root: Path, check: Callable[[Run], None], quiet: bool = False
) -> Iterator[tuple[Run, ConsoleProgress]]:
    """The runs of a configuration, one after the other. All are checked before anything is written.

    Args:
        config: a YAML file.
        root: folder of the runs.
        check: raises an error if a run cannot be executed as configured.
        quiet: print progress on standard error.

    Raises:
        UserError: if the configuration has a mistake, or another process uses a run folder.
    """
    from distillation.distributed import current
    from leanrx.experiment.run import Run, open_run
    from leanrx.experiment.sweep_config import SweepConfig
    from leanrx_core.files import lock

    configs = SweepConfig.load_all(config)
    for sweep_config in configs:
        check(Run(root / sweep_config.label, sweep_config))
    group = current()
    for sweep_config in configs:
        if group.rank == 0:
            _locks.append(lock(root / sweep_config.label))
            open_run(sweep_config, root)
        group.barrier()
        progress = console_progress(quiet, silent=group.rank != 0)
        for warning in sweep_config.warnings():
            progress.on_warning(warning)
        yield Run(root / sweep_config.label, sweep_config), progress


def load_locked_run(folder: Path, shard: Shard | None = None, quiet: bool = False) -> tuple[Run, ConsoleProgress]:
    """An existing run, locked for this process. Processes that count different shards may use one run together.

    Raises:
        UserError: if the folder is not a run, a file in it belongs to another configuration, the shard has no block,
            or another process uses it.
    """
    from leanrx.experiment.run import load_run
    from leanrx.experiment.workflow import check_artefacts
    from leanrx_core.files import lock
    from receivers.evaluation.points import build_points

    run = load_run(folder)
    if shard is not None:
        build_points([], run.config.evaluation, run.config.evaluation.block_slots, shard)
    _locks.append(lock(run.shard_path(shard).parent if shard else folder))
    check_artefacts(run)
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


def write_figures(figures: Sequence[AnyFigure], folder: Path) -> None:
    """Write each figure as PNG and PDF into a folder, and say so on standard error."""
    from leanrx.report.charts import to_files
    from leanrx_core.files import write_atomic

    for figure in figures:
        for name, data in to_files(figure).items():
            write_atomic(folder / name, data)
    print(f"figures: {folder}", file=sys.stderr)


def check_second_name(source: str, name: str) -> None:
    """Refuse the name of a receiver after one of the zoo, such as ``smallest``.

    Raises:
        UserError: if ``source`` is no run folder, but a receiver of the zoo.
    """
    from leanrx_core.errors import UserError
    from leanrx_core.messages import echo
    from receivers import zoo

    if not Path(source).is_dir() and source in zoo.names():
        raise UserError(f"name: a receiver of the zoo takes no second name; leave out {echo(name)}")


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values. NaN becomes None, because JSON has no NaN."""
    return list(json.loads(table.to_json(orient="records", double_precision=15)))


def raise_failures(failures: Sequence[str]) -> None:
    """End the command with the trainings that failed, after all others.

    Raises:
        UserError: if there is a failure; it quotes the first.
    """
    from leanrx_core.errors import UserError

    if failures:
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise UserError(f"{failures[0]}{others}; everything else is complete")
