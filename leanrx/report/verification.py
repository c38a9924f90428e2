"""The state of every file of a run: intact, damaged, or stale because something that it follows from has changed.

::

    weights of teachers --> weights of students --> counts, energy --> life cycles, report
                                              +---> exported files

Nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from channels.dataset import DatasetStream
from energy.metering.workloads import read_windows
from leanrx.experiment.run import Run
from leanrx.experiment.run_export import CLASSICAL
from leanrx.report.results import estimator_validation
from leanrx_core.errors import UserError
from receivers.classical import classical_receivers
from receivers.evaluation.store import read_counts
from receivers.export.exported_file import card_receiver

State = Literal["intact", "missing", "damaged", "stale"]
"""``missing`` belongs to a step that is not done yet, which is no mistake."""


@dataclass(frozen=True)
class FileState:
    """The state of one file or folder of a run.

    Attributes:
        path: relative to the run folder.
        state: what it is.
        detail: why, and what helps; empty for an intact file.
    """

    path: str
    state: State
    detail: str = ""


def verify(run: Run) -> list[FileState]:
    """Read every file of a run, check digests, schemas and values, and find what is stale.

    Args:
        run: an existing run, whose configuration is read already.

    Returns:
        the states in the order in which a run writes its files.
    """
    digests = {r.name: r.digest for r in classical_receivers(run.config.scenario)}
    states = [_read("environment.json", run.environment)]
    for record in run.plan.neural:
        states.append(_receiver_state(run, record.name, digests))
    states += _dataset_states(run)
    states += _table_state(run, run.ber_path, run.counts, digests, "leanrx evaluate")
    shards, windows = run.folder.glob("shards/*/ber.parquet"), run.metering_folder.glob("*.jsonl")
    states += [_read(_relative(run, path), partial(read_counts, path)) for path in sorted(shards)]
    states += [_read(_relative(run, path), partial(read_windows, path)) for path in sorted(windows)]
    states += _table_state(run, run.energy_path, run.energy, digests, "leanrx energy")
    if run.validation_folder.exists():
        states.append(_read("validation", lambda: estimator_validation(run)))
    states += [_export_state(run, folder, digests) for folder in sorted((run.folder / "exports").glob("[!.]*"))]
    states.append(_result_state(run, run.ecal_path, "leanrx ecal"))
    states.append(_result_state(run, run.report_folder / "inputs.json", "leanrx report"))
    return states


def _relative(run: Run, path: Path) -> str:
    return str(path.relative_to(run.folder))


def _read(path: str, read: Callable[[], object]) -> FileState:
    try:
        read()
    except UserError as error:
        return FileState(path, "damaged", str(error))
    except OSError as error:
        return FileState(path, "damaged", f"{path}: {error.strerror}; make it readable")
    return FileState(path, "intact")


def _receiver_state(run: Run, name: str, digests: dict[str, str]) -> FileState:
    """State of a receiver; its digest is added to ``digests``, which holds those of its teachers."""
    path = f"receivers/{name}"
    if name not in run.receiver_names():
        return FileState(path, "missing", "run: leanrx train on the run's configuration")
    try:
        receiver = run.receiver(name)
    except UserError as error:
        return FileState(path, "damaged", str(error))
    digests[name] = receiver.digest
    teachers = receiver.card.training.get("teachers", {})
    for teacher, digest in teachers.items() if isinstance(teachers, dict) else ():
        if digests.get(teacher, digest) != digest:
            return FileState(path, "stale", f"{teacher} has other weights now; delete {path} and train it again")
    return FileState(path, "intact")


def _dataset_states(run: Run) -> Iterator[FileState]:
    for field, folder in run.config.dataset.model_dump().items():
        if folder is not None:
            yield _read(f"dataset.{field}", partial(_check_dataset, folder))


def _check_dataset(folder: str) -> None:
    DatasetStream(folder).check_files()


def _table_state(
    run: Run, path: Path, read: Callable[[], pd.DataFrame], digests: dict[str, str], command: str
) -> Iterator[FileState]:
    """State of a table of rows of receivers. Rows of other weights are stale, and so is an unfinished journal."""
    name, journal = _relative(run, path), path.with_suffix(".journal.jsonl")
    if journal.exists():
        yield FileState(_relative(run, journal), "stale", f"an interrupted count; run: {command} {run.folder}")
    if not path.exists():
        yield FileState(name, "missing", f"run: {command} {run.folder}")
        return
    try:
        rows = read()
    except UserError as error:
        yield FileState(name, "damaged", str(error))
        return
    for receiver in (r.name for r in run.plan.neural):
        if receiver in digests and digests[receiver] not in set(rows.loc[rows["receiver"] == receiver, "digest"]):
            yield FileState(name, "stale", f"no rows of {receiver} as it is now; run: {command} {run.folder}")
            return
    yield FileState(name, "intact")


def _export_state(run: Run, folder: Path, digests: dict[str, str]) -> FileState:
    """State of an exported ONNX file, or of the files of a receiver in C."""
    path = _relative(run, folder)
    remedy = f"run: leanrx export {run.folder} {folder.name}"
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        name, source = card_receiver(card)
        if card["format"] == "c":
            remedy = f"run: leanrx export {run.folder} {name} --format c"
            expected = {file: entry["sha256"] for file, entry in card["files"].items()}
        else:
            expected = {card["file"]: card["sha256"]}
        actual = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in expected}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return FileState(path, "damaged", f"{path}: the file or its card cannot be read; {remedy}")
    if actual != expected:
        return FileState(path, "damaged", f"{path}: the file is not the one of its card; {remedy}")
    if digests.get(name, source) != source:
        parts = "another covariance" if name.lower() in CLASSICAL else "other weights"
        return FileState(path, "stale", f"{name} has {parts} now; {remedy}")
    return FileState(path, "intact")


def _result_state(run: Run, path: Path, command: str) -> FileState:
    """State of a file that names the digests of the tables which it was computed from."""
    name, remedy = _relative(run, path), f"run: {command} {run.folder}"
    if not path.exists():
        return FileState(name, "missing", remedy)
    try:
        inputs: Any = json.loads(path.read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return FileState(name, "damaged", f"{name}: cannot be read, or is of an earlier version; {remedy}")
    if inputs != run.input_digests():
        return FileState(name, "stale", f"counts or energy changed since; {remedy}")
    return FileState(name, "intact")
