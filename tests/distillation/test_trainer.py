"""Training of one receiver: losses, gradients, deep supervision, families, and what it learns."""

import json
from dataclasses import replace

import pytest
import torch
from factories import SHORT_TRAINING, job, train_job

from channels import Channels, Grid, Scenario, SlotStream
from distillation import trainer
from distillation.feature_transfer import FeatureTransfer
from distillation.job import Training
from distillation.losses import bit_loss, distillation_loss
from distillation.objective import Distillation
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver


@pytest.fixture(scope="module")
def teacher(small: Scenario, tmp_path_factory) -> NeuralReceiver:
    return train_job(job(small, name="teacher", role="teacher", seed=5), tmp_path_factory.mktemp("teacher"))


def test_long_gradients_are_scaled_to_the_limit(tmp_path, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def record_norm(self: torch.optim.AdamW) -> None:
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(gradients).norm()))
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", record_norm)
    unlimited = train_job(job(small), tmp_path / "unlimited")
    longest, median = max(norms), sorted(norms)[4]
    assert median < longest
    norms.clear()
    clipped = train_job(
        job(small, training=SHORT_TRAINING.model_copy(update={"max_gradient_norm": median})), tmp_path / "clipped"
    )
    assert max(norms) == pytest.approx(median, rel=1e-4)
    assert min(norms) < 0.999 * median
    assert clipped.digest != unlimited.digest


def test_intermediate_llrs_count_with_their_weight(tmp_path, small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step from weights whose blocks differ, against the same step written out."""

    def perturbed(*spec: object) -> torch.nn.Module:
        net = build(*spec)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        return net

    monkeypatch.setattr(trainer, "build", perturbed)
    training = SHORT_TRAINING.model_copy(
        update={"steps": 1, "warmup_steps": 0, "decay_start": 1.0, "deep_supervision_weight": 0.5}
    )
    short_job = job(small, receiver="hybrid-w4-d4", training=training)
    trained = train_job(short_job, tmp_path)
    net, slots = (
        perturbed(short_job.receiver, 2, small.bits_per_symbol, short_job.seed),
        short_job.stream("cpu").block(0),
    )
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


def test_networks_without_intermediate_llrs_ignore_the_weight(tmp_path, small: Scenario) -> None:
    weighted = train_job(
        job(small, training=SHORT_TRAINING.model_copy(update={"deep_supervision_weight": 0.5})), tmp_path / "a"
    )
    assert weighted.digest == train_job(job(small), tmp_path / "b").digest
    assert weighted.card.training["deep_supervision_weight"] == 0


def test_scratch_baseline_and_student_start_equal_and_end_different(
    tmp_path, small: Scenario, teacher: NeuralReceiver
) -> None:
    one_step = SHORT_TRAINING.model_copy(update={"steps": 1, "learning_rate": 1e-12, "warmup_steps": 0})
    student_fields = {"role": "student", "teachers": (teacher,), "distillation": Distillation(alpha=0.9)}
    scratch = train_job(job(small, training=one_step), tmp_path / "a")
    student = train_job(job(small, training=one_step, **student_fields), tmp_path / "b")
    difference = (scratch.net.conv_in.weight - student.net.conv_in.weight).abs().max()
    assert difference.item() < 1e-9
    assert (
        train_job(job(small), tmp_path / "c").digest != train_job(job(small, **student_fields), tmp_path / "d").digest
    )


@pytest.mark.parametrize(
    ("of_teacher", "of_student"), [("deeprx", "hybrid"), ("hybrid", "deeprx"), ("hybrid", "hybrid")]
)
def test_teachers_teach_students_of_either_family(tmp_path, small: Scenario, of_teacher: str, of_student: str) -> None:
    """With all weight on the teacher's soft bits, the student comes closer to the teacher than it was."""
    spec = {"deeprx": "deeprx-w0.03125-d3", "hybrid": "hybrid-w4-d2"}
    slots = SlotStream(small, 7, 32, "test").block(0)

    def distance(a: NeuralReceiver, b: NeuralReceiver) -> float:
        return float(distillation_loss(a(slots), b(slots), slots, 2.0, 1.0))

    teacher = train_job(job(small, name="teacher", role="teacher", receiver=spec[of_teacher], seed=5), tmp_path / "t")
    student_fields = {"role": "student", "receiver": spec[of_student], "teachers": (teacher,)}
    student_fields["distillation"] = Distillation(temperature=2.0, alpha=1.0)
    longer = SHORT_TRAINING.model_copy(update={"steps": 30})
    student = train_job(job(small, training=longer, **student_fields), tmp_path / "s")
    before = NeuralReceiver(build(spec[of_student], seed=1), student.card)
    assert distance(student, teacher) < distance(before, teacher)
    assert student.card.receiver == spec[of_student]
    assert student.card.training["teachers"] == {"teacher": teacher.digest}


def test_a_short_training_improves_a_hybrid_over_its_front_end(tmp_path, small: Scenario) -> None:
    one_pilot = small.model_copy(update={"grid": Grid(num_prb=2, pilot_patterns=((2,),)), "interferers": ()})
    changes = {"steps": 500, "batch_slots": 16, "learning_rate": 5e-3, "max_gradient_norm": 1.0, "warmup_steps": 20}
    training = SHORT_TRAINING.model_copy(update=changes)
    trained = train_job(job(one_pilot, receiver="hybrid-w8-d6", training=training), tmp_path)
    front_end = NeuralReceiver(build("hybrid-w8-d6"), trained.card)
    for num_prb in (2, 10):  # it learned on two resource blocks
        wide = one_pilot.model_copy(update={"grid": Grid(num_prb=num_prb, pilot_patterns=((2,),))})
        test_slots = SlotStream(wide, 7, 256, "test").block(0)
        before, after = (float(bit_loss(receiver(test_slots), test_slots)) for receiver in (front_end, trained))
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
    train_job(job(flat, receiver="deeprx-w0.25-d3", training=training), tmp_path)
    last = [json.loads(line)["ber"] for line in (tmp_path / "training" / "x.jsonl").read_text().splitlines()][-10:]
    assert sum(last) / len(last) < 0.25


@pytest.mark.parametrize(
    ("compiler", "problem"),
    [("no-such-compiler", "no-such-compiler"), ("false", "false, which fails on an empty program")],
)
def test_without_a_compiler_training_goes_on(
    compiler: str, problem: str, tmp_path, small: Scenario, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("CXX", compiler)
    compiled = job(small, training=SHORT_TRAINING.model_copy(update={"compiled": True}))
    assert train_job(compiled, tmp_path / "a").digest == train_job(job(small), tmp_path / "b").digest
    line = f"x: compiled needs the C++ compiler {problem}; it is trained without torch.compile\n"
    assert capsys.readouterr().err == line


def test_bfloat16_needs_a_cpu_that_has_it(tmp_path, small: Scenario, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    rounded = job(small, training=SHORT_TRAINING.model_copy(update={"precision": "bfloat16"}))
    assert train_job(rounded, tmp_path / "a").digest == train_job(job(small), tmp_path / "b").digest
    assert capsys.readouterr().err == "x: cpu has no instructions for bfloat16; it is trained in float32\n"


def test_a_training_in_bfloat16_stays_close_to_float32(tmp_path, small: Scenario, monkeypatch) -> None:
    """Only convolutions round: the weights stay in float32, and the losses of all steps agree within 2 %."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    losses = {}
    for precision in ("float32", "bfloat16"):
        training = SHORT_TRAINING.model_copy(update={"precision": precision})
        receiver = train_job(job(small, training=training), tmp_path / precision)
        assert {p.dtype for p in receiver.net.parameters()} == {torch.float32}
        lines = (tmp_path / precision / "training" / "x.jsonl").read_text().splitlines()
        losses[precision] = [json.loads(line)["loss"] for line in lines]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


@pytest.mark.slow
def test_a_compiled_training_ends_close_to_the_eager_one(tmp_path, small: Scenario, teacher: NeuralReceiver) -> None:
    """Kernels sum in another order: losses agree to some digits, those of followed modules too; resuming is exact."""
    followed = Distillation(transfers=(FeatureTransfer(student="blocks.1", teacher="blocks.1"),))
    eager = job(small, teachers=(teacher,), distillation=followed)
    compiled = replace(eager, training=SHORT_TRAINING.model_copy(update={"compiled": True}))
    assert train_job(compiled, tmp_path / "a").digest == train_job(compiled, tmp_path / "b", 4).digest
    train_job(eager, tmp_path / "eager")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / d / "training" / "x.jsonl").read_text().splitlines()]
        for d in ("a", "eager")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
