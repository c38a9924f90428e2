"""What every executor does."""

from __future__ import annotations

from typing import Protocol

from energy.metering.power_log import Wattmeter
from leanrx.experiment.energy_metering import Validation
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run


class Executor(Protocol):
    """Trains and meters the receivers of a run. All steps resume after an interruption."""

    def train_all(self, run: Run, progress: ProgressCallback, only: str | None = None) -> None:
        """Train the receivers, see :func:`leanrx.experiment.workflow.train_all`."""
        ...

    def meter_all(self, run: Run, progress: ProgressCallback) -> None:
        """Meter the receivers, see :func:`leanrx.experiment.energy_metering.meter_all`."""
        ...

    def validate_all(
        self,
        run: Run,
        progress: ProgressCallback,
        rounds: int | None = None,
        compiled: bool = False,
        log: Wattmeter | None = None,
        allow_model: bool = False,
        reference: str | None = None,
    ) -> Validation:
        """Validate the estimators, see :func:`leanrx.experiment.energy_metering.validate_all`."""
        ...
