import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from channels import Channels, Grid, Scenario, SlotStream
from channels.dataset import Dataset, write_dataset
from distillation import trainer
from distillation.feature_transfer import FeatureTransfer
from distillation.job import Job, Training
from distillation.losses import bit_loss, distillation_loss
from distillation.objective import Distillation
from distillation.trainer import train
from leanrx_core.errors import UserError
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver

TRAINING = Training(steps=8, batch_slots=4, optimizer="adamw", learning_rate=1e-2, warmup_steps=2, checkpoint_steps=3)


def job(small: Scenario, **changes: object) -> Job:
    return replace(Job("x", "scratch", "deeprx-w0.03125-d3", small, TRAINING, seed=1), **changes)


def run(made: Job, folder, stop_at: int | None = None) -> NeuralReceiver:
    class Killed(BaseException):
        pass

    def on_step(job, state) -> None:
        if state.step == stop_at:
            raise Killed

    if stop_at is None:
        return train([made], folder)[0]
    with pytest.raises(Killed):
        train([made], folder, on_step=on_step)
    assert not (folder / "receivers").exists()
    return run(made, folder)


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return run(job(small, name="teacher", role="teacher", seed=5), tmp_path_factory.mktemp("teacher"))


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
@pytest.mark.parametrize("stop_at", [2, 5, 7])
def test_resuming_gives_the_same_weights(tmp_path, small: Scenario, stop_at: int, optimizer: str) -> None:
    made = job(small, training=TRAINING.model_copy(update={"optimizer": optimizer}))
    whole = run(made, tmp_path / "whole")
    resumed = run(made, tmp_path / "resumed", stop_at)
    assert resumed.digest == whole.digest
    logs = [(tmp_path / d / "training" / "x.jsonl").read_text() for d in ("whole", "resumed")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(1, 9))


def test_long_gradients_are_shortened(tmp_path, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def seen(self: torch.optim.AdamW) -> None:
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(gradients).norm()))
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", seen)
    free = run(job(small), tmp_path / "free")
    longest, median = max(norms), sorted(norms)[4]
    assert median < longest
    norms.clear()
    clipped = run(job(small, training=TRAINING.model_copy(update={"max_gradient_norm": median})), tmp_path / "clipped")
    assert max(norms) == pytest.approx(median, rel=1e-4)
    assert min(norms) < 0.999 * median
    assert clipped.digest != free.digest


def test_early_llrs_count_with_their_weight(tmp_path, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step from weights whose blocks differ, against the same step written out."""

    def moved(*spec: object) -> torch.nn.Module:
        net = build(*spec)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        return net

    monkeypatch.setattr(trainer, "build", moved)
    training = TRAINING.model_copy(
        update={"steps": 1, "warmup_steps": 0, "decay_start": 1.0, "deep_supervision_weight": 0.5}
    )
    made = job(small, receiver="hybrid-w4-d4", training=training)
    trained = run(made, tmp_path)
    net, slots = moved(made.receiver, 2, small.bits_per_symbol, made.seed), made.stream("cpu").block(0)
    llrs, *intermediate = net(net.features(slots), intermediate=True)
    assert len(intermediate) == 3
    loss = (
        bit_loss(llrs, slots)
        + 0.5
        * (bit_loss(intermediate[0], slots) + bit_loss(intermediate[1], slots) + bit_loss(intermediate[2], slots))
        / 3
    )
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=training.weight_decay)
    loss.backward()
    optimizer.step()
    (line,) = (tmp_path / "training" / "x.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for name, p in trained.net.named_parameters():
        torch.testing.assert_close(p, net.get_parameter(name), msg=name)


def test_nets_without_early_llrs_train_as_ever(tmp_path, small: Scenario) -> None:
    weighted = run(job(small, training=TRAINING.model_copy(update={"deep_supervision_weight": 0.5})), tmp_path / "a")
    assert weighted.digest == run(job(small), tmp_path / "b").digest
    assert weighted.card.training["deep_supervision_weight"] == 0


def test_a_student_resumes_too(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    made = job(small, role="student", teachers=(teacher,), distillation=Distillation())
    assert run(made, tmp_path / "a").digest == run(made, tmp_path / "b", 4).digest


def test_twin_and_student_start_alike_and_end_apart(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    one_step = TRAINING.model_copy(update={"steps": 1, "learning_rate": 1e-12, "warmup_steps": 0})
    told = {"role": "student", "teachers": (teacher,), "distillation": Distillation(alpha=0.9)}
    twin = run(job(small, training=one_step), tmp_path / "a")
    student = run(job(small, training=one_step, **told), tmp_path / "b")
    difference = (twin.net.conv_in.weight - student.net.conv_in.weight).abs().max()
    assert difference.item() < 1e-9
    assert run(job(small), tmp_path / "c").digest != run(job(small, **told), tmp_path / "d").digest


def test_a_teacher_has_slots_of_its_own_and_a_twin_its_students(small: Scenario) -> None:
    student, twin, teacher = (
        job(small, role=role).stream("cpu").block(0) for role in ("student", "scratch", "teacher")
    )
    assert student.y.equal(twin.y)
    assert not student.y.equal(teacher.y)
    assert not student.bits.equal(teacher.bits)


def test_a_checkpoint_of_another_job_is_refused(tmp_path, small: Scenario) -> None:
    with pytest.raises(ZeroDivisionError):
        train([job(small)], tmp_path, on_step=lambda job, state: 1 / (5 - state.step))  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match="another configuration"):
        train([job(small, seed=2)], tmp_path)
    (tmp_path / "checkpoints" / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged checkpoint"):
        train([job(small)], tmp_path)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path, small: Scenario) -> None:
    path = tmp_path / "checkpoints" / "x.safetensors"
    path.parent.mkdir()
    metadata = {"job": "{}", "step": "3", "bill": "{}"}  # the cost was called bill before
    safetensors.torch.save_file({"net.w": torch.zeros(1)}, path, metadata)
    with pytest.raises(UserError, match=r"x\.safetensors: .* an earlier version .* delete it to train x from"):
        train([job(small)], tmp_path)


def test_teacher_and_student_must_fit(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    wide = small.model_copy(update={"modulations": ("64-QAM",)})
    with pytest.raises(UserError, match="num_bits"):
        run(job(wide, teachers=(teacher,), distillation=Distillation()), tmp_path)


@pytest.mark.parametrize(
    ("of_teacher", "of_student"), [("deeprx", "hybrid"), ("hybrid", "deeprx"), ("hybrid", "hybrid")]
)
def test_a_teacher_of_either_family_teaches_either(tmp_path, small: Scenario, of_teacher: str, of_student: str) -> None:
    """With all weight on the teacher's soft bits, the student comes closer to the teacher than it was."""
    spec = {"deeprx": "deeprx-w0.03125-d3", "hybrid": "hybrid-w4-d2"}
    seen = SlotStream(small, 7, 32, "test").block(0)

    def distance(a: NeuralReceiver, b: NeuralReceiver) -> float:
        return float(distillation_loss(a(seen), b(seen), seen, 2.0, 1.0))

    teacher = run(job(small, name="teacher", role="teacher", receiver=spec[of_teacher], seed=5), tmp_path / "t")
    told = {"role": "student", "receiver": spec[of_student], "teachers": (teacher,)}
    told["distillation"] = Distillation(temperature=2.0, alpha=1.0)
    longer = TRAINING.model_copy(update={"steps": 30})
    student = run(job(small, training=longer, **told), tmp_path / "s")
    before = NeuralReceiver(build(spec[of_student], seed=1), student.card)
    assert distance(student, teacher) < distance(before, teacher)
    assert student.card.receiver == spec[of_student]
    assert student.card.training["teachers"] == {"teacher": teacher.digest}


def test_a_hybrid_resumes_too(tmp_path, small: Scenario) -> None:
    made = job(small, receiver="hybrid-w4-d2", training=TRAINING.model_copy(update={"deep_supervision_weight": 0.5}))
    assert run(made, tmp_path / "a").digest == run(made, tmp_path / "b", 4).digest


def test_a_short_training_takes_a_hybrid_below_its_front_end(tmp_path, small: Scenario) -> None:
    one_pilot = small.model_copy(update={"grid": Grid(num_prb=2, pilot_patterns=((2,),)), "interferers": ()})
    changes = {"steps": 500, "batch_slots": 16, "learning_rate": 5e-3, "max_gradient_norm": 1.0, "warmup_steps": 20}
    training = TRAINING.model_copy(update=changes)
    trained = run(job(one_pilot, receiver="hybrid-w8-d6", training=training), tmp_path)
    front_end = NeuralReceiver(build("hybrid-w8-d6"), trained.card)
    for num_prb in (2, 10):  # it learned on two resource blocks
        wide = one_pilot.model_copy(update={"grid": Grid(num_prb=num_prb, pilot_patterns=((2,),))})
        unseen = SlotStream(wide, 7, 256, "test").block(0)
        before, after = (float(bit_loss(receiver(unseen), unseen)) for receiver in (front_end, trained))
        assert after < 0.97 * before


def test_training_learns_to_use_the_pilots(tmp_path) -> None:
    """Flat Rayleigh channels of unknown phase: without the pilots' values the BER of QPSK stays at one half."""
    flat = Scenario(
        name="flat",
        grid=Grid(num_prb=2, pilot_patterns=((2,),)),
        channels=Channels(train=("Rayleigh",)),
        modulations=("QPSK",),
        snr_db=(20.0, 20.0),
    )
    training = Training(
        steps=150, batch_slots=16, optimizer="adamw", learning_rate=1e-2, warmup_steps=10, checkpoint_steps=1000
    )
    run(job(flat, receiver="deeprx-w0.25-d3", training=training), tmp_path)
    last = [json.loads(line)["ber"] for line in (tmp_path / "training" / "x.jsonl").read_text().splitlines()][-10:]
    assert sum(last) / len(last) < 0.25


def test_learning_rate_rises_holds_and_falls() -> None:
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
    made = Dataset(label="train", scenario=small, split="train", seed=1, block_slots=4, num_blocks=8)
    made = made.model_copy(update=changes)
    list(write_dataset(made, folder))
    return str(folder / made.label)


@pytest.mark.slow
def test_a_compiled_training_ends_close_to_the_eager_one(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    """Kernels sum in another order: losses agree to some digits, those of followed modules too; resuming is exact."""
    followed = Distillation(transfers=(FeatureTransfer(student="blocks.1", teacher="blocks.1"),))
    eager = job(small, teachers=(teacher,), distillation=followed)
    compiled = replace(eager, training=TRAINING.model_copy(update={"compiled": True}))
    assert run(compiled, tmp_path / "a").digest == run(compiled, tmp_path / "b", 4).digest
    run(eager, tmp_path / "eager")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / d / "training" / "x.jsonl").read_text().splitlines()]
        for d in ("a", "eager")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_training_on_recorded_slots_is_training_on_made_ones(tmp_path, small: Scenario) -> None:
    recorded = dataset(small, tmp_path)
    assert run(job(small, dataset=recorded), tmp_path / "a").digest == run(job(small), tmp_path / "b").digest


def test_training_on_few_recorded_blocks_begins_again_and_resumes(tmp_path, small: Scenario) -> None:
    made = job(small, dataset=dataset(small, tmp_path, num_blocks=3))
    whole = run(made, tmp_path / "whole")
    assert run(made, tmp_path / "resumed", 5).digest == whole.digest
    assert whole.digest != run(job(small), tmp_path / "made").digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_slots": 2}, "block_slots is 2, but 4 is required"),
        ({"split": "test"}, "split is test, but train is required"),
        ({"scenario": None}, "scenario differs"),
    ],
)
def test_other_recorded_slots_are_refused(tmp_path, small: Scenario, changes: dict[str, object], words: str) -> None:
    if "scenario" in changes:
        changes = {"scenario": small.model_copy(update={"snr_db": (0.0, 1.0)})}
    with pytest.raises(UserError, match=words):
        run(job(small, dataset=dataset(small, tmp_path, **changes)), tmp_path / "a")
