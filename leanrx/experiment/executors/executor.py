"""What every executor does."""

from __future__ import annotations

from typing import Protocol

from leanrx.experiment.energy_metering import Validation, ValidationOptions
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run


class Executor(Protocol):
    """Trains and meters the receivers of a run. All steps resume after an interruption."""

    def train_all(self, run: Run, progress: ProgressCallback, only: str | None = None) -> dict[str, str]:
        """Train the receivers, see :func:`leanrx.experiment.workflow.train_all`."""
        ...

    def meter_all(self, run: Run, progress: ProgressCallback) -> None:
        """Meter the receivers, see :func:`leanrx.experiment.energy_metering.meter_all`."""
        ...

    def validate_all(
        self, run: Run, progress: ProgressCallback, options: ValidationOptions | None = None
    ) -> Validation:
        """Validate the estimators, see :func:`leanrx.experiment.energy_metering.validate_all`."""
        ...
