"""A search over figures of distillation and training: Optuna proposes, a student is trained, validation slots judge.

::

    proposal n = TPE(seed, n, outcomes so far) --> trial n: train, count --> outcome n

All trials have the same student, teachers, initial weights and slots. They are judged by the mean BER over validation
points, on slots that nothing is trained on and no receiver is tested on: of the training channels, with random numbers
of their own. Test channels take no part.

Each proposal has a sampler of its own, seeded by the trial's index. A search that was killed therefore proposes the
same again, goes on from the checkpoint of the trial that ran, and ends with the trials that it would have had, as long
as Optuna's version stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from channels import SlotStream
from distillation.objective import Distillation
from distillation.trainer import DivergenceError, train
from energy.metering.meter import Meter, Reading
from leanrx.experiment.plan import ReceiverRecord
from leanrx.experiment.run import Run
from leanrx.experiment.sweep_config import SearchConfig
from leanrx.experiment.workflow import ProgressCallback, jobs_of, train_all
from leanrx.report.charts import Curve, Figure, to_files
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.classical import GENIE_AIDED
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.stopping import Evaluation
from receivers.neural.weights import NeuralReceiver, load

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BLOCK_SLOTS = 32


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        index: from 0.
        values: what was proposed, by name.
        ber: mean over validation points; none if the training diverged.
        energy_j: of the training, the teachers' part included; none if it was not metered.
    """

    index: int
    values: dict[str, float]
    ber: float | None
    energy_j: float | None

    def to_yaml(self) -> str:
        """The values as they stand in a sweep's configuration."""
        of_distillation, of_training = _parts(self.values)
        parts = {"training": of_training, "distillation": of_distillation}
        return yaml.safe_dump({"students": {k: v for k, v in parts.items() if v}}, sort_keys=False)


def search(run: Run, watcher: ProgressCallback) -> Iterator[Trial]:
    """SearchConfig as the run's configuration says; go on where it was.

    Teachers that are missing are trained first. Everything else is in the run's ``search`` folder: receivers and logs
    of the trials, counts (``ber.parquet``), Optuna's journal, after each trial ``search.csv``, and figures at the end.

    Yields:
        every trial, those of an earlier call too.

    Raises:
        UserError: if Optuna is missing, the configuration has no ``search``, or the folder holds another search.
    """
    settings, folder = run.config.search, run.folder / "search"
    if settings is None:
        raise UserError(f"{run.config.label}: no section 'search'; write the ranges of what is to be searched")
    _hold(settings, folder / "settings.yaml")
    study = _Study(folder / "journal.jsonl", run.config.seed, settings)
    spec = settings.receiver or run.config.students.receivers[0]
    entry = next(r for r in run.plan if (r.role, r.spec) == ("student", spec))
    for teacher in entry.teachers:
        if teacher not in GENIE_AIDED:
            train_all(run, watcher, teacher)
    evaluation = _validation(run, settings)
    found = study.done()
    yield from found
    meter = Meter(run.config.metering.cpu_power_w, run.config.torch_device()) if len(found) < settings.trials else None
    for index in range(len(found), settings.trials):
        values = study.propose(index)
        try:
            receiver = _train(run, _changed(entry, settings, index, values), folder, watcher, meter)
        except DivergenceError:
            trial = Trial(index, values, None, None)
        else:
            energy = receiver.card.training["energy"]
            ber = _mean_ber(run, receiver, evaluation, folder / "ber.parquet")
            trial = Trial(index, values, ber, Reading(**energy).energy_j if energy else None)
        study.tell(trial)
        found.append(trial)
        write_atomic(folder / "search.csv", table(found).to_csv(index=False, lineterminator="\n"))
        yield trial
    for name in settings.ranges:
        for file, data in to_files(_figure(name, found)).items():
            write_atomic(folder / file, data)


def best(trials: list[Trial]) -> Trial:
    """The trial with the lowest BER.

    Raises:
        UserError: if all of them diverged.
    """
    judged = [(trial.ber, trial.index) for trial in trials if trial.ber is not None]
    if not judged:
        raise UserError("search: every training diverged; lower learning_rate")
    return trials[min(judged)[1]]


def table(trials: list[Trial]) -> pd.DataFrame:
    """One row per trial: ``trial``, the values, ``mean_ber``, ``energy_j``; empty cells where it diverged."""
    rows = [{"trial": t.index, **t.values, "mean_ber": t.ber, "energy_j": t.energy_j} for t in trials]
    return pd.DataFrame(rows)


def _figure(name: str, trials: list[Trial]) -> Figure:
    seen = [(t.values[name], t.ber) for t in trials if t.ber is not None]
    values, bers = [v for v, _ in seen], [b for _, b in seen]
    log = bool(values) and _over_decades(min(values), max(values))
    curve = Curve("trials", values, bers, colour="#0072b2", lines=False)
    return Figure(f"search-{name}", f"SearchConfig over {name}", name, "mean BER, validation", [curve], x_log=log)


def _over_decades(low: float, high: float) -> bool:
    return 0 < 10 * low <= high


class _Study:
    """Optuna's study in its journal; trials that a kill left unfinished are given up, to be proposed again."""

    def __init__(self, path: Path, seed: int, settings: SearchConfig) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("search: needs Optuna; pip install 'leanrx[search]'") from None
        self._optuna, self._seed = optuna, seed
        self._distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(low, high, log=_over_decades(low, high))
            for name, (low, high) in settings.ranges.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        self._study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)
        for unfinished in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(unfinished.number, state=optuna.trial.TrialState.FAIL)

    def done(self) -> list[Trial]:
        """Finished trials, in order."""
        states = self._optuna.trial.TrialState
        finished = self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return [
            Trial(index, _rounded(t.params), t.value, t.user_attrs.get("energy_j")) for index, t in enumerate(finished)
        ]

    def propose(self, index: int) -> dict[str, float]:
        seed = int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._asked = self._study.ask(self._distributions)
        return _rounded(self._asked.params)

    def tell(self, trial: Trial) -> None:
        """Keep the outcome of the last proposal. One that diverged is pruned, which the sampler takes for the worst."""
        if trial.ber is None:
            self._study.tell(self._asked, state=self._optuna.trial.TrialState.PRUNED)
            return
        self._asked.set_user_attr("energy_j", trial.energy_j)
        self._study.tell(self._asked, trial.ber)


def _mend(journal: Path) -> None:
    """Drop a line that was being written at a kill, and the lock; the run folder's own lock keeps others away."""
    if journal.exists():
        data = journal.read_bytes()
        write_atomic(journal, data[: data.rfind(b"\n") + 1])
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)


def _rounded(values: dict[str, Any]) -> dict[str, float]:
    """Four digits, as they will be written by hand."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def _hold(settings: SearchConfig, path: Path) -> None:
    """Write the settings, or see that they are those of the search that is there; there may be more trials."""
    if path.exists():
        there = SearchConfig.load(path)
        if there.model_copy(update={"trials": settings.trials}) != settings:
            raise UserError(f"{path.parent}: holds another search; delete the folder or write its settings again")
    write_atomic(path, settings.to_yaml())


def _changed(entry: ReceiverRecord, settings: SearchConfig, index: int, values: dict[str, float]) -> ReceiverRecord:
    assert entry.distillation is not None, "a student has one"
    assert entry.training is not None, "a student has training settings"
    of_distillation, of_training = _parts(values)
    steps = settings.steps or entry.training.steps
    return replace(
        entry,
        name=f"trial-{index:03}",
        training=entry.training.model_copy(update={"steps": steps, **of_training}),
        distillation=entry.distillation.model_copy(update=of_distillation),
    )


def _parts(values: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Values of distillation and of training."""
    of_distillation = {n: v for n, v in values.items() if n in Distillation.model_fields}
    return of_distillation, {n: v for n, v in values.items() if n not in of_distillation}


def _train(
    run: Run, entry: ReceiverRecord, folder: Path, watcher: ProgressCallback, meter: Meter | None
) -> NeuralReceiver:
    """Train a trial, unless it was killed between its last step and its outcome."""
    device = run.config.torch_device()
    complete = folder / "receivers" / entry.name
    if (complete / "card.json").exists():
        return load(complete, device)
    todo = jobs_of(run, [entry], device)
    return train(todo, folder, device, meter, watcher.training(todo))[0]


def _validation(run: Run, settings: SearchConfig) -> Evaluation:
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


def _mean_ber(run: Run, receiver: NeuralReceiver, evaluation: Evaluation, path: Path) -> float:
    """Over validation points, each with the same weight."""
    config, device = run.config, run.config.torch_device()
    stream = SlotStream(config.scenario, config.seed, evaluation.block_slots, "train", device, "validation")
    last: dict[tuple[float, float], Counts] = {}
    for state in count_errors([receiver], stream, evaluation, path):
        last[state.interference_fraction, state.sinr_db] = state.counts[receiver.name]
    return float(np.mean([counts.ber for counts in last.values()]))
