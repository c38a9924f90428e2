"""Which settings pin which files of a run: a changed setting refuses the files that depend on it, and no others."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from run_factories import block_count_row

from channels import SlotStream
from channels.dataset import Dataset, write_dataset
from leanrx.experiment.artefacts import check_counts, check_receivers
from leanrx.experiment.run import Run, load_run, open_run
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.experiment.workflow import check_run, make_job, train_all
from leanrx_core.errors import UserError
from leanrx_core.tables import write_table
from receivers.evaluation.block_counter import stream_digest
from receivers.evaluation.store import COUNTS

TRAINING = {"steps": 2, "batch_slots": 2, "optimizer": "adamw", "warmup_steps": 0}
DATA: dict[str, Any] = {
    "label": "x",
    "scenario": {
        "name": "tiny",
        "grid": {"num_prb": 1, "pilot_patterns": [[2]]},
        "channels": {"train": ["TDL-B"], "test": ["TDL-A"]},
        "snr_db": [0, 20],
        "interferers": [{"probability": 0.5, "sir_db": [0, 20]}],
    },
    "device": "cpu",
    "teacher": {"receiver": "deeprx-w0.03125-d3", "training": TRAINING},
    "students": {"receivers": "hybrid-w2-d1", "training": TRAINING},
    "evaluation": {"sinr_db": [0, 10], "block_slots": 8, "min_slots": 8, "max_slots": 16},
}
STUDENT = "hybrid-w2-d1-kd"


class Silent:
    """A progress callback that records warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def on_training(self, jobs: Any) -> Any:
        return lambda job, state: None

    def on_skipped(self, name: str) -> None: ...

    def on_warning(self, text: str) -> None:
        self.warnings.append(text)


def changed(path: str, value: Any, data: dict[str, Any] = DATA) -> dict[str, Any]:
    """The configuration with one setting replaced, by its path."""
    key, _, rest = path.partition(".")
    return {**data, key: changed(rest, value, data.get(key, {})) if rest else value}


def config(data: dict[str, Any] = DATA) -> SweepConfig:
    return SweepConfig.parse(data, "x.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose receivers are trained, and whose blocks at 0 dB are counted."""
    run = open_run(config(), tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrx.experiment.workflow.training_meter", lambda config: None)
        assert train_all(run, Silent()) == {}
    stream = stream_digest(SlotStream(run.config.scenario, 1, 8, "test"))
    rows = [block_count_row(name, run.receiver(name).digest, 0.0, 8, 80, 8) for name in run.receiver_names()]
    write_table(run.ber_path, pd.DataFrame([{**row, "stream": stream} for row in rows]), COUNTS)
    return run.folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the trained run."""
    shutil.copytree(trained, tmp_path / "x")
    return load_run(tmp_path / "x")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("report.target_ber", 0.1),
        ("report.sinr_db", 3),
        ("metering.min_duration_s", 2),
        ("metering.reference_instrument", "RAPL"),
        ("evaluation.max_slots", 64),
        ("evaluation.sinr_db", [0, 5, 20]),
        ("evaluation.interference_fractions", [0.5]),
        ("evaluation.target_slot_errors", None),
        ("ecal.hops", 2),
        ("teacher.training", {**TRAINING, "checkpoint_steps": 1}),
        ("students.training", {**TRAINING, "deep_supervision_weight": 0.0}),
        ("students.receivers", ["hybrid-w2-d1", "hybrid-w4-d1"]),
        ("students.distillation", {"generations": 2}),
        ("students.distillation", {"teacher": "teacher"}),
        ("scenario.name", "other"),
    ],
)
def test_settings_that_no_file_depends_on_may_change(run: Run, path: str, value: Any) -> None:
    new = config(changed(path, value))
    check_run(Run(run.folder, new))
    assert open_run(new, run.folder.parent).config == new
    assert load_run(run.folder).config == new
    assert set(load_run(run.folder).receiver_names()) >= {"teacher", STUDENT, "hybrid-w2-d1-scratch"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("teacher.training.steps", 3, r"receivers/teacher: trained with teacher\.training\.steps 2, .* has 3;"),
        (
            "teacher.receiver",
            "deeprx-w0.0625-d3",
            r"receivers/teacher: trained with teacher\.receiver deeprx-w0\.03125",
        ),
        (
            "students.training.learning_rate",
            1,
            r"receivers/hybrid-w2-d1-kd: .* students\.training\.learning_rate 0\.01,",
        ),
        ("students.seeds", 2, r"receivers/hybrid-w2-d1-kd: trained with seed 1, the configuration has 2"),
        ("seed", 2, r"receivers/teacher: trained with seed 1, the configuration has 2"),
        ("scenario.grid.num_prb", 2, r"receivers/teacher: trained with scenario\.grid\.num_prb 1, .* has 2"),
        ("scenario.snr_db", [0, 10], r"receivers/teacher: trained with scenario\.snr_db \[0\.0, 20\.0\]"),
        ("scenario.channels.train", ["TDL-C"], r"receivers/teacher: trained with scenario\.channels\.train"),
        (
            "students.distillation.temperature",
            3,
            r"kd: trained with students\.distillation\.temperature 2\.0, .* has 3",
        ),
        ("students.distillation.teacher", "perfect CSI", r"kd: trained with students\.distillation\.teacher"),
    ],
)
def test_settings_of_the_weights_pin_the_receivers(run: Run, path: str, value: Any, message: str) -> None:
    new = config(changed(path, value))
    before = (run.folder / "config.yaml").read_bytes()
    for check in (lambda: check_run(Run(run.folder, new)), lambda: open_run(new, run.folder.parent)):
        with pytest.raises(UserError, match=message) as error:
            check()
        assert "delete this folder to train the receiver again" in str(error.value)
    assert (run.folder / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("evaluation.block_slots", 4, r"evaluation\.block_slots was 8, is 4"),
        ("scenario.channels.test", ["TDL-C"], r"scenario\.channels\.test\.TDL-A was 1\.0, is None"),
        ("evaluation.code_rate", 0.5, r"counted with code_rate 0 \(0: uncoded\), the configuration has 0\.5"),
    ],
)
def test_settings_of_the_counts_pin_the_counts_only(run: Run, path: str, value: Any, message: str) -> None:
    new = Run(run.folder, config(changed(path, value)))
    with pytest.raises(UserError, match=message) as error:
        check_run(new)
    assert "delete this file to count again" in str(error.value)
    run.ber_path.unlink()
    check_run(new)


def test_interrupted_counts_are_pinned_too(run: Run) -> None:
    run.ber_path.rename(run.folder / "other.parquet")
    rows = pd.read_parquet(run.folder / "other.parquet")
    run.ber_path.with_suffix(".journal.jsonl").write_text(rows.to_json(orient="records", lines=True) + "{half")
    new = Run(run.folder, config(changed("evaluation.block_slots", 4)))
    with pytest.raises(UserError, match=r"ber\.journal\.jsonl: counted on other slots"):
        check_run(new)


def test_counts_of_another_device_are_not_counted_again_without_a_word(run: Run) -> None:
    table = pd.read_parquet(run.ber_path).assign(device="NVIDIA H100")
    write_table(run.ber_path, table, COUNTS)
    stream = SlotStream(run.config.scenario, 1, 8, "test")
    with pytest.raises(UserError, match="counted on NVIDIA H100, and the device is cpu here"):
        check_counts(run, run.ber_path, stream)


def test_a_student_of_another_teacher_is_refused(run: Run, trained: Path, tmp_path: Path) -> None:
    """The teacher is trained again with other steps, and the configuration follows it."""
    other = open_run(config(changed("teacher.training.steps", 3)), tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrx.experiment.workflow.training_meter", lambda config: None)
        train_all(other, Silent(), "teacher")
    teacher = Path("receivers") / "teacher"
    shutil.rmtree(run.folder / teacher)
    shutil.copytree(other.folder / teacher, run.folder / teacher)
    with pytest.raises(
        UserError, match=r"hybrid-w2-d1-kd: distilled from other weights than those in .*teacher; restore"
    ):
        check_receivers(Run(run.folder, other.config))


def test_a_receiver_without_weights_is_trained_again(run: Run, trained: Path) -> None:
    weights = run.receivers_folder / STUDENT / "weights.safetensors"
    weights.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrx.experiment.workflow.training_meter", lambda config: None)
        train_all(run, Silent())
    assert weights.read_bytes() == (trained / "receivers" / STUDENT / "weights.safetensors").read_bytes()
    weights.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"weights\.safetensors: damaged or truncated"):
        train_all(run, Silent())


def test_an_exchanged_pretrained_teacher_is_refused(trained: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(trained / "receivers" / "teacher", source)
    data = changed(
        "teacher", {"receiver": DATA["teacher"]["receiver"], "pretrained": {"deeprx-w0.03125-d3": str(source)}}
    )
    run = open_run(config(data), tmp_path / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrx.experiment.workflow.training_meter", lambda config: None)
        train_all(run, Silent(), "teacher")
    check_run(run)
    for scenario in ({"snr_db": [0, 30]}, {"grid": {"num_prb": 2, "pilot_patterns": [[2]]}}):
        other = config({**data, "label": "y", "scenario": {**DATA["scenario"], **scenario}})
        with pytest.raises(UserError, match=r"teacher\.pretrained: teacher: teacher teacher was trained with scenario"):
            check_run(Run(tmp_path / "runs" / "y", other))
    shutil.rmtree(source)
    shutil.copytree(trained / "receivers" / "hybrid-w2-d1-scratch", source)
    with pytest.raises(UserError, match=r"receivers/teacher: trained with teacher\.pretrained weights .*, the conf"):
        check_run(run)
    shutil.rmtree(source)
    check_run(run)  # the run has its own copy


def test_a_run_finds_its_datasets_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = config().scenario
    dataset = Dataset(label="slots", scenario=scenario, split="train", block_slots=2, num_blocks=2)
    list(write_dataset(dataset, tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    run = open_run(config({**DATA, "dataset": {"train": "data/slots"}}), tmp_path / "runs")
    stored = yaml.safe_load((run.folder / "config.yaml").read_text())["dataset"]["train"]
    assert stored == str(tmp_path / "data" / "slots")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(run.folder, tmp_path / "elsewhere" / "x")
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = load_run("x")
    job = make_job(moved.config, moved.plan["teacher"])
    assert job.stream("cpu").block(1).y.shape[0] == 2
    assert str(tmp_path) not in str(job.description("cpu"))
