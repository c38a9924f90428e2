"""A search: the trials it would have had without kills, scored on slots that nothing else uses."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from energy_factories import FakeMeter

from channels import SlotStream
from distillation import trainer
from leanrx.cli import sessions
from leanrx.cli.main import main
from leanrx.experiment import search as search_module
from leanrx.experiment.run import Run, open_run
from leanrx.experiment.search import Trial, best_trial, check_search, search
from leanrx.experiment.sweep_config import SearchConfig, SweepConfig
from leanrx.report.search_charts import write_search_charts
from leanrx_core.errors import UserError
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.error_counts import count_block
from receivers.neural.weights import NeuralReceiver, load

TINY = {"steps": 4, "batch_slots": 2, "optimizer": "adamw", "warmup_steps": 1, "checkpoint_steps": 2}
RANGES = {"temperature": [1, 8], "alpha": [0, 1], "learning_rate": [1e-3, 2e-2]}


class Killed(BaseException):
    pass


def fake_meter(config: SweepConfig) -> FakeMeter:
    """One joule per window."""
    return FakeMeter(cpu_j=1.0, gpu_j=0.0)


class Recorder:
    """A progress callback that records the names of what is trained."""

    def __init__(self) -> None:
        self.trained: list[str] = []

    def on_training(self, jobs):
        self.trained += [job.name for job in jobs]
        return lambda job, state: None

    def on_skipped(self, name: str) -> None: ...


@pytest.fixture(autouse=True)
def _fake_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "training_meter", fake_meter)
    monkeypatch.setattr("leanrx.experiment.workflow.training_meter", fake_meter)


def config(small, **changes: Any) -> SweepConfig:
    settings = {"ranges": RANGES, "trials": 3, "sinr_db": [5, 15], "slots": 64, "steps": 4, **changes}
    return SweepConfig.parse(
        {
            "label": "x",
            "scenario": small.model_dump(),
            "seed": 3,
            "device": "cpu",
            "teacher": {"receiver": "hybrid-w4-d1", "training": TINY},
            "students": {
                "receivers": ["hybrid-w4-d2", "hybrid-w2-d1"],
                "seeds": [7, 8],
                "training": {**TINY, "steps": 50},
            },
            "evaluation": {"sinr_db": [0], "interference_fractions": [0, 0.5]},
            "search": {"receiver": "hybrid-w2-d1", **settings},
        },
        "x",
    )


@pytest.fixture(scope="module")
def whole_search(small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Trial], Recorder]:
    """A search without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "training_meter", fake_meter)
        patch.setattr("leanrx.experiment.workflow.training_meter", fake_meter)
        run, progress = open_run(config(small), tmp_path_factory.mktemp("whole")), Recorder()
        return run, list(search(run, progress)), progress


def test_every_trial_is_a_student_of_its_own_values(whole_search: tuple[Run, list[Trial], Recorder]) -> None:
    run, trials, progress = whole_search
    assert progress.trained == ["teacher", "trial-000", "trial-001", "trial-002"]
    for trial in trials:
        card = load(run.folder / "search" / "receivers" / f"trial-{trial.index:03}").card
        assert (card.receiver, card.seed, card.role) == ("hybrid-w2-d1", 7, "student")
        assert card.training["teachers"] == {"teacher": run.receiver("teacher").digest}
        assert (card.training["steps"], card.training["batch_slots"]) == (4, 2)
        setting = card.training["distillation"]
        assert trial.values == {
            "temperature": setting["temperature"],
            "alpha": setting["alpha"],
            "learning_rate": card.training["learning_rate"],
        }
        for name, (low, high) in RANGES.items():
            assert low <= trial.values[name] <= high
        assert trial.energy_j == 2.0  # one reading per checkpoint
    assert len({t.values["alpha"] for t in trials}) == 3
    assert run.receiver_names() == ["teacher"], "trials are no receivers of the run"


def test_trials_are_scored_on_slots_of_their_own(whole_search: tuple[Run, list[Trial], Recorder], small) -> None:
    """The mean over both SINRs and both interference fractions, counted again here."""
    run, trials, _ = whole_search
    stream = SlotStream(small, 3, 32, "train", purpose="validation")
    other_streams = [SlotStream(small, 3, 32, split, purpose=p) for split in ("train", "test") for p in ("", "teacher")]
    counts = pd.read_parquet(run.folder / "search" / "ber.parquet")
    assert set(counts["stream"]) == {stream_digest(stream)}
    assert stream_digest(stream) not in {stream_digest(other) for other in other_streams}
    for trial in trials:
        receiver = load(run.folder / "search" / "receivers" / f"trial-{trial.index:03}")
        bers = []
        for fraction in (0.0, 0.5):
            for sinr_db in (5.0, 15.0):
                blocks = [count_block(receiver, stream.at_sinr(sinr_db, fraction).block(n)) for n in range(2)]
                bers.append(sum(b["bit_errors"] for b in blocks) / sum(b["bits"] for b in blocks))
        assert trial.ber == pytest.approx(np.mean(bers), rel=1e-12)


def test_the_table_and_the_figures_are_those_of_the_trials(whole_search: tuple[Run, list[Trial], Recorder]) -> None:
    run, trials, _ = whole_search
    write_search_charts(run, trials)
    table = pd.read_csv(run.folder / "search" / "search.csv")
    assert list(table) == ["trial", *RANGES, "mean_ber", "energy_j", "energy_method", "energy_provenance"]
    assert set(table["energy_method"]) == {"fake"}
    assert set(table["energy_provenance"]) == {"modelled"}
    assert table["mean_ber"].tolist() == [t.ber for t in trials]
    assert {p.name for p in (run.folder / "search").glob("*.p*")} == {
        "ber.parquet",
        *(f"search-{name}.{kind}" for name in RANGES for kind in ("png", "pdf")),
    }
    assert best_trial(trials).ber == min(t.ber for t in trials if t.ber is not None)
    pasted = yaml.safe_load(best_trial(trials).to_yaml())
    base = run.config.model_dump(mode="json")
    base["students"]["training"] |= pasted["students"]["training"]
    base["students"]["distillation"] = pasted["students"]["distillation"]
    students = SweepConfig.parse(base, "pasted").students
    assert students.training.learning_rate == best_trial(trials).values["learning_rate"]
    assert students.distillation[0].alpha == best_trial(trials).values["alpha"]


@pytest.mark.parametrize("moment", ["proposing", "training", "counting", "telling"])
def test_a_kill_changes_nothing(
    whole_search: tuple[Run, list[Trial], Recorder], tmp_path: Path, small, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    undisturbed, trials, _ = whole_search
    run = open_run(config(small), tmp_path)

    def dies_at(owner: Any, name: str, call: int) -> None:
        original, calls = getattr(owner, name), itertools.count()

        def killed_at_call(*arguments: Any, **keywords: Any) -> Any:
            if next(calls) == call:
                raise Killed
            return original(*arguments, **keywords)

        patch.setattr(owner, name, killed_at_call)

    with monkeypatch.context() as patch:
        if moment == "proposing":
            dies_at(search_module, "_trial_record", 1)
        elif moment == "training":
            dies_at(trainer._Trainer, "save_checkpoint", 2 + 2 + 1)  # the teacher, trial 0, half of trial 1
        elif moment == "counting":
            dies_at(search_module, "_mean_ber", 1)
        else:
            dies_at(search_module._Study, "add_outcome", 1)
        with pytest.raises(Killed):
            list(search(run, Recorder()))
    journal = run.folder / "search" / "journal.jsonl"
    with journal.open("a") as file:  # killed while writing
        file.write('{"op_code": 6, "worker_id": "')
    (journal.parent / "journal.jsonl.lock").symlink_to(journal)

    progress = Recorder()
    assert list(search(run, progress)) == trials
    trained_before = {"proposing": 1, "training": 1, "counting": 2, "telling": 2}[moment]
    assert progress.trained == ["trial-001", "trial-002"][trained_before - 1 :]
    for index in range(3):
        expected, resumed = (load(r.folder / "search" / "receivers" / f"trial-{index:03}") for r in (undisturbed, run))
        assert resumed.digest == expected.digest
    second = Recorder()
    assert list(search(run, second)) == trials
    assert second.trained == []


def test_a_search_resumes_with_more_trials_but_not_with_other_settings(tmp_path: Path, small) -> None:
    first = list(search(open_run(config(small, trials=1), tmp_path), Recorder()))
    run = open_run(config(small, trials=2), tmp_path)
    assert list(search(run, Recorder()))[:1] == first
    other = open_run(config(small, slots=32), tmp_path)
    with pytest.raises(UserError, match="holds another search"):
        list(search(other, Recorder()))
    without = config(small).model_copy(update={"search": None})
    with pytest.raises(UserError, match="no section 'search'"):
        list(search(open_run(without, tmp_path), Recorder()))


def test_a_diverged_trial_is_the_worst_and_the_search_continues(
    tmp_path: Path, small, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = trainer._Trainer.train_step

    def failing_step(trainer, *arguments):
        state = train_step(trainer, *arguments)
        trainer.failed = trainer.failed or trainer.job.name == "trial-000"
        return state

    run = open_run(config(small, trials=2), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Trainer, "train_step", failing_step)
        trials = list(search(run, Recorder()))
    assert trials[0].ber is None
    assert best_trial(trials) == trials[1]
    assert list(search(run, Recorder())) == trials
    assert pd.read_csv(run.folder / "search" / "search.csv")["mean_ber"].isna().tolist() == [True, False]
    with pytest.raises(UserError, match="every training diverged"):
        best_trial(trials[:1])


CLOSED_FORM = SearchConfig(ranges={"alpha": (0.0, 1.0), "learning_rate": (1e-4, 1e-1)})


def outcome(index: int, values: dict[str, float]) -> Trial:
    """A closed form, lowest at alpha 0.3 and rate 0.005."""
    score = (values["alpha"] - 0.3) ** 2 + np.log10(values["learning_rate"] / 5e-3) ** 2
    return Trial(index, values, float(score), None)


def test_proposals_do_not_depend_on_interruptions(tmp_path: Path) -> None:
    at_once = search_module._Study(tmp_path / "at-once.jsonl", 1, CLOSED_FORM)
    for index in range(15):  # the first ten are drawn at random
        trial = outcome(index, at_once.propose(index))
        at_once.add_outcome(trial)
        resumed = search_module._Study(tmp_path / "resumed.jsonl", 1, CLOSED_FORM)
        assert resumed.finished_trials() == at_once.finished_trials()[:index]
        assert resumed.propose(index) == trial.values
        if index % 3:  # killed before it recorded the outcome
            resumed = search_module._Study(tmp_path / "resumed.jsonl", 1, CLOSED_FORM)
            assert resumed.propose(index) == trial.values
        resumed.add_outcome(trial)
    assert len({t.values["alpha"] for t in at_once.finished_trials()}) == 15


def test_proposals_go_where_outcomes_are_low(tmp_path: Path) -> None:
    alphas = {}
    for score in ("alpha", "1 - alpha"):
        study = search_module._Study(tmp_path / f"{score}.jsonl", 1, CLOSED_FORM)
        for index in range(30):
            values = study.propose(index)
            study.add_outcome(Trial(index, values, values["alpha"] if score == "alpha" else 1 - values["alpha"], None))
        alphas[score] = [t.values["alpha"] for t in study.finished_trials()]
    assert alphas["alpha"][:10] == alphas["1 - alpha"][:10]
    assert np.mean(alphas["alpha"][10:]) < 0.3 < 0.7 < np.mean(alphas["1 - alpha"][10:])


def test_without_optuna_the_error_says_how_to_install_it(tmp_path: Path, small, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'leanrx\[search\]'"):
        list(search(open_run(config(small), tmp_path), Recorder()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ranges": {"steps": [1, 2]}},
            "ranges: 'steps' cannot be searched; write one of: .*temperature.*learning_rate",
        ),
        ({"ranges": {"alpha": [0, 1.5]}}, r"search: ranges: alpha: .*1.*\(given: 1\.5\)"),
        ({"ranges": {"temperature": [0, 2]}}, "search: ranges: temperature"),
        ({"ranges": {"alpha": [1, 0]}}, "lower end first"),
        ({"ranges": {}}, r"search\.ranges"),
        ({"slots": 33}, r"search\.slots: .*multiple of 32"),
        ({"trials": 0}, r"search\.trials"),
        ({"receiver": "deeprx"}, "deeprx is not among the students hybrid-w4-d2, hybrid-w2-d1"),
        ({"range": {}}, "did you mean 'ranges'"),
        ({"ranges": {"alpha": [0.5, 0.5]}}, r"ranges\.alpha: has one value, 0\.5; write two, or remove it"),
    ],
)
def test_mistakes_of_a_search_are_named(small, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(small, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranges": {"clip": [1, 8]}}, r"search\.ranges: clip has no effect on hybrid-w2-d1-kd-s7 \(loss soft-bits\)"),
        ({"sinr_db": [500]}, r"search: .*sinr_db: 500\.0 is outside -50\.\.100 dB"),
        ({"sinr_db": [5, 5]}, "search: .*sinr_db names a point twice"),
    ],
)
def test_a_search_is_checked_before_anything_is_written(
    tmp_path: Path, small, changes: dict[str, Any], message: str
) -> None:
    run = Run(tmp_path / "x", config(small, **changes))
    with pytest.raises(UserError, match=message):
        check_search(run)
    with pytest.raises(UserError, match=message):
        next(search(run, Recorder()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("students", "training", "weight_decay"),
            0.5,
            r"holds another search: trial\.training\.weight_decay 0\.0001 there",
        ),
        (("evaluation", "interference_fractions"), [0], r"trial\.validation\.interference_fractions"),
        (("students", "training", "steps"), 60, ""),
        (("students", "distillation", "temperature"), 3, ""),
        (("report", "target_ber"), 0.1, ""),
    ],
)
def test_trials_are_pinned_by_what_they_depend_on(
    whole_search: tuple[Run, list[Trial], Recorder], path: tuple[str, ...], value: object, message: str
) -> None:
    """The searched values and the steps of the trials stand in the search, so that those of the students may change."""
    run, _, _ = whole_search
    data = json.loads(run.config.model_dump_json())
    section = data
    for key in path[:-1]:
        section = section[key][0] if isinstance(section[key], list) else section[key]
    section[path[-1]] = value
    changed = Run(run.folder, SweepConfig.parse(data, "x"))
    if not message:
        check_search(changed)
        return
    with pytest.raises(UserError, match=message):
        check_search(changed)


def test_a_trial_whose_llrs_are_not_finite_is_the_worst(tmp_path: Path, small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss was finite, but its LLRs in the validation are not."""
    mean_ber = search_module._mean_ber

    def failing(run: Run, receiver: NeuralReceiver, *arguments: Any) -> float:
        if receiver.name == "trial-000":
            with torch.no_grad():
                next(receiver.net.parameters()).fill_(torch.inf)
        return mean_ber(run, receiver, *arguments)

    monkeypatch.setattr(search_module, "_mean_ber", failing)
    trials = list(search(open_run(config(small, trials=2), tmp_path), Recorder()))
    assert [trial.ber is None for trial in trials] == [True, False]


def test_the_command_prints_what_to_paste(tmp_path: Path, small, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(config(small, trials=2).model_dump(mode="json")))
    outputs = []
    for options in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["leanrx", "tune", str(path), "--runs", str(tmp_path), *options])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        sessions.release_locks()
        outputs.append(capsys.readouterr().out)
    assert [line[:8] for line in outputs[0].splitlines() if line.startswith("trial ")] == ["trial 0:", "trial 1:"]
    pasted = outputs[0][outputs[0].index("students:") :]
    assert set(yaml.safe_load(pasted)["students"]) == {"training", "distillation"}
    answer = json.loads(outputs[1])
    assert [t["index"] for t in answer["trials"]] == [0, 1]
    assert Trial(**answer["best"]).to_yaml() == pasted
    assert Path(answer["path"]).exists()
