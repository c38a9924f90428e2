"""CodeCarbon's tracker as an instrument, with recorded answers and as it is installed here."""

import time
from types import SimpleNamespace

import pytest
import torch

from energy.hardware.topology import Topology
from energy.metering.codecarbon import CodeCarbon
from energy.metering.measurement import Measurement, counted, weakest
from energy.metering.session import MeteringProtocol, measure, meter_windows
from energy.metering.training import TrainingMeter
from leanrx_core.errors import UserError


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


def codecarbon_with(monkeypatch: pytest.MonkeyPatch, tracker: RecordedTracker, device: str = "cpu") -> CodeCarbon:
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", lambda **kwargs: tracker)
    monkeypatch.setattr("energy.metering.codecarbon.nvml_index", lambda index: 3 + index)
    return CodeCarbon(device=device)


def energy_j(measurements: list[Measurement]) -> float:
    return sum(m.energy_j for m in counted(measurements))


@pytest.mark.parametrize(
    ("hardware", "gpu_kwh", "provenance", "joules", "description"),
    [
        ([CPU("intel_rapl")], 0.0, "measured", 3.6, "RAPL"),
        ([CPU("cpu_load")], 0.0, "modelled", 3.6, "x process CPU share"),
        ([CPU("constant")], 0.0, "modelled", 3.6, "constant share"),
        ([CPU("intel_rapl"), GPU()], 2e-6, "measured", 10.8, "NVML"),
        ([CPU("cpu_load"), GPU()], 2e-6, "modelled", 10.8, "NVML"),
    ],
)
def test_every_joule_has_its_provenance(monkeypatch, hardware, gpu_kwh, provenance, joules, description) -> None:
    device = "cuda:0" if gpu_kwh else "cpu"
    instrument = codecarbon_with(monkeypatch, RecordedTracker(hardware, gpu_kwh=gpu_kwh), device)
    instrument.begin()
    measurements = instrument.end()
    assert weakest(m.provenance for m in counted(measurements)) == provenance
    assert energy_j(measurements) == pytest.approx(joules)
    (ram,) = [m for m in measurements if m.component == "ram"]
    assert (ram.energy_j, ram.provenance) == (pytest.approx(1.8), "assumed")
    assert all(description in m.instrument_version for m in measurements)


@pytest.mark.parametrize(("counter", "forced_w"), [(True, None), (False, 12.0)])
def test_a_configured_power_is_no_reason_to_leave_a_counter_unread(monkeypatch, counter: bool, forced_w) -> None:
    """CodeCarbon takes its model as soon as it is given a power."""
    options: list[dict] = []
    tracker = RecordedTracker([CPU("intel_rapl" if counter else "cpu_load")])
    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", lambda **kwargs: options.append(kwargs) or tracker)
    monkeypatch.setattr("codecarbon.core.cpu.is_rapl_available", lambda: counter)
    CodeCarbon(cpu_power_w=12.0)
    assert options[0]["force_cpu_power"] == forced_w


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
    monkeypatch.setattr("energy.metering.codecarbon.nvml_index", lambda index: 2)
    options: list[dict] = []
    monkeypatch.setattr(
        "codecarbon.OfflineEmissionsTracker", lambda **kwargs: options.append(kwargs) or RecordedTracker([GPU()])
    )
    for device, provenance, kwh in (("cuda:0", "measured", 3e-3), ("cpu", None, 0.0)):
        instrument = CodeCarbon(device=device)
        instrument.begin()
        provenances = {m.component: m.provenance for m in instrument.end()}
        assert provenances.get("gpu") == provenance
        assert Gpus.from_utils(options[-1]["gpu_ids"]).measure_power_and_energy(1.0)[1].kWh == pytest.approx(kwh)


def test_a_slurm_job_has_the_power_of_its_cpus(monkeypatch) -> None:
    """CodeCarbon divides by the CPUs of the job: 2 of 128 of a processor of 280 W at full load draw 4.4 W."""
    cores = tuple(frozenset({core, core + 64}) for core in range(64))
    topology = Topology(cores, 1, frozenset({0, 64}))
    monkeypatch.setattr(Topology, "read", lambda: topology)
    monkeypatch.setattr("codecarbon.core.util.count_cpus", lambda: 2)
    monkeypatch.setattr("codecarbon.core.cpu.is_rapl_available", lambda: False)
    options: list[dict] = []
    monkeypatch.setattr(
        "codecarbon.OfflineEmissionsTracker",
        lambda **kwargs: options.append(kwargs) or RecordedTracker([CPU("cpu_load")]),
    )
    CodeCarbon(cpu_power_w=280.0)
    assert options[0]["force_cpu_power"] == pytest.approx(4.375)


def test_codecarbon_here_counts_time_and_work() -> None:
    """The real tracker: a busy window costs more than an idle one of the same length."""
    instrument = CodeCarbon(cpu_power_w=20)
    a = torch.ones(400, 400)
    instrument.begin()
    time.sleep(1.2)
    idle = instrument.end()
    busy = measure(lambda: a @ a, [instrument], MeteringProtocol(min_duration_s=1.2, idle_s=0, rounds=1))
    assert idle[0].duration_s == pytest.approx(1.2, abs=0.3)
    assert busy[0].duration_s >= 1.2
    assert busy[0].repeats > 10
    assert energy_j(busy) > 2 * energy_j(idle)


def test_a_gpu_has_done_its_work_when_the_tracker_is_read(monkeypatch) -> None:
    queued: list[str] = []
    at: list[int] = []
    monkeypatch.setattr("energy.metering.session.synchronise", queued.clear)
    monkeypatch.setattr("energy.metering.training.synchronise", queued.clear)
    tracker = RecordedTracker([CPU("cpu_load")])
    monkeypatch.setattr(tracker, "start_task", lambda name: at.append(len(queued)))
    monkeypatch.setattr(tracker, "stop_task", lambda: at.append(len(queued)) or tracker._data)
    instrument = codecarbon_with(monkeypatch, tracker)
    (measured, _) = measure(
        lambda: queued.append("call"), [instrument], MeteringProtocol(min_duration_s=1, idle_s=0, rounds=1)
    )
    meter = TrainingMeter([instrument])
    meter.open()
    queued.append("step")
    meter.close()
    assert at == [0] * 6
    assert measured.repeats > 1


def test_windows_below_the_sampling_interval_are_refused() -> None:
    with pytest.raises(UserError, match="min_duration_s"):
        next(meter_windows({"a": lambda: None}, [CodeCarbon()], MeteringProtocol(min_duration_s=0.5, idle_s=0)))


def test_measurements_add_up() -> None:
    cpu = Measurement("cpu", 1.0, "modelled", "x", "1", 0.3, 2.0, 5)
    total = cpu + cpu
    assert (total.duration_s, total.energy_j, total.repeats) == (4.0, 2.0, 10)
    assert total.uncertainty_j == pytest.approx(0.3 * 2**0.5)
    assert total.energy_per_repeat_j == pytest.approx(0.2)
    assert (cpu * 0.25).energy_j == 0.25
