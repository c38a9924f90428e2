"""Estimators against machines whose laws are known, and the scores of agreement against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy.counting.profile import Layer, OperationProfile
from energy.estimation.estimate import MeteredCall
from energy.estimation.estimators import ESTIMATORS
from energy.estimation.flops import FlopsPerClock, FlopsPerWatt
from energy.estimation.per_operation import PerOperation
from energy.estimation.roofline import Roofline
from energy.estimation.validation import leave_one_out, scores, validation_table
from energy.hardware.detect import device
from energy.hardware.devices import Device
from leanrx_core.errors import UserError

MACHINE = Device(
    name="machine",
    cores=2,
    clock_hz=1e9,
    flops_per_clock=10,
    power_w=30,
    idle_w=5,
    memory_bytes_per_s=4e9,
    source="made up",
)


def work(*layers: tuple[str, int, int], name: str = "net", precision: str = "fp32") -> OperationProfile:
    """From kinds, MACs and bytes."""
    return OperationProfile(
        name, precision, 1, tuple(Layer(f"{i}", k, k, "forward", 0, m, 0, b, 0) for i, (k, m, b) in enumerate(layers))
    )


def family(n: int, seed: int = 1) -> list[OperationProfile]:
    """Nets of growing width, some with many thin layers, some with few thick ones."""
    rng = np.random.default_rng(seed)
    nets = []
    for i in range(n):
        width = 2 ** (i * 7 / n) * 8
        depth = int(rng.integers(3, 12))
        nets.append(
            work(
                *(("dense", int(4000 * width**2), int(32000 * width)) for _ in range(depth)),
                *(("grouped", int(36000 * width), int(48000 * width)) for _ in range(depth)),
                *(("elementwise", 0, int(32000 * width)) for _ in range(depth)),
                name=f"net {i}",
            )
        )
    return nets


def test_the_roofline_by_hand() -> None:
    net = work(("dense", 10**9, 10**6), ("elementwise", 0, 4 * 10**8), ("grouped", 10**7, 2 * 10**7))
    bare = Roofline().estimate(net, MACHINE)
    assert bare.duration_s == pytest.approx(0.1 + 0.1 + 0.005)
    assert bare.energy_j == pytest.approx(30 * 0.205)
    assert bare.relative_sd is None
    slow = Roofline(dense=0.5, grouped=0.1, memory=2.0, overhead_s=1e-3, overhead_call_s=2e-3)
    assert slow.estimate(net, MACHINE).duration_s == pytest.approx(0.2 + 0.05 + 0.01 + 3e-3 + 2e-3)
    assert slow.estimate(net, MACHINE).energy_j == pytest.approx(30 * 0.26 + 5 * 5e-3)
    assert "19% of the time in layers bound by memory" in slow.estimate(net, MACHINE).assumption


def test_the_roofline_never_lies_below_the_naive_estimate() -> None:
    for net in family(6):
        assert Roofline().estimate(net, MACHINE).duration_s >= FlopsPerClock().estimate(net, MACHINE).duration_s


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.floats(0.1, 0.9), st.floats(0.02, 0.3), st.floats(0.3, 3), st.floats(1e-6, 1e-4))
def test_a_fit_finds_the_law_that_made_the_times(
    dense: float, grouped: float, memory: float, overhead_s: float
) -> None:
    law = Roofline(dense, grouped, memory, overhead_s)
    seen = [MeteredCall(w.name, "eager", w, law.estimate(w, MACHINE).duration_s) for w in family(12)]
    fit = Roofline().fitted(seen[::2], MACHINE)
    errors = [abs(fit.estimate(o.profile, MACHINE).duration_s / o.duration_s - 1) for o in seen]
    assert max(errors) < 0.1, "receivers that it was not fitted to, too"
    assert fit.relative_sd is not None
    assert fit.relative_sd < 0.15, "six points, five parameters"


def test_utilisation_is_the_geometric_mean() -> None:
    nets = family(4)
    seen = [
        MeteredCall(w.name, "eager", w, FlopsPerClock().estimate(w, MACHINE).duration_s * slower)
        for w, slower in zip(nets, (2, 4, 8, 1), strict=True)
    ]
    fit = FlopsPerClock().fitted(seen, MACHINE)
    assert fit.utilisation == pytest.approx(2 ** (-6 / 4))
    assert fit.name == "FLOPs/clock, fitted"
    assert fit.relative_sd == pytest.approx(math.sqrt(sum((math.log(2) * d) ** 2 for d in (0.5, 0.5, 1.5, 1.5)) / 3))
    assert fit.estimate(nets[0], MACHINE).duration_s == pytest.approx(
        FlopsPerClock().estimate(nets[0], MACHINE).duration_s * 2**1.5
    )
    assert "used" in fit.estimate(nets[0], MACHINE).assumption
    with pytest.raises(UserError, match="no metered calls"):
        Roofline().fitted([], MACHINE)


def test_power_is_learnt_from_measured_joules_only() -> None:
    law = Roofline(0.5, 0.1, 1.0, 1e-5, 1e-5, j_per_flop=2e-11, j_per_byte=3e-10, idle_w=7.0)
    seen = []
    for net in family(10):
        made = law.estimate(net, MACHINE)
        seen.append(MeteredCall(net.name, "eager", net, made.duration_s, made.energy_j, "measured"))
    fit = Roofline().fitted(seen[::2], MACHINE)
    errors = [abs(fit.estimate(o.profile, MACHINE).energy_j / (o.energy_j or 1) - 1) for o in seen]
    assert max(errors) < 0.05
    assert Roofline().fitted([replace(o, provenance="modelled") for o in seen], MACHINE).idle_w is None


def test_precisions() -> None:
    eight = work(("dense", 10**9, 10**6), precision="int8")
    fast = MACHINE.model_copy(update={"peaks_flops_per_s": {"int8": 80e9}})
    assert FlopsPerClock().estimate(eight, fast).duration_s == pytest.approx(2e9 / 80e9)
    assert FlopsPerClock().estimate(eight, MACHINE).duration_s == pytest.approx(2e9 / 20e9)
    with pytest.raises(UserError, match="quantise"):
        FlopsPerClock().estimate(work(("dense", 1, 1)), device("edge-tpu"))
    with pytest.raises(UserError, match="bandwidth"):
        Roofline().estimate(eight, MACHINE.model_copy(update={"memory_bytes_per_s": None}))


def test_45_nm() -> None:
    net = work(("dense", 1000, 800))
    low, high = PerOperation().bounds_j(net)
    assert low == pytest.approx(1000 * 4.6e-12 + 100 * 100e-12)
    assert high == pytest.approx(1000 * 4.6e-12 + 100 * 2.6e-9)
    made = PerOperation().estimate(net, MACHINE)
    assert low < made.energy_j < high
    assert math.isnan(made.duration_s)
    assert low == pytest.approx(made.energy_j / (1 + (made.relative_sd or 0)))
    assert PerOperation().bounds_j(work(("dense", 1000, 0), precision="int8"))[0] == pytest.approx(0.3e-9)
    half = work(("dense", 10**6, 10**6), precision="bf16")
    with pytest.raises(UserError, match="bf16"):
        PerOperation().bounds_j(half)
    seen = [MeteredCall("a", "eager-bf16", half, 1.0), MeteredCall("b", "eager-bf16", work(("dense", 2, 2)), 1.0)]
    rows = validation_table(leave_one_out(seen, MACHINE)).set_index(["receiver", "estimator"])
    assert math.isnan(rows.loc[("a", "per operation"), "estimated_j"]), "says nothing, and stops no other"
    assert rows.loc[("a", "roofline"), "estimated_s"] > 0


def test_no_estimator_is_scored_on_what_it_was_fitted_to() -> None:
    """The time of a receiver with a law of its own cannot be estimated from the others."""
    law = Roofline(0.5, 0.1, 1.0, 1e-5)
    seen = [MeteredCall(w.name, "eager", w, law.estimate(w, MACHINE).duration_s) for w in family(8)]
    seen[3] = replace(seen[3], duration_s=10 * seen[3].duration_s)
    rows = validation_table(leave_one_out(seen, MACHINE))
    odd = rows[(rows["receiver"] == "net 3") & (rows["estimator"] == "roofline, fitted")].iloc[0]
    assert odd["estimated_s"] / odd["metered_s"] == pytest.approx(0.1, rel=0.05)
    both = rows[rows["receiver"] == "net 2"]["estimator"]
    assert set(both) == {
        "FLOPs/W",
        "FLOPs/W, fitted",
        "FLOPs/clock",
        "FLOPs/clock, fitted",
        "roofline",
        "roofline, fitted",
        "per operation",
    }


def test_equal_networks_are_left_out_together() -> None:
    """A student and its scratch baseline are one network: a fit to one of them determines the other."""
    law = Roofline(0.5, 0.1, 1.0, 1e-5)
    seen = [
        MeteredCall(w.name, "eager", replace(w, batch_slots=batch, layers=w.layers * batch), time)
        for w in family(8)
        for batch in (1, 2)
        for time in [law.estimate(replace(w, layers=w.layers * batch), MACHINE).duration_s]
    ]
    odd = [replace(o, duration_s=10 * o.duration_s) for o in seen if o.receiver == "net 3"]
    alone = [o for o in seen if o.receiver != "net 3"] + odd
    together = [*alone, *(replace(o, receiver="baseline of net 3") for o in odd)]
    without, with_baseline = (
        validation_table(leave_one_out(s, MACHINE)).query("receiver == 'net 3'") for s in (alone, together)
    )
    pd.testing.assert_series_equal(
        without["estimated_s"], with_baseline["estimated_s"], check_index=False, obj="estimate for net 3"
    )


def test_runtimes_and_phases_are_calibrated_apart() -> None:
    nets = family(6)
    laws = {"eager": Roofline(0.5, 0.1, 1.0, 1e-5), "onnx-fp32": Roofline(0.9, 0.5, 2.0, 1e-6)}
    seen = [
        MeteredCall(w.name, runtime, w, law.estimate(w, MACHINE).duration_s)
        for runtime, law in laws.items()
        for w in nets
    ]
    found = scores(validation_table(leave_one_out(seen, MACHINE)))
    fitted = found[found["estimator"] == "roofline, fitted"].set_index("runtime")
    assert (fitted["mape_time_percent"] < 10).all()
    assert (fitted["rank_time"] > 0.99).all()
    naive = found[found["estimator"] == "FLOPs/clock"].set_index("runtime")
    assert (naive["mape_time_percent"] > 20).all()
    assert fitted.loc["all", "calls"] == 12
    assert fitted.loc["all", "receivers"] == 6


def test_scores_in_closed_form() -> None:
    nets = family(3)
    seen = [MeteredCall(w.name, "eager", w, 1.0, energy_j=2.0, provenance="measured") for w in nets]
    rows = validation_table(leave_one_out(seen, MACHINE, ESTIMATORS[:1]))
    rows = rows[rows["estimator"] == "FLOPs/W"].assign(
        estimated_s=[1.1, 0.7, 1.0], metered_s=1.0, estimated_j=[2.0, 4.0, 8.0], metered_j=[1.0, 2.0, 4.0]
    )
    found = scores(rows).iloc[0]
    assert found["mape_time_percent"] == pytest.approx(100 * 0.4 / 3)
    assert found["worst_time_percent"] == pytest.approx(30)
    assert found["mape_energy_percent"] == pytest.approx(100)
    assert found["rank_energy"] == pytest.approx(1)


def test_fitted_simple_ones_say_so() -> None:
    assert (
        FlopsPerWatt()
        .fitted([MeteredCall("a", "eager", work(("dense", 10**9, 1)), 1.0)], MACHINE)
        .name.endswith("fitted")
    )
