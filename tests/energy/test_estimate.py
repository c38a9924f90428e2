import pytest

from channels import UserError
from energy.devices import Device, device, devices, gpu
from energy.estimate import estimates, flops_per_clock, flops_per_watt

PAPER_CPU = Device(name="x", cores=4, clock_hz=2e9, flops_per_clock=16, power_w=10, source="made up")


def test_flops_per_clock() -> None:
    estimate = flops_per_clock(128e9, PAPER_CPU)
    assert (estimate.duration_s, estimate.energy_j) == pytest.approx((1.0, 10.0))


def test_flops_per_watt_uses_the_timed_rate_where_there_is_one() -> None:
    assert flops_per_watt(128e9, PAPER_CPU).energy_j == pytest.approx(10.0)
    timed = PAPER_CPU.model_copy(update={"matmul_flops_per_s": 64e9})
    estimate = flops_per_watt(128e9, timed)
    assert (estimate.duration_s, estimate.energy_j) == pytest.approx((2.0, 20.0))
    assert "timed" in estimate.assumption
    assert len(estimates(1.0, timed)) == 2


def test_named_devices_reach_their_data_sheets() -> None:
    assert devices()["a100-sxm-80gb"].peak_flops_per_s == pytest.approx(19.5e12, rel=0.01)
    assert devices()["h100-sxm"].peak_flops_per_s == pytest.approx(67e12, rel=0.01)
    with pytest.raises(UserError, match="not known"):
        device("abacus")


def test_gpus_are_found_by_their_drivers_name() -> None:
    assert gpu("NVIDIA A100-SXM4-80GB").name == "a100-sxm-80gb"
    assert gpu("NVIDIA H200").name == "h200-sxm"
    with pytest.raises(UserError, match="no record"):
        gpu("Voodoo 2")


def test_the_host_is_recognised_and_timed() -> None:
    found = device("host")
    assert found.matmul_flops_per_s is not None
    assert found.matmul_flops_per_s > 0
    assert 1e8 < found.clock_hz < 1e10


@pytest.mark.parametrize("field", ["clock_hz", "power_w", "cores", "flops_per_clock"])
def test_zero_figures_are_refused(field: str) -> None:
    with pytest.raises(UserError, match=field):
        Device.parse({**PAPER_CPU.model_dump(), field: 0}, "device")
