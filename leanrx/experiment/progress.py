"""How a run reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from distillation.job import Job
from distillation.trainer import StepState
from receivers.evaluation.monte_carlo import PointState

StepCallback = Callable[[Job, StepState], None]
"""Called after each logged training step."""


class ProgressCallback(Protocol):
    """Receives the progress of a run, for example :class:`leanrx.cli.console.ConsoleProgress`."""

    def on_training(self, jobs: Sequence[Job]) -> StepCallback:
        """A training begins; the returned function is called after each logged step."""
        ...

    def on_skipped(self, name: str) -> None:
        """A receiver is trained already."""
        ...

    def on_evaluation(self, states: Iterator[PointState], receivers: list[str]) -> None:
        """An evaluation begins; the callback must consume ``states``, which counts the errors."""
        ...

    def on_metering(self, name: str, index: int, total: int) -> None:
        """Window ``index`` of ``total``, counted from 0, of workload ``name`` was metered."""
        ...

    def on_warning(self, text: str) -> None:
        """Something needs the user's attention."""
        ...
