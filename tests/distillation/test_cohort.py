"""Receivers that are trained together: the weights of separate training, kills at any point, bills that add up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from channels import Scenario, SlotStream
from distillation import trainer
from distillation.energy_allocation import EnergyAllocator
from distillation.feature_transfer import FeatureTransfer
from distillation.job import Job, Training
from distillation.objective import Distillation
from distillation.trainer import train
from energy.metering.meter import Reading
from leanrx_core.errors import UserError
from receivers.classical import PerfectCsiReceiver
from receivers.neural.weights import NeuralReceiver, load

TRAINING = Training(
    steps=7,
    batch_slots=4,
    optimizer="adamw",
    learning_rate=1e-2,
    warmup_steps=2,
    checkpoint_steps=2,
    deep_supervision_weight=0.5,
)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return train([Job("teacher", "teacher", "deeprx-w0.0625-d3", small, TRAINING, 5)], tmp_path_factory.mktemp("t"))[0]


@pytest.fixture(scope="module")
def jobs(small: Scenario, teacher: NeuralReceiver) -> list[Job]:
    """Two families, two temperatures, a teacher that knows the channel, one that is followed inside, two, and twins."""
    twins = [Job(f"{s}-scratch", "scratch", s, small, TRAINING, 1) for s in ("deeprx-w0.03125-d3", "hybrid-w4-d2")]
    students = [
        replace(t, name=f"{t.receiver}-T{way.temperature:g}", role="student", distillation=way, teachers=(teacher,))
        for t in twins
        for way in (Distillation(temperature=1.0), Distillation(temperature=4.0))
    ]
    privileged = replace(students[0], name="privileged", teachers=(PerfectCsiReceiver(),))
    followed = Distillation(transfers=(FeatureTransfer(student="blocks.1", teacher="blocks.1", loss="feature"),))
    follows = replace(students[0], name="follows", distillation=followed)
    hears_two = replace(students[0], name="hears two", teachers=(teacher, PerfectCsiReceiver()))
    return [*students, privileged, follows, hears_two, *twins]


def digests(folder: Path, jobs: list[Job]) -> dict[str, str]:
    return {job.name: load(folder / "receivers" / job.name).digest for job in jobs}


@pytest.fixture(scope="module")
def alone(jobs: list[Job], tmp_path_factory) -> Path:
    """Everyone trained separately."""
    folder = tmp_path_factory.mktemp("alone")
    for job in jobs:
        train([job], folder)
    return folder


@pytest.fixture(scope="module")
def separate(alone: Path, jobs: list[Job]) -> dict[str, str]:
    return digests(alone, jobs)


def test_weights_are_those_of_separate_training(
    tmp_path: Path, jobs: list[Job], alone: Path, separate: dict[str, str]
) -> None:
    assert {r.name: r.digest for r in train(jobs, tmp_path)} == separate
    assert len(set(separate.values())) == len(jobs)
    for job in jobs:
        logs = [(d / "training" / f"{job.name}.jsonl").read_text() for d in (alone, tmp_path)]
        assert logs[0] == logs[1]
        assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(1, 8))


@pytest.mark.parametrize("keeps", [0, 1, 9, 13, 30])
def test_a_kill_between_checkpoints_changes_nothing(
    tmp_path: Path, jobs: list[Job], separate: dict[str, str], monkeypatch: pytest.MonkeyPatch, keeps: int
) -> None:
    """Killed after so many checkpoints, so that some learners are ahead of others."""
    keep, left = trainer._Trainer.save_checkpoint, [keeps]

    def keep_or_die(learner, cost) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        keep(learner, cost)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Trainer, "save_checkpoint", keep_or_die)
        with pytest.raises(Killed):
            train(jobs, tmp_path)
    train(jobs, tmp_path)
    assert digests(tmp_path, jobs) == separate


def test_one_that_is_left_over_ends_with_the_same_weights(
    tmp_path: Path, jobs: list[Job], separate: dict[str, str]
) -> None:
    train(jobs[:2], tmp_path)
    train(jobs[2:], tmp_path)
    assert digests(tmp_path, jobs) == separate


def test_every_block_is_made_once_and_the_teacher_hears_it_once(
    tmp_path: Path, jobs: list[Job], teacher: NeuralReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, heard = [], []
    block, call = SlotStream.block, NeuralReceiver.__call__
    monkeypatch.setattr(SlotStream, "block", lambda stream, n: made.append(n) or block(stream, n))
    monkeypatch.setattr(NeuralReceiver, "__call__", lambda net, slots: heard.append(net.name) or call(net, slots))
    train(jobs, tmp_path)
    assert made == list(range(7))
    assert heard == ["teacher"] * 7


class FakeMeter:
    """One joule per reading, and more for the GPU."""

    def __init__(self) -> None:
        self.running, self.readings = False, 0

    def start(self) -> None:
        self.running = True

    def stop(self) -> Reading:
        self.running = False
        self.readings += 1
        return Reading(2.0, 1.0, 3.0, 0.5, "modelled", "measured", "assumed", "fake")


def test_bills_add_up_to_the_meter(tmp_path: Path, jobs: list[Job], teacher: NeuralReceiver) -> None:
    meter = FakeMeter()
    cards = [r.card for r in train(jobs, tmp_path, meter=meter)]
    bills = [Reading(**card.training["energy"]) for card in cards]
    assert meter.readings == 4 + 1  # after steps 2, 4, 6 and 7; what the end left running is read and dropped
    assert sum(b.energy_j for b in bills) == pytest.approx(4 * 4.0)
    assert sum(b.ram_j for b in bills) == pytest.approx(4 * 0.5)
    assert sum(b.duration_s for b in bills) == pytest.approx(4 * 2.0)
    assert all(b.energy_j > 0 for b in bills)
    passes = [card.training["teacher_slots"] for card in cards]
    part = pytest.approx(7 * 4 / 6)  # six listened to it
    assert passes[:4] == [{"teacher": part}] * 4
    assert passes[4:7] == [{"perfect CSI": 7 * 4 / 2}, {"teacher": part}, {"teacher": part, "perfect CSI": 7 * 4 / 2}]
    assert passes[7:] == [{}, {}]
    students = [b.energy_j for b, card in zip(bills, cards, strict=True) if card.receiver.startswith("hybrid")]
    assert len(students) == 3


def test_each_bears_its_own_steps_and_an_equal_part_of_what_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 s of a block and 4 s of a teacher for two, then steps of 1 s and 3 s: 1 + 2 + 1 and 1 + 2 + 3 of 10 s."""

    class TenJoules:
        running = False

        def start(self) -> None: ...

        def stop(self) -> Reading:
            return Reading(10.0, 10.0, 0.0, 0.0, "measured", "none", "none", "counter")

    clock = iter([0.0, 2.0, 2.0, 6.0, 6.0, 7.0, 7.0, 10.0])
    allocator = EnergyAllocator("cpu", TenJoules(), 8)
    monkeypatch.setattr(allocator, "_now", lambda: next(clock))
    for names, teacher in ((["a", "b"], ""), (["a", "b"], "teacher"), (["a"], ""), (["b"], "")):
        with allocator.attribute(names, teacher):
            pass
    costs = allocator.allocate()
    assert list(costs) == ["a", "b"]
    assert [cost.reading and cost.reading.energy_j for cost in costs.values()] == pytest.approx([4.0, 6.0])
    assert [cost.teacher_slots for cost in costs.values()] == [{"teacher": 4.0}] * 2


def test_a_bill_goes_on_after_a_kill(tmp_path: Path, jobs: list[Job]) -> None:
    def die(job: Job, state) -> None:
        if state.step == 5:
            raise Killed

    meter = FakeMeter()
    with pytest.raises(Killed):
        train(jobs[:2], tmp_path, meter=meter, on_step=die)
    cards = [r.card for r in train(jobs[:2], tmp_path, meter=meter)]
    assert sum(Reading(**c.training["energy"]).energy_j for c in cards) == pytest.approx(4 * 4.0)
    assert sum(c.training["teacher_slots"]["teacher"] for c in cards) == pytest.approx(7 * 4)


def test_one_that_diverges_leaves_the_others_alone(
    tmp_path: Path, jobs: list[Job], separate: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = trainer.Objective.forward

    def poisoned(objective, llrs, slots, told, progress):
        loss = forward(objective, llrs, slots, told, progress)
        return loss * float("nan") if objective._distillation == jobs[1].distillation and progress == 3 / 7 else loss

    monkeypatch.setattr(trainer.Objective, "forward", poisoned)
    with pytest.raises(UserError, match=f"{jobs[1].name}, {jobs[3].name}: loss is not finite"):
        train(jobs, tmp_path)
    others = [job for job in jobs if job.distillation != jobs[1].distillation]
    assert digests(tmp_path, others) == {job.name: separate[job.name] for job in others}
    assert not (tmp_path / "receivers" / jobs[1].name).exists()


def test_a_teacher_of_another_scenario_is_refused(tmp_path: Path, small: Scenario, jobs: list[Job]) -> None:
    other = replace(jobs[0], scenario=small.model_copy(update={"name": "other"}))
    with pytest.raises(UserError, match=r"trained on scenario small .* student's is other"):
        train([other], tmp_path)
    assert not list(tmp_path.iterdir())
