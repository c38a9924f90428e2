"""Settings of a training, its slots, and its teachers."""

from dataclasses import replace

import pytest
import torch
from factories import SHORT_TRAINING, Interruption, job, train_job

from channels import Scenario
from channels.dataset import Dataset, write_dataset
from distillation.job import Job, Training, training_conditions
from distillation.objective import Distillation
from distillation.trainer import StepState, train
from leanrx_core.errors import UserError
from receivers.neural.weights import NeuralReceiver


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return train_job(job(small, name="teacher", role="teacher", seed=5), tmp_path_factory.mktemp("teacher"))


def test_teachers_have_their_own_slots_and_scratch_baselines_their_students(small: Scenario) -> None:
    student, scratch, teacher = (
        job(small, role=role).stream("cpu").block(0) for role in ("student", "scratch", "teacher")
    )
    assert student.y.equal(scratch.y)
    assert not student.y.equal(teacher.y)
    assert not student.bits.equal(teacher.bits)


def test_teacher_and_student_must_match(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    wide = small.model_copy(update={"modulations": ("64-QAM",)})
    with pytest.raises(UserError, match="num_bits"):
        train_job(job(wide, teachers=(teacher,), distillation=Distillation()), tmp_path)


@pytest.fixture(scope="module")
def mixed(small: Scenario) -> Scenario:
    members = ({"grid": {"num_rx": 1}, "modulations": ["QPSK"]}, {"grid": {"num_rx": 4, "num_prb": 1}})
    return Scenario.parse({**small.model_dump(exclude={"mixture"}), "mixture": members}, "mixed")


def test_training_on_a_mixture_resumes_and_depends_on_its_members_alone(tmp_path, mixed: Scenario) -> None:
    shared = job(mixed, receiver="hybrid-shared-w3-d1")
    straight = train_job(shared, tmp_path / "a")
    assert train_job(shared, tmp_path / "b", stop_at=5).digest == straight.digest
    card = straight.card
    assert (card.num_rx, card.num_bits, card.conditions) == (2, 4, mixed)
    tested_elsewhere = mixed.model_copy(update={"max_doppler_hz": (0.0, 50.0), "snr_db": (0.0, 1.0)})
    assert training_conditions(tested_elsewhere) == training_conditions(mixed)
    assert train_job(replace(shared, scenario=tested_elsewhere), tmp_path / "c").digest == straight.digest
    assert mixed.mixture is not None
    fewer = mixed.model_copy(update={"mixture": mixed.mixture[:1]})
    assert training_conditions(fewer) != training_conditions(mixed)


@pytest.mark.parametrize("spec", ["hybrid-w2-d1", "deeprx-w0.03125-d3"])
def test_a_network_for_one_number_of_antennas_is_not_trained_on_several(spec: str, mixed: Scenario, tmp_path) -> None:
    with pytest.raises(UserError, match=f"'{spec}' has one number of antennas, and the scenario has 1, 2, 4; choose"):
        train_job(job(mixed, receiver=spec), tmp_path)
    assert mixed.mixture is not None
    two = [member.model_copy(update={"grid": mixed.grid}) for member in mixed.mixture]
    job(mixed.model_copy(update={"mixture": tuple(two)}), receiver=spec).check()


def test_learning_rate_rises_stays_and_falls() -> None:
    schedule = Training(steps=100, learning_rate=1.0, warmup_steps=10, decay_start=0.3)
    assert schedule.learning_rate_at(0) == pytest.approx(0.1)
    assert schedule.learning_rate_at(9) == schedule.learning_rate_at(29) == 1.0
    assert schedule.learning_rate_at(65) == pytest.approx(0.5)
    assert 0 < schedule.learning_rate_at(99) < 0.02


@pytest.mark.parametrize(("old", "new"), [("early_weight", "deep_supervision_weight"), ("decay_from", "decay_start")])
def test_keys_of_earlier_versions_are_refused_with_their_new_name(old: str, new: str) -> None:
    with pytest.raises(UserError, match=f"x.yaml: {old}: renamed to '{new}'"):
        Training.parse({old: 0.5}, "x.yaml")


def dataset(small: Scenario, folder, **changes: object) -> str:
    settings = Dataset(label="train", scenario=small, split="train", seed=1, block_slots=4, num_blocks=8)
    settings = settings.model_copy(update=changes)
    list(write_dataset(settings, folder))
    return str(folder / settings.label)


def test_training_on_a_dataset_equals_training_on_generated_slots(tmp_path, small: Scenario) -> None:
    folder = dataset(small, tmp_path)
    assert train_job(job(small, dataset=folder), tmp_path / "a").digest == train_job(job(small), tmp_path / "b").digest


def test_training_on_a_short_dataset_repeats_it_and_resumes(tmp_path, small: Scenario) -> None:
    short_job = job(small, dataset=dataset(small, tmp_path, num_blocks=3))
    whole = train_job(short_job, tmp_path / "whole")
    assert train_job(short_job, tmp_path / "resumed", 5).digest == whole.digest
    assert whole.digest != train_job(job(small), tmp_path / "generated").digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_slots": 2}, "block_slots is 2, but 4 is required"),
        ({"split": "test"}, "split is test, but train is required"),
        ({"scenario": None}, "scenario differs"),
    ],
)
def test_a_dataset_that_does_not_match_is_refused(
    tmp_path, small: Scenario, changes: dict[str, object], message: str
) -> None:
    if "scenario" in changes:
        changes = {"scenario": small.model_copy(update={"snr_db": (0.0, 1.0)})}
    with pytest.raises(UserError, match=message):
        train_job(job(small, dataset=dataset(small, tmp_path, **changes)), tmp_path / "a")


def test_training_starts_from_initial_weights(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    """A step of a vanishing learning rate leaves them as they are; other seeds have no effect on them."""
    training = SHORT_TRAINING.model_copy(update={"steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0})
    start = job(small, receiver=teacher.card.receiver, training=training, seed=9, initial=teacher)
    receiver = train_job(start, tmp_path)
    for name, value in receiver.net.named_parameters():
        torch.testing.assert_close(value, teacher.net.get_parameter(name), rtol=0, atol=1e-9)
    assert receiver.card.training["initial_sha256"] == teacher.digest


def test_fine_tuning_resumes_and_knows_its_initial_weights(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    start = job(small, receiver=teacher.card.receiver, seed=9, initial=teacher)
    assert train_job(start, tmp_path / "a").digest == train_job(start, tmp_path / "b", stop_at=5).digest

    def interrupt(job: Job, state: StepState) -> None:
        if state.step == 5:
            raise Interruption

    with pytest.raises(Interruption):
        train([start], tmp_path / "c", on_step=interrupt)
    with pytest.raises(UserError, match=r"initial_sha256 .* there, None here"):
        train_job(replace(start, initial=None), tmp_path / "c")


def test_initial_weights_of_another_network_are_refused(small: Scenario, teacher: NeuralReceiver) -> None:
    with pytest.raises(
        UserError, match=r"x: initial weights are of deeprx-w0\.03125-d3 with 2 antennas and 4 bits, the"
    ):
        job(small, receiver="hybrid-w2-d1", initial=teacher).check()
    three = small.model_copy(update={"grid": small.grid.model_copy(update={"num_rx": 3})})
    with pytest.raises(UserError, match=r"the job has deeprx-w0\.03125-d3 with 3 and 4; take a receiver of the same"):
        job(three, initial=teacher).check()
