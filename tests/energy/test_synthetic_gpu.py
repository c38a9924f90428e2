"""Metering in simulated time, on machines whose law is known: counters with noise, steps and rare updates."""

import math
import random
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from energy.counting.profile import Layer, OperationProfile
from energy.estimation.estimate import MeteredCall
from energy.estimation.roofline import Roofline
from energy.estimation.validation import leave_one_out, scores, validation_table
from energy.hardware.devices import Device
from energy.metering.measurement import Measurement, Provenance, reading_uncertainty_j
from energy.metering.nvml import Nvml
from energy.metering.session import IDLE, MeteringProtocol, Window, call_statistics, meter_windows
from energy.metering.table import energy_table, metered_calls, workload_rows
from energy.metering.workloads import Workload


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


PROTOCOL = MeteringProtocol(min_duration_s=5, idle_s=5, cool_down_s=1, rounds=6)


class Clock:
    """A clock that moves when somebody waits or works, and the joules that the machine has drawn so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, idle_w: float) -> None:
        self.now_s, self.drawn_j, self.idle_w = 0.0, 0.0, idle_w
        now = lambda: self.now_s  # noqa: E731
        simulated = SimpleNamespace(perf_counter=now, time=now, process_time=now, sleep=self.sleep)
        monkeypatch.setattr("energy.metering.session.time", simulated)
        monkeypatch.setattr("energy.metering.nvml.time", simulated)

    def sleep(self, duration_s: float) -> None:
        self.work(duration_s, 0.0)

    def work(self, duration_s: float, extra_j: float) -> None:
        self.now_s += duration_s
        self.drawn_j += self.idle_w * duration_s + extra_j


class NoisyCounter:
    """Reads the joules with noise, in steps."""

    shortest_s = 0.1

    def __init__(self, clock: Clock, seed: int, name: str = "noisy", step_j: float = 0.01, sd_j: float = 0.03) -> None:
        self.name, self._clock, self._random, self._step_j, self._sd_j = name, clock, random.Random(seed), step_j, sd_j
        self._begin_j = 0.0

    def _read_j(self) -> float:
        noise_j = self._random.gauss(0.0, self._sd_j)
        return math.floor((self._clock.drawn_j + noise_j) / self._step_j) * self._step_j

    def begin(self) -> None:
        self._begin_j = self._read_j()

    def end(self) -> list[Measurement]:
        return [joules(self.name, "1", "cpu", "measured", self._read_j() - self._begin_j, self._step_j)]


def copies(clock: Clock, n: int) -> Callable[[], None]:
    return lambda: clock.work(0.003 * n, 0.05 * n)


def test_n_copies_cost_n_times_within_the_stated_uncertainty(monkeypatch) -> None:
    """Over many campaigns, differences in units of their stated uncertainty spread as they should."""
    pulls: list[float] = []
    for seed in range(40):
        clock = Clock(monkeypatch, idle_w=3.0)
        works = {f"{n}": copies(clock, n) for n in (1, 2, 8)}
        windows = list(meter_windows(works, [NoisyCounter(clock, seed)], PROTOCOL))
        one = call_statistics(windows, "1", "noisy")
        assert one.net_j == pytest.approx(0.05, abs=5 * one.uncertainty_j)
        for n in (2, 8):
            many = call_statistics(windows, f"{n}", "noisy")
            pulls.append((many.net_j - n * one.net_j) / math.hypot(many.uncertainty_j, n * one.uncertainty_j))
    rms = math.sqrt(sum(p * p for p in pulls) / len(pulls))
    assert 0.4 < rms < 1.6, "neither bold nor useless"
    assert max(map(abs, pulls)) < 6


def test_an_empty_window_costs_its_idle(monkeypatch) -> None:
    clock = Clock(monkeypatch, idle_w=3.0)
    windows = list(meter_windows({"nothing": lambda: clock.sleep(0.01)}, [NoisyCounter(clock, 1)], PROTOCOL))
    nothing = call_statistics(windows, "nothing", "noisy")
    assert abs(nothing.net_j) < 3 * nothing.uncertainty_j < 0.001
    assert nothing.gross_j == pytest.approx(3.0 * 0.01, rel=0.01)
    for window in windows:
        if window.name == IDLE:
            assert window.measurements[0].energy_j == pytest.approx(3.0 * window.duration_s, abs=0.15)


def test_two_instruments_agree_within_their_uncertainties(monkeypatch) -> None:
    clock = Clock(monkeypatch, idle_w=3.0)
    both = [NoisyCounter(clock, 1, "fine", 1e-4, 0.0), NoisyCounter(clock, 2, "coarse", 1.0, 0.1)]
    windows = list(meter_windows({"net": copies(clock, 1)}, both, PROTOCOL))
    fine, coarse = (call_statistics(windows, "net", i.name) for i in both)
    assert fine.calls == coarse.calls
    assert fine.uncertainty_j < coarse.uncertainty_j / 10
    assert abs(fine.net_j - coarse.net_j) < 3 * coarse.uncertainty_j


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other would use the processor, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_time_is_proportional_to_work() -> None:
    """In real time: four copies of a product take four times the processor."""
    a = torch.ones(128, 128)

    def products(n: int) -> Callable[[], None]:
        return lambda: [a @ a for _ in range(n)] and None

    nothing = SimpleNamespace(name="none", shortest_s=0.0, begin=lambda: None, end=lambda: [ZERO])
    protocol = MeteringProtocol(min_duration_s=0.05, idle_s=0, cool_down_s=0, rounds=9)
    begin = time.perf_counter()
    windows = list(meter_windows({"10": products(10), "40": products(40)}, [nothing], protocol))
    assert time.perf_counter() - begin >= 18 * 0.05
    ratio = call_statistics(windows, "40", "none").cpu_s / call_statistics(windows, "10", "none").cpu_s
    assert ratio == pytest.approx(4, rel=0.35)


ZERO = joules("none", "1", "cpu", "measured", 0.0, 0.0)

GPU = Device(
    name="synthetic",
    cores=100,
    clock_hz=1e9,
    flops_per_clock=256,
    peaks_flops_per_s={"bf16": 200e12},
    power_w=700,
    idle_w=75,
    memory_bytes_per_s=4e12,
    source="made up",
)
LAW = Roofline(0.4, 0.05, 0.7, 6e-6, 2e-5, j_per_flop=1.1e-11, j_per_byte=6e-11, idle_w=110.0)


SIZES = ((8, 11), (12, 5), (16, 9), (24, 7), (32, 5), (48, 11), (64, 3), (96, 9), (128, 5), (128, 11))


def gpu_works() -> list[OperationProfile]:
    """Large batches through nets that span more than a hundred times in FLOPs."""
    slots = 4096
    return [
        OperationProfile(
            f"net {width}-{depth}",
            "fp32",
            slots,
            tuple(
                Layer(f"{i}", kind, kind, "forward", 0, slots * macs, 0, slots * size, 0)
                for i in range(depth)
                for kind, macs, size in (
                    ("dense", 4400 * width**2, 35_000 * width),
                    ("grouped", 79_000 * width, 70_000 * width),
                    ("elementwise", 0, 35_000 * width),
                )
            ),
        )
        for width, depth in SIZES
    ]


def test_joules_of_a_synthetic_gpu(monkeypatch) -> None:
    """NVML's counter as it behaves, in steps of 100 ms, on a made-up GPU: read, metered, learnt, scored."""
    import pynvml

    clock = Clock(monkeypatch, idle_w=0.0)
    history: list[tuple[float, float]] = [(0.0, 0.0)]

    def millijoules(handle: object) -> int:
        """The counter at its last update, between two readings of the clock."""
        now = math.floor(clock.now_s / 0.1) * 0.1
        before = [point for point in history if point[0] <= now][-1]
        after = next((point for point in history if point[0] > now), before)
        share = (now - before[0]) / (after[0] - before[0]) if after != before else 0.0
        return round(1e3 * (before[1] + share * (after[1] - before[1])))

    def draw(duration_s: float, energy_j: float) -> None:
        clock.work(duration_s, energy_j)
        history.append((clock.now_s, clock.drawn_j))
        del history[:-2000]

    clock.sleep = lambda s: draw(s, 80.0 * s)  # type: ignore[method-assign]
    monkeypatch.setattr("energy.metering.session.time.sleep", clock.sleep)
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "made up",
        "nvmlSystemGetDriverVersion": lambda: "0",
        "nvmlDeviceGetTotalEnergyConsumption": millijoules,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)

    def workload_of(work: OperationProfile) -> Workload:
        made = LAW.estimate(work, GPU)
        return Workload(work.name, "eager", "inference", work, lambda: draw(made.duration_s, made.energy_j), "", True)

    workloads = [workload_of(work) for work in gpu_works()]
    protocol = MeteringProtocol(min_duration_s=5, idle_s=5, cool_down_s=0.2, rounds=2)
    windows: list[Window] = list(meter_windows({s.name: s.call for s in workloads}, [Nvml()], protocol))
    seen = observed(workloads, windows, "NVML", GPU)
    for workload, one in zip(workloads, seen, strict=True):
        truth_j = LAW.estimate(workload.profile, GPU).energy_j
        stated = call_statistics(windows, workload.name, "NVML")
        assert one.provenance == "measured"
        assert one.energy_j == pytest.approx(truth_j, rel=0.03)
        assert stated.net_j == pytest.approx(stated.gross_j - 80 * stated.duration_s, rel=0.05)
        assert one.cycle_source == "time x highest clock"
    found = scores(validation_table(leave_one_out(seen, GPU))).query("runtime == 'all'").set_index("estimator")
    assert found.loc["roofline, fitted", "mape_energy_percent"] < 8
    assert found.loc["FLOPs/W", "mape_energy_percent"] > 30
    assert found.loc["FLOPs/W, fitted", "mape_energy_percent"] > 15
