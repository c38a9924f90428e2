"""Pools of worker processes that count blocks, one torch thread each."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from leanrx_core.errors import UserError
from leanrx_core.interrupts import interrupts_blocked
from receivers.evaluation.block_counter import BlockCounter
from receivers.evaluation.error_counts import BlockCount

Task = tuple[float, float, int, tuple[str, ...]]
"""Interference fraction, SINR in dB, block number and receivers: the arguments of :meth:`BlockCounter.rows`."""


class WorkerPool(Protocol):
    """Runs up to ``size`` tasks at a time and returns their rows in any order."""

    size: int

    def submit(self, task: Task) -> None: ...
    def collect(self) -> tuple[Task, list[BlockCount]]: ...


@contextmanager
def worker_pool(counter: BlockCounter, workers: int) -> Iterator[WorkerPool]:
    """A pool of ``workers`` processes; with 1, this process counts itself.

    The processes end with the context, and also when this process dies.
    """
    if workers == 1:
        yield _SerialPool(counter)
        return
    pool = _ProcessPool(counter, workers)
    try:
        pool.start()
        yield pool
    finally:
        pool.stop()


class _SerialPool:
    size = 1

    def __init__(self, counter: BlockCounter) -> None:
        self._counter = counter
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def collect(self) -> tuple[Task, list[BlockCount]]:
        task = self._tasks.popleft()
        return task, self._counter.rows(*task)


class _ProcessPool:
    def __init__(self, counter: BlockCounter, workers: int) -> None:
        self.size, self._data = workers, pickle.dumps(counter)
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Task] = {}
        self._processes: list[BaseProcess] = []

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        for _ in range(self.size):
            parent_end, worker_end = context.Pipe()
            process = context.Process(target=_run_worker, args=(worker_end, self._data), daemon=True)
            with interrupts_blocked():
                process.start()
                self._processes.append(process)
            worker_end.close()
            self._idle.append(parent_end)

    def submit(self, task: Task) -> None:
        connection = self._idle.pop(0)
        self._busy[connection] = task
        try:
            connection.send(task)
        except OSError:
            raise _worker_ended() from None

    def collect(self) -> tuple[Task, list[BlockCount]]:
        connection = wait(list(self._busy))[0]
        assert isinstance(connection, Connection)
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            raise _worker_ended() from None
        if isinstance(answer, BaseException):
            raise answer
        self._idle.append(connection)
        return self._busy.pop(connection), answer

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def _worker_ended() -> UserError:
    return UserError(
        "workers: a worker process ended unexpectedly (out of memory?); the same command resumes from here, "
        "with fewer --workers if need be"
    )


def _run_worker(connection: Connection, data: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its workers
    try:
        counter: BlockCounter = pickle.loads(data)  # from the parent process, which holds the other end of the pipe
        while True:
            task = connection.recv()
            try:
                answer: object = counter.rows(*task)
            except Exception as error:
                error.add_note("in a worker process")
                answer = error
            connection.send(answer)
    except (EOFError, OSError):  # the parent process has ended
        return
