"""Progress of a run on the console."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from distillation.job import Job
from distillation.trainer import StepState
from leanrx.experiment.progress import StepCallback
from leanrx.experiment.sweep_config import SweepConfig
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.monte_carlo import PointState


class ConsoleProgress:
    """Progress bars on a terminal, and lines in a log: a :class:`leanrx.experiment.progress.ProgressCallback`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None

    def on_training(self, jobs: Sequence[Job]) -> StepCallback:
        """Show receivers that are trained together; the returned function is called after each logged step."""
        self._close()
        if not self.console.is_terminal:
            return self._lines(len(jobs))
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("train {task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps  loss {task.fields[loss]:.3f}  BER {task.fields[ber]:.3f}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        tasks: dict[str, TaskID] = {
            job.name: self._progress.add_task(_title(job), total=job.training.steps, loss=math.nan, ber=math.nan)
            for job in jobs
        }
        self._progress.start()

        def show(job: Job, state: StepState) -> None:
            assert self._progress is not None
            self._progress.update(tasks[job.name], completed=state.step, loss=state.loss, ber=state.ber)
            if self._progress.finished:
                self._close()

        return show

    def _lines(self, jobs: int) -> StepCallback:
        begin = time.monotonic()
        due: dict[str, float] = {}

        def show(job: Job, state: StepState) -> None:
            now, steps = time.monotonic(), job.training.steps
            if now >= due.get(job.name, 0.0) or state.step == steps:
                due[job.name] = now + 10 * jobs
                self.console.print(
                    f"train {_title(job)}: step {state.step}/{steps}, loss {state.loss:.3f}, BER {state.ber:.3f}, "
                    f"{now - begin:.0f} s"
                )

        return show

    def show_transport_formats(self, config: SweepConfig) -> None:
        """One line for each transport block that the slots of a run can carry; none where uncoded."""
        for block in config.evaluation.transport_formats(config.scenario):
            self.console.print(
                f"transport block of {block.size_bits:,} bits in {block.coded_bits:,} coded bits "
                f"({block.bits_per_symbol} per RE), rate {block.code_rate:.4g} for {config.evaluation.code_rate:.4g}, "
                f"base graph {block.base_graph}"
            )

    def on_skipped(self, name: str) -> None:
        self._close()
        self.console.print(f"train {name}: trained already")

    def on_evaluation(self, states: Iterator[PointState], receivers: list[str]) -> None:
        """Count errors under a live table with one row per test point."""
        self._close()
        begin = time.monotonic()
        rows: dict[tuple[float, float], list[str]] = {}
        if not self.console.is_terminal:
            for state in states:
                if state.stopped:
                    self.console.print(_line(state, time.monotonic() - begin))
            return
        with Live(_table(rows, receivers, 0), console=self.console, refresh_per_second=4) as live:
            for state in states:
                rows[state.interference_fraction, state.sinr_db] = _cells(state)
                live.update(_table(rows, receivers, time.monotonic() - begin))

    def on_metering(self, name: str, index: int, total: int) -> None:
        self._close()
        self.console.print(f"meter {name} ({index + 1}/{total})")

    def on_warning(self, text: str) -> None:
        self._close()
        self.console.print(f"[yellow]warning:[/] {text}")

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _title(job: Job) -> str:
    return f"{job.name} ({job.receiver})" if job.role == "teacher" else job.name


def show_progress(what: str, steps: Iterable[tuple[int, int]]) -> None:
    """Run ``steps``, which yield (done, total), under a progress bar on standard error."""
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(what, total=None)
        for done, total in steps:
            bar.update(task, completed=done, total=total)


def _line(state: PointState, elapsed_s: float) -> str:
    errors = ", ".join(f"{name} {'; '.join(_rates(c))}" for name, c in state.counts.items())
    return (
        f"SINR {state.sinr_db:g} dB, interference fraction {state.interference_fraction:g}: {state.slots} slots, "
        f"BER {errors} ({state.stopped}, {elapsed_s:.0f} s)"
    )


def _cells(state: PointState) -> list[str]:
    rates = ["\n".join(_rates(c)) for c in state.counts.values()]
    return [f"{state.interference_fraction:g}", f"{state.sinr_db:g}", str(state.slots), *rates, state.stopped]


def _table(rows: dict[tuple[float, float], list[str]], receivers: list[str], elapsed_s: float) -> Table:
    table = Table(title=f"bit error rate with 95 % intervals, {elapsed_s:.0f} s", title_justify="left")
    for heading in ("interference", "SINR dB", "slots", *receivers, "stopped by"):
        table.add_column(heading, justify="right")
    for _, cells in sorted(rows.items()):
        table.add_row(*cells)
    return table


def _rates(counts: Counts) -> list[str]:
    """BER, and BLER where the slots are coded."""
    texts = [_rate(counts.ber, *counts.ber_interval())]
    if counts.transport_blocks:
        texts.append("BLER " + _rate(counts.block_errors / counts.transport_blocks, *counts.bler_interval()))
    return texts


def _rate(rate: float, low: float, high: float) -> str:
    """A rate with half of its interval in percent, or the upper end of an interval that begins at zero."""
    return f"{rate:.1e} ±{50 * (high - low) / rate:.0f}%" if low > 0 else f"< {high:.1e}"
