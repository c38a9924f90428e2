"""Clients of federated averaging, and the processes that train them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import nn

from leanrx_core.errors import UserError
from leanrx_core.interrupts import interrupts_blocked

Task = tuple[int, bytes, int, int]
"""Index of a client, global weights, number of the round, and seed."""
State = dict[str, torch.Tensor]


class Client(Protocol):
    """A server that trains on its own samples. It can be pickled.

    Attributes:
        name: of the server.
        samples: number of samples of a round. The mean is weighted by it.
        description: everything that determines its weights, as plain values.
    """

    @property
    def name(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def description(self) -> dict[str, Any]: ...

    def train(self, net: nn.Module, round_number: int) -> None:
        """Train the network in place. Random numbers come from torch's global generator, seeded by the caller."""
        ...


@contextmanager
def trained_weights(
    net: nn.Module, clients: Sequence[Client], workers: int
) -> Iterator[Callable[[list[Task]], list[State]]]:
    """A function that trains clients, each from given weights, and returns their weights in order.

    Args:
        net: whose architecture is trained. It does not change.
        clients: to train.
        workers: processes; with 1, this process trains. They end with the context, and also when this process dies.
    """
    if workers == 1:
        worker = _Worker(net, clients)
        yield lambda tasks: [safetensors.torch.load(worker.run(*task)) for task in tasks]
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (pickle.dumps((net, tuple(clients))),))

    def train_clients(tasks: list[Task]) -> list[State]:
        try:
            with interrupts_blocked():  # a worker that starts here never gets Ctrl-C
                futures = [pool.submit(_run_worker, task) for task in tasks]
            return [safetensors.torch.load(future.result()) for future in futures]
        except BrokenProcessPool:
            raise UserError(
                "workers: a worker process ended unexpectedly (out of memory?); the same command resumes from the "
                "last round, with fewer workers if need be"
            ) from None

    try:
        yield train_clients
    finally:
        pool.shutdown(cancel_futures=True)


def dump_weights(net: nn.Module, metadata: Mapping[str, str] | None = None) -> bytes:
    """The weights of a network as a safetensors file."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    return safetensors.torch.save(state, dict(metadata) if metadata else None)


class _Worker:
    """Trains clients on a network of its own."""

    def __init__(self, net: nn.Module, clients: Sequence[Client]) -> None:
        self._net: nn.Module = pickle.loads(pickle.dumps(net))
        self._clients = clients

    def run(self, index: int, weights: bytes, number: int, seed: int) -> bytes:
        """The weights of a client after its training, as a safetensors file."""
        self._net.load_state_dict(safetensors.torch.load(weights))
        self._net.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._clients[index].train(self._net, number)
        return dump_weights(self._net)


_workers: list[_Worker] = []
"""The worker of this process."""


def _begin_worker(data: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _workers[:] = [_Worker(*pickle.loads(data))]  # from the parent process


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_worker(task: Task) -> bytes:
    return _workers[0].run(*task)
