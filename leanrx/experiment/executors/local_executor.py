"""The executor that works on this machine."""

from __future__ import annotations

import torch

from distillation.distributed import current
from leanrx.experiment import energy_metering, workflow
from leanrx.experiment.energy_metering import Validation, ValidationOptions
from leanrx.experiment.executors.training_pool import torch_threads, train_in_pool
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run
from leanrx.experiment.workflow import num_cores
from leanrx_core.errors import UserError


class LocalExecutor:
    """Trains and meters on this machine: a :class:`leanrx.experiment.executors.executor.Executor`.

    On a CPU, receivers train in several processes with one thread each. Their weights therefore do not depend on the
    number of cores. On a GPU, and under torchrun, this process trains all.

    Args:
        cores: CPU cores for training; all that this process may use if omitted.
        threads: threads of each training on a CPU. Several threads add numbers in another order than one.

    Raises:
        UserError: if there are fewer cores, or fewer cores than threads.
    """

    def __init__(self, cores: int | None = None, threads: int = 1) -> None:
        available = num_cores()
        if cores is not None and not 1 <= cores <= available:
            raise UserError(f"cores: {cores} is outside 1..{available}, the cores that this process may use")
        cores = cores or available
        if not 1 <= threads <= cores:
            raise UserError(f"threads: {threads} is outside 1..{cores}, the cores for training")
        self._processes, self._threads = cores // threads, threads

    def train_all(self, run: Run, progress: ProgressCallback, only: str | None = None) -> dict[str, str]:
        """See :func:`leanrx.experiment.workflow.train_all`."""
        if torch.device(run.config.torch_device()).type != "cpu" or current().size > 1:
            return workflow.train_all(run, progress, only)
        if self._processes > 1:
            return train_in_pool(run, progress, self._processes, self._threads, only)
        with torch_threads(self._threads):
            return workflow.train_all(run, progress, only)

    def meter_all(self, run: Run, progress: ProgressCallback) -> None:
        """See :func:`leanrx.experiment.energy_metering.meter_all`."""
        energy_metering.meter_all(run, progress)

    def validate_all(
        self, run: Run, progress: ProgressCallback, options: ValidationOptions | None = None
    ) -> Validation:
        """See :func:`leanrx.experiment.energy_metering.validate_all`."""
        return energy_metering.validate_all(run, progress, options)
