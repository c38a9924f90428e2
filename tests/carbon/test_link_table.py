"""Receiver and transmit power: the shipped receivers on three links, closed forms, and what is refused."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carbon import Site, carbon_intensity
from carbon.block_power import block_optima
from carbon.link_table import (
    CarrierLink,
    LinkCase,
    break_even_powers,
    carrier_link,
    choose,
    link_table,
)
from carbon.receiver_options import ErrorCurve, ReceiverFamily, ReceiverOption, error_curve, pooled_sd, zoo_family
from carbon.transmitters import amplifier, earth_station, nr_station
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.evaluation.error_counts import Counts

WORLD = Site(intensity=carbon_intensity("world-2023"))
W5, W13, W64 = (f"tdl-6prb-hybrid-{name}" for name in ("w5-d5-kd", "w13-d8-kd", "w64-d8"))


@pytest.fixture(scope="module")
def desk() -> ReceiverFamily:
    """LMMSE, two students and the teacher of the shipped family."""
    family = zoo_family("tdl-6prb")
    return replace(family, options=tuple(o for o in family.options if o.name in ("LMMSE", W5, W13, W64)))


def _case(link: str = "radio-head", **changes: Any) -> LinkCase:
    return LinkCase(link=carrier_link(link), receiver_site=WORLD, transmitter_site=WORLD, **changes)


@pytest.mark.parametrize(
    ("name", "joules_mj", "at_10_percent", "at_1_percent"),
    [("LMMSE", 0.072, 17.59, math.nan), (W5, 0.55, 7.09, 16.10), (W13, 1.73, 6.42, 14.30), (W64, 12.5, 6.22, 14.00)],
)
def test_shipped_receivers(
    desk: ReceiverFamily, name: str, joules_mj: float, at_10_percent: float, at_1_percent: float
) -> None:
    option = next(o for o in desk.options if o.name == name)
    assert 1e3 * option.energy_j == pytest.approx(joules_mj, rel=0.03)
    for target, expected in ((0.1, at_10_percent), (0.01, at_1_percent)):
        value, low, high = option.bits.required_sinr_db(target)
        assert value == pytest.approx(expected, abs=0.02, nan_ok=True)
        assert math.isnan(value) or low < value < high
    low_j, high_j = option.energy_interval_j
    assert low_j < option.energy_j < high_j
    assert option.provenance == "modelled"


@pytest.mark.parametrize("name", [W5, W13, W64])
def test_required_sinrs_follow_from_the_shipped_counts(desk: ReceiverFamily, name: str) -> None:
    """By linear interpolation of the logarithm of the BER over dB, between the points without interference."""
    option = next(o for o in desk.options if o.name == name)
    points = sorted((p.sinr_db, p.counts.ber) for p in zoo.results(name).points if p.interference_fraction == 0)
    sinr_db, ber = np.array(points).T
    for target in (0.1, 0.01):
        expected = np.interp(-np.log10(target), -np.log10(ber), sinr_db)
        assert option.bits.required_sinr_db(target)[0] == pytest.approx(expected, abs=0.02)


def test_break_even_of_the_shipped_receivers(desk: ReceiverFamily) -> None:
    first, *_ = break_even_powers(desk, 0.1)
    assert (first.smaller, first.larger) == ("LMMSE", W5)
    assert first.consumed_w == pytest.approx(0.524, rel=0.03)
    pairs = break_even_powers(desk, 0.01)
    assert [(p.smaller, p.larger) for p in pairs] == [(W5, W13), (W13, W64)]
    assert [p.consumed_w for p in pairs] == pytest.approx([3.49, 161], rel=0.03)


def test_break_even_has_one_receiver_of_each_architecture(desk: ReceiverFamily) -> None:
    """A second set of weights of one architecture, metered 1 % lower and needing more SINR, is no smaller receiver."""
    w13 = next(o for o in desk.options if o.name == W13)
    worse = replace(w13.bits, sinr_db=w13.bits.sinr_db + 0.5)
    twin = replace(w13, name="twin", energy_j=0.99 * w13.energy_j, bits=worse)
    assert twin.network == w13.network
    with_twin = replace(desk, options=(*desk.options, twin))
    assert break_even_powers(with_twin, 0.01) == break_even_powers(desk, 0.01)


@pytest.mark.parametrize(("link", "consumed_w"), [("uplink-ue", 0.57), ("radio-head", 6.7), ("nr-macro", 117)])
def test_full_power_of_six_blocks(link: str, consumed_w: float) -> None:
    record = carrier_link(link)
    assert record.transmitter.load_w(record.max_output_w(6)) == pytest.approx(consumed_w, rel=0.01)


def test_preset_links_are_the_presets_of_transmitters() -> None:
    assert carrier_link("uplink-ue").transmitter.slope == pytest.approx(amplifier(23, 0.35).slope)
    assert carrier_link("uplink-ue").transmitter.max_output_w == pytest.approx(amplifier(23, 0.35).max_output_w)
    head = earth_station("radio head").transmitter()
    macro = nr_station("category 1, set 1").transmitter(39.29, 949)
    for name, expected in (("radio-head", head), ("nr-macro", macro)):
        shipped = carrier_link(name).transmitter
        assert (shipped.static_w, shipped.slope) == pytest.approx((expected.static_w, expected.slope))
        assert shipped.max_output_w == expected.max_output_w


@pytest.mark.parametrize(
    ("link", "ber", "winner"),
    [
        ("uplink-ue", 0.1, W5),
        ("radio-head", 0.1, W5),
        ("uplink-ue", 0.01, W5),
        ("radio-head", 0.01, W13),
        ("nr-macro", 0.01, W13),
    ],
)
def test_choice_on_the_preset_links(desk: ReceiverFamily, link: str, ber: float, winner: str) -> None:
    table = link_table(desk, _case(link, target=ber))
    assert table.choice is not None
    assert table.choice.receiver == winner
    verdicts = {row.receiver: row.verdict for row in table.rows}
    assert verdicts["LMMSE"] == ("error floor above the target" if ber == 0.01 else verdicts["LMMSE"])
    assert table.choice.slot_g == min(row.slot_g for row in table.rows if not math.isnan(row.slot_g))


@pytest.mark.parametrize(("deadline_s", "slow", "winner"), [(0.3e-3, {W13, W64}, W5), (1e-3, {W64}, W13)])
def test_deadline_refuses_slow_receivers_by_name(
    desk: ReceiverFamily, deadline_s: float, slow: set[str], winner: str
) -> None:
    table = link_table(desk, _case("nr-macro", deadline_s=deadline_s))
    assert {row.receiver for row in table.rows if row.verdict == "too slow"} == slow
    assert table.choice is not None
    assert table.choice.receiver == winner


def test_rows_by_hand(desk: ReceiverFamily) -> None:
    """-174 dBm/Hz + 9 dB over 6 x 180 kHz, 16.14 dB, 110 dB: 0.1405 W, 0.393 mJ in a slot of 1 ms.

    The BLER is 100 of 8,384 at 15 dB and 102 of 13,888 at 16.5 dB, so 0.0084 between.
    """
    row = next(r for r in link_table(desk, _case(path_loss_db=110.0)).rows if r.receiver == W5)
    output_w = 10 ** ((-174 + 9 + 10 * math.log10(6 * 180e3) + row.sinr_db + 110) / 10 - 3)
    assert row.output_w == pytest.approx(output_w)
    assert row.sent_j == pytest.approx(2.8 * output_w * 1e-3)
    assert row.slot_g == pytest.approx((row.sent_j + row.received_j) / 3.6e6 * 481)
    assert row.correct_bit_g == pytest.approx(row.slot_g / (3744 * 0.99))
    assert row.correct_block_g == pytest.approx(row.slot_g / (1 - 0.0084), rel=1e-4)


def test_own_power_moves_the_sinr_db_for_db_with_held_neighbours(desk: ReceiverFamily) -> None:
    """Noise plus neighbours are constant, so the power is affine in dB, with and without interference."""
    for fraction in (0.0, 0.8):
        family = replace(desk, interference_fraction=fraction)
        near, far = (link_table(family, _case(path_loss_db=loss)) for loss in (100.0, 101.0))
        powers = [{row.receiver: row.output_w for row in table.rows} for table in (near, far)]
        for option in desk.options[:3]:
            name = option.name
            if not math.isnan(powers[0][name]):
                assert 10 * math.log10(powers[1][name] / powers[0][name]) == pytest.approx(1.0)
    noise_dbm = -174 + 9 + 10 * math.log10(6 * 180e3)
    link = carrier_link("radio-head")
    for fraction, rise_db in ((0.0, 0.0), (0.8, 6.99)):  # 1 / (1 - 0.8) is five
        held_w = link.noise_w(replace(desk, interference_fraction=fraction))
        assert 10 * math.log10(held_w) + 30 == pytest.approx(noise_dbm + rise_db, abs=0.01)


def test_interference_raises_the_power(desk: ReceiverFamily) -> None:
    crowded = replace(desk, interference_fraction=0.8)
    quiet, loud = (link_table(f, _case(path_loss_db=100.0)).rows for f in (desk, crowded))
    assert loud[0].sent_j == pytest.approx(5 * quiet[0].sent_j)


def test_power_above_the_limit(desk: ReceiverFamily) -> None:
    table = link_table(desk, _case("uplink-ue", path_loss_db=116.0))
    verdicts = {row.receiver: row.verdict for row in table.rows}
    assert verdicts[W5] == "power above the limit"
    assert verdicts[W64] == "more carbon"
    assert table.choice is not None
    assert table.choice.receiver == W13
    far = link_table(desk, _case("uplink-ue", path_loss_db=140.0))
    assert far.choice is None
    assert not far.is_distinct


def test_million_links_agree_with_the_table(desk: ReceiverFamily) -> None:
    losses = np.linspace(80, 140, 1_000_000)
    case = _case("nr-macro")
    sinrs = [o.bits.required_sinr_db(0.01)[0] for o in desk.options]
    received = [WORLD.operational_g(o.energy_j) for o in desk.options]
    watt_g = case.link.transmitter.slope * desk.slot_s * WORLD.operational_g(1.0)
    output = case.link.noise_w(desk) * 10 ** (losses / 10)
    begin = time.process_time()
    winners = choose(sinrs, received, watt_g, output, case.link.max_output_w(6))
    assert time.process_time() - begin < 10
    for index in range(0, 1_000_000, 99_999):
        choice = link_table(desk, replace(case, path_loss_db=float(losses[index]))).choice
        assert (desk.options[winners[index]].name if winners[index] >= 0 else None) == (choice and choice.receiver)


def _coded_family() -> ReceiverFamily:
    """Two receivers with BLER 10^(-(s + gain) / 5) over 0 to 20 dB."""
    sinr_db = np.arange(0.0, 21.0)

    def option(name: str, gain_db: float, energy_j: float) -> ReceiverOption:
        rate = np.minimum(10 ** (-(sinr_db + gain_db) / 5), 1.0)
        curve = ErrorCurve(sinr_db, rate * 1e9, np.full(21, 1e9), rate, rate)
        return ReceiverOption(name, name, curve, curve, 1000.0, energy_j, math.nan, 1e-4, "test", "measured")

    options = (option("small", 0.0, 1e-3), option("large", 3.0, 2e-3))
    return ReceiverFamily("coded", options, num_prb=6, subcarrier_spacing_hz=15e3, interference_fraction=0.0)


def test_power_for_transport_blocks_has_an_interior_minimum() -> None:
    """For BLER exp(-a s), the minimum of (E + k 10^(s / 10)) / (1 - BLER) is compared with a scan of its own."""
    family, case = _coded_family(), _case("radio-head", metric="BLER", target=0.1)
    optima = block_optima(family, case, path_loss_db=115.0)
    assert len(optima) == 2
    for optimum in optima:
        gain, energy_j = (0.0, 1e-3) if optimum.receiver == "small" else (3.0, 2e-3)
        s = np.linspace(0.001, 20, 200_001)
        output_w = case.link.noise_w(family) * 10 ** ((115.0 + s) / 10)
        joules = (2.8 * output_w * 1e-3 + energy_j) / (1 - 10 ** (-(s + gain) / 5))
        best = int(joules.argmin())
        assert optimum.is_interior
        assert optimum.sinr_db == pytest.approx(s[best], abs=0.02)
        assert optimum.block_g == pytest.approx(joules[best] / 3.6e6 * 481, rel=1e-4)
        assert optimum.bler == pytest.approx(10 ** (-(s[best] + gain) / 5), rel=0.01)
    table = link_table(family, case)
    assert table.rows[0].correct_block_g == pytest.approx(table.rows[0].slot_g / 0.9)


def test_repeatability_from_equal_networks() -> None:
    assert pooled_sd([("a", 1.0), ("a", math.exp(0.2))]) == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(pooled_sd([("a", 1.0), ("b", 2.0)]))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target": 1.5}, "target BER 1.5 is not allowed"),
        ({"deadline_s": 0.0}, "deadline_s: 0.0 is not allowed"),
        ({"path_loss_db": -3.0}, "path_loss_db: -3.0 is not allowed"),
        ({"path_loss_db": 1e9}, "path_loss_db: 1000000000.0 is not allowed; give a number from 0 to 300"),
        ({"target": 1e-6}, "no receiver of tdl-6prb reaches BER 1e-06; raise the target"),
        ({"deadline_s": 1e-5}, "reaches BER 0.01 within 0.01 ms"),
    ],
)
def test_impossible_cases_are_refused(desk: ReceiverFamily, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        link_table(desk, _case(**changes))


def test_a_target_bler_needs_counted_blocks(desk: ReceiverFamily) -> None:
    uncoded = replace(desk, options=tuple(replace(option, blocks=None) for option in desk.options))
    with pytest.raises(UserError, match=r"no counted transport blocks; set evaluation\.code_rate"):
        link_table(uncoded, _case(metric="BLER", target=0.1))


def test_two_bases_and_an_intensity_of_zero_are_refused() -> None:
    with pytest.raises(UserError, match="two intensities have the bases 'production, average, life cycle' and"):
        LinkCase(carrier_link("radio-head"), WORLD, Site(intensity=carbon_intensity("US-VT-2023")))
    zero = WORLD.intensity.model_copy(update={"name": "zero", "g_per_kwh": 0.0})
    with pytest.raises(UserError, match=r"link: intensity zero: 0\.0 is not allowed"):
        LinkCase(carrier_link("radio-head"), Site(intensity=zero), WORLD)


def test_unknown_families_links_and_fractions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder and no family 'x' in the zoo; families: "):
        zoo_family("x")
    with pytest.raises(UserError, match=r"interference fraction 0\.5 was not tested; choose from 0, 0.8"):
        zoo_family("tdl-6prb", 0.5)
    with pytest.raises(UserError, match="no link and no file 'x'; choose from uplink-ue"):
        carrier_link("x")
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\ntransmitter: {name: own, max_output_w: 1, slope: 2, source: own}\ncarrier_prb: 3\n"
        "noise_figure_db: 5\n"
    )
    own = carrier_link(str(path))
    assert isinstance(own, CarrierLink)
    with pytest.raises(UserError, match="carrier_prb: 3 is below the 6 resource blocks"):
        own.max_output_w(6)
    path.write_text(path.read_text().replace("slope: 2", "slope: 0"))
    with pytest.raises(UserError, match=r"transmitter\.slope"):
        carrier_link(str(path))


def test_a_curve_needs_two_points_and_blocks_where_they_are_asked_for() -> None:
    counts = Counts(slots=10, bits=1000, bit_errors=100, slot_errors=10, bit_errors_sq=1100, bits_sq=100_000)
    with pytest.raises(UserError, match="1 test points"):
        error_curve({0.0: counts})
    with pytest.raises(UserError, match="no transport blocks were counted"):
        error_curve({0.0: counts, 1.0: counts}, blocks=True)
