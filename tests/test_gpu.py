"""What only a GPU can show: run with ``-m gpu`` on a machine with a CUDA device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from factories import SHORT_TRAINING, Interruption, job

from channels import Scenario, Slots, SlotStream, scenario
from distillation import Training, train
from distillation.objective import Distillation
from energy.metering.training import TrainingMeter
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("spec", ["hybrid-w8-d4", "deeprx-w0.0625-d3", "deeprx-interpolated-w0.0625-d3"])
def test_a_receiver_computes_the_same_llrs(spec: str, tmp_path: Path, small: Scenario) -> None:
    """On the CPU's slots: random numbers of a GPU are others."""
    slots = SlotStream(small, 1, 16, "test").at_sinr(10.0).block(0)
    on_gpu = Slots(**{name: getattr(slots, name).cuda() for name in Slots.__dataclass_fields__})
    (receiver,) = train([job(small, receiver=spec)], tmp_path)
    llrs = receiver(slots)
    other = NeuralReceiver(receiver.net, receiver.card, "cuda")(on_gpu).cpu()
    mask = slots.bit_mask
    torch.testing.assert_close(other[mask], llrs[mask], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("spec", ["hybrid-w8-d4", "deeprx-w0.0625-d3", "deeprx-interpolated-w0.0625-d3"])
def test_a_training_learns_and_resumes_exactly(spec: str, precision: str, tmp_path: Path, small: Scenario) -> None:
    training = Training(
        steps=60,
        batch_slots=16,
        optimizer="adamw",
        learning_rate=5e-3,
        warmup_steps=5,
        checkpoint_steps=10,
        precision=precision,
        deep_supervision_weight=0.5,
    )
    one = job(small, receiver=spec, training=training)
    (whole,) = train([one], tmp_path / "a", "cuda")
    with pytest.raises(Interruption):
        train([one], tmp_path / "b", "cuda", on_step=_stop_at(35))
    (resumed,) = train([one], tmp_path / "b", "cuda")
    assert resumed.digest == whole.digest
    losses = [json.loads(line)["loss"] for line in (tmp_path / "a" / "training" / "x.jsonl").read_text().splitlines()]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_students_of_both_families_train_in_one_group(tmp_path: Path, small: Scenario) -> None:
    (teacher,) = train([job(small, name="teacher", role="teacher", receiver="hybrid-w8-d4")], tmp_path / "t", "cuda")
    settings = {"role": "student", "teachers": (teacher,), "distillation": Distillation()}
    jobs = [
        job(small, name=f"s{i}", receiver=s, **settings) for i, s in enumerate(("hybrid-w4-d2", "deeprx-w0.0625-d3"))
    ]
    assert len(train(jobs, tmp_path / "s", "cuda")) == 2


def test_a_compiled_training_ends_close_to_the_eager_one(tmp_path: Path, small: Scenario) -> None:
    losses = []
    for compiled in (False, True):
        training = SHORT_TRAINING.model_copy(update={"compiled": compiled, "precision": "float32"})
        train([job(small, training=training)], tmp_path / str(compiled), "cuda")
        lines = (tmp_path / str(compiled) / "training" / "x.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_meter_reads_the_gpu(small: Scenario, tmp_path: Path) -> None:
    meter = TrainingMeter.of_device("cuda")
    training = SHORT_TRAINING.model_copy(update={"steps": 200, "batch_slots": 64, "checkpoint_steps": 200})
    (receiver,) = train([job(small, training=training)], tmp_path, "cuda", meter)
    gpu = [m for m in receiver.card.training["energy"]["measurements"] if m["component"] == "gpu"]
    assert gpu
    assert all(m["energy_j"] > 0 for m in gpu)


def test_blocks_are_faster_than_on_the_cpu() -> None:
    conditions = scenario("deeprx-2021")
    seconds = {}
    for device in ("cpu", "cuda"):
        stream = SlotStream(conditions, 1, 128, device=device)
        stream.block(0)
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        stream.block(1)
        end.record()
        torch.cuda.synchronize()
        seconds[device] = begin.elapsed_time(end) / 1e3
    assert seconds["cuda"] < seconds["cpu"]


def test_a_sweep_runs_on_the_gpu(tmp_path: Path) -> None:
    text = (ROOT / "configs/quickstart.yaml").read_text().replace("device: cpu", "device: cuda")
    text = text.replace("steps: 600", "steps: 20").replace("steps: 1200", "steps: 20")
    (tmp_path / "short.yaml").write_text(text)
    command = [sys.executable, "-m", "leanrx", "sweep", str(tmp_path / "short.yaml"), "--runs", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert (tmp_path / "quickstart" / "report" / "index.html").exists()


def test_the_training_pass_of_a_hybrid_has_the_gradients_of_inference(small: Scenario) -> None:
    net = build("hybrid-w8-d4", seed=1).cuda()
    slots = SlotStream(small, 1, 8, device="cuda").block(0)
    features, gradients = net.features(slots), []
    for training in (True, False):
        net.train(training).zero_grad()
        net(features).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()))


def _stop_at(step: int):
    def stop(job: object, state) -> None:
        if state.step >= step:
            raise Interruption

    return stop
