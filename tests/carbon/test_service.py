"""The chain of a language-model service: costs per token, rows of the footprint, and materiality."""

from typing import Any

import numpy as np
import pytest

from carbon import CarbonIntensity, Site, carbon_intensity, embodied_carbon
from carbon.aolo.oracle import solve
from carbon.aolo.service import Quality, RadioChannel, Service, materiality
from carbon.aolo.token_costs import TokenCosts, ecologits_costs, flop_costs
from leanrx_core.errors import UserError

WORLD = carbon_intensity("world-2023")
DOWNLINK = RadioChannel(
    bandwidth_hz=10e6, path_loss_db=110, static_w=84, slope=2.8, min_power_w=0.1, max_power_w=20, fading="none"
)
UPLINK = RadioChannel(
    bandwidth_hz=1e6, path_loss_db=110, static_w=0, slope=1 / 0.35, min_power_w=0.001, max_power_w=0.2
)


def _service(**changes: Any) -> Service:
    values: dict[str, Any] = {
        "costs": ecologits_costs(8, 8),
        "data_centre": Site(intensity=WORLD, pue=1.2),
        "hardware": embodied_carbon("NVIDIA H100"),
        "downlink": DOWNLINK,
        "ran": Site(intensity=WORLD),
    }
    return Service(**{**values, **changes})


@pytest.mark.parametrize(
    ("billions", "kwh", "operational_mg", "embodied_mg"),
    [(8, 2.67458e-5, 12.865, 2.1907), (70, 1.97259e-4, 94.881, 16.979)],
)
def test_regression_of_ecologits(billions: float, kwh: float, operational_mg: float, embodied_mg: float) -> None:
    """300 tokens at PUE 1.2 and 481 g/kWh, as EcoLogits 0.11.3 computes them."""
    costs = ecologits_costs(billions, billions)
    assert 300 * costs.decode_j * 1.2 / 3.6e6 == pytest.approx(kwh, rel=1e-5)
    rows = _service(costs=costs).footprint(0, 300, 1.0).sums("stage")
    assert 1e3 * (rows["decode"] or 0) == pytest.approx(operational_mg, rel=5e-5)
    assert 1e3 * (rows["embodied, decode"] or 0) == pytest.approx(embodied_mg, rel=5e-5)


def test_costs_by_operations_by_hand() -> None:
    """1e12 FLOP/s peak, a billion parameters: 2 ms a prompt token at full efficiency, 20 ms at a tenth."""
    costs = flop_costs(1, 1, 1e12, prefill_efficiency=1.0, decode_efficiency=0.1, device_power_w=100)
    assert (costs.prefill_s, costs.decode_s, costs.prefill_j, costs.decode_j) == pytest.approx((0.002, 0.02, 0.2, 2.0))
    assert costs.scaled(0.1).decode_j == pytest.approx(0.2)
    assert costs.scaled(0.1).decode_s == costs.decode_s
    with pytest.raises(UserError, match="decode_efficiency: 0 is not allowed"):
        flop_costs(1, 1, 1e12, 1.0, 0, 100)
    with pytest.raises(UserError, match="active_billions: -8"):
        ecologits_costs(-8, 8)


def test_every_link_of_the_chain_is_a_row() -> None:
    costs = flop_costs(8, 1, 1e15, prefill_efficiency=0.4, decode_efficiency=0.02, device_power_w=700)
    parts = {"uplink": UPLINK, "user": Site(intensity=WORLD), "reception_w": 110.0, "transport_j_per_bit": 1e-8}
    service = _service(costs=costs, **parts)
    footprint = service.footprint(prompt_tokens=100, tokens=200, power_w=6.8)
    assert [(row.stage, row.component, row.scope) for row in footprint.rows] == [
        ("prompt uplink", "user device", 3),
        ("base-station reception", "RAN", 2),
        ("prompt transport", "core", 2),
        ("prefill", "edge/cloud", 2),
        ("embodied, prefill", "edge/cloud", 3),
        ("decode", "edge/cloud", 2),
        ("response transport", "core", 2),
        ("embodied, decode", "edge/cloud", 3),
        ("response downlink", "RAN", 2),
    ]
    assert not footprint.not_modelled
    rows = footprint.sums("stage")
    uplink_s = 3200 / (1e6 * np.log2(1 + 0.2 * UPLINK.snr_per_w))
    assert rows["prompt uplink"] == pytest.approx(0.2 / 0.35 * uplink_s / 3.6e6 * 481)
    assert rows["base-station reception"] == pytest.approx(110 * uplink_s / 3.6e6 * 481)
    assert rows["response transport"] == pytest.approx(6400 * 1e-8 / 3.6e6 * 481)
    assert sum(row.g or 0 for row in footprint.rows) == pytest.approx(footprint.total_g, rel=1e-12)


def test_what_the_service_does_not_model_is_said() -> None:
    footprint = _service(hardware=None).footprint(100, 200, 6.8)
    assert footprint.not_modelled == [
        "prompt uplink",
        "base-station reception",
        "prompt transport",
        "prefill",
        "embodied, prefill",
        "response transport",
        "embodied, decode",
    ]
    with pytest.raises(UserError, match="user: missing"):
        _service(uplink=UPLINK).footprint(100, 200, 6.8)


def test_request_and_footprint_agree() -> None:
    service = _service(uplink=UPLINK, user=Site(intensity=WORLD), transport_j_per_bit=1e-8)
    request = service.request(100, Quality(min_quality=0.6))
    optimum = solve(request)
    rows = service.footprint(100, int(optimum.tokens[0]), float(optimum.power_w[0]))
    assert optimum.footprint_g[0] == pytest.approx(rows.total_g, rel=1e-12)


@pytest.mark.parametrize("factor", [0.1, 1, 10])
def test_transmission_hardly_matters_for_text(factor: float) -> None:
    """0.321 J a token, 201 tokens at 110 dB: 1.32e-4 of the footprint, a half at 241.6 kbit a token."""
    token = TokenCosts(name="x", decode_j=0.321, decode_s=0, decode_device_s=0)
    unit = Site(intensity=CarbonIntensity(name="unit", place="x", year=2026, g_per_kwh=3.6e6, source="x"))
    service = _service(costs=token.scaled(factor), data_centre=unit, ran=unit, hardware=None)
    # The quality needs 201 of 512 tokens.
    quality = Quality(min_quality=float(np.log1p(201 / 32) / np.log1p(16)))
    result = materiality(service.request(0, quality))
    if factor == 1:
        assert result.transmission_fraction == pytest.approx(1.32e-4, rel=0.01)
        assert result.half_bits == pytest.approx(241.6e3, rel=0.01)
    assert result.transmission_fraction < 2e-3
    assert result.text().startswith("The choice of power changes the total by")
    assert "under 1 %" in result.text()


def test_crossed_bounds_are_refused() -> None:
    with pytest.raises(UserError, match="min_tokens 600 is above max_tokens 512; write less"):
        Quality.parse({"min_tokens": 600}, "quality")
    channel = {"bandwidth_hz": 10e6, "path_loss_db": 110, "static_w": 84, "slope": 2.8}
    with pytest.raises(UserError, match="min_power_w 30 is above max_power_w 20; write less"):
        RadioChannel.parse({**channel, "min_power_w": 30, "max_power_w": 20}, "channel")


def test_intensities_of_zero_are_refused() -> None:
    zero = Site(intensity=WORLD.model_copy(update={"name": "zero", "g_per_kwh": 0.0}))
    values = {"costs": ecologits_costs(8, 8), "data_centre": zero, "downlink": DOWNLINK, "ran": zero}
    with pytest.raises(UserError, match="intensity zero is 0 g/kWh; give one above 0"):
        Service.parse(values, "service")


def test_infeasible_request_has_no_materiality() -> None:
    with pytest.raises(UserError, match="infeasible by its deadline"):
        materiality(_service().request(100, Quality(deadline_s=0.5)))


def test_two_bases_in_one_chain_are_refused() -> None:
    with pytest.raises(UserError, match="two bases"):
        _service(ran=Site(intensity=carbon_intensity("US-VT-2023"))).footprint(1, 200, 1.0)
    with pytest.raises(UserError, match="two bases"):
        _service(ran=Site(intensity=carbon_intensity("US-VT-2023"))).request(1, Quality())
