"""Training groups: the weights of separate training, also after a kill, and costs that add up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from energy_factories import FakeMeter

from channels import Scenario, SlotStream
from distillation import trainer
from distillation.feature_transfer import FeatureTransfer
from distillation.job import Job, Training
from distillation.objective import Distillation
from distillation.trainer import train
from energy.metering.training import TrainingEnergy
from leanrx_core.errors import UserError
from receivers.classical import PerfectCsiReceiver
from receivers.neural.weights import Card, NeuralReceiver, load

GROUP_TRAINING = Training(
    steps=7,
    batch_slots=4,
    optimizer="adamw",
    learning_rate=1e-2,
    warmup_steps=2,
    checkpoint_steps=2,
    deep_supervision_weight=0.5,
)


class Interruption(BaseException):
    pass


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return train(
        [Job("teacher", "teacher", "deeprx-w0.0625-d3", small, GROUP_TRAINING, 5)], tmp_path_factory.mktemp("t")
    )[0]


@pytest.fixture(scope="module")
def jobs(small: Scenario, teacher: NeuralReceiver) -> list[Job]:
    """Two families with two temperatures, a genie-aided teacher, a transfer, an ensemble, and scratch baselines."""
    scratch = [
        Job(f"{s}-scratch", "scratch", s, small, GROUP_TRAINING, 1) for s in ("deeprx-w0.03125-d3", "hybrid-w4-d2")
    ]
    students = [
        replace(
            t,
            name=f"{t.receiver}-T{settings.temperature:g}",
            role="student",
            distillation=settings,
            teachers=(teacher,),
        )
        for t in scratch
        for settings in (Distillation(temperature=1.0), Distillation(temperature=4.0))
    ]
    genie = replace(students[0], name="genie", teachers=(PerfectCsiReceiver(),))
    transfer_settings = Distillation(
        transfers=(FeatureTransfer(student="blocks.1", teacher="blocks.1", loss="feature"),)
    )
    transfer = replace(students[0], name="transfer", distillation=transfer_settings)
    ensemble = replace(students[0], name="ensemble", teachers=(teacher, PerfectCsiReceiver()))
    return [*students, genie, transfer, ensemble, *scratch]


def digests(folder: Path, jobs: list[Job]) -> dict[str, str]:
    return {job.name: load(folder / "receivers" / job.name).digest for job in jobs}


@pytest.fixture(scope="module")
def separate_folder(jobs: list[Job], tmp_path_factory) -> Path:
    """All jobs, trained separately."""
    folder = tmp_path_factory.mktemp("separate")
    for job in jobs:
        train([job], folder)
    return folder


@pytest.fixture(scope="module")
def separate_digests(separate_folder: Path, jobs: list[Job]) -> dict[str, str]:
    return digests(separate_folder, jobs)


def test_weights_are_those_of_separate_training(
    tmp_path: Path, jobs: list[Job], separate_folder: Path, separate_digests: dict[str, str]
) -> None:
    assert {r.name: r.digest for r in train(jobs, tmp_path)} == separate_digests
    assert len(set(separate_digests.values())) == len(jobs)
    for job in jobs:
        logs = [(d / "training" / f"{job.name}.jsonl").read_text() for d in (separate_folder, tmp_path)]
        assert logs[0] == logs[1]
        assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(1, 8))


@pytest.mark.parametrize("checkpoints", [0, 1, 9, 13, 30])
def test_a_kill_between_checkpoints_changes_nothing(
    tmp_path: Path, jobs: list[Job], separate_digests: dict[str, str], monkeypatch: pytest.MonkeyPatch, checkpoints: int
) -> None:
    """Killed after so many checkpoints, so that some receivers are ahead of others."""
    save_checkpoint, remaining = trainer._Trainer.save_checkpoint, [checkpoints]

    def save_or_die(trainer_, cost) -> None:
        if not remaining[0]:
            raise Interruption
        remaining[0] -= 1
        save_checkpoint(trainer_, cost)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Trainer, "save_checkpoint", save_or_die)
        with pytest.raises(Interruption):
            train(jobs, tmp_path)
    train(jobs, tmp_path)
    assert digests(tmp_path, jobs) == separate_digests


def test_a_part_of_a_group_ends_with_the_same_weights(
    tmp_path: Path, jobs: list[Job], separate_digests: dict[str, str]
) -> None:
    train(jobs[:2], tmp_path)
    train(jobs[2:], tmp_path)
    assert digests(tmp_path, jobs) == separate_digests


def test_each_block_is_generated_once_and_passes_the_teacher_once(
    tmp_path: Path, jobs: list[Job], teacher: NeuralReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, passes = [], []
    block, call = SlotStream.block, NeuralReceiver.__call__
    monkeypatch.setattr(SlotStream, "block", lambda stream, n: blocks.append(n) or block(stream, n))
    monkeypatch.setattr(NeuralReceiver, "__call__", lambda net, slots: passes.append(net.name) or call(net, slots))
    train(jobs, tmp_path)
    assert blocks == list(range(7))
    assert passes == ["teacher"] * 7


def energy_of(card: Card) -> TrainingEnergy:
    return TrainingEnergy.from_json(card.training["energy"], card.name)


def test_costs_add_up_to_the_meter(tmp_path: Path, jobs: list[Job], teacher: NeuralReceiver) -> None:
    meter = FakeMeter()
    cards = [r.card for r in train(jobs, tmp_path, meter=meter)]
    costs = [energy_of(card) for card in cards]
    assert meter.readings == 4 + 1  # after steps 2, 4, 6 and 7; the window after the last step is read and discarded
    assert sum(c.energy_j("fake") for c in costs) == pytest.approx(4 * 4.0)
    assert sum(m.energy_j for c in costs for m in c.measurements if m.component == "ram") == pytest.approx(4 * 0.5)
    assert sum(w.fraction * w.duration_s for c in costs for w in c.windows) == pytest.approx(4 * 2.0)
    assert all(c.energy_j("fake") > 0 for c in costs)
    teacher_slots = [card.training["teacher_slots"] for card in cards]
    share = pytest.approx(7 * 4 / 6)  # six students share it
    assert teacher_slots[:4] == [{"teacher": share}] * 4
    assert teacher_slots[4:7] == [
        {"perfect CSI": 7 * 4 / 2},
        {"teacher": share},
        {"teacher": share, "perfect CSI": 7 * 4 / 2},
    ]
    assert teacher_slots[7:] == [{}, {}]
    students = [c for c, card in zip(costs, cards, strict=True) if card.receiver.startswith("hybrid")]
    assert len(students) == 3


def test_costs_resume_after_a_kill(tmp_path: Path, jobs: list[Job]) -> None:
    def die(job: Job, state) -> None:
        if state.step == 5:
            raise Interruption

    meter = FakeMeter()
    with pytest.raises(Interruption):
        train(jobs[:2], tmp_path, meter=meter, on_step=die)
    cards = [r.card for r in train(jobs[:2], tmp_path, meter=meter)]
    assert sum(energy_of(c).energy_j("fake") for c in cards) == pytest.approx(4 * 4.0)
    assert sum(c.training["teacher_slots"]["teacher"] for c in cards) == pytest.approx(7 * 4)


def test_a_diverging_receiver_does_not_affect_others(
    tmp_path: Path, jobs: list[Job], separate_digests: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = trainer.Objective.forward

    def poisoned(objective, llrs, slots, teacher_outputs, progress):
        loss = forward(objective, llrs, slots, teacher_outputs, progress)
        return loss * float("nan") if objective._distillation == jobs[1].distillation and progress == 3 / 7 else loss

    monkeypatch.setattr(trainer.Objective, "forward", poisoned)
    with pytest.raises(UserError, match=f"{jobs[1].name}, {jobs[3].name}: loss is not finite"):
        train(jobs, tmp_path)
    other_jobs = [job for job in jobs if job.distillation != jobs[1].distillation]
    assert digests(tmp_path, other_jobs) == {job.name: separate_digests[job.name] for job in other_jobs}
    assert not (tmp_path / "receivers" / jobs[1].name).exists()


def test_a_teacher_of_another_scenario_is_refused(tmp_path: Path, small: Scenario, jobs: list[Job]) -> None:
    other = replace(jobs[0], scenario=small.model_copy(update={"snr_db": (0.0, 30.0)}))
    with pytest.raises(
        UserError, match=r"trained with scenario\.snr_db \[0\.0, 20\.0\], the student has \[0\.0, 30\.0\]"
    ):
        train([other], tmp_path)
    assert not list(tmp_path.iterdir())


def test_forms_of_one_network_train_together_as_they_do_alone(tmp_path: Path, jobs: list[Job]) -> None:
    """Bits of a weight, learning rate and initial weights may differ; the slots are the same."""
    (origin,) = train([jobs[2]], tmp_path / "origin")
    settings = ({"weight_bits": 4}, {"learning_rate": 1e-3})
    forms = [
        replace(jobs[2], name=f"form{i}", training=GROUP_TRAINING.model_copy(update=change), initial=initial)
        for i, (change, initial) in enumerate(zip(settings, (origin, None), strict=True))
    ]
    for form in forms:
        train([form], tmp_path / "alone")
    train(forms, tmp_path / "together")
    assert digests(tmp_path / "together", forms) == digests(tmp_path / "alone", forms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "its seed is not that of"),
        ({"role": "teacher"}, "teachers have other slots than"),
        ({"training": GROUP_TRAINING.model_copy(update={"steps": 8})}, r"training\.steps is 8, that of .* 7"),
        ({"training": GROUP_TRAINING.model_copy(update={"batch_slots": 2})}, r"training\.batch_slots is 2, that of"),
    ],
)
def test_jobs_with_other_slots_do_not_train_together(
    tmp_path: Path, jobs: list[Job], change: dict[str, object], message: str
) -> None:
    scratch = jobs[-1]
    with pytest.raises(UserError, match=f"other: {message}.*; train them one after the other"):
        train([scratch, replace(scratch, name="other", **change)], tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
