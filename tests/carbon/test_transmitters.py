"""Consumption of transmitters by hand."""

import pytest

from carbon.transmitters import amplifier, earth_station, nr_station
from leanrx_core.errors import UserError


def test_stations_of_earth() -> None:
    macro = earth_station("macro")
    assert macro.consumed_w(20.0) == 1344  # 6 (130 + 4.7 x 20)
    assert macro.consumed_w(0.0) == 450  # asleep
    chain = earth_station("radio head").transmitter()
    assert (chain.consumed_w(20.0), chain.load_w(20.0)) == pytest.approx((140, 56))
    assert earth_station("macro").transmitter(chains=6).consumed_w(120.0) == pytest.approx(1344)
    with pytest.raises(UserError, match="output_w: 21"):
        macro.consumed_w(21.0)


def test_stations_of_tr_38_864() -> None:
    station = nr_station("category 1, set 1")
    assert [station.downlink_units(power=p) for p in (1, 0.5, 0.25)] == pytest.approx([280, 212.5, 178.75], abs=1e-12)
    assert station.uplink_units() == 110
    assert station.downlink_units(active=0) == station.uplink_units(active=0) == 55
    assert station.downlink_units(bandwidth=0.5) == station.downlink_units(power=0.5)
    units = {(c, s): nr_station(f"category {c}, set {s}").units for c in (1, 2) for s in (1, 2, 3)}
    assert units == {
        (1, 1): (1, 25, 55, 280, 110),
        (1, 2): (1, 25, 50, 200, 90),
        (1, 3): (1, 25, 38, 152, 80),
        (2, 1): (1, 2.1, 5.5, 32, 6.5),
        (2, 2): (1, 2.1, 5, 26, 5.8),
        (2, 3): (1, 2.1, 3, 17.6, 4.2),
    }


def test_affine_form_of_a_station() -> None:
    """11 kW at full load, of which 48 % follow the amplifier."""
    macro = nr_station("category 1, set 1").transmitter(watts_per_unit=39.29, max_output_w=949)
    assert macro.consumed_w(949) == pytest.approx(11_000, rel=1e-3)
    assert macro.load_w(949) / macro.consumed_w(949) == pytest.approx(135 / 280)
    assert macro.consumed_w(949 / 2) == pytest.approx(39.29 * 212.5)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: amplifier(23, 0.0), "efficiency: 0.0 is not allowed"),
        (lambda: amplifier(23, 1.5), "efficiency: 1.5 is not allowed"),
        (lambda: earth_station("giga"), "no station 'giga' in earth-2011; choose from macro"),
        (lambda: nr_station("set 1"), "no station 'set 1' in tr38864"),
        (lambda: nr_station("category 1, set 1").downlink_units(power=1.1), "power: 1.1 is not allowed"),
        (lambda: nr_station("category 1, set 1").transmitter(-1, 1), "watts_per_unit: -1 is not allowed"),
    ],
)
def test_impossible_stations_are_refused(call, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        call()
