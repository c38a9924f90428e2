"""Processes of this machine that train the receivers of a run, one torch thread each.

::

    parent    plan ---> receivers whose teachers are complete ---> shares ---> progress, errors
                                                                     |           ^
    workers                                             a share each, on one core

Networks of this size leave most cores idle if one training uses them all: threads wait for each other after every
small operation, and spinning threads take the cores from other programs. A receiver's weights depend on its own
training alone, so receivers share the cores instead, and the weights are those of one process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import torch

from distillation.job import Job
from distillation.trainer import DivergenceError, StepState
from leanrx.experiment import workflow
from leanrx.experiment.plan import ReceiverRecord, TrainingGroup
from leanrx.experiment.progress import ProgressCallback, StepCallback
from leanrx.experiment.run import Run
from leanrx_core.errors import UserError
from leanrx_core.interrupts import interrupts_blocked
from receivers.classical import GENIE_AIDED

MIN_SLOTS = 10_000
"""Training slots of a run below which processes are not worth their start."""


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this number of threads for a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_in_pool(
    run: Run, progress: ProgressCallback, processes: int, threads: int = 1, only: str | None = None
) -> dict[str, str]:
    """Train the receivers of a run as :func:`leanrx.experiment.workflow.train_all`, on several cores.

    Args:
        run: its folder and configuration; the device is a CPU.
        progress: receives the progress.
        processes: number of processes, 2 or more.
        threads: torch threads of each.
        only: train this receiver and its teachers only.

    Returns:
        the receivers whose training diverged, as there.

    Raises:
        UserError: as there, or if a process ends unexpectedly. Other processes complete their receivers first.
    """
    groups = workflow.begin_training(run, progress, only)
    records = [r for group in groups for r in group]
    if _num_slots(records) < MIN_SLOTS or len(records) < 2:
        with torch_threads(threads):
            return workflow.train_groups(run, groups, progress).report(progress)
    jobs = {r.name: workflow.make_job(run.config, r) for r in records}
    on_step = progress.on_training(list(jobs.values()))
    complete = {*run.names_with_weights(), *GENIE_AIDED}
    failure: BaseException | None = None
    failures = workflow.TrainingFailures()
    with _workers(run, min(processes, len(records)), threads) as workers:
        while groups or workers.busy:
            while workers.idle and failure is None and (share := next_share(groups, complete, workers.size)):
                workers.submit(share)
                groups = [rest for group in groups if (rest := tuple(r for r in group if r not in share))]
            if not workers.busy:
                break
            for share, message in workers.receive():
                if isinstance(message, tuple):
                    name, state = message
                    on_step(jobs[name], state)
                elif isinstance(message, DivergenceError):
                    failures.add(share, run.names_with_weights(), message)
                    complete |= {r.name for r in share} - failures.reasons.keys()
                    groups = [rest for group in groups if (rest := failures.without_dependents(group))]
                elif isinstance(message, BaseException):
                    failure = failure or message
                else:
                    complete |= {r.name for r in share}
    if failure is not None:
        raise failure
    return failures.report(progress)


def next_share(groups: Sequence[TrainingGroup], complete: set[str], processes: int) -> TrainingGroup:
    """Receivers that a free process trains next.

    They are of one training group and have complete teachers. A process takes its share of those that are ready, so
    that all processes end at about the same time.

    Args:
        groups: receivers that wait, in training groups, teachers first.
        complete: names of complete receivers.
        processes: number of processes.

    Returns:
        The receivers; none if all wait for their teachers.
    """
    for group in groups:
        ready = [r for r in group if complete.issuperset(r.teachers)]
        if ready:
            return tuple(ready[: -(-len(ready) // processes)])
    return ()


def _num_slots(records: Sequence[ReceiverRecord]) -> int:
    return sum(r.training.steps * r.training.batch_slots for r in records if r.training)


class _Workers:
    """The processes, each with its connection and the share that it trains."""

    def __init__(self, run: Run, size: int, threads: int) -> None:
        self.size = size
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._active = context.Value("i", 0)
        self.idle: list[Connection] = []
        self.busy: dict[Connection, TrainingGroup] = {}
        self._processes = []
        for _ in range(size):
            parent_end, worker_end = context.Pipe()
            process = context.Process(target=_run_worker, args=(worker_end, run, threads, self._active), daemon=True)
            with interrupts_blocked():
                process.start()
                self._processes.append(process)
            worker_end.close()
            self.idle.append(parent_end)

    def submit(self, share: TrainingGroup) -> None:
        """Let an idle process train these receivers."""
        connection = self.idle.pop()
        self.busy[connection] = share
        with self._active:
            self._active.value += 1
        try:
            connection.send(share)
        except OSError:
            raise _process_ended(share) from None

    def receive(self) -> Iterator[tuple[TrainingGroup, Any]]:
        """Wait for messages: a receiver's name and its state, an error, or ``None`` when a share is complete."""
        for connection in wait(list(self.busy)):
            assert isinstance(connection, Connection)
            share = self.busy[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                raise _process_ended(share) from None
            if not isinstance(message, tuple):
                self.idle.append(connection)
                del self.busy[connection]
                with self._active:
                    self._active.value -= 1
            yield share, message

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


@contextmanager
def _workers(run: Run, size: int, threads: int) -> Iterator[_Workers]:
    workers = _Workers(run, size, threads)
    try:
        yield workers
    finally:
        workers.stop()


def _process_ended(share: TrainingGroup) -> UserError:
    return UserError(
        f"{', '.join(r.name for r in share)}: the process that trained them ended unexpectedly (out of memory?); the "
        "same command resumes from here, with fewer --cores if need be"
    )


# The functions below run in the processes.


def _run_worker(connection: Connection, run: Run, threads: int, active: Synchronized[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)

    def on_training(jobs: Sequence[Job]) -> StepCallback:
        return lambda job, state: connection.send((job.name, _plain(state)))

    try:
        meter = workflow.training_meter(run.config, lambda: active.value)
        while True:
            share = connection.recv()
            try:
                workflow.train_group(run, share, on_training, meter)
                message = None
            except Exception as error:
                error.add_note("in a training process")
                message = error
            connection.send(message)
    except (EOFError, OSError):  # the parent process has ended
        return


def _plain(state: StepState) -> StepState:
    return StepState(int(state.step), float(state.loss), float(state.ber))


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended: two processes must not write one checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
