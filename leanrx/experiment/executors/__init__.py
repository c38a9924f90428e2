"""Executors train and meter the receivers of a run: in this process, or on a Ray cluster."""

from leanrx.experiment.executors.executor import Executor
from leanrx.experiment.executors.local_executor import LocalExecutor

__all__ = ["Executor", "LocalExecutor"]
