"""A search over hyper-parameters of distillation and training: Optuna proposes values, validation slots score them.

::

    proposal n = TPE(seed, n, outcomes so far) --> trial n: train, count --> outcome n

All trials have the same student, teachers, initial weights and slots. Their score is the mean BER over validation
points. Validation slots have training channel models and random numbers of their own: nothing is trained on them, and
no receiver is tested on them. Test channels take no part.

Each proposal has a sampler of its own, whose seed is the trial's index. An interrupted search therefore proposes the
same values again and resumes from the checkpoint of the interrupted trial. It ends with the trials that it would have
had without the interruption, if the version of Optuna is the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from channels import SlotStream
from distillation.job import difference, weight_settings
from distillation.objective import Distillation
from distillation.trainer import DivergenceError, train
from energy.metering.measurement import weakest
from energy.metering.training import TrainingEnergy, TrainingMeter
from leanrx.experiment.plan import ReceiverRecord
from leanrx.experiment.progress import ProgressCallback
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SearchConfig
from leanrx.experiment.workflow import check_run, make_job, make_jobs, train_all, training_meter
from leanrx_core.errors import UserError
from leanrx_core.files import drop_unfinished_line, write_atomic
from leanrx_core.records import read_yaml
from receivers.classical import GENIE_AIDED
from receivers.evaluation.error_counts import Counts, NonFiniteLlrError
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation
from receivers.neural.registry import family_of
from receivers.neural.weights import NeuralReceiver, load

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BLOCK_SLOTS = 32

_ENERGY_FIELDS = ("energy_j", "energy_method", "energy_provenance")


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        index: from 0.
        values: proposed values by name.
        ber: mean over validation points; none if the training diverged.
        energy_j: of the training, with the teachers' part; none if it was not metered.
        energy_method: name of the instrument that metered it; empty without energy.
        energy_provenance: measured or modelled; empty without energy.
    """

    index: int
    values: dict[str, float]
    ber: float | None
    energy_j: float | None = None
    energy_method: str = ""
    energy_provenance: str = ""

    def to_yaml(self) -> str:
        """The values as YAML for the configuration of a sweep."""
        of_training, of_distillation = _split_values(self.values)
        sections = {"training": of_training, "distillation": of_distillation}
        return yaml.safe_dump({"students": {k: v for k, v in sections.items() if v}}, sort_keys=False)


def search(run: Run, progress: ProgressCallback) -> Iterator[Trial]:
    """Search as the run's configuration says; an interrupted search resumes.

    Missing teachers are trained first. All else is in the run's ``search`` folder: receivers and logs of the trials,
    counts (``ber.parquet``), Optuna's journal, and ``search.csv``, which is written after each trial.

    Yields:
        every trial, including those of an earlier call.

    Raises:
        UserError: if Optuna is missing, the configuration has no ``search``, or the folder holds another search.
    """
    settings, folder = run.config.search, run.folder / "search"
    check_search(run)
    assert settings is not None, "checked"
    write_atomic(folder / "settings.yaml", _stored_settings(run))
    study = _Study(folder / "journal.jsonl", run.config.seed, settings)
    student = _student(run)
    for teacher in student.teachers:
        if teacher not in GENIE_AIDED:
            failures = train_all(run, progress, teacher)
            if failures:
                raise UserError(next(iter(failures.values())))
    evaluation = _validation(run)
    trials = study.finished_trials()
    yield from trials
    pending = range(len(trials), settings.trials)
    meter = training_meter(run.config) if pending else None
    for index in pending:
        values = study.propose(index)
        try:
            receiver = _train_trial(run, _trial_record(student, settings, index, values), folder, progress, meter)
            ber = _mean_ber(run, receiver, evaluation, folder / "ber.parquet")
        except (DivergenceError, NonFiniteLlrError):
            trial = Trial(index, values, None)
        else:
            trial = Trial(index, values, ber, *_training_energy(receiver))
        study.add_outcome(trial)
        trials.append(trial)
        write_atomic(folder / "search.csv", trial_table(trials).to_csv(index=False, lineterminator="\n"))
        yield trial


def best_trial(trials: list[Trial]) -> Trial:
    """The trial with the lowest BER.

    Raises:
        UserError: if all trainings diverged.
    """
    scores = [(trial.ber, trial.index) for trial in trials if trial.ber is not None]
    if not scores:
        raise UserError("search: every training diverged; lower learning_rate")
    return trials[min(scores)[1]]


def trial_table(trials: list[Trial]) -> pd.DataFrame:
    """One row per trial; empty cells if the training diverged.

    Returns:
        columns ``trial``, the values, ``mean_ber``, ``energy_j``, ``energy_method`` and ``energy_provenance``.
    """
    rows = [
        {"trial": t.index, **t.values, "mean_ber": t.ber, **{name: getattr(t, name) for name in _ENERGY_FIELDS}}
        for t in trials
    ]
    return pd.DataFrame(rows)


def spans_decade(low: float, high: float) -> bool:
    """Whether a range is searched, and drawn, on a logarithmic scale."""
    return 0 < 10 * low <= high


class _Study:
    """Optuna's study in its journal. Trials that were interrupted are marked as failed and proposed again."""

    def __init__(self, path: Path, seed: int, settings: SearchConfig) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("search: needs Optuna; pip install 'leanrx[search]'") from None
        self._optuna, self._seed = optuna, seed
        self._distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(low, high, log=spans_decade(low, high))
            for name, (low, high) in settings.ranges.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        _repair_journal(path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f"{path}: damaged; delete the folder {path.parent} and search again") from None
        for unfinished in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(unfinished.number, state=optuna.trial.TrialState.FAIL)

    def finished_trials(self) -> list[Trial]:
        """Finished trials, in order."""
        states = self._optuna.trial.TrialState
        finished = self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return [
            Trial(index, _rounded(t.params), t.value, **{k: v for k, v in t.user_attrs.items() if k in _ENERGY_FIELDS})
            for index, t in enumerate(finished)
        ]

    def propose(self, index: int) -> dict[str, float]:
        """Values of a trial; they depend on the seed, the index and the outcomes so far."""
        seed = int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._proposal = self._study.ask(self._distributions)
        return _rounded(self._proposal.params)

    def add_outcome(self, trial: Trial) -> None:
        """Record the outcome of the last proposal. The sampler treats a pruned (diverged) trial as the worst."""
        if trial.ber is None:
            self._study.tell(self._proposal, state=self._optuna.trial.TrialState.PRUNED)
            return
        for name in _ENERGY_FIELDS:
            self._proposal.set_user_attr(name, getattr(trial, name))
        self._study.tell(self._proposal, trial.ber)


def _repair_journal(journal: Path) -> None:
    """Drop an incomplete last line, and the journal's lock: the run folder's lock excludes other processes."""
    drop_unfinished_line(journal)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    """Four digits, as a person would write them."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def check_search(run: Run) -> None:
    """Check that a run can be searched as configured. Nothing is written, and its folder may be missing.

    Raises:
        UserError: if Optuna is missing; if the configuration has no ``search``, or it does not fit the student; if the
            folder holds another search; or as :func:`leanrx.experiment.workflow.check_run`.
    """
    settings = run.config.search
    if settings is None:
        raise UserError(f"{run.config.label}: no section 'search'; write the ranges of the hyper-parameters to search")
    if importlib.util.find_spec("optuna") is None:
        raise UserError("search: needs Optuna; pip install 'leanrx[search]'")
    check_run(run)
    student = _student(run)
    assert student.distillation is not None, "a student has a distillation setting"
    unused = list(student.distillation.settings_without_effect())
    if not family_of(student.spec).network.has_intermediate_llrs:
        unused.append("deep_supervision_weight")
    name = next((name for name in settings.ranges if name in unused), None)
    if name is not None:
        raise UserError(
            f"search.ranges: {name} has no effect on {student.name} (loss {student.distillation.loss}); remove it"
        )
    stream, evaluation = _validation_stream(run), _validation(run)
    for fraction in evaluation.interference_fractions:
        stream.at_sinr(evaluation.sinr_db[0], fraction)
    path = run.folder / "search" / "settings.yaml"
    if path.exists():
        mismatch = difference(_comparable(read_yaml(path)), _comparable(yaml.safe_load(_stored_settings(run))))
        if mismatch is not None:
            field, previous, current = mismatch
            raise UserError(
                f"{path.parent}: holds another search: {field} {previous} there, {current} here; delete the folder or "
                "write the earlier value"
            )


def _student(run: Run) -> ReceiverRecord:
    """The student that is searched: in its first distillation setting, with the first seed."""
    assert run.config.search is not None, "checked"
    spec = run.config.search.receiver or run.config.students.receivers[0]
    return next(r for r in run.plan if (r.role, r.spec) == ("student", spec))


def _stored_settings(run: Run) -> str:
    """The settings of the search, and all others that its trials depend on, as YAML."""
    settings, student = run.config.search, _student(run)
    assert settings is not None, "checked"
    description = make_job(run.config, student).description("cpu")
    for name in ("device", "processes", "teachers_sha256", "initial_sha256"):
        del description[name]
    trial = weight_settings(description)
    for name in settings.ranges:
        trial["training" if name in trial["training"] else "distillation"].pop(name, None)
    if settings.steps is not None:
        del trial["training"]["steps"]
    validation = _validation(run).model_dump(mode="json", include={"sinr_db", "interference_fractions"})
    trial |= {"teachers": list(student.teachers), "validation": validation}
    return settings.to_yaml() + yaml.safe_dump({"trial": trial}, sort_keys=False)


def _comparable(stored: Any) -> dict[str, Any]:
    """Stored settings without the number of trials, which may change."""
    return {k: v for k, v in stored.items() if k != "trials"} if isinstance(stored, dict) else {}


def _trial_record(
    student: ReceiverRecord, settings: SearchConfig, index: int, values: dict[str, float]
) -> ReceiverRecord:
    assert student.distillation is not None, "a student has a distillation setting"
    assert student.training is not None, "a student has training settings"
    of_training, of_distillation = _split_values(values)
    steps = settings.steps or student.training.steps
    return replace(
        student,
        name=f"trial-{index:03}",
        training=student.training.model_copy(update={"steps": steps, **of_training}),
        distillation=student.distillation.model_copy(update=of_distillation),
    )


def _split_values(values: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Values of training, and values of distillation."""
    of_distillation = {n: v for n, v in values.items() if n in Distillation.model_fields}
    return {n: v for n, v in values.items() if n not in of_distillation}, of_distillation


def _train_trial(
    run: Run, record: ReceiverRecord, folder: Path, progress: ProgressCallback, meter: TrainingMeter | None
) -> NeuralReceiver:
    """Train a trial, unless it was interrupted after its last step."""
    device = run.config.torch_device()
    complete = folder / "receivers" / record.name
    if (complete / "card.json").exists():
        return load(complete, device)
    jobs = make_jobs(run, [record], device)
    return train(jobs, folder, device, meter, progress.on_training(jobs))[0]


def _training_energy(receiver: NeuralReceiver) -> tuple[float | None, str, str]:
    """Energy of a training by its best instrument, the instrument and the provenance; none if it was not metered."""
    if receiver.card.training["energy"] is None:
        return None, "", ""
    energy = TrainingEnergy.from_json(receiver.card.training["energy"], receiver.name)
    best = energy.best_instrument
    if best is None:
        return None, "", ""
    return energy.energy_j(best), best, weakest(m.provenance for m in energy.by(best))


def _validation(run: Run) -> Evaluation:
    settings = run.config.search
    assert settings is not None, "checked"
    return Evaluation.parse(
        {
            "sinr_db": settings.sinr_db or run.config.evaluation.sinr_db,
            "interference_fractions": run.config.evaluation.interference_fractions,
            "block_slots": BLOCK_SLOTS,
            "min_slots": settings.slots,
            "max_slots": settings.slots,
            "target_slot_errors": None,
        },
        "search",
    )


def _validation_stream(run: Run) -> SlotStream:
    config = run.config
    return SlotStream(config.scenario, config.seed, BLOCK_SLOTS, "train", config.torch_device(), "validation")


def _mean_ber(run: Run, receiver: NeuralReceiver, evaluation: Evaluation, path: Path) -> float:
    """Mean BER over validation points, each with the same weight."""
    last: dict[tuple[float, float], Counts] = {}
    for state in count_errors([receiver], _validation_stream(run), evaluation, path):
        last[state.interference_fraction, state.sinr_db] = state.counts[receiver.name]
    return float(np.mean([counts.ber for counts in last.values()]))
