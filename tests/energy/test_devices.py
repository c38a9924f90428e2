from types import SimpleNamespace

import pytest
import torch
import yaml

from energy.counting.profile import OperationProfile
from energy.estimation.flops import FlopsPerClock, FlopsPerWatt
from energy.hardware.calibration import calibration_path
from energy.hardware.detect import device, gpu, host, nvml_index
from energy.hardware.devices import Device, devices
from energy.hardware.instruction_sets import instruction_set
from leanrx_core.errors import UserError

PAPER_CPU = Device(name="x", cores=4, clock_hz=2e9, flops_per_clock=16, power_w=10, source="made up")


CALL = OperationProfile.from_formula("net", macs=64 * 10**9)


def test_flops_per_clock() -> None:
    estimate = FlopsPerClock().estimate(CALL, PAPER_CPU)
    assert (estimate.duration_s, estimate.energy_j) == pytest.approx((1.0, 10.0))


def test_flops_per_watt_uses_the_timed_rate_where_there_is_one() -> None:
    assert FlopsPerWatt().estimate(CALL, PAPER_CPU).energy_j == pytest.approx(10.0)
    timed = PAPER_CPU.model_copy(update={"matmul_flops_per_s": 64e9})
    estimate = FlopsPerWatt().estimate(CALL, timed)
    assert (estimate.duration_s, estimate.energy_j) == pytest.approx((2.0, 20.0))
    assert "timed" in estimate.assumption


def test_named_devices_reach_their_data_sheets() -> None:
    assert devices()["a100-sxm-80gb"].peak_flops_per_s == pytest.approx(19.5e12, rel=0.01)
    assert devices()["h100-sxm"].peak_flops_per_s == pytest.approx(67e12, rel=0.01)
    with pytest.raises(UserError, match="not known"):
        device("abacus")


@pytest.mark.parametrize(
    ("major", "minor", "sms", "clock_mhz", "limit_mw", "peak"),
    [
        (8, 0, 108, 1410, 400_000, 19.5e12),
        (9, 0, 132, 1980, 700_000, 67e12),
        (8, 9, 128, 2520, 450_000, 82.6e12),
        (6, 0, 56, 1480, 300_000, 10.6e12),
        (6, 1, 28, 1582, 250_000, 11.3e12),
        (7, 5, 40, 1590, 70_000, 8.1e12),
    ],
    ids=["A100", "H200", "RTX 4090", "P100", "GTX 1080 Ti", "T4"],
)
def test_a_gpu_is_what_its_driver_says(monkeypatch, major, minor, sms, clock_mhz, limit_mw, peak) -> None:
    found = a_gpu(monkeypatch, major, minor, sms, clock_mhz, limit_mw)
    assert found.peak_flops_per_s == pytest.approx(peak, rel=0.01)
    assert found.power_w == limit_mw / 1000
    assert f"by compute capability {major}.{minor}" in found.source


def test_units_of_a_new_gpu_are_assumed(monkeypatch) -> None:
    assert "256 FP32 FLOP per clock and SM assumed for compute" in a_gpu(monkeypatch, 13, 0, 10, 2000, 1000).source


def a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    major: int,
    minor: int,
    sms: int,
    clock_mhz: int,
    limit_mw: int,
    name: str = "x",
    memory_mhz: int = 1000,
    bus_bits: int = 256,
) -> Device:
    import pynvml

    properties = SimpleNamespace(name=name, major=major, minor=minor, multi_processor_count=sms, uuid="1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    clocks_mhz = {pynvml.NVML_CLOCK_SM: clock_mhz, pynvml.NVML_CLOCK_MEM: memory_mhz}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMaxClockInfo", lambda handle, kind: clocks_mhz[kind])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryBusWidth", lambda handle: bus_bits)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerManagementLimit", lambda handle: limit_mw)
    return gpu()


@pytest.mark.parametrize(
    ("name", "sms", "record", "memory_gb_per_s", "int8_tops"),
    [
        ("NVIDIA GeForce RTX 4090", 128, "rtx4090", 1008, (660, 661)),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 76, "rtx4090-laptop", 576, (264, 304)),
        ("NVIDIA A100-SXM4-80GB", 108, "a100-sxm-80gb", 2039, (624, 624)),
        ("NVIDIA A100-SXM4-40GB", 108, "a100-sxm-40gb", 1555, (624, 624)),
        ("NVIDIA A100 80GB PCIe", 108, "a100-pcie-80gb", 1935, (624, 624)),
        ("NVIDIA H100 80GB HBM3", 132, "h100-sxm", 3350, (1979, 1979)),
        ("NVIDIA H100 PCIe", 114, "h100-pcie", 2000, (1513, 1513)),
        ("NVIDIA H100 NVL", 132, "h100-nvl", 3900, (1670, 1671)),
        ("NVIDIA H200", 132, "h200-sxm", 4800, (1979, 1979)),
    ],
)
def test_every_variant_of_a_gpu_has_its_own_sheet(
    monkeypatch, name: str, sms: int, record: str, memory_gb_per_s: float, int8_tops: tuple[float, float]
) -> None:
    found = a_gpu(monkeypatch, 8, 9, sms, 2000, 100_000, name)
    assert found.memory_bytes_per_s == pytest.approx(memory_gb_per_s * 1e9)
    assert int8_tops[0] <= found.peak("int8") / 1e12 <= int8_tops[1]
    assert f"other precisions of {record}" in found.source
    assert found.power_w == 100, "of the driver, as its limit can be set"


@pytest.mark.parametrize(
    ("name", "sms", "memory_mhz", "bus_bits", "memory_gb_per_s"),
    [
        ("NVIDIA GeForce RTX 4090 D", 114, 10_501, 384, 1008),
        ("NVIDIA GeForce RTX 4080 Laptop GPU", 58, 9_001, 192, 432),
        ("NVIDIA A100-SXM-64GB", 124, 1_593, 4096, 1631),
        ("NVIDIA H100 80GB HBM3", 114, 2_619, 5120, 3352),
        ("GRID A100-40C", 108, 1_593, 5120, 2039),
        ("generic", 10, 1_000, 64, 16),
    ],
)
def test_a_gpu_that_no_record_names_is_unknown(
    monkeypatch, name: str, sms: int, memory_mhz: int, bus_bits: int, memory_gb_per_s: float
) -> None:
    """Its memory is what the driver says, with two transfers per clock; nothing is taken from a similar name."""
    found = a_gpu(monkeypatch, 8, 9, sms, 2000, 100_000, name, memory_mhz, bus_bits)
    assert found.memory_bytes_per_s == pytest.approx(memory_gb_per_s * 1e9, rel=1e-3)
    assert (found.peaks_flops_per_s, found.caches_bytes) == ({}, ())
    assert "no record names this GPU" in found.source


def test_a_slice_of_a_gpu_is_refused(monkeypatch) -> None:
    with pytest.raises(UserError, match=r"is a slice of a GPU, .* estimates need a whole GPU"):
        a_gpu(monkeypatch, 8, 0, 14, 1410, 400_000, "NVIDIA A100-SXM4-80GB MIG 1g.10gb")


def test_names_of_drivers_are_of_one_record() -> None:
    names = [name for record in devices().values() for name in record.driver_names]
    assert len(names) == len(set(names)) > 10


def test_a_gpu_without_a_clock_is_refused(monkeypatch) -> None:
    with pytest.raises(UserError, match=r"NVML: x: clock_hz"):
        a_gpu(monkeypatch, 9, 0, 132, 0, 700_000)


def test_a_gpu_is_numbered_as_nvml_does(monkeypatch) -> None:
    import pynvml

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="b"))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetIndex", lambda handle: ["GPU-a", "GPU-b"].index(handle))
    assert nvml_index(0) == 1

    def fail(uuid: str) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", fail)
    with pytest.raises(UserError, match="does not know cuda:0"):
        nvml_index(0)


def test_a_gpu_that_nvml_cannot_read_is_said_so(monkeypatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(name="x", major=9, minor=0))
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with pytest.raises(UserError, match="NVML cannot read"):
        gpu()


def test_the_host_is_timed_once(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = device("host")
    assert found.matmul_flops_per_s is not None
    assert found.copy_bytes_per_s is not None
    assert found.matmul_flops_per_s < 4 * found.peak_flops_per_s, "clocks boost, but not by that much"
    assert 1e8 < found.clock_hz < 1e10
    path = calibration_path()
    kept = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**kept, "matmul_flops_per_s": 123.0}))
    assert host().matmul_flops_per_s == 123
    assert (again := host(recalibrate=True).matmul_flops_per_s) is not None
    assert again > 1e6
    path.write_text(yaml.safe_dump({**kept, "machine": "another"}))
    assert host().matmul_flops_per_s != kept["matmul_flops_per_s"]
    path.write_text("matmul_flops_per_s: -1\n")
    with pytest.raises(UserError, match=r"machine\.yaml"):
        host()


@pytest.mark.parametrize(
    ("info", "name", "fp32", "int8"),
    [
        ({"flags": ["avx2", "fma"]}, "AVX2", 32, 64),
        ({"flags": ["avx2", "fma", "avx_vnni"]}, "AVX2 VNNI", 32, 128),
        ({"flags": ["avx2", "fma", "avx512f"], "vendor_id_raw": "GenuineIntel"}, "AVX-512", 64, 128),
        ({"flags": ["avx512f", "avx512_vnni"], "vendor_id_raw": "AuthenticAMD", "family": 25}, "AVX-512 VNNI", 32, 128),
        ({"flags": ["avx512f", "avx512_vnni"], "vendor_id_raw": "AuthenticAMD", "family": 26}, "AVX-512 VNNI", 64, 256),
        ({"flags": ["fp", "asimd"]}, "NEON", 16, 32),
        ({"flags": ["fp", "asimd", "asimddp"]}, "NEON", 16, 64),
        ({}, "no FMA", 8, 8),
    ],
)
def test_instruction_sets(info: dict, name: str, fp32: int, int8: int) -> None:
    found = instruction_set(info)
    assert (found.name, found.fp32, found.int8) == (name, fp32, int8)


@pytest.mark.parametrize(
    ("record", "info", "part"),
    [
        (
            "laptop-i7-1185g7",
            {
                "flags": ["avx2", "fma", "avx512f", "avx512_vnni"],
                "vendor_id_raw": "GenuineIntel",
                "brand_raw": "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
                "family": 6,
                "model": 140,
            },
            None,
        ),
        (
            "server-xeon-8380",
            {
                "flags": ["avx2", "fma", "avx512f", "avx512_vnni"],
                "vendor_id_raw": "GenuineIntel",
                "brand_raw": "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz",
                "family": 6,
                "model": 106,
            },
            None,
        ),
        (
            "server-epyc-7763",
            {"flags": ["avx2", "fma"], "vendor_id_raw": "AuthenticAMD", "family": 25, "model": 1},
            None,
        ),
        (
            "laptop-ryzen-7840u",
            {"flags": ["avx512f", "avx512_vnni"], "vendor_id_raw": "AuthenticAMD", "family": 25, "model": 116},
            None,
        ),
        ("raspberry-pi-4", {"flags": ["fp", "asimd"], "vendor_id_raw": "ARM"}, (0x41, 0xD08)),
        ("raspberry-pi-5", {"flags": ["fp", "asimd", "asimddp"], "vendor_id_raw": "ARM"}, (0x41, 0xD0B)),
    ],
)
def test_detection_agrees_with_the_record(record: str, info: dict, part: tuple[int, int] | None) -> None:
    sheet, found = device(record), instruction_set(info, part)
    assert found.fp32 == sheet.flops_per_clock
    assert sheet.peak("int8") == pytest.approx(sheet.cores * sheet.clock_hz * found.int8)


@pytest.mark.parametrize(
    ("info", "fp32"),
    [
        ({"flags": ["avx512f"], "brand_raw": "Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz", "model": 85}, 32),
        ({"flags": ["avx512f"], "brand_raw": "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "model": 85}, 64),
        ({"flags": ["avx512f"], "brand_raw": "Intel(R) Core(TM) i9-7900X CPU @ 3.30GHz", "model": 85}, 64),
        ({"flags": ["avx512f"], "brand_raw": "11th Gen Intel(R) Core(TM) i9-11900K @ 3.50GHz", "model": 167}, 32),
        ({"flags": ["avx2", "fma"], "vendor_id_raw": "AuthenticAMD", "family": 23, "model": 1}, 16),
        ({"flags": ["avx2", "fma"], "vendor_id_raw": "AuthenticAMD", "family": 23, "model": 113}, 32),
        ({"flags": ["avx2", "fma"], "vendor_id_raw": "GenuineIntel", "family": 6, "model": 0xBE}, 16),
        ({"flags": ["avx512f"], "vendor_id_raw": "AuthenticAMD", "family": 26, "model": 0x24}, 32),
    ],
    ids=["Cascade Lake Silver", "Cascade Lake Gold", "Skylake-X", "Rocket Lake", "Zen", "Zen 2", "N100", "Strix Point"],
)
def test_halves_of_instruction_sets(info: dict, fp32: int) -> None:
    assert instruction_set(info).fp32 == fp32


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("rtx4090", "fp32", 82.6e12),
        ("jetson-agx-orin-64gb", "fp32", 5.3e12),
        ("h200-sxm", "bf16", 989e12),
        ("server-xeon-8380", "fp32", 40 * 2.3e9 * 64),
        ("raspberry-pi-4", "fp32", 48e9),
        ("edge-tpu", "int8", 4e12),
        ("server-epyc-7763", "fp16", 64 * 2.45e9 * 32),
    ],
)
def test_peaks_by_precision(name: str, precision: str, peak: float) -> None:
    assert device(name).peak(precision) == pytest.approx(peak, rel=0.01)


def test_every_record_is_whole() -> None:
    for record in devices().values():
        assert record.memory_bytes_per_s, record.name
        assert record.idle_w is not None
        assert record.idle_w < record.power_w
        assert record.caches_bytes
        assert len(record.source) > 20
        assert max(record.peaks_flops_per_s.values(), default=record.peak_flops_per_s) >= record.peak_flops_per_s
    with pytest.raises(UserError, match="quantise"):
        device("edge-tpu").peak("fp32")


@pytest.mark.parametrize("field", ["clock_hz", "power_w", "cores", "flops_per_clock"])
def test_zero_figures_are_refused(field: str) -> None:
    with pytest.raises(UserError, match=field):
        Device.parse({**PAPER_CPU.model_dump(), field: 0}, "device")
