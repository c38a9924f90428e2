"""The same sweep on a Ray cluster: a task per cohort, and a node of its own for each metering.

::

    driver   plan ---> cohorts whose teachers are complete ---> tasks ---> watcher
                                                                |             ^
    nodes                     train, meter, on the cores or the GPU declared  |
                                                                |             |
    run folder                receivers, checkpoints, training, cluster/*.jsonl

All nodes share the run folder: a task whose worker or node is lost is started again elsewhere and goes on from the last
checkpoint. A task writes the files of its own receivers, and what it does to its diary in ``cluster``, which the driver
reads; the diary is locked while the task lives, so that a lost worker that still runs is waited for.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import torch

from distillation.job import Job
from distillation.trainer import StepState
from energy.metering.instruments import Wattmeter
from energy.metering.meter import Meter
from leanrx.experiment import energy_metering, workflow
from leanrx.experiment.energy_metering import Agreement
from leanrx.experiment.plan import ReceiverRecord, TrainingGroup
from leanrx.experiment.run import Run
from leanrx.experiment.workflow import ProgressCallback
from leanrx_core.errors import UserError
from receivers.classical import GENIE_AIDED

ANSWER_S = 5.0
"""An address must answer within."""

RETRIES = 10
"""Times that a task is started again after its worker was lost."""

GONE_S = 300.0
"""A lost worker is gone within: nodes that lose the head end themselves, and file systems then free their locks."""

POLL_S = 0.5


class Cluster:
    """A running Ray cluster; does what :mod:`leanrx.experiment.workflow` and :mod:`leanrx.experiment.energy_metering` do in this process.

    Args:
        address: of its head, ``HOST:PORT``; this process runs on one of its nodes.
        cores: CPU cores, and threads, of a cohort; a run on CUDA takes a GPU beside them.

    Raises:
        UserError: if Ray is not installed, nothing answers at the address, or no node has so many cores.
    """

    def __init__(self, address: str, cores: int = 1) -> None:
        if cores < 1:
            raise UserError(f"cores: {cores} is too few; give 1 or more")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        try:
            import ray
        except ImportError:
            raise UserError("ray: not installed; run: pip install 'leanrx[cluster]'") from None
        self._ray: Any = ray
        self._cores = cores
        _knock(address)
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"ray: cannot join {address} ({str(error).splitlines()[0]}); run this on a node of the cluster, with "
                f"its versions of Ray ({ray.__version__} here) and Python"
            ) from None
        self._node(cores, 0)

    def train_all(self, run: Run, watcher: ProgressCallback, only: str | None = None) -> None:
        """As :func:`leanrx.experiment.workflow.train_all`; cohorts whose teachers are complete are trained side by side.

        Raises:
            UserError: as there, if no node has what a task needs, or a task was lost too often.
        """
        run, gpus = self._settled(run)
        self._node(self._cores, gpus)
        waiting = workflow.unfinished(run, watcher, only)
        jobs = {p.name: workflow.job(run.config, p) for cohort in waiting for p in cohort}
        done = set(run.receiver_names())
        show = watcher.training(list(jobs.values())) if jobs else None
        task = self._ray.remote(num_cpus=self._cores, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(_train)
        running: dict[Any, tuple[TrainingGroup, Iterator[list[dict[str, Any]]]]] = {}
        try:
            while waiting or running:
                for cohort in [c for c in waiting if _teachers(c) <= done]:
                    waiting.remove(cohort)
                    diary = _diary(run, cohort[0].name)
                    running[task.remote(os.getcwd(), self._cores, run, cohort)] = cohort, _tail(diary)
                ready, _ = self._ray.wait(list(running), timeout=POLL_S)
                for _, lines in running.values():
                    for line in next(lines):
                        assert show is not None
                        show(jobs[line["receiver"]], StepState(line["step"], line["loss"], line["ber"]))
                for ref in ready:
                    cohort, _ = running.pop(ref)
                    self._result(ref, ", ".join(p.name for p in cohort))
                    done |= {p.name for p in cohort}
        finally:
            for ref in running:
                self._ray.cancel(ref, force=True)

    def meter_all(self, run: Run, watcher: ProgressCallback) -> None:
        """As :func:`leanrx.experiment.energy_metering.meter_all`, on a node that nothing else is given meanwhile.

        Raises:
            UserError: as there.
        """
        self._alone(energy_metering.meter_all, run, watcher)

    def agree_all(
        self,
        run: Run,
        watcher: ProgressCallback,
        rounds: int = 3,
        compiled: bool = False,
        log: Wattmeter | None = None,
        modelled: bool = False,
    ) -> Agreement:
        """As :func:`leanrx.experiment.energy_metering.agree_all`, on a node that nothing else is given meanwhile.

        Raises:
            UserError: as there.
        """
        return self._alone(energy_metering.agree_all, run, watcher, rounds, compiled, log, modelled)

    def _alone(self, work: Callable[..., Any], run: Run, watcher: ProgressCallback, *arguments: Any) -> Any:
        """Call ``work`` on one node, all cores and GPUs of which are claimed for it; another if that is lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        run, gpus = self._settled(run)
        for _ in range(RETRIES):
            node = self._node(1, gpus)
            cores, all_gpus = int(node["Resources"]["CPU"]), int(node["Resources"].get("GPU", 0))
            task = self._ray.remote(
                num_cpus=cores,
                num_gpus=all_gpus if gpus else 0,
                max_retries=0,
                max_calls=1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )(_meter)
            lines = _tail(_diary(run, "metering"))
            ref = task.remote(os.getcwd(), cores, work, run, *arguments)
            try:
                ready: list[Any] = []
                while not ready:
                    ready, _ = self._ray.wait([ref], timeout=POLL_S)
                    for line in next(lines):
                        watcher.metering(line["metering"], line["index"], line["total"])
                return self._result(ref, "metering")
            except _LostError:
                continue
            finally:
                self._ray.cancel(ref, force=True)
        raise UserError(f"metering: its worker was lost {RETRIES} times; see Ray's logs, then run the same command")

    def _node(self, cores: int, gpus: int) -> dict[str, Any]:
        """The largest node that has so many cores and GPUs, always the same one while it lives."""
        alive = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        able = [n for n in alive if n["Resources"]["CPU"] >= cores and n["Resources"].get("GPU", 0) >= gpus]
        if not able:
            most = max((int(n["Resources"]["CPU"]) for n in alive), default=0)
            if most < cores:
                raise UserError(f"cores: {cores} is more than any node has; give {most} or less")
            raise UserError("device: no node of the cluster has a GPU; write cpu, or start nodes with --num-gpus")
        return min(able, key=lambda n: (-n["Resources"]["CPU"], n["NodeName"], n["NodeID"]))

    def _settled(self, run: Run) -> tuple[Run, int]:
        """The run with the device that this process would use, and the GPUs that a task then needs."""
        device = torch.device(run.config.torch_device()).type
        return replace(run, config=run.config.model_copy(update={"device": device})), int(device == "cuda")

    def _result(self, ref: Any, what: str) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, UserError | OSError):
                raise error.cause from None
            raise
        except RayError as error:
            raise _LostError(
                f"{what}: worker lost for good ({type(error).__name__}); see Ray's logs, then run the same command"
            ) from None


class _LostError(UserError):
    """A task whose worker was lost, and which is not started again."""


def _knock(address: str) -> None:
    """See that a Ray head is there: its server speaks HTTP/2, and says so first of all (RFC 9113, section 3.4)."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"ray: '{address}' is not an address; write HOST:PORT of the head, such as 10.0.0.1:6379")
    answer = b""
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_S) as door:
            door.settimeout(ANSWER_S)
            door.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            answer = door.recv(9)
    except OSError:
        pass
    if answer[3:4] != b"\4":  # a SETTINGS frame
        raise UserError(
            f"ray: no Ray cluster answers at {address}; start one with: ray start --head --port={port}, "
            "and write the address that it prints"
        )


def _teachers(cohort: TrainingGroup) -> set[str]:
    return {t for p in cohort for t in p.teachers if t not in GENIE_AIDED}


def _diary(run: Run, name: str) -> Path:
    return run.folder / "cluster" / f"{name}.jsonl"


def _tail(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Lines that were added since the last time, again and again."""
    read = path.stat().st_size if path.exists() else 0
    while True:
        found = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(read)
                found = file.read()
        whole = found[: found.rfind(b"\n") + 1]
        read += len(whole)
        yield [json.loads(line) for line in whole.splitlines()]


# What follows runs on the nodes.


def _train(directory: str, cores: int, run: Run, cohort: Sequence[ReceiverRecord]) -> None:
    _enter(directory, cores, run)
    with _held(_diary(run, cohort[0].name)) as diary:
        done = set(run.receiver_names())  # by a worker that was lost
        left = [p for p in cohort if p.name not in done]
        if left:
            workflow.train_cohort(
                run, left, _Diarist(diary).training, Meter(run.config.metering.cpu_power_w, run.config.torch_device())
            )


def _meter(directory: str, cores: int, work: Callable[..., Any], run: Run, *arguments: Any) -> Any:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:  # of the GPUs claimed, the first does the work and is read
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    _enter(directory, cores, run)
    with _held(_diary(run, "metering")) as diary:
        return work(run, _Diarist(diary), *arguments)


def _enter(directory: str, cores: int, run: Run) -> None:
    """Work where the driver works, so that paths mean the same."""
    if not (Path(directory) / run.folder / "config.yaml").exists():
        raise UserError(
            f"{run.folder}: node {socket.gethostname()} does not see this folder of {directory}; put runs on a file "
            "system that all nodes share"
        )
    os.chdir(directory)
    torch.set_num_threads(cores)


@contextmanager
def _held(path: Path) -> Iterator[IO[str]]:
    """The diary, for this process alone; one that was given up for lost may need time to end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    due = time.monotonic() + GONE_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > due:
                    raise UserError(f"{path}: held by a worker that was given up for lost; stop it") from None
                time.sleep(POLL_S)
        yield file


class _Diarist:
    """Writes down what the driver's watcher is to be told, and who did it."""

    def __init__(self, diary: IO[str]) -> None:
        import ray

        self._diary = diary
        node = ray.get_runtime_context().get_node_id()
        self._who = {"host": socket.gethostname(), "node": node, "pid": os.getpid()}

    def training(self, jobs: Sequence[Job]) -> Callable[[Job, StepState], None]:
        return lambda job, state: self._write({"receiver": job.name, **asdict(state)})

    def metering(self, name: str, index: int, total: int) -> None:
        self._write({"metering": name, "index": index, "total": total})

    def _write(self, line: dict[str, Any]) -> None:
        self._diary.write(json.dumps({**line, **self._who}) + "\n")
        self._diary.flush()
