"""The executor that works in this process."""

from __future__ import annotations

from energy.metering.power_log import Wattmeter
from leanrx.experiment import energy_metering, workflow
from leanrx.experiment.energy_metering import Validation
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run


class LocalExecutor:
    """Trains and meters in this process: a :class:`leanrx.experiment.executors.executor.Executor`."""

    def train_all(self, run: Run, progress: ProgressCallback, only: str | None = None) -> None:
        """See :func:`leanrx.experiment.workflow.train_all`."""
        workflow.train_all(run, progress, only)

    def meter_all(self, run: Run, progress: ProgressCallback) -> None:
        """See :func:`leanrx.experiment.energy_metering.meter_all`."""
        energy_metering.meter_all(run, progress)

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
        """See :func:`leanrx.experiment.energy_metering.validate_all`."""
        return energy_metering.validate_all(run, progress, rounds, compiled, log, allow_model, reference)
