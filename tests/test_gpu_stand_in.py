"""All that a GPU run does, on a stand-in that refuses mixed devices: its tensors are the CPU's, its devices are not.

Not reached are automatic differentiation, which wants the device's own streams, the kernels of bfloat16 and channels
last, ``torch.compile`` and NVML. The tests marked ``gpu`` are for these.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from factories import Interruption, job
from gpu_stand_in import ROOT, Waits, on_cpu, stand_in

from channels import Scenario, Slots, SlotStream, scenario
from distillation import trainer
from distillation.feature_transfer import FeatureTransfer
from distillation.job import Training
from distillation.objective import Distillation
from distillation.trainer import train
from energy.counting.counter import count
from receivers.classical import PerfectCsiReceiver, classical_receivers
from receivers.neural import hybrid_training
from receivers.neural.registry import build

TRAINING = Training(
    steps=3,
    batch_slots=4,
    optimizer="lamb",
    warmup_steps=0,
    checkpoint_steps=2,
    max_gradient_norm=1.0,
    deep_supervision_weight=0.5,
)
MAX_WAITS_PER_BLOCK = 5
"""Of the host for a block of slots: positions of pilots, and which slots have which channel model."""


@pytest.fixture
def waits() -> Iterator[Waits]:
    with stand_in() as counter:
        yield counter


@pytest.fixture
def constant_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of 0.01 in place of automatic differentiation."""

    def set_gradients(self: trainer._Trainer, *args: object) -> object:
        result = loss(self, *args)
        for p in self._parameters:
            p.grad = torch.full_like(p, 0.01)
        return result

    loss = trainer._Trainer._loss
    monkeypatch.setattr(trainer._Trainer, "_loss", set_gradients)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: None)


def test_it_refuses_what_a_gpu_refuses(waits: Waits) -> None:
    x = torch.ones(3, device="cuda")
    assert x.device == torch.device("cuda:0")
    assert (x * 2)[0].item() == 2
    assert sum(waits.values()) == 1
    with pytest.raises(RuntimeError, match=r"cuda:0 and on the CPU at a test"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="cuda:0 and on the CPU"):
        torch.ones(3)[torch.zeros(1, dtype=torch.int64, device="cuda")]
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    assert x[torch.zeros(1, dtype=torch.int64)].device.type == "cuda"
    assert torch.equal(x.cpu(), torch.ones(3))


def narrow(name: str) -> Scenario:
    """A scenario on two resource blocks."""
    conditions = scenario(name)
    return conditions.model_copy(update={"grid": conditions.grid.model_copy(update={"num_prb": 2})})


@pytest.mark.parametrize("name", ["tdl-6prb", "pusch-fr1", "deeprx-2021"])
def test_blocks_are_the_same_and_wait_little(name: str, waits: Waits) -> None:
    conditions = narrow(name)
    for split in ("train", "test"):
        stream = SlotStream(conditions, 1, 4, split, "cuda")
        stream.block(0)
        waits.clear()
        slots = stream.block(1)
        assert sum(waits.values()) <= MAX_WAITS_PER_BLOCK, waits
        expected = SlotStream(conditions, 1, 4, split).block(1)
        for field in Slots.__dataclass_fields__:
            assert torch.equal(on_cpu(getattr(slots, field)), getattr(expected, field)), field


@pytest.mark.parametrize("name", ["tdl-6prb", "pusch-fr1"])
def test_receivers_compute_the_same_llrs(name: str, waits: Waits) -> None:
    conditions = narrow(name)
    slots, expected = (SlotStream(conditions, 1, 4, "test", d).at_sinr(10.0).block(0) for d in ("cuda", "cpu"))
    mask = expected.bit_mask
    for receiver, other in zip(classical_receivers(conditions, "cuda"), classical_receivers(conditions), strict=True):
        torch.testing.assert_close(on_cpu(receiver(slots))[mask], other(expected)[mask], rtol=1e-4, atol=1e-3)
    families = ("hybrid-w4-d2", "hybrid-shared-w4-d2", "hybrid-recurrent-w4-d1")
    for spec in (*families, "deeprx-w0.0625-d3", "deeprx-interpolated-w0.0625-d3"):
        net = build(spec, conditions.grid.num_rx, conditions.bits_per_symbol, seed=1).eval()
        llrs = net(net.features(expected))
        net = net.to("cuda", memory_format=net.memory_format)
        waits.clear()
        features = net.features(slots)
        assert sum(waits.values()) <= 2, waits
        has_meaning = mask if net.takes_any_num_rx else torch.ones_like(mask)  # a CPU leaves out bits that no slot has
        torch.testing.assert_close(on_cpu(net(features))[has_meaning], llrs[has_meaning], rtol=1e-4, atol=1e-3)
        assert sum(waits.values()) <= 2, "the network itself does not wait"


def test_the_training_pass_of_a_hybrid_stays_on_the_device(waits: Waits) -> None:
    slots = SlotStream(scenario("tdl-6prb"), 1, 4, device="cuda").block(0)
    net = build("hybrid-w4-d3", seed=1).to("cuda")
    observation, channel, log_error = net._split_features(net.features(slots))
    waits.clear()
    inputs = hybrid_training._Inputs.of(observation, net.level_indices)
    channel, log_error = (hybrid_training._split_states(x) for x in (channel, log_error))
    symbols = hybrid_training._Symbols(inputs, channel, log_error)
    features, llrs = symbols.features(), symbols.llrs()
    gradients = symbols.gradients(torch.ones_like(features), torch.ones_like(llrs))
    assert {x.device.type for x in (features, llrs, *gradients)} == {"cuda"}
    assert not waits


@pytest.mark.usefixtures("constant_gradients")
@pytest.mark.parametrize("spec", ["deeprx-w0.03125-d3", "hybrid-w4-d2"])
def test_trainings_stay_on_the_device_and_resume(spec: str, tmp_path: Path, small, waits: Waits) -> None:
    """Teachers, students with transfer, ensembles and weights; a kill after the checkpoint changes nothing."""
    teacher_job = job(small, name="teacher", role="teacher", receiver=spec, training=TRAINING)
    (teacher,) = train([teacher_job], tmp_path / "a", "cuda")

    def stop(job: object, state: trainer.StepState) -> None:
        if state.step == 3:
            raise Interruption

    with pytest.raises(Interruption):
        train([teacher_job], tmp_path / "b", "cuda", on_step=stop)
    (resumed,) = train([teacher_job], tmp_path / "b", "cuda")
    assert resumed.digest == teacher.digest
    settings = [
        Distillation(temperature={"start": 4.0, "end": 1.0}, weighting="confidence"),
        Distillation(loss="regression", weighting="sinr"),
        Distillation(transfers=(FeatureTransfer(student="blocks.0", teacher="blocks.0", loss="attention"),)),
    ]
    if spec.startswith("hybrid"):
        settings.pop()  # its blocks give tuples
    students = [
        job(small, name=f"s{i}", role="student", receiver=spec, training=TRAINING, distillation=s, teachers=(teacher,))
        for i, s in enumerate(settings)
    ]
    ensemble = (teacher, PerfectCsiReceiver())
    students.append(
        job(
            small,
            name="e",
            role="student",
            receiver=spec,
            training=TRAINING,
            distillation=settings[0],
            teachers=ensemble,
        )
    )
    assert len(train(students, tmp_path / "c", "cuda")) == len(students)
    lines = (tmp_path / "c" / "training" / "e.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_session_on_a_gpu_does_its_stages_in_order_of_worth(tmp_path: Path) -> None:
    """With a program in place of Python that only succeeds; the state comes back."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "checkpoint").write_text("x")
    script = ROOT / "scripts" / "gpu_session.sh"
    environment = os.environ | {"OUT": str(tmp_path / "out"), "STATE": str(tmp_path / "state"), "PYTHON": "true"}
    subprocess.run([script], check=True, cwd=ROOT, env=environment, capture_output=True)
    names = [line.split(":")[0] for line in (tmp_path / "out" / "status.txt").read_text().splitlines()]
    assert names == ["tests", "bench", "agreement-train", "agreement", "train"]
    assert (tmp_path / "out" / "state" / "checkpoint").read_text() == "x"
    assert "device: cuda" in (tmp_path / "out" / "quickstart.yaml").read_text()
    late = subprocess.run(
        [script, "train"], cwd=ROOT, env=environment | {"SLICE_S": "0"}, capture_output=True, text=True
    )
    assert late.stdout.splitlines()[0] == "train: no time left"
    assert subprocess.run([script, "trian"], cwd=ROOT, env=environment, capture_output=True).returncode == 2


def test_counting_does_not_depend_on_the_device(small, waits: Waits) -> None:
    net = build("hybrid-w4-d2", seed=1)
    on_the_cpu = count(net, small.grid)
    assert count(net.to("cuda"), small.grid).macs == on_the_cpu.macs
