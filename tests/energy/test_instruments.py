"""Instruments against recorded counters: no test needs a counter or root."""

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from energy.hardware.detect import gpu_uuid
from energy.hardware.doctor import run_checks
from energy.metering import instruments, rapl
from energy.metering.measurement import Measurement, Provenance, reading_uncertainty_j
from energy.metering.nvml import Nvml
from energy.metering.perf import Cycles, parse
from energy.metering.power_log import Wattmeter
from energy.metering.rapl import Rapl
from energy.metering.session import IDLE, MeteringProtocol, Window, call_statistics, join_log, meter_windows
from leanrx_core.errors import UserError


def joules(
    instrument: str, version: str, component: str, provenance: Provenance, energy_j: float, resolution_j: float
) -> Measurement:
    """A measurement by a counter of this resolution."""
    return Measurement(
        component, energy_j, provenance, instrument, version, reading_uncertainty_j(resolution_j), duration_s=1.0
    )


def domain(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


class TestRapl:
    def test_packages_and_dram_are_added_cores_are_not(self, tmp_path: Path) -> None:
        first = domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
        second = domain(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
        core = domain(tmp_path, "intel-rapl:0:0", "core", 0)
        dram = domain(tmp_path, "intel-rapl:0:1", "dram", 7_000_000)
        domain(tmp_path, "intel-rapl:2", "psys", 0)
        domain(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
        rapl = Rapl(tmp_path)
        rapl.begin()
        for path, value in ((first, 3_000_000), (second, 5_500_000), (core, 9_000_000), (dram, 7_250_000)):
            path.write_text(str(value))
        found = {j.component: j for j in rapl.end()}
        assert {c: j.energy_j for c, j in found.items()} == pytest.approx({"cpu": 2.5, "ram": 0.25})
        assert {j.provenance for j in found.values()} == {"measured"}
        assert all("powercap" in j.instrument_version for j in found.values())

    def test_a_long_window_counts_every_wrap(self, tmp_path: Path, monkeypatch) -> None:
        """A counter of 10 J advances by 4 J at a time, 24 J in all: it wraps twice."""
        monkeypatch.setattr(rapl, "POLL_S", 0.005)
        path = domain(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=10_000_000)
        instrument = Rapl(tmp_path)
        instrument.begin()
        for step in range(1, 7):
            temporary = tmp_path / "energy_uj"
            temporary.write_text(str(4_000_000 * step % 10_000_000))
            temporary.replace(path)  # whole, as a counter is read
            deadline = time.monotonic() + 10
            while instrument._before != [pytest.approx(4.0 * step % 10)] and time.monotonic() < deadline:
                time.sleep(0.001)
        assert instrument.end()[0].energy_j == pytest.approx(24.0)

    @pytest.mark.parametrize(("seconds_j", "cpu_j", "ram_j"), [((68.0, 68.0), 68.0, 9.0), ((68.0, 50.0), 118.0, 9.0)])
    def test_dies_that_show_one_counter_are_counted_once(
        self, tmp_path: Path, monkeypatch, seconds_j: tuple[float, float], cpu_j: float, ram_j: float
    ) -> None:
        """68 J of a package whose two dies mirror its counter; 68 J and 50 J of dies with counters of their own."""
        clock = iter([0.0, 10.0, 15.0])
        monkeypatch.setattr("energy.metering.rapl.time", SimpleNamespace(perf_counter=lambda: next(clock)))
        begin_uj = 5_000_000_000
        dies = [domain(tmp_path, f"intel-rapl:{die}", f"package-0-die-{die}", begin_uj) for die in (0, 1)]
        drams = [domain(tmp_path, f"intel-rapl:{die}:0", "dram", begin_uj) for die in (0, 1)]
        rapl = Rapl(tmp_path)
        rapl.begin()
        for path, energy_j in zip([*dies, *drams], [*seconds_j, 9.0, 9.0], strict=True):
            path.write_text(str(begin_uj + round(1e6 * energy_j)))
        assert {m.component: m.energy_j for m in rapl.end()} == pytest.approx({"cpu": cpu_j, "ram": ram_j})

    def test_dies_of_two_packages_and_counters_that_differ_are_added(self, tmp_path: Path) -> None:
        names = [(0, "package-0-die-0"), (1, "package-0-die-1"), (2, "package-1-die-0"), (3, "package-1")]
        begin_uj = (1_000_000, 900_000_000, 1_000_000, 1_000_000)
        paths = [domain(tmp_path, f"intel-rapl:{i}", name, begin_uj[i]) for i, name in names]
        rapl = Rapl(tmp_path)
        rapl.begin()
        for path, uj in zip(paths, begin_uj, strict=True):
            path.write_text(str(uj + 2_000_000))
        assert rapl.end()[0].energy_j == pytest.approx(4 * 2.0)

    @pytest.mark.parametrize(
        ("range_uj", "begin_uj", "end_uj", "words"),
        [
            (
                65_532_610_987,
                5_000_000_000,
                1_000_000,
                r"from 5000 J to 1 J in 0.3 s: the counter was reset.*meter again",
            ),
            (0, 5_000_000_000, 1_000_000, "from 5000 J to 1 J in 0.3 s, beyond its range of 0 J"),
            (65_532_610_987, 1_000_000, 99_000_000_000, "beyond its range of 65532.6 J"),
            (262_143_328_850, 1_000_000, 3_001_000_000, "this is 1e"),
        ],
        ids=["reset", "no range", "above its range", "10 kW"],
    )
    def test_an_advance_that_no_processor_draws_is_refused(
        self, tmp_path: Path, monkeypatch, range_uj: int, begin_uj: int, end_uj: int, words: str
    ) -> None:
        clock = iter([0.0, 10.0, 10.3])
        monkeypatch.setattr("energy.metering.rapl.time", SimpleNamespace(perf_counter=lambda: next(clock)))
        path = domain(tmp_path, "intel-rapl:0", "package-0", begin_uj, range_uj)
        rapl = Rapl(tmp_path)
        rapl.begin()
        path.write_text(str(end_uj))
        with pytest.raises(UserError, match=words):
            rapl.end()

    def test_a_reset_within_a_long_window_is_refused(self, tmp_path: Path, monkeypatch) -> None:
        """The reading that saw it raises, although the window as a whole would look plausible."""
        monkeypatch.setattr(rapl, "POLL_S", 0.005)
        path = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000_000, range_uj=65_532_610_987)
        instrument = Rapl(tmp_path)
        instrument.begin()
        temporary = tmp_path / "energy_uj"
        temporary.write_text("1000000")
        temporary.replace(path)  # whole, as a counter is read
        instrument._poller.join(timeout=10)
        path.write_text("5001000000")
        with pytest.raises(UserError, match=r"from 5000 J to 1 J .* the counter was reset"):
            instrument.end()

    def test_it_resolves_what_a_millisecond_costs(self, tmp_path: Path, monkeypatch) -> None:
        """200 W over 5 s, updated every millisecond: 0.2 J, thousands of the counter's steps."""
        clock = iter([0.0, 10.0, 15.0])
        monkeypatch.setattr("energy.metering.rapl.time", SimpleNamespace(perf_counter=lambda: next(clock)))
        path = domain(tmp_path, "intel-rapl:0", "package-0", 0)
        rapl = Rapl(tmp_path)
        rapl.begin()
        path.write_text("1000000000")
        assert rapl.end()[0].uncertainty_j == pytest.approx(0.2 / math.sqrt(6))

    def test_a_counter_that_cannot_be_read_is_not_replaced(self, tmp_path: Path, monkeypatch) -> None:
        domain(tmp_path, "intel-rapl:0", "package-0", 1)
        assert rapl.is_present(tmp_path)
        assert not rapl.is_present(tmp_path / "nothing")
        monkeypatch.setattr(instruments, "CodeCarbon", lambda power_w, device: "model")
        monkeypatch.setattr(rapl, "is_present", lambda: True)

        def forbidden() -> None:
            raise UserError("RAPL: energy_uj is readable by root only; sudo chmod a+r")

        monkeypatch.setattr(instruments, "Rapl", forbidden)
        with pytest.raises(UserError, match=r"sudo chmod a\+r; or give --allow-model"):
            instruments.available()
        assert instruments.available(allow_model=True) == ["model"]
        monkeypatch.setattr(instruments, "Rapl", lambda: "counter")
        assert instruments.available() == ["model", "counter"]
        monkeypatch.setattr(rapl, "is_present", lambda: False)
        assert instruments.available() == ["model"]

    def test_a_gpu_without_a_counter_is_metered_by_codecarbon_only_if_allowed(self, monkeypatch) -> None:
        """A virtual slice of a GPU has no energy counter. A training on it must not stop for that."""
        monkeypatch.setattr(instruments, "CodeCarbon", lambda power_w, device: f"model of {device}")
        monkeypatch.setattr(instruments, "gpu_uuid", lambda index: "GPU-0")

        def virtual(gpu: str) -> None:
            raise UserError("NVML: x has no energy counter that can be read; needs a whole GPU")

        monkeypatch.setattr(instruments, "Nvml", virtual)
        with pytest.raises(UserError, match="whole GPU; or give --allow-model to use CodeCarbon alone"):
            instruments.available("cuda")
        assert instruments.available("cuda", allow_model=True) == ["model of cuda"]

    def test_a_wrap(self, tmp_path: Path) -> None:
        path = domain(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=10_000_000)
        rapl = Rapl(tmp_path)
        rapl.begin()
        path.write_text("500000")
        assert rapl.end()[0].energy_j == pytest.approx(1.5)

    def test_what_stands_in_the_way(self, tmp_path: Path, monkeypatch) -> None:
        with pytest.raises(UserError, match="bare metal"):
            Rapl(tmp_path / "nothing")
        path = domain(tmp_path, "intel-rapl:0", "package-0", 1)
        rapl = Rapl(tmp_path)
        rapl.begin()
        with pytest.raises(UserError, match=r"did not advance.*longer"):
            rapl.end()
        path.write_text("text")
        with pytest.raises(UserError, match="cannot be read"):
            rapl.end()

        def forbidden(self: Path) -> str:
            if self.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return "package-0" if self.name == "name" else "1"

        monkeypatch.setattr(Path, "read_text", forbidden)
        with pytest.raises(UserError, match="sudo chmod"):
            Rapl(tmp_path)


class FakeNvml:
    """pynvml with a counter in millijoules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, counter: object) -> None:
        import pynvml

        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "GPU of a test")
        monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "1.2")
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counter)


class TestNvml:
    def test_millijoules(self, monkeypatch) -> None:
        values = iter([0, 1_000_000, 1_450_000])
        FakeNvml(monkeypatch, lambda handle: next(values))
        clock = iter([0.0, 10.0, 10.05])
        monkeypatch.setattr("energy.metering.nvml.time", SimpleNamespace(perf_counter=lambda: next(clock)))
        nvml = Nvml()
        nvml.begin()
        (reading,) = nvml.end()
        assert (reading.energy_j, reading.component, reading.provenance) == (450.0, "gpu", "measured")
        assert reading.uncertainty_j == pytest.approx(450 / 0.05 * 0.1 / math.sqrt(6))
        assert "GPU of a test" in reading.instrument_version

    def test_a_counter_that_jumps_is_refused(self, monkeypatch) -> None:
        """0.5 MJ in 5 s are 100 kW."""
        values = iter([0, 1_000_000, 501_000_000])
        FakeNvml(monkeypatch, lambda handle: next(values))
        clock = iter([0.0, 10.0, 15.0])
        monkeypatch.setattr("energy.metering.nvml.time", SimpleNamespace(perf_counter=lambda: next(clock)))
        nvml = Nvml()
        nvml.begin()
        with pytest.raises(UserError, match=r"advanced by 500000 J; .* this is 1e\+05 W; meter again"):
            nvml.end()

    def test_a_gpu_is_found_by_the_name_that_torch_knows(self, monkeypatch) -> None:
        """Under CUDA_VISIBLE_DEVICES=1, torch's first GPU is NVML's second."""
        counters = {0: [5, 9], "GPU-second": [1000, 8000, 31_000]}
        FakeNvml(monkeypatch, lambda handle: counters[handle].pop(0))
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: SimpleNamespace(uuid="second"))
        nvml = Nvml(gpu_uuid())
        nvml.begin()
        assert nvml.end()[0].energy_j == pytest.approx(23.0)

    def test_what_stands_in_the_way(self, monkeypatch) -> None:
        import pynvml

        FakeNvml(monkeypatch, lambda handle: 7)
        nvml = Nvml()
        nvml.begin()
        with pytest.raises(UserError, match="did not advance"):
            nvml.end()

        def unsupported(handle: object) -> int:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

        FakeNvml(monkeypatch, unsupported)
        with pytest.raises(UserError, match="no virtual slice"):
            Nvml()


def test_perf() -> None:
    text = "1200,,cycles:u,1,100.00,,\n3400,,instructions:u,1,100.00,2.8,insn per cycle\n"
    assert parse(text) == Cycles(1200, 3400)
    hybrid = (
        "1000,,cpu_core/cycles/u,1,60.00,,\n<not counted>,,cpu_atom/instructions/u,0,0.00,,\n"
        "20,,cpu_atom/cycles/u,1,40.00,,\n3000,,cpu_core/instructions/u,1,60.00,3.0,insn per cycle\n"
    )
    assert parse(hybrid) == Cycles(1020, 3000)
    with pytest.raises(UserError, match="not supported"):
        parse("<not supported>,,cycles,0,100.00,,\n<not supported>,,instructions,0,100.00,,\n")
    with pytest.raises(UserError, match="sysctl"):
        parse("Error: perf_event_paranoid setting is 4\n")


def test_the_doctor_names_remedies() -> None:
    checks = {f.name: f for f in run_checks()}
    assert {"RAPL", "NVML", "perf", "CodeCarbon", "CUDA"} == set(checks)
    for check in checks.values():
        assert check.usable or check.remedy, check


def log(path: Path, rows: list[tuple[object, object]], header: str = "time,power_w") -> Path:
    path.write_text("\n".join([header, *(f"{t},{w}" for t, w in rows)]) + "\n")
    return path


class TestWattmeter:
    def test_a_ramp_is_integrated_exactly(self, tmp_path: Path) -> None:
        meter = Wattmeter.read(log(tmp_path / "log.csv", [(1000 + 0.5 * i, 10 + i) for i in range(40)]))
        found = meter.between(1002.25, 1010.75)  # power 10 + 2 (t - 1000)
        assert found.energy_j == pytest.approx(10 * 8.5 + 10.75**2 - 2.25**2)
        assert (found.component, found.provenance) == ("whole", "measured")
        assert found.uncertainty_j == pytest.approx(found.energy_j / 8.5 * 0.5 / math.sqrt(6))

    @pytest.mark.parametrize(
        ("header", "watts"), [("time,power_mw", 5e6), ("timestamp,Power [kW]", 5), ("time,W", 5e3)]
    )
    def test_units(self, tmp_path: Path, header: str, watts: float) -> None:
        meter = Wattmeter.read(log(tmp_path / "log.csv", [(i, watts) for i in range(20)], header))
        assert meter.between(3, 13).energy_j == pytest.approx(50e3)

    def test_time_zones(self, tmp_path: Path) -> None:
        utc = [(f"2026-03-01T10:00:{i:02d}+00:00", 5) for i in range(30)]
        paris = [(f"2026-03-01T11:00:{i:02d}+01:00", 5) for i in range(30)]
        naive = [(f"2026-03-01 11:00:{i:02d}", 5) for i in range(30)]
        meter = Wattmeter.read(log(tmp_path / "utc.csv", utc))
        begin = meter.times_s[5]
        assert Wattmeter.read(log(tmp_path / "p.csv", paris)).between(begin, begin + 10).energy_j == pytest.approx(50)
        path = log(tmp_path / "naive.csv", naive)
        with pytest.raises(UserError, match="no time zone"):
            Wattmeter.read(path)
        assert Wattmeter.read(path, utc_offset_h=1).between(begin, begin + 10).energy_j == pytest.approx(50)
        with pytest.raises(UserError, match=r"time zone of \+1 h would explain"):
            Wattmeter.read(path, utc_offset_h=0).between(begin, begin + 10)
        for offset_h in (30, math.nan):
            with pytest.raises(UserError, match=r"utc_offset: .* -14 to 14"):
                Wattmeter.read(path, offset_h)
        with pytest.raises(UserError, match="give the log of that time"):
            meter.between(begin + 9e6, begin + 9e6 + 10)

    def test_gaps(self, tmp_path: Path) -> None:
        rows = [(i, 5) for i in range(100) if not 40 < i < 60]
        meter = Wattmeter.read(log(tmp_path / "log.csv", rows))
        with pytest.raises(UserError, match="a gap of 20 s"):
            meter.between(30, 70)
        assert meter.between(10, 39).energy_j == pytest.approx(145)
        with pytest.raises(UserError, match="samples in a window"):
            meter.between(10.2, 11.5)

    @pytest.mark.parametrize(
        ("rows", "header", "words"),
        [
            ([(1, 5), (2, 5)], "time,energy_wh", "no column of watts"),
            ([(1, 5), (2, 5)], "moment,power_w", "no column of times"),
            ([(1, 5), (2, "five")], "time,power_w", "line 3: 'five' is no power"),
            ([(1, 5), (2, -5)], "time,power_w", "check the unit"),
            ([(1, 5), (2, "nan")], "time,power_w", "not sensible"),
            ([(1, 41_200), (2, 41_200)], "time,power_w", "41200 W is not sensible; check the unit"),
            ([(1, 41.2), (2, 41.2)], "time,power_kw", "41200 W is not sensible; check the unit"),
            ([(1, 5), ("nan", 5)], "time,power_w", "line 3: nan are no seconds"),
            ([(1.7e12, 5), (1.7e12 + 500, 5)], "time,power_w", "no seconds since 1970"),
            ([(1, 5), ("2\n3", 5)], "time,power_w", "line 3: '' is no power"),
            ([(1, 5), ("soon", 5)], "time,power_w", "line 3: 'soon' is no time"),
            ([(2, 5), (1, 5)], "time,power_w", "does not increase at line 3"),
            ([(2, 5)], "time,power_w", "fewer than two"),
        ],
    )
    def test_what_cannot_be_understood(self, tmp_path: Path, rows: list, header: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            Wattmeter.read(log(tmp_path / "log.csv", rows, header))

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            Wattmeter.read(tmp_path / "log.csv")


class Bench:
    """A machine with a law: idle power always, and joules for each unit of work done."""

    name, shortest_s = "bench", 0.01

    def __init__(self, idle_w: float = 3.0, unit_j: float = 0.05, step_j: float = 1e-3) -> None:
        self.idle_w, self.unit_j, self.step_j, self._units = idle_w, unit_j, step_j, 0
        self._begin = self._read()

    def work(self, copies: int) -> None:
        time.sleep(0.002 * copies)
        self._units += copies

    def _read(self) -> float:
        counted = self.idle_w * time.perf_counter() + self.unit_j * self._units
        return math.floor(counted / self.step_j) * self.step_j

    def begin(self) -> None:
        self._begin = self._read()

    def end(self) -> list[Measurement]:
        spent = self._read() - self._begin
        return [
            joules(self.name, "1", "cpu", "measured", spent, self.step_j),
            joules(self.name, "1", "ram", "assumed", 1e9, 0.0),
        ]


QUICK = MeteringProtocol(min_duration_s=0.15, idle_s=0.1, cool_down_s=0, rounds=3)


def test_n_copies_cost_n_times_and_nothing_costs_idle() -> None:
    bench = Bench()
    windows = list(
        meter_windows({f"{n}": lambda n=n: bench.work(n) for n in (1, 2, 8)}, [bench], QUICK)  # type: ignore[misc]
    )
    one = call_statistics(windows, "1", "bench")
    assert one.net_j == pytest.approx(bench.unit_j, abs=4 * one.uncertainty_j + 2e-4)
    assert 0 < one.uncertainty_j < 0.05 * one.net_j
    for copies in (2, 8):
        many = call_statistics(windows, f"{copies}", "bench")
        assert (
            abs(many.net_j - copies * one.net_j) < 4 * math.hypot(many.uncertainty_j, copies * one.uncertainty_j) + 1e-3
        )
        assert many.gross_j > many.net_j
        assert many.provenance == "measured", "what is assumed is left out"
    for window in windows:
        if window.name == IDLE:
            assert window.calls == 0
            assert window.measurements[0].energy_j == pytest.approx(bench.idle_w * window.duration_s, abs=0.03)


def test_two_instruments_see_the_same_window() -> None:
    bench, coarse = Bench(), Bench(step_j=0.5)
    bench_work = bench.work

    def work() -> None:
        bench_work(1)
        coarse._units += 1

    windows = list(meter_windows({"net": work}, [bench, Renamed(coarse)], QUICK))
    fine, rough = call_statistics(windows, "net", "bench"), call_statistics(windows, "net", "coarse")
    assert fine.calls == rough.calls
    assert abs(fine.gross_j - rough.gross_j) < 4 * math.hypot(fine.uncertainty_j, rough.uncertainty_j) + 1e-3
    assert rough.uncertainty_j > fine.uncertainty_j
    with pytest.raises(UserError, match="saw no window"):
        call_statistics(windows, "net", "NVML")


class Renamed(Bench):
    name = "coarse"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def begin(self) -> None:
        self._bench.begin()

    def end(self) -> list[Measurement]:
        bench = self._bench.end()[0]
        return [replace(bench, instrument="coarse")]


def test_order_is_drawn_anew_and_the_same_for_a_seed() -> None:
    bench = Bench()
    works = {name: lambda: bench.work(1) for name in "abcdef"}
    quick = MeteringProtocol(min_duration_s=0.02, idle_s=0.01, cool_down_s=0, rounds=3)
    orders = [[w.name for w in meter_windows(works, [bench], quick)] for _ in range(2)]
    assert orders[0] == orders[1]
    rounds = "".join(n if n != IDLE else "|" for n in orders[0]).strip("|").split("|")
    assert {"".join(sorted(r)) for r in rounds} == {"abcdef"}
    assert len(set(rounds)) == 3


def test_windows_too_short_for_a_counter_are_refused() -> None:
    bench = Bench()
    bench.shortest_s = 2.0
    with pytest.raises(UserError, match=r"min_duration_s: 0\.15 s is too short for bench; give 2 or more"):
        next(meter_windows({"a": lambda: None}, [bench], QUICK))


def test_a_wattmeter_is_joined_with_other_instruments(tmp_path: Path) -> None:
    bench = Bench()
    begin = time.time()
    windows = list(meter_windows({"net": lambda: bench.work(1)}, [bench], QUICK))
    path = log(tmp_path / "log.csv", [(begin - 1 + 0.01 * i, 40) for i in range(int((time.time() - begin + 2) / 0.01))])
    both = join_log(windows, Wattmeter.read(path), frozenset({"net"}))
    found = call_statistics(both, "net", "wattmeter")
    assert found.gross_j == pytest.approx(40 * found.duration_s)
    assert found.net_j == pytest.approx(0, abs=1e-6)
    assert call_statistics(both, "net", "bench").gross_j == call_statistics(windows, "net", "bench").gross_j


def test_idle_that_an_instrument_did_not_see_is_not_taken_for_none() -> None:
    """A counter that became readable between two sessions."""
    fine, late = (joules(name, "1", "cpu", "measured", 10.0, 0.0) for name in ("fine", "late"))
    windows = [
        Window(IDLE, 0, 0, 0.0, 5.0, 0.0, (fine,)),
        Window(IDLE, 1, 0, 0.0, 5.0, 0.0, (fine, late)),
        Window("net", 1, 2, 0.0, 4.0, 4.0, (fine, replace(late, energy_j=28.0))),
    ]
    assert call_statistics(windows, "net", "late").net_j == pytest.approx((28 - 2 * 4) / 2)


def test_one_disturbed_idle_window_has_little_effect() -> None:
    """Idle windows of 10 W, and one of 100 W: ten calls of 100 J in 5 s are 50 J net."""
    idle = [
        Window(IDLE, i, 0, 0.0, 5.0, 0.0, (joules("x", "1", "cpu", "measured", energy_j, 0.0),))
        for i, energy_j in enumerate([50.0, 500.0, 50.0, 50.0])
    ]
    busy = Window("net", 0, 10, 0.0, 5.0, 5.0, (joules("x", "1", "cpu", "measured", 100.0, 0.0),))
    assert call_statistics([*idle, busy], "net", "x").net_j == pytest.approx((100 - 50) / 10)


def test_windows_survive_a_file() -> None:
    window = Window("net", 1, 3, 1e9, 5.0, 4.5, (joules("x", "1", "cpu", "measured", 2.0, 0.1),))
    assert Window.from_json(window.as_json()) == window


def test_metering_itself_costs_little(tmp_path: Path) -> None:
    """Two reads of each counter take under a hundredth of the shortest default window."""
    domain(tmp_path, "intel-rapl:0", "package-0", 1)
    rapl, bench = Rapl(tmp_path), Bench()
    begin = time.perf_counter()
    for window in range(1, 21):
        rapl.begin()
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(str(1000 * window))
        rapl.end()
        bench.begin()
        bench.end()
    assert (time.perf_counter() - begin) / 20 < 0.01 * MeteringProtocol().min_duration_s
