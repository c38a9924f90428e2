"""The table of energy: rows of every instrument, estimates, the reference, and a wattmeter's log."""

import math
from dataclasses import replace

import numpy as np
import pytest

from energy.counting.profile import OperationProfile
from energy.hardware.devices import Device
from energy.metering.measurement import Measurement
from energy.metering.power_log import Wattmeter
from energy.metering.session import IDLE, Window, join_log
from energy.metering.table import (
    SUM,
    energy_table,
    inference_rows,
    instruments_of,
    reference_instrument,
    trainer_rows,
    training_rows,
    workload_rows,
)
from energy.metering.training import TrainingEnergy, TrainingMeter, TrainingWindow
from energy.metering.workloads import RECEIVER_RUNTIME, Workload
from leanrx_core.errors import UserError

DEVICE = Device(name="x", cores=1, clock_hz=1e9, flops_per_clock=1, power_w=2, source="example")
NET = OperationProfile.from_formula("net", macs=2000, batch_slots=4)
WORKLOAD = Workload("net", RECEIVER_RUNTIME, "inference", NET, lambda: None, "abc")


def measurements(cpu_j: float, provenance: str = "modelled") -> tuple[Measurement, ...]:
    """Of CodeCarbon: a CPU, and the RAM that it assumes."""
    return (
        Measurement("cpu", cpu_j, provenance, "CodeCarbon", "3 (TDP)", 0.01, 5.0, 10),  # type: ignore[arg-type]
        Measurement("ram", 99.0, "assumed", "CodeCarbon", "3 (TDP)", 0.0, 5.0, 10),
    )


def windows(begin_s: float = 1000.0) -> list[Window]:
    """Two rounds of ten calls in 5 s, 30 J and 34 J, and 10 J of idle power in 5 s before each."""
    return [
        Window(IDLE, 0, 0, begin_s, 5.0, 0.0, measurements(10.0)),
        Window(WORKLOAD.name, 0, 10, begin_s + 10, 5.0, 4.0, measurements(30.0)),
        Window(IDLE, 1, 0, begin_s + 20, 5.0, 0.0, measurements(10.0)),
        Window(WORKLOAD.name, 1, 10, begin_s + 30, 5.0, 4.0, measurements(34.0)),
    ]


def constant_log(power_w: float, begin_s: float = 990.0, length_s: float = 60.0) -> Wattmeter:
    times_s = begin_s + np.arange(0, length_s, 0.1)
    return Wattmeter("log.csv", times_s, np.full(len(times_s), power_w))


def test_rows_of_every_component_and_of_their_sum() -> None:
    table = energy_table(workload_rows(WORKLOAD, windows(), DEVICE)).set_index(["method", "component"])
    total = table.loc[("CodeCarbon", SUM)]
    assert (total["energy_j"], total["idle_j"], total["duration_s"]) == pytest.approx((64.0, 20.0, 10.0))
    assert (total["slots"], total["repeats"], total["windows"], total["flops"]) == (80, 20, 2, 1000)
    assert total["provenance"] == "modelled"
    assert table.loc[("CodeCarbon", "cpu"), "energy_j"] == total["energy_j"], "RAM is assumed and not in the sum"
    assert table.loc[("CodeCarbon", "ram"), "provenance"] == "assumed"
    scatter = 4 / math.sqrt(2) / math.sqrt(2) / 10 * 20  # of the mean of 30 J and 34 J, over 20 calls
    assert total["uncertainty_j"] == pytest.approx(scatter, rel=1e-3)


def test_estimates_have_rows_for_the_same_slots() -> None:
    table = energy_table(workload_rows(WORKLOAD, windows(), DEVICE))
    estimates = table[table["estimated"]]
    assert set(estimates["method"]) == {"FLOPs/clock", "FLOPs/W"}
    assert (estimates["energy_j"] / estimates["slots"]).tolist() == pytest.approx([1000 / 1e9 * 2] * 2)
    assert set(estimates["provenance"]) == {"modelled"}


def test_a_wattmeter_is_joined_and_replaces_an_earlier_log() -> None:
    joined = join_log(windows(), constant_log(40.0), frozenset({WORKLOAD.name}))
    row = energy_table(workload_rows(WORKLOAD, joined, DEVICE)).set_index(["method", "component"]).loc["wattmeter"].loc
    assert row[SUM]["energy_j"] == pytest.approx(400.0)
    assert row["whole"]["idle_j"] == pytest.approx(400.0)
    again = join_log(joined, constant_log(80.0), frozenset({WORKLOAD.name}))
    twice = energy_table(workload_rows(WORKLOAD, again, DEVICE)).set_index(["method", "component"])
    assert twice.loc[("wattmeter", SUM), "energy_j"] == pytest.approx(800.0)
    assert twice.loc[("CodeCarbon", SUM), "energy_j"] == pytest.approx(64.0)


def test_a_log_that_misses_a_window_is_refused() -> None:
    late = constant_log(40.0, begin_s=1012.0)
    with pytest.raises(UserError, match="the window is"):
        join_log(windows(), late, frozenset({WORKLOAD.name}))
    before = windows(begin_s=0.0)[:1]
    assert join_log(before, late, frozenset({WORKLOAD.name})) == before, "idle windows of another day stay"


def test_the_reference_is_the_best_that_measures() -> None:
    modelled = windows()
    assert reference_instrument(energy_table(workload_rows(WORKLOAD, modelled, DEVICE))) == "CodeCarbon"
    rapl = Measurement("cpu", 50.0, "measured", "RAPL", "powercap", 0.01, 5.0, 10)
    both = [Window(*(w.name, w.round, w.calls, w.begin_s, 5.0, 4.0), (*w.measurements, rapl)) for w in modelled]
    table = energy_table(workload_rows(WORKLOAD, both, DEVICE))
    assert reference_instrument(table) == "RAPL"
    assert reference_instrument(table, "CodeCarbon") == "CodeCarbon"
    joined = energy_table(
        workload_rows(WORKLOAD, join_log(both, constant_log(40.0), frozenset({WORKLOAD.name})), DEVICE)
    )
    assert reference_instrument(joined) == "wattmeter"
    with pytest.raises(UserError, match=r"reference_instrument: .* 'NVML'; instruments: CodeCarbon, RAPL"):
        reference_instrument(table, "NVML")


def test_a_reference_must_have_metered_every_receiver() -> None:
    other = Workload("other", RECEIVER_RUNTIME, "inference", NET, lambda: None, "def")
    rapl = Measurement("cpu", 50.0, "measured", "RAPL", "powercap", 0.01, 5.0, 10)
    rows = [
        *workload_rows(WORKLOAD, [Window(WORKLOAD.name, 0, 10, 0.0, 5.0, 4.0, (*measurements(30.0), rapl))], DEVICE),
        *workload_rows(other, [Window(other.name, 0, 10, 0.0, 5.0, 4.0, measurements(30.0))], DEVICE),
    ]
    assert reference_instrument(energy_table(rows)) == "CodeCarbon"


def test_the_run_compares_whole_receivers_at_its_batch() -> None:
    single = Workload("net", RECEIVER_RUNTIME, "inference", OperationProfile.from_formula("net", 500), print, "abc")
    network = Workload("net", "eager", "inference", NET, print, "abc")
    rows = [
        row
        for w in (WORKLOAD, single, network)
        for row in workload_rows(w, [Window(w.name, 0, 10, 0.0, 5.0, 4.0, measurements(30.0))], DEVICE)
    ]
    inference = inference_rows(energy_table(rows))
    assert set(inference["runtime"]) == {RECEIVER_RUNTIME}
    assert set(inference["batch_slots"]) == {4}
    assert set(inference["component"]) == {SUM}


def test_training_has_rows_by_its_instruments_and_by_a_log_that_covers_it() -> None:
    parts = (TrainingWindow(1000.0, 5.0, 0.5), TrainingWindow(1005.0, 5.0, 0.25))
    energy = TrainingEnergy(measurements(30.0), parts)
    rows = energy_table(training_rows("net", "abc", energy, 100, 8, 3000, DEVICE))
    trained = trainer_rows(rows).set_index("method")
    assert trained.loc["CodeCarbon", "energy_j"] == 30.0
    assert trained.loc["CodeCarbon", "slots"] == 800
    assert trained.loc["FLOPs/clock", "energy_j"] == pytest.approx(3000 * 800 / 1e9 * 2)
    logged = trainer_rows(
        energy_table(training_rows("net", "abc", energy, 100, 8, 3000, DEVICE, constant_log(40.0)))
    ).set_index("method")
    assert logged.loc["wattmeter", "energy_j"] == pytest.approx(40 * (2.5 + 1.25))
    assert logged.loc["wattmeter", "provenance"] == "measured"
    partly = training_rows("net", "abc", energy, 100, 8, 3000, DEVICE, constant_log(40.0, length_s=12.0))
    assert "wattmeter" not in {r.method for r in partly}


def test_a_log_covers_trainings_with_windows_shorter_than_its_interval() -> None:
    """A log of one sample per second, and a checkpoint every 0.4 s: 40 W over 4 s are 160 J."""
    parts = tuple(TrainingWindow(1000.0 + 0.4 * i, 0.4) for i in range(10))
    energy = TrainingEnergy(measurements(30.0), parts)
    times_s = np.arange(990.0, 1020.0)
    sampled = Wattmeter("log.csv", times_s, np.full(len(times_s), 40.0))
    whole = energy.by_log(sampled)
    assert whole is None, "4 s have fewer than five samples"
    longer = TrainingEnergy(energy.measurements, (*parts, TrainingWindow(1004.0, 6.0, 0.5)))
    whole = longer.by_log(sampled)
    assert whole is not None
    assert whole.energy_j == pytest.approx(160 + 120)
    with pytest.raises(UserError, match="samples in a window"):
        sampled.between(1000.0, 1000.4)


class Counter:
    """One joule per window; raises an error if ``fails``."""

    shortest_s = 2.0

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name, self._fails = name, fails

    def begin(self) -> None:
        pass

    def end(self) -> list[Measurement]:
        if self._fails:
            raise UserError(f"{self.name}: the counter did not advance")
        return [Measurement("cpu", 1.0, "measured", self.name, "1", 0.0, 1.0)]


def test_an_instrument_that_missed_half_of_a_training_is_left_out() -> None:
    """A window may be too short for a counter; a part of a training's energy is no energy of the training."""
    energies = []
    for fails in (False, True):
        meter = TrainingMeter([Counter("fine"), Counter("slow", fails)])
        meter.open()
        assert meter.running
        energies.append(meter.close())
    halves = [replace(e, windows=(TrainingWindow(0.0, 5.0),)) for e in energies]
    halves = [replace(e, measurements=tuple(replace(m, duration_s=5.0) for m in e.measurements)) for e in halves]
    total = halves[0] + halves[1]
    assert (total.instruments, total.energy_j("fine"), len(total.windows)) == (["fine"], 2.0, 2)


def test_trainings_at_the_same_time_share_what_is_read_of_the_machine() -> None:
    """Three trainings at the begin of a window and one at its end; a model of the own CPU time is not shared."""
    numbers = iter([3, 1])

    class Model(Counter):
        def end(self) -> list[Measurement]:
            return [replace(m, provenance="modelled") for m in super().end()]

    meter = TrainingMeter([Counter("counter"), Model("model")], lambda: next(numbers))
    meter.open()
    energy = meter.close()
    assert (energy.energy_j("counter"), energy.energy_j("model")) == (0.5, 1.0)
    assert [w.fraction for w in energy.windows] == [0.5]


def test_an_instrument_that_cannot_be_opened_does_not_stop_a_training() -> None:
    class Unreadable(Counter):
        def begin(self) -> None:
            raise UserError("RAPL: readable by root only")

    meter = TrainingMeter([Unreadable("fine"), Counter("slow")])
    meter.open()
    assert [m.instrument for m in meter.close().measurements] == ["slow"]


@pytest.mark.parametrize("first_is_short", [True, False])
def test_one_short_window_does_not_drop_an_instrument(first_is_short: bool) -> None:
    """95 J in 95 s by RAPL, which missed 5 s: 100 J for the whole, and 5/sqrt(3) J of uncertainty."""
    rapl = Measurement("cpu", 95.0, "measured", "RAPL", "powercap", 0.0, 95.0)
    model = Measurement("cpu", 50.0, "modelled", "CodeCarbon", "TDP", 0.0, 95.0)
    long = TrainingEnergy((rapl, model), (TrainingWindow(0.0, 95.0),))
    short = TrainingEnergy((replace(model, energy_j=2.0, duration_s=5.0),), (TrainingWindow(95.0, 5.0),))
    total = short + long if first_is_short else long + short
    assert (total.best_instrument, total.energy_j("CodeCarbon")) == ("RAPL", 52.0)
    (whole,) = total.by("RAPL")
    assert (whole.energy_j, whole.duration_s, whole.uncertainty_j) == pytest.approx((100.0, 100.0, 5 / math.sqrt(3)))
    assert whole.instrument_version == "powercap; metered 95.0% of the time, the rest at the same mean power"
    row = trainer_rows(energy_table(training_rows("net", "abc", total * 0.5, 1, 1, 1, DEVICE))).set_index("method")
    assert row.loc["RAPL", "energy_j"] == pytest.approx(50.0)
    assert "95.0%" in row.loc["RAPL", "description"]
    less = long + replace(short, windows=(TrainingWindow(95.0, 6.0),))
    assert less.best_instrument == "CodeCarbon", "RAPL saw 94 % of the training"


def test_a_gap_of_a_log_in_a_training_is_no_reason_to_leave_it_out() -> None:
    """40 W over 100 s in four windows; the log lacks 4 s across two windows, and later 40 s."""
    parts = tuple(TrainingWindow(1000.0 + 25 * i, 25.0) for i in range(4))
    energy = TrainingEnergy(measurements(30.0), parts)
    times_s = np.arange(990.0, 1110.0, 0.5)

    def log_without(begin_s: float, end_s: float) -> Wattmeter:
        sampled_s = times_s[(times_s <= begin_s) | (times_s >= end_s)]
        return Wattmeter("log.csv", sampled_s, np.full(len(sampled_s), 40.0))

    whole = energy.by_log(log_without(1023.0, 1027.0))
    assert whole is not None
    assert (whole.energy_j, whole.duration_s) == pytest.approx((4000.0, 100.0))
    assert "metered 96.0% of the time" in whole.instrument_version
    assert whole.uncertainty_j == pytest.approx(0.04 * 4000 / math.sqrt(3), rel=0.05)
    assert energy.log_coverage(log_without(1040.0, 1080.0)) == pytest.approx(0.6)
    assert energy.by_log(log_without(1040.0, 1080.0)) is None
    assert energy.log_coverage(constant_log(40.0, begin_s=2000.0)) == 0


def test_a_new_log_need_not_cover_what_an_earlier_one_did() -> None:
    """New workloads are metered on another day, with a log of that day."""
    joined = join_log(windows(), constant_log(40.0), frozenset({WORKLOAD.name}))
    later = [replace(w, begin_s=w.begin_s + 1e5) for w in windows()]
    both = join_log([*joined, *later], constant_log(80.0, begin_s=990.0 + 1e5), frozenset({WORKLOAD.name}))
    energies_j = [w.by("wattmeter")[0].energy_j for w in both if w.name == WORKLOAD.name]
    assert energies_j == pytest.approx([200.0, 200.0, 400.0, 400.0])


def test_instruments_of_workloads_saw_all_of_them() -> None:
    """A wattmeter whose log does not cover a new workload is not among them."""
    new = Workload("net", "compiled", "inference", NET, lambda: None, "abc")
    joined = join_log(windows(), constant_log(40.0), frozenset({WORKLOAD.name}))
    later = [replace(w, name=new.name, begin_s=1e6) for w in windows() if w.name != IDLE]
    rows = [row for w in (WORKLOAD, new) for row in workload_rows(w, [*joined, *later], DEVICE)]
    table = energy_table(rows)
    assert instruments_of([WORKLOAD], table) == ["wattmeter", "CodeCarbon"]
    assert instruments_of([WORKLOAD, new], table) == ["CodeCarbon"]
    assert reference_instrument(table) == "wattmeter"


def test_energy_of_earlier_versions_is_refused() -> None:
    energy = TrainingEnergy(measurements(30.0), (TrainingWindow(1000.0, 5.0),))
    assert TrainingEnergy.from_json(energy.as_json(), "card") == energy
    old = {"duration_s": 1.0, "cpu_j": 3.0, "gpu_j": 0.0, "ram_j": 1.0, "cpu_kind": "modelled", "instrument": "x"}
    with pytest.raises(UserError, match="card: training energy of an earlier version"):
        TrainingEnergy.from_json(old, "card")
