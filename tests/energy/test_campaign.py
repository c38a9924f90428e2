"""Subjects do the work that is counted for them, and a campaign goes on where it was."""

from pathlib import Path

import pytest
import torch

from channels import Grid, UserError
from energy.campaign import (
    achieved_flops_per_clock,
    meter_subjects,
    module_subject,
    observed,
    onnx_subject,
    read_windows,
    training_subject,
)
from energy.instruments.reading import Joules
from energy.layers import count_slots
from energy.window import IDLE, Protocol
from receivers.spec import build

SPEC = "deeprx-w0.0625-d3"
INPUTS = torch.randn(3, 10, 14, 12, generator=torch.Generator().manual_seed(1))
QUICK = Protocol(min_duration_s=0.02, idle_s=0.01, cool_down_s=0, rounds=2)


class Clock:
    """One joule per window."""

    name, shortest_s = "clock", 0.0

    def begin(self) -> None:
        pass

    def end(self) -> list[Joules]:
        return [Joules(self.name, "1", "cpu", "measured", 1.0, 0.01)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    torch.onnx.export(build(SPEC).eval(), (INPUTS[:1],), str(path), dynamo=False, input_names=["features"],
                      dynamic_axes={"features": {0: "batch"}})  # fmt: skip
    return path


def test_every_runtime_computes_the_same(exported: Path) -> None:
    net = build(SPEC)
    eager, onnx = module_subject(net, "net", INPUTS), onnx_subject(exported, "net", INPUTS)
    there = torch.from_numpy(onnx.call()[0])  # type: ignore[index]
    torch.testing.assert_close(eager.call(), there, rtol=1e-4, atol=1e-4)
    assert eager.work.macs == onnx.work.macs == count_slots(net, Grid(num_prb=1), batch_slots=3).macs
    assert (eager.name, onnx.name) == ("net/eager/inference/3", "net/onnx-fp32/inference/3")


def test_a_training_step_learns_and_leaves_the_receiver_alone() -> None:
    net = build(SPEC).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    subject = training_subject(net, "net", INPUTS)
    subject.call()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.training
    assert subject.work.macs == count_slots(net, Grid(num_prb=1), batch_slots=3, training=True).macs


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    net, path = build(SPEC), tmp_path / "windows.jsonl"
    subjects = [module_subject(net, "a", INPUTS), module_subject(net, "b", INPUTS[:1])]
    campaign = meter_subjects(subjects, [Clock()], QUICK, path)
    first = [next(campaign) for _ in range(2)]
    assert read_windows(path) == first
    rest = list(meter_subjects(subjects, [Clock()], QUICK, path))
    windows = read_windows(path)
    assert windows == first + rest
    assert sorted((w.name, w.round) for w in windows) == sorted(
        [(s.name, r) for s in subjects for r in (0, 1)] + [(IDLE, r) for r in (0, 1, 2)]
    )
    assert not list(meter_subjects(subjects, [Clock()], QUICK, path)), "nothing is metered twice"
    one, two = observed(subjects, windows, "clock")
    assert one.work is subjects[0].work
    assert one.duration_s > 0
    calls = [w.calls for w in windows if w.name == subjects[1].name]
    assert two.energy_j == pytest.approx((1 / calls[0] + 1 / calls[1]) / 2)
    (busy, _) = observed(subjects, windows, "clock", cpu_time=True)
    threads = torch.get_num_threads()
    seconds = [w.cpu_s / w.calls / threads for w in windows if w.name == subjects[0].name]
    assert busy.duration_s == pytest.approx(sum(seconds) / 2)
    path.write_text("{}\n")
    with pytest.raises(UserError, match="damaged"):
        read_windows(path)


def test_files_that_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="export again"):
        onnx_subject(path, "net", INPUTS)


def test_achieved_flops_per_clock() -> None:
    work = module_subject(build(SPEC), "net", INPUTS).work
    assert achieved_flops_per_clock(work, cpu_s=2.0, clock_hz=1e9) == pytest.approx(work.flops / 2e9)
