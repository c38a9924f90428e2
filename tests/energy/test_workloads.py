"""Workloads do the work that is counted for them, and a campaign goes on where it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from factories import card, perturbed_receiver

from channels import Channels, Grid, Scenario, SlotStream
from energy.counting.counter import count
from energy.estimation.estimate import MeteredCall
from energy.hardware.devices import Device
from energy.metering.measurement import Measurement, Provenance, reading_uncertainty_j
from energy.metering.perf import Cycles, parse
from energy.metering.session import IDLE, MeteringProtocol, Window, meter_windows
from energy.metering.table import (
    compare_instruments,
    energy_table,
    file_rows,
    inference_rows,
    metered_calls,
    workload_rows,
)
from energy.metering.workloads import (
    Workload,
    c_workload,
    meter_workloads,
    network_workload,
    onnx_workload,
    read_windows,
    receiver_workload,
    training_workload,
)
from leanrx_core.errors import UserError
from receivers.classical import LsReceiver
from receivers.export import export_onnx
from receivers.export.c_source import c_sources
from receivers.export.exported_file import open_exported
from receivers.neural.registry import build
from receivers.neural.weights import NeuralReceiver


def observed(
    workloads: list[Workload], windows: list[Window], instrument: str, device: Device, cpu_time: bool = False
) -> list[MeteredCall]:
    """The calls as estimators get them, by way of the table."""
    table = energy_table(row for w in workloads for row in workload_rows(w, windows, device))
    return metered_calls(workloads, table, instrument, cpu_time)


def joules(
    instrument: str, version: str, component: str, provenance: Provenance, energy_j: float, resolution_j: float
) -> Measurement:
    """A measurement by a counter of this resolution."""
    return Measurement(
        component, energy_j, provenance, instrument, version, reading_uncertainty_j(resolution_j), duration_s=1.0
    )


SPEC = "deeprx-w0.0625-d3"
INPUTS = torch.randn(3, 10, 14, 12, generator=torch.Generator().manual_seed(1))
CONDITIONS = Scenario(
    name="narrow",
    grid=Grid(num_prb=1, pilot_patterns=((2,),)),
    channels=Channels(test=("TDL-A",)),
    modulations=("16-QAM",),
)
SLOTS = SlotStream(CONDITIONS, 1, 3, "test").block(0)
QUICK = MeteringProtocol(min_duration_s=0.02, idle_s=0.01, cool_down_s=0, rounds=2)
DEVICE = Device(name="x", cores=4, clock_hz=1e9, flops_per_clock=32, power_w=2, source="made up")


class Clock:
    """One joule per window."""

    name, shortest_s = "clock", 0.0

    def begin(self) -> None:
        pass

    def end(self) -> list[Measurement]:
        return [joules(self.name, "1", "cpu", "measured", 1.0, 0.01)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    receiver = NeuralReceiver(build(SPEC), card(SPEC, name="net"))
    folder = tmp_path_factory.mktemp("onnx") / "net"
    export_onnx(receiver, folder, SlotStream(CONDITIONS, 1, 2, "test", purpose="export"), (10.0,))
    return folder / "net.onnx"


def test_every_runtime_computes_the_same(exported: Path) -> None:
    net = build(SPEC)
    eager, onnx = network_workload(net, "net", net.features(SLOTS)), onnx_workload(exported, "net", SLOTS)
    there = torch.from_numpy(onnx.call())  # type: ignore[arg-type]
    torch.testing.assert_close(eager.call() * SLOTS.bit_mask, there, rtol=1e-4, atol=1e-4)
    raw_estimates = 3 * 4 * 2 * 14 * 12  # of 3 slots and 2 antennas
    masks = 3 * 4 * 14 * (12 + 1)
    assert onnx.profile.macs == eager.profile.macs + raw_estimates + masks
    assert eager.profile.macs == count(net, Grid(num_prb=1), batch_slots=3).macs
    names = [s.name.split("@")[0] for s in (eager, onnx)]
    assert names == ["net/eager/inference/3", "net/onnx-fp32/inference/3"]


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_a_c_file_is_metered_as_its_receiver(tmp_path: Path) -> None:
    """Its rows carry the digest of the receiver, and another build is metered again."""
    receiver = perturbed_receiver("hybrid-w2-d1")
    for name, text in c_sources(receiver, CONDITIONS.grid).items():
        (tmp_path / name).write_text(text)
    file, profile = open_exported(tmp_path / "net.c", tmp_path), count(receiver, CONDITIONS.grid, batch_slots=3)
    workload = c_workload(file, receiver, SLOTS, profile)
    file.path.unlink()
    there = torch.from_numpy(workload.call())  # type: ignore[arg-type]
    torch.testing.assert_close(there, receiver(SLOTS) * SLOTS.bit_mask, rtol=1e-3, atol=1e-3)
    assert workload.name.startswith("net/c/inference/3@")
    assert replace(workload, build="another").name != workload.name
    windows = list(meter_workloads([workload], [Clock()], QUICK, tmp_path / "windows.jsonl"))
    table = energy_table(workload_rows(workload, windows, DEVICE))
    (row,) = file_rows(table).itertuples()
    assert (row.runtime, row.digest, row.batch_slots, row.windows) == ("c", receiver.digest, 3, 2)
    assert (row.method, row.provenance, row.flops) == ("clock", "measured", profile.flops_per_slot)
    assert row.slots == 3 * row.repeats
    assert not len(inference_rows(table)), "receivers are compared as tested, not by their files"


def test_a_training_step_learns_and_leaves_the_receiver_alone() -> None:
    net = build(SPEC).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    workload = training_workload(net, "net", INPUTS)
    workload.call()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.training
    assert workload.profile.macs == count(net, Grid(num_prb=1), batch_slots=3, training=True).macs


def test_windows_of_another_artefact_are_not_taken(tmp_path: Path, exported: Path) -> None:
    """Trained again or exported again: metered again, under the same name of the receiver."""
    path = tmp_path / "windows.jsonl"
    list(meter_workloads([network_workload(build(SPEC, seed=1), "net", INPUTS)], [Clock()], QUICK, path))
    again = [network_workload(build(SPEC, seed=2), "net", INPUTS)]
    assert len([w for w in meter_workloads(again, [Clock()], QUICK, path) if w.name == again[0].name]) == 2
    same, changed = onnx_workload(exported, "net", SLOTS), tmp_path / "changed.onnx"
    model = onnx.load(exported)
    model.producer_name = "another exporter"
    onnx.save(model, changed)
    assert onnx_workload(exported, "net", SLOTS).name == same.name
    assert onnx_workload(changed, "net", SLOTS).name != same.name


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    net, path = build(SPEC), tmp_path / "windows.jsonl"
    workloads = [network_workload(net, "a", INPUTS), network_workload(net, "b", INPUTS[:1])]
    campaign = meter_workloads(workloads, [Clock()], QUICK, path)
    first = [next(campaign) for _ in range(2)]
    assert read_windows(path) == first
    rest = list(meter_workloads(workloads, [Clock()], QUICK, path))
    windows = read_windows(path)
    assert windows == first + rest
    assert sorted((w.name, w.round) for w in windows) == sorted(
        [(s.name, r) for s in workloads for r in (0, 1)] + [(IDLE, r) for r in (0, 1, 2)]
    )
    assert not list(meter_workloads(workloads, [Clock()], QUICK, path)), "nothing is metered twice"
    one, two = observed(workloads, windows, "clock", DEVICE)
    assert one.profile is workloads[0].profile
    assert one.duration_s > 0
    calls = [w.calls for w in windows if w.name == workloads[1].name]
    assert two.energy_j == pytest.approx((1 / calls[0] + 1 / calls[1]) / 2)
    (busy, _) = observed(workloads, windows, "clock", DEVICE, cpu_time=True)
    threads = torch.get_num_threads()
    seconds = [w.cpu_s / w.calls / threads for w in windows if w.name == workloads[0].name]
    assert busy.duration_s == pytest.approx(sum(seconds) / 2)
    wrong = json.loads(json.dumps(windows[0].as_json()).replace("1.0", '"one"'))
    for damage in ({}, [], "x", wrong):
        path.write_text(json.dumps(damage) + "\n")
        with pytest.raises(UserError, match="damaged"):
            read_windows(path)


def test_files_that_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="export again"):
        onnx_workload(path, "net", SLOTS)


PERF = [  # recorded: perf stat -x , -e cycles,instructions, of one process
    "4012345678,,cycles:u,5003112211,100.00,,\n7512345678,,instructions:u,5003112211,100.00,1.87,insn per cycle\n",
    "3998765432,,cycles,4999887766,100.00,,\n7498765432,,instructions,4999887766,100.00,1.88,insn per cycle\n",
]


def recorded(name: str, cycles: list[Cycles | None], instruments: tuple[str, ...] = ("clock",)) -> list[Window]:
    """Windows of two calls in 4 s, 3 s of CPU time."""
    return [
        Window(name, i, 2, 1e9, 4.0, 3.0, tuple(joules(n, "1", "cpu", "measured", 6.0, 0.01) for n in instruments), c)
        for i, c in enumerate(cycles)
    ]


def test_achieved_flops_per_clock_by_perf_or_by_cpu_time() -> None:
    workload = network_workload(build(SPEC), "net", INPUTS)
    flops, counted = workload.profile.flops, [parse(text) for text in PERF]
    (seen,) = observed([workload], recorded(workload.name, [*counted]), "clock", DEVICE)
    cycles = (4012345678 + 3998765432) / 2 / 2  # the median of two windows of two calls
    assert (seen.flops_per_clock, seen.cycle_source) == (pytest.approx(flops / cycles), "perf")
    (seen,) = observed([workload], recorded(workload.name, [counted[0], None]), "clock", DEVICE)
    nominal = 1.5 * 1e9
    assert (seen.flops_per_clock, seen.cycle_source) == (pytest.approx(flops / nominal), "CPU time x nominal clock")
    on_gpu = Workload(
        workload.receiver, workload.runtime, workload.phase, workload.profile, workload.call, workload.digest, True
    )
    (seen,) = observed([on_gpu], recorded(workload.name, [None]), "clock", DEVICE)
    assert (seen.cycles, seen.cycle_source) == (pytest.approx(2.0 * 1e9 * 4), "time x highest clock")


def test_windows_keep_their_cycles(tmp_path: Path) -> None:
    (window,) = recorded("net", [parse(PERF[0])])
    assert Window.from_json(window.as_json()) == window
    assert window.cycles == Cycles(4012345678, 7512345678)


def test_perf_is_opened_around_the_instruments() -> None:
    events: list[str] = []

    class Watched(Clock):
        def begin(self) -> None:
            events.append("clock begins")

        def end(self) -> list[Measurement]:
            events.append("clock ends")
            return super().end()

    class Perf:
        def begin(self) -> None:
            events.append("perf begins")

        def end(self) -> Cycles:
            events.append("perf ends")
            return parse(PERF[1])

    protocol = MeteringProtocol(min_duration_s=0.01, idle_s=0, cool_down_s=0, rounds=1)
    (window,) = meter_windows({"a": lambda: events.append("call")}, [Watched()], protocol, perf=Perf())  # type: ignore[arg-type]
    assert [e for e in events[1:] if e != "call"] == ["perf begins", "clock begins", "clock ends", "perf ends"]
    assert window.cycles == Cycles(3998765432, 7498765432)


def test_a_gpu_has_done_its_work_when_counters_are_read(monkeypatch) -> None:
    """Warm-up, synchronise, open, calls, synchronise, close: nothing of a queue outside, nothing foreign inside."""
    queued: list[str] = []
    at_begin, at_end = [], []
    monkeypatch.setattr("energy.metering.session.synchronise", queued.clear)

    class Watched(Clock):
        def begin(self) -> None:
            at_begin.append(len(queued))

        def end(self) -> list[Measurement]:
            at_end.append(len(queued))
            return super().end()

    protocol = MeteringProtocol(min_duration_s=0.05, idle_s=0, cool_down_s=0, rounds=4)
    windows = list(meter_windows({"a": lambda: queued.append("call")}, [Watched()], protocol))
    assert (at_begin, at_end) == ([0] * 4, [0] * 4)
    assert max(w.calls for w in windows) > 1


def test_instruments_are_compared_on_the_same_windows() -> None:
    workloads = [network_workload(build(SPEC), name, INPUTS[:1]) for name in ("a", "b")]
    windows = [
        *recorded(workloads[0].name, [None, None], ("RAPL", "CodeCarbon")),
        *recorded(workloads[1].name, [None], ("RAPL", "CodeCarbon")),
        *recorded(workloads[1].name, [None], ("RAPL",)),
    ]
    first, second = windows[0].measurements
    windows[0] = replace(windows[0], measurements=(replace(first, energy_j=8.0), second))
    table = energy_table(row for w in workloads for row in workload_rows(w, windows, DEVICE))
    found = compare_instruments(table).set_index(["receiver", "method"])
    assert list(found.index) == [("a", "CodeCarbon"), ("a", "RAPL"), ("b", "RAPL")], "b: CodeCarbon missed a window"
    assert found.loc[("a", "RAPL"), "gross_j"] == pytest.approx((8 + 6) / 2 / 2)
    assert found.loc[("a", "CodeCarbon"), "gross_j"] == pytest.approx(3.0)
    assert set(found["duration_s"]) == {2.0}


def test_a_classical_receiver_is_counted_without_bytes(small: Scenario) -> None:
    slots, counted = SlotStream(small, 1, 3, "test").block(0), count("LS", small.grid, batch_slots=3)
    workload = receiver_workload(LsReceiver(), slots, counted)
    assert (workload.profile.macs, workload.profile.bytes, workload.profile.uncounted) == (counted.macs, 0, ("LS",))
    assert workload.name.startswith("LS/classical/inference/3@")
    torch.testing.assert_close(workload.call(), LsReceiver()(slots))


def test_bfloat16_leaves_the_receiver_alone() -> None:
    net = build(SPEC).eval()
    half, whole = (network_workload(net, "net", INPUTS, bf16=bf16) for bf16 in (True, False))
    there = half.call()
    assert there.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert (half.runtime, half.profile.precision, half.profile.macs) == ("eager-bf16", "bf16", whole.profile.macs)
    assert half.profile.bytes == pytest.approx(whole.profile.bytes / 2, rel=0.01)
    assert next(net.parameters()).dtype == torch.float32
    torch.testing.assert_close(there.float(), whole.call(), rtol=0.1, atol=0.1)  # type: ignore[attr-defined]
