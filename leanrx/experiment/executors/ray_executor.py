"""The executor that works on a Ray cluster: a task per training group, and a node of its own for metering.

::

    driver   plan ---> groups whose teachers are complete ---> tasks ---> progress
                                                                |             ^
    nodes                     train, meter, on the cores or the GPU declared  |
                                                                |             |
    run folder                receivers, checkpoints, training, cluster/*.jsonl

All nodes share the run folder. If a worker or node is lost, its task starts again on another node and resumes from the
last checkpoint. A task writes the files of its own receivers. It also writes a progress log in ``cluster``, which the
driver reads. The log is locked while the task runs, so a new task waits until a lost worker has really ended.
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
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import torch

from distillation.job import Job
from distillation.trainer import DivergenceError, StepState
from leanrx.experiment import energy_metering, workflow
from leanrx.experiment.energy_metering import Validation, ValidationOptions
from leanrx.experiment.plan import ReceiverRecord, TrainingGroup
from leanrx.experiment.progress import ProgressCallback, StepCallback
from leanrx.experiment.run import Run
from leanrx_core.errors import UserError
from receivers.classical import GENIE_AIDED

CONNECT_TIMEOUT_S = 5.0
"""Time within which the head of a cluster must answer."""

RETRIES = 10
"""How often a task is started again after its worker was lost."""

WORKER_EXIT_TIMEOUT_S = 300.0
"""Time within which a lost worker ends: a node without a head stops itself, and its file locks are then released."""

POLL_S = 0.5

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class RayExecutor:
    """Trains and meters on a running Ray cluster: a :class:`leanrx.experiment.executors.executor.Executor`.

    Args:
        address: of the cluster's head, ``HOST:PORT``; this process runs on a node of the cluster.
        cores: CPU cores, and threads, of a training group. A run on CUDA also takes one GPU.

    Raises:
        UserError: if Ray is not installed, no cluster answers at the address, or no node has enough cores.
    """

    def __init__(self, address: str, cores: int = 1) -> None:
        if cores < 1:
            raise UserError(f"cores: {cores} is too few; give 1 or more")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics leave the machine
        try:
            import ray
        except ImportError:
            raise UserError("ray: not installed; run: pip install 'leanrx[cluster]'") from None
        self._ray: Any = ray
        self._cores = cores
        _check_head(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"ray: cannot join {address} ({str(error).splitlines()[0]}); run this command on a node of the "
                f"cluster, with its version of Ray ({ray.__version__} here) and of Python"
            ) from None
        self._largest_node(cores, 0)

    def train_all(self, run: Run, progress: ProgressCallback, only: str | None = None) -> dict[str, str]:
        """See :func:`leanrx.experiment.workflow.train_all`; groups whose teachers are complete train at the same time.

        Raises:
            UserError: as there, if no node has what a task needs, or a task was lost too often.
        """
        run, gpus = _resolve_device(run)
        self._largest_node(self._cores, gpus)
        pending = workflow.begin_training(run, progress, only)
        jobs = {r.name: workflow.make_job(run.config, r) for group in pending for r in group}
        on_step = progress.on_training(list(jobs.values())) if jobs else None
        complete, failures = run.names_with_weights(), workflow.TrainingFailures()
        task = self._ray.remote(num_cpus=self._cores, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(_train)
        running: dict[Any, tuple[TrainingGroup, Iterator[list[dict[str, Any]]]]] = {}
        try:
            while pending or running:
                pending = [g for g in map(failures.without_dependents, pending) if g]
                for group in [g for g in pending if _trained_teachers(g) <= complete]:
                    pending.remove(group)
                    lines = _new_lines(_progress_log(run, group[0].name))
                    running[task.remote(os.getcwd(), self._cores, run, group)] = group, lines
                if not running:
                    break  # the teachers of all that is left have failed
                finished, _ = self._ray.wait(list(running), timeout=POLL_S)
                for _, lines in running.values():
                    for line in next(lines):
                        assert on_step is not None
                        on_step(jobs[line["receiver"]], StepState(line["step"], line["loss"], line["ber"]))
                for ref in finished:
                    group, _ = running.pop(ref)
                    try:
                        self._result(ref, ", ".join(r.name for r in group))
                    except DivergenceError as error:
                        failures.add(group, run.names_with_weights(), error)
                    complete |= {r.name for r in group} - failures.reasons.keys()
        finally:
            for ref in running:
                self._ray.cancel(ref, force=True)
        return failures.report(progress)

    def meter_all(self, run: Run, progress: ProgressCallback) -> None:
        """See :func:`leanrx.experiment.energy_metering.meter_all`; it runs on a node that has no other task.

        Raises:
            UserError: as there.
        """
        self._run_exclusive(run, progress, energy_metering.meter_all)

    def validate_all(
        self, run: Run, progress: ProgressCallback, options: ValidationOptions | None = None
    ) -> Validation:
        """See :func:`leanrx.experiment.energy_metering.validate_all`; it runs on a node that has no other task.

        Raises:
            UserError: as there.
        """
        return self._run_exclusive(run, progress, energy_metering.validate_all, options)

    def _run_exclusive(
        self,
        run: Run,
        progress: ProgressCallback,
        function: Callable[Concatenate[Run, ProgressCallback, Arguments], Result],
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> Result:
        """Call ``function`` on one node and claim all of its cores and GPUs; on another node if that one is lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        run, gpus = _resolve_device(run)
        for _ in range(RETRIES):
            node = self._largest_node(1, gpus)
            cores, all_gpus = int(node["Resources"]["CPU"]), int(node["Resources"].get("GPU", 0))
            task = self._ray.remote(
                num_cpus=cores,
                num_gpus=all_gpus if gpus else 0,
                max_retries=0,
                max_calls=1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )(_meter)
            lines = _new_lines(_progress_log(run, "metering"))
            ref = task.remote(os.getcwd(), cores, function, run, *arguments, **keywords)
            try:
                finished: list[Any] = []
                while not finished:
                    finished, _ = self._ray.wait([ref], timeout=POLL_S)
                    for line in next(lines):
                        progress.on_metering(line["metering"], line["index"], line["total"])
                result: Result = self._result(ref, "metering")
                return result
            except _WorkerLostError:
                continue
            finally:
                self._ray.cancel(ref, force=True)
        raise UserError(f"metering: its worker was lost {RETRIES} times; see Ray's logs, then run the same command")

    def _largest_node(self, cores: int, gpus: int) -> dict[str, Any]:
        """The largest node with at least these cores and GPUs; the same one while it is alive."""
        alive = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        nodes = [n for n in alive if n["Resources"]["CPU"] >= cores and n["Resources"].get("GPU", 0) >= gpus]
        if not nodes:
            most = max((int(n["Resources"]["CPU"]) for n in alive), default=0)
            if most < cores:
                raise UserError(f"cores: {cores} is more than any node has; give {most} or less")
            raise UserError("device: no node of the cluster has a GPU; write cpu, or start nodes with --num-gpus")
        return min(nodes, key=lambda n: (-n["Resources"]["CPU"], n["NodeName"], n["NodeID"]))

    def _result(self, ref: Any, task_name: str) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, UserError | OSError):
                raise error.cause from None
            raise
        except RayError as error:
            raise _WorkerLostError(
                f"{task_name}: the worker was lost ({type(error).__name__}); see Ray's logs, then run the same command"
            ) from None


class _WorkerLostError(UserError):
    """A task whose worker was lost and that Ray does not start again."""


def _resolve_device(run: Run) -> tuple[Run, int]:
    """The run with the device that this process would use, and the number of GPUs that a task then needs."""
    device = torch.device(run.config.torch_device()).type
    return replace(run, config=run.config.model_copy(update={"device": device})), int(device == "cuda")


def _check_head(address: str) -> None:
    """Check that a Ray head listens: its server speaks HTTP/2 and sends SETTINGS first (RFC 9113, section 3.4)."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"ray: '{address}' is not an address; write HOST:PORT of the head, such as 10.0.0.1:6379")
    answer = b""
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            answer = connection.recv(9)
    except OSError:
        pass
    if answer[3:4] != b"\4":  # a SETTINGS frame
        raise UserError(
            f"ray: no Ray cluster answers at {address}; start one with: ray start --head --port={port}, "
            "and write the address that it prints"
        )


def _trained_teachers(group: TrainingGroup) -> set[str]:
    return {t for r in group for t in r.teachers if t not in GENIE_AIDED}


def _progress_log(run: Run, name: str) -> Path:
    return run.folder / "cluster" / f"{name}.jsonl"


def _new_lines(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Each time, the lines that were appended since the last time."""
    offset = path.stat().st_size if path.exists() else 0
    while True:
        data = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        offset += len(complete)
        yield [json.loads(line) for line in complete.splitlines()]


# The functions below run on the nodes.


def _train(directory: str, cores: int, run: Run, group: Sequence[ReceiverRecord]) -> None:
    _setup_worker(directory, cores, run)
    with _locked(_progress_log(run, group[0].name)) as log:
        complete = run.names_with_weights()  # a lost worker may have completed some
        pending = [r for r in group if r.name not in complete]
        if pending:
            meter = workflow.training_meter(run.config)
            workflow.train_group(run, pending, _ProgressWriter(log).on_training, meter)


def _meter(
    directory: str, cores: int, function: Callable[..., Result], run: Run, *arguments: Any, **keywords: Any
) -> Result:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:  # all GPUs of the node are claimed; the first one works and is metered
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    _setup_worker(directory, cores, run)
    with _locked(_progress_log(run, "metering")) as log:
        return function(run, _ProgressWriter(log), *arguments, **keywords)


def _setup_worker(directory: str, cores: int, run: Run) -> None:
    """Change to the driver's working directory, so that relative paths mean the same."""
    if not (Path(directory) / run.folder / "config.yaml").exists():
        raise UserError(
            f"{run.folder}: node {socket.gethostname()} cannot read this folder of {directory}; put runs on a file "
            "system that all nodes share"
        )
    os.chdir(directory)
    torch.set_num_threads(cores)


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """The log, locked by this process. A worker that was lost may need time to end and release it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + WORKER_EXIT_TIMEOUT_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"{path}: locked by a worker that is not responding; stop that worker") from None
                time.sleep(POLL_S)
        yield file


class _ProgressWriter:
    """Writes progress, and the worker that made it, into the log: a :class:`ProgressCallback` of a node."""

    def __init__(self, log: IO[str]) -> None:
        import ray

        self._log = log
        node = ray.get_runtime_context().get_node_id()
        self._worker = {"host": socket.gethostname(), "node": node, "pid": os.getpid()}

    def on_training(self, jobs: Sequence[Job]) -> StepCallback:
        return lambda job, state: self._write({"receiver": job.name, **asdict(state)})

    def on_metering(self, name: str, index: int, total: int) -> None:
        self._write({"metering": name, "index": index, "total": total})

    def _write(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps({**line, **self._worker}) + "\n")
        self._log.flush()
