"""Inputs that are accepted by mistake must not start hours of work: all that computes is replaced by a failure."""

from __future__ import annotations

from typing import Any

import pytest
from complete_runs import complete_run

from leanrx.experiment.run import Run


def _accepted(*arguments: Any, **settings: Any) -> Any:
    raise AssertionError("a bad input was accepted")


@pytest.fixture(autouse=True)
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "leanrx.experiment.executors.local_executor.LocalExecutor.train_all",
        "leanrx.experiment.workflow.train",
        "leanrx.experiment.workflow.count_errors",
        "leanrx.experiment.search.train",
        "leanrx.experiment.energy_metering.meter_workloads",
        "channels.stream.SlotStream.block",
    ):
        monkeypatch.setattr(name, _accepted)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with all its files, which no test changes."""
    return complete_run(tmp_path_factory.mktemp("runs") / "complete")
