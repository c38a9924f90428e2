import time
from types import SimpleNamespace

import pytest
import torch

from energy.counting.profile import OperationProfile
from energy.hardware.devices import Device
from energy.metering.meter import Meter, Reading, meter_repeats
from energy.metering.table import inference_rows, training_rows
from leanrx_core.errors import UserError

DEVICE = Device(name="x", cores=1, clock_hz=1e9, flops_per_clock=1, power_w=2, source="made up")


class CPU:
    def __init__(self, mode: str) -> None:
        self._mode, self._tdp = mode, 10.0


class GPU:
    pass


class RecordedTracker:
    """CodeCarbon's tracker with recorded answers, in kWh."""

    def __init__(self, hardware: list[object], cpu_kwh: float = 1e-6, gpu_kwh: float = 0.0) -> None:
        self._hardware, self._data = (
            hardware,
            SimpleNamespace(duration=2.0, cpu_energy=cpu_kwh, gpu_energy=gpu_kwh, ram_energy=5e-7),
        )

    def start_task(self, name: str) -> None:
        pass

    def stop_task(self) -> SimpleNamespace:
        return self._data


def meter_with(monkeypatch: pytest.MonkeyPatch, tracker: RecordedTracker, device: str = "cpu") -> Meter:
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", lambda **kwargs: tracker)
    monkeypatch.setattr("energy.metering.meter.nvml_index", lambda index: 3 + index)
    return Meter(device=device)


@pytest.mark.parametrize(
    ("hardware", "gpu_kwh", "kind", "energy_j", "words"),
    [
        ([CPU("intel_rapl")], 0.0, "measured", 3.6, "RAPL"),
        ([CPU("cpu_load")], 0.0, "modelled", 3.6, "x process CPU share"),
        ([CPU("constant")], 0.0, "modelled", 3.6, "constant share"),
        ([CPU("intel_rapl"), GPU()], 2e-6, "measured", 10.8, "NVML"),
        ([CPU("cpu_load"), GPU()], 2e-6, "modelled", 10.8, "NVML"),
    ],
)
def test_every_joule_says_what_it_is(monkeypatch, hardware, gpu_kwh, kind, energy_j, words) -> None:
    device = "cuda:0" if gpu_kwh else "cpu"
    meter = meter_with(monkeypatch, RecordedTracker(hardware, gpu_kwh=gpu_kwh), device)
    meter.start()
    reading = meter.stop()
    assert reading.kind == kind
    assert reading.energy_j == pytest.approx(energy_j)
    assert reading.ram_j == pytest.approx(1.8)
    assert reading.ram_kind == "assumed"
    assert words in reading.instrument


@pytest.mark.parametrize(("counter", "forced_w"), [(True, None), (False, 12.0)])
def test_a_configured_power_is_no_reason_to_leave_a_counter_unread(monkeypatch, counter: bool, forced_w) -> None:
    """CodeCarbon takes its model as soon as it is given a power."""
    given: list[dict] = []
    tracker = RecordedTracker([CPU("intel_rapl" if counter else "cpu_load")])
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", lambda **kwargs: given.append(kwargs) or tracker)
    monkeypatch.setattr("codecarbon.core.cpu.is_rapl_available", lambda: counter)
    Meter(cpu_tdp_w=12.0)
    assert given[0]["force_cpu_power"] == forced_w


def test_of_many_gpus_the_one_that_computes_is_counted(monkeypatch) -> None:
    """By CodeCarbon's own arithmetic over four GPUs that draw 1, 2, 3 and 4 Wh."""
    from codecarbon.core.units import Energy
    from codecarbon.external.hardware import GPU as Gpus

    spent = [
        {
            "gpu_index": i,
            "delta_energy_consumption": Energy.from_energy(1e-3 * (i + 1)),
            "power_usage": SimpleNamespace(kW=0),
        }
        for i in range(4)
    ]
    devices = SimpleNamespace(device_count=4, get_delta=lambda time: spent, get_gpu_static_info=list, devices=[])
    monkeypatch.setattr("codecarbon.external.hardware.AllGPUDevices", lambda: devices)
    monkeypatch.setattr("energy.metering.meter.nvml_index", lambda index: 2)
    given: list[dict] = []
    monkeypatch.setattr(
        "codecarbon.OfflineEmissionsTracker", lambda **kwargs: given.append(kwargs) or RecordedTracker([GPU()])
    )
    for device, kind, kwh in (("cuda:0", "measured", 3e-3), ("cpu", "none", 0.0)):
        assert Meter(device=device).stop().gpu_kind == kind
        assert Gpus.from_utils(given[-1]["gpu_ids"]).measure_power_and_energy(1.0)[1].kWh == pytest.approx(kwh)


def test_codecarbon_here_counts_time_and_work() -> None:
    """The real tracker: a busy window costs more than an idle one of the same length."""
    meter = Meter(cpu_tdp_w=20)
    a = torch.ones(400, 400)
    meter.start()
    time.sleep(1.2)
    idle = meter.stop()
    busy = meter_repeats(meter, lambda: a @ a, 1.2)
    assert idle.duration_s == pytest.approx(1.2, abs=0.3)
    assert busy.reading.duration_s >= 1.2
    assert busy.repeats > 10
    assert busy.reading.energy_j > 2 * idle.energy_j


def test_a_gpu_has_done_its_work_when_the_tracker_is_read(monkeypatch) -> None:
    queued: list[str] = []
    at: list[int] = []
    monkeypatch.setattr("energy.metering.meter._synchronise", queued.clear)
    tracker = RecordedTracker([CPU("cpu_load")])
    monkeypatch.setattr(tracker, "start_task", lambda name: at.append(len(queued)))
    monkeypatch.setattr(tracker, "stop_task", lambda: at.append(len(queued)) or tracker._data)
    metered = meter_repeats(meter_with(monkeypatch, tracker), lambda: queued.append("call"), 1.0)
    assert at == [0, 0, 0, 0]
    assert metered.repeats > 1


def test_windows_below_the_sampling_interval_are_refused() -> None:
    with pytest.raises(UserError, match="min_duration_s"):
        meter_repeats(Meter(), lambda: None, 0.5)


def test_windows_add_up() -> None:
    one = Reading(2.0, 1.0, 0.5, 0.1, "modelled", "measured", "assumed", "x")
    both = one + one
    assert (both.duration_s, both.energy_j, both.ram_j) == (4.0, 3.0, 0.2)
    assert both.kind == "modelled"


def test_rows_put_estimates_beside_the_meter(monkeypatch) -> None:
    meter = meter_with(monkeypatch, RecordedTracker([CPU("cpu_load")]))
    operations = OperationProfile.from_formula("net", macs=500)
    rows = inference_rows(operations, "abc", lambda: None, 4, meter, DEVICE, 1.0)
    assert {r.source for r in rows} == {"CodeCarbon", "FLOPs/clock", "FLOPs/W"}
    assert {r.slots for r in rows} == {4 * rows[0].repeats}
    assert all(r.energy_j / r.slots == pytest.approx(1000 / 1e9 * 2) for r in rows[1:])
    assert {r.kind for r in rows} == {"modelled"}
    reading = Reading(10.0, 30.0, 0.0, 1.0, "measured", "none", "assumed", "x")
    trained = training_rows("net", "abc", reading, 100, 8, 3000, DEVICE)
    assert trained[0].energy_j == 30.0
    assert trained[0].kind == "measured"
    assert trained[1].energy_j == pytest.approx(3000 * 800 / 1e9 * 2)
