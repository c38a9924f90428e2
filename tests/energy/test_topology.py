"""Cores, sockets, quotas and watts of machines that are written down as Linux describes them."""

import math
from pathlib import Path
from typing import Any

import pytest

from energy.hardware import detect, processor_power
from energy.hardware.calibration import Calibration
from energy.hardware.devices import devices
from energy.hardware.topology import Topology


def machine(root: Path, threads_per_core: int, cores: int, sockets: int = 1) -> Path:
    """The files of a machine. Core ``c`` has the threads ``c``, ``c + all cores``, and so on, as Linux numbers them."""
    folder, total = root / "sys/devices/system/cpu", cores * sockets
    for cpu in range(threads_per_core * total):
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        core = cpu % total
        siblings = ",".join(str(core + i * total) for i in range(threads_per_core))
        (topology / "core_cpus_list").write_text(siblings + "\n")
        (topology / "physical_package_id").write_text(f"{core // cores}\n")
    (folder / "online").write_text(f"0-{threads_per_core * total - 1}\n")
    return root


def cgroup(root: Path, line: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


EPYC: dict[str, Any] = {"brand_raw": "AMD EPYC 7763 64-Core Processor", "flags": ["avx2", "fma"]}


@pytest.fixture
def host_w(monkeypatch: pytest.MonkeyPatch):
    """Watts of the cores that a process uses: of a CPU with this TDP, or of an unknown one."""

    def watts(topology: Topology, threads: int, tdp_w: float | None, info: dict[str, Any] | None = None) -> float:
        monkeypatch.setattr(processor_power, "_table_w", lambda: (tdp_w, 4.0))
        return processor_power.processor_power(None, topology, info or {})[0] * topology.busy_fraction(threads)

    return watts


@pytest.mark.parametrize(
    ("shape", "affinity", "threads", "tdp_w", "cores", "power_w"),
    [
        ((1, 2), {0}, 1, None, 1, 4.0),
        ((1, 2), {0, 1}, 2, None, 2, 8.0),
        ((2, 64), {5, 69}, 2, 280.0, 1, 4.375),
        ((2, 64), {0, 1}, 2, 280.0, 2, 8.75),
        ((2, 64), set(range(64)), 64, 280.0, 64, 280.0),
        ((2, 64), set(range(128)), 32, 280.0, 32, 140.0),
        ((2, 4), set(range(8)), 4, 28.0, 4, 28.0),
        ((2, 64, 2), set(range(256)), 128, 280.0, 128, 560.0),
        ((2, 64, 2), set(range(64)), 64, 280.0, 64, 280.0),
    ],
    ids=[
        "one of two CPUs",
        "both",
        "both threads of one core",
        "threads of two cores",
        "one thread of every core",
        "half of the threads",
        "a laptop with SMT",
        "two sockets",
        "one socket of two",
    ],
)
def test_cores_and_watts(
    shape: tuple[int, ...],
    affinity: set[int],
    threads: int,
    tdp_w: float | None,
    cores: int,
    power_w: float,
    tmp_path: Path,
    host_w,
) -> None:
    topology = Topology.read(machine(tmp_path, *shape), frozenset(affinity))
    assert topology.num_busy_cores(threads) == cores
    assert host_w(topology, threads, tdp_w) == pytest.approx(power_w)


@pytest.mark.parametrize(
    ("line", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/docker/abc", {"docker/abc/cpu.max": "150000 100000", "docker/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        (
            "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc",
            {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
            2.0,
        ),
        (
            "1:cpu:/docker/abc",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("5:cpuset:/", {"cpuset/cpu.max": "100000 100000"}, math.inf),
    ],
    ids=["v2", "v2 nested", "v2 of the parent", "v2 none", "v1", "v1 mounted in a container", "v1 none", "another"],
)
def test_quotas_of_containers(line: str, files: dict[str, str], cpus: float, tmp_path: Path) -> None:
    assert Topology.read(cgroup(tmp_path, line, files)).quota_cpus == cpus


def test_a_container_with_two_cpus_of_64_cores(tmp_path: Path, host_w) -> None:
    root = cgroup(machine(tmp_path, 2, 64), "0::/", {"cpu.max": "200000 100000"})
    topology = Topology.read(root, frozenset(range(128)))
    assert (topology.num_busy_cores(64), len(topology.cores)) == (2, 64)
    assert host_w(topology, 64, 280.0) == pytest.approx(8.75)


@pytest.mark.parametrize(
    ("brand", "cpus", "power_w", "words"),
    [
        (EPYC["brand_raw"], 2, 4.375, "2 of 128 threads of 280 W"),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", 4, 16.0, "16 W assumed (4 W a thread) for a virtual machine"),
    ],
)
def test_a_virtual_machine_has_a_part_of_a_processor(
    brand: str, cpus: int, power_w: float, words: str, tmp_path: Path, monkeypatch
) -> None:
    """Its 280 W are those of 64 cores; without their number, they say nothing about the part."""
    monkeypatch.setattr(processor_power, "_table_w", lambda: (280.0, 4.0))
    topology = Topology.read(machine(tmp_path, 1, cpus), frozenset(range(cpus)))
    info = {"brand_raw": brand, "flags": ["hypervisor"]}
    found_w, source = processor_power.processor_power(None, topology, info)
    assert found_w == pytest.approx(power_w)
    assert words in source
    assert processor_power.processor_power(65.0, topology, info) == (65.0, "65 W as configured")


def test_small_and_large_cores_are_averaged(tmp_path: Path) -> None:
    """RK3588: four Cortex-A55 and four Cortex-A76 have 8 and 16 FLOPs per clock. A hybrid Intel laptop: 32 and 16."""
    root = machine(tmp_path / "arm", 1, 8)
    blocks = [
        f"processor\t: {i}\nCPU implementer\t: 0x41\nCPU part\t: {'0xd0b' if i > 3 else '0xd05'}" for i in range(8)
    ]
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text("\n\n".join(blocks) + "\n")
    topology = Topology.read(root, frozenset(range(8)))
    units = detect._units({"flags": ["asimd"], "vendor_id_raw": "ARM"}, topology)
    assert [u.fp32 for u in units] == [8] * 4 + [16] * 4
    intel = machine(tmp_path / "intel", 1, 4)
    (intel / "sys/devices/cpu_atom").mkdir()
    (intel / "sys/devices/cpu_atom/cpus").write_text("2-3\n")
    units = detect._units({"flags": ["avx2", "fma"]}, Topology.read(intel, frozenset(range(1, 4))))
    assert [u.fp32 for u in units] == [32, 16, 16]


def test_caches_are_those_of_the_record(tmp_path: Path) -> None:
    """An EPYC 7763: 32 KiB and 512 KiB a core, and 32 MiB for eight cores. Two of its cores have less."""
    root = machine(tmp_path, 2, 64)
    for cpu in range(128):
        core = cpu % 64
        group = 8 * (core // 8)
        own, eight = f"{core},{core + 64}", f"{group}-{group + 7},{group + 64}-{group + 71}"
        levels = [("1", "Data", "32K", own), ("1", "Instruction", "32K", own)]
        levels += [("2", "Unified", "512K", own), ("3", "Unified", "32768K", eight)]
        for index, values in enumerate(levels):
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
            folder.mkdir(parents=True)
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                (folder / name).write_text(value + "\n")
    assert Topology.read(root, frozenset(range(128))).caches_bytes == devices()["server-epyc-7763"].caches_bytes
    assert Topology.read(root, frozenset({0, 1, 64})).caches_bytes == (2 * 2**15, 2 * 2**19, 2**25)


def test_a_machine_that_does_not_describe_itself(tmp_path: Path) -> None:
    topology = Topology.read(tmp_path, frozenset({0}))
    assert (topology.num_busy_cores(8), topology.sockets, topology.quota_cpus) == (1, 1, math.inf)
    assert topology.busy_fraction(1) == 1 / topology.num_cpus


def test_this_machine(monkeypatch, tmp_path: Path) -> None:
    """The record of the host is that of the cores in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    topology = Topology.read(machine(tmp_path, 2, 64, 2), frozenset({0, 128}))
    monkeypatch.setattr(Topology, "read", lambda: topology)
    monkeypatch.setattr(detect, "_cpu_info", lambda: {**EPYC, "hz_advertised": (2_450_000_000, 0)})
    monkeypatch.setattr(processor_power, "_table_w", lambda: (280.0, 4.0))
    rates = Calibration(machine="m", date="2026-01-01", matmul_flops_per_s=1e11, copy_bytes_per_s=1e10)
    monkeypatch.setattr(detect, "calibrate", lambda machine, recalibrate: rates)
    found = detect.host()
    assert (found.cores, found.flops_per_clock, found.power_w) == (1, 32, pytest.approx(280 * 2 / 128))
    assert found.peak_flops_per_s == pytest.approx(2.45e9 * 32)
    assert "2 sockets of 280 W" in found.source
    assert "1 of 128 cores used" in found.source
