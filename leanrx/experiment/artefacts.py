"""What the files of a run depend on, and whether they still belong to its configuration.

::

    configuration                                  file
    scenario, seed, training, distillation ------> receivers/<name>, checkpoints/<name>
    teachers (digest of their weights) ----------> receivers/<name>
    scenario, seed, block_slots, code_rate ------> ber.parquet

Everything else may change at any time: its step runs again. A file that a changed setting makes stale is refused with
the setting, both values and the remedy. Nothing is deleted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channels.dataset import DatasetStream
from distillation.job import Training, difference, training_conditions
from distillation.objective import Distillation
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.evaluation.block_counter import device_name, stream_digest
from receivers.neural.registry import family_of
from receivers.neural.weights import Card, read_card

if TYPE_CHECKING:
    from channels import Stream
    from leanrx.experiment.plan import ReceiverRecord
    from leanrx.experiment.run import Run
    from leanrx.experiment.sweep_config import SweepConfig


def check_receivers(run: Run, previous: SweepConfig | None = None) -> None:
    """Check that every trained receiver belongs to the configuration and to the teachers in the run folder.

    Args:
        run: its folder and configuration.
        previous: the configuration that the run had before. It has the scenario of receivers of earlier versions,
            whose cards describe their scenario by its name only.

    Raises:
        UserError: if the configuration has another value of a setting that the weights depend on, or a student was
            distilled from another teacher.
    """
    cards = {name: read_card(run.receivers_folder / name) for name in run.receiver_names()}
    for name, card in cards.items():
        record, folder = run.plan[name], run.receivers_folder / name
        if card.conditions is None and previous is not None:
            card = card.model_copy(update={"conditions": previous.scenario})
        trained = _settings_of_card(run.config, record, card)
        mismatch = difference(trained, _settings_of_record(run.config, record, card))
        if mismatch is not None:
            field, old, new = mismatch
            raise UserError(
                f"{folder}: trained with {field} {old}, the configuration has {new}; write the earlier value, "
                "change 'label', or delete this folder to train the receiver again"
            )
        digests = card.training.get("teachers", {})
        for teacher in (t for t in record.teachers if t in cards):
            present = cards[teacher].weights_sha256
            if digests.get(teacher, present) != present:
                raise UserError(
                    f"{folder}: distilled from other weights than those in {run.receivers_folder / teacher}; restore "
                    "them, or delete the student's folder to train it again"
                )


def _settings_of_card(config: SweepConfig, record: ReceiverRecord, card: Card) -> dict[str, Any]:
    """What a receiver was trained with, as far as its card says it, by path in the configuration."""
    settings: dict[str, Any] = {f"{_section(record)}.receiver": card.receiver}
    if card.conditions is not None:
        settings["scenario"] = training_conditions(card.conditions)
    if _is_pretrained(config, record):
        return settings | {"teacher.pretrained": f"weights {card.weights_sha256[:12]}"}
    training = {k: v for k, v in card.training.items() if k in Training.model_fields}
    settings |= {"seed": card.seed, **_training_settings(record, Training.model_validate(training), card)}
    if card.training.get("distillation") is not None:
        settings["students.distillation.teacher"] = sorted(card.training.get("teachers", {}))
        settings["students.distillation"] = Distillation.model_validate(card.training["distillation"]).loss_settings()
    if "dataset_sha256" in card.training:
        settings["dataset.train"] = _slots_phrase(card.training["dataset_sha256"])
    return settings


def _settings_of_record(config: SweepConfig, record: ReceiverRecord, card: Card) -> dict[str, Any]:
    """The same settings as the configuration has them."""
    settings: dict[str, Any] = {f"{_section(record)}.receiver": record.spec}
    if card.conditions is not None:
        settings["scenario"] = training_conditions(config.scenario)
    if _is_pretrained(config, record):
        return settings | {"teacher.pretrained": _pretrained_phrase(config.teacher.pretrained[record.spec], card)}
    assert record.training is not None, "a trained receiver has training settings"
    settings |= {"seed": record.seed, **_training_settings(record, record.training, card)}
    if card.training.get("distillation") is not None and record.distillation is not None:
        settings["students.distillation.teacher"] = sorted(record.teachers)
        settings["students.distillation"] = record.distillation.loss_settings()
    if "dataset_sha256" in card.training:
        settings["dataset.train"] = _training_slots(config.dataset.train, card.training["dataset_sha256"])
    return settings


def _section(record: ReceiverRecord) -> str:
    return "teacher" if record.role == "teacher" else "students"


def _is_pretrained(config: SweepConfig, record: ReceiverRecord) -> bool:
    """Whether the receiver was trained elsewhere, with settings of its own."""
    return record.role == "teacher" and record.spec in config.teacher.pretrained


def _training_settings(record: ReceiverRecord, training: Training, card: Card) -> dict[str, Any]:
    """Training settings by path, those that the card says something about."""
    settings = training.model_dump(mode="json", exclude={"checkpoint_steps"})
    if not family_of(record.spec).network.has_intermediate_llrs:
        settings["deep_supervision_weight"] = 0.0
    return {f"{_section(record)}.training": {k: v for k, v in settings.items() if k in card.training}}


def _training_slots(folder: str | None, previous: str | None) -> str:
    """The slots of a training dataset. One whose folder is gone cannot be compared, and only a training needs it."""
    if folder is None:
        return _slots_phrase(None)
    if previous is not None and not Path(folder).is_dir():
        return _slots_phrase(previous)
    return _slots_phrase(DatasetStream(folder).digest)


def _slots_phrase(digest: str | None) -> str:
    return "simulated slots" if digest is None else f"slots {digest[:12]}"


def _pretrained_phrase(source: str, card: Card) -> str:
    """The weights that a pretrained receiver has now; those of the card where they cannot be read any more."""
    with contextlib.suppress(UserError):
        pretrained = read_card(source) if Path(source).is_dir() else zoo.card(source)
        return f"weights {pretrained.weights_sha256[:12]}"
    return f"weights {card.weights_sha256[:12]}"


def check_counts(run: Run, path: Path, stream: Stream, previous: SweepConfig | None = None) -> None:
    """Check that a table of error counts, and its journal, belong to the configuration of a run.

    Args:
        run: its configuration.
        path: the table; it need not exist.
        stream: the test slots that the configuration describes.
        previous: the configuration that the run had before, to name the setting that changed.

    Raises:
        UserError: if blocks were counted on other slots, on another device or with another code.
    """
    changed = difference(_slot_settings(previous), _slot_settings(run.config)) if previous else None
    reason = f"{changed[0]} was {changed[1]}, is {changed[2]}" if changed else "another scenario, seed or block_slots"
    digest, device, code_rate = stream_digest(stream), device_name(stream.device), run.config.evaluation.code_rate
    for source, (counted_stream, counted_device, counted_rate) in _counted(run, path):
        problem = ""
        if counted_stream != digest:
            problem = f"counted on other slots than the configuration describes ({reason})"
        elif counted_device != device:
            problem = f"counted on {counted_device}, and the device is {device} here, where slots differ"
        elif code_rate not in (None, counted_rate):
            problem = f"counted with code_rate {counted_rate:g} (0: uncoded), the configuration has {code_rate:g}"
        if problem:
            raise UserError(f"{source}: {problem}; go back, or delete this file to count again")


def _counted(run: Run, path: Path) -> Iterator[tuple[Path, tuple[str, str, float]]]:
    """Slots, device and code rate of all counted blocks, once each, and their file."""
    columns = ["stream", "device", "code_rate"]
    if path.exists():
        for row in run.counts(path)[columns].drop_duplicates().itertuples(index=False, name=None):
            yield path, row
    journal = path.with_suffix(".journal.jsonl")
    if journal.exists():
        rows = (_journal_row(line) for line in journal.read_text(errors="replace").splitlines())
        for values in dict.fromkeys(tuple(row[c] for c in columns) for row in rows if row):
            yield journal, values


def _journal_row(line: str) -> dict[str, Any]:
    """A line of the journal; empty where it is damaged, which the step that reads the journal reports."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and {"stream", "device", "code_rate"} <= row.keys() else {}


def _slot_settings(config: SweepConfig) -> dict[str, Any]:
    """The settings that test slots depend on."""
    scenario = config.scenario.model_dump(mode="json", exclude={"name", "snr_db", "mixture"})
    evaluation = {"block_slots": config.evaluation.block_slots}
    return {"scenario": scenario, "seed": config.seed, "evaluation": evaluation}
