from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from carbon import CarbonIntensity, Site
from leanrx.experiment.plan import build_plan
from leanrx.experiment.sweep_config import SweepConfig
from leanrx.report import charts
from leanrx.report.comparisons import pareto_front
from leanrx.report.emissions import EmissionBasis, emission_table, emissions
from leanrx.report.results import mape, shared_sinrs_db
from receivers.evaluation.required_sinr import gap_db
from receivers.neural.registry import MARKERS

CONFIG = SweepConfig.parse(
    {
        "label": "x",
        "scenario": "tdl-6prb",
        "students": {"receivers": ["deeprx-d5", "deeprx-d3"], "seeds": [4, 5]},
        "evaluation": {"sinr_db": [0]},
    },
    "x",
)


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    energy = pd.Series([1.0, 2.0, 2.0, 3.0, 4.0])
    ber = pd.Series([0.5, 0.2, 0.3, 0.2, 0.1])
    assert pareto_front(energy, ber).tolist() == [True, True, False, False, True]


def test_mape_by_estimator() -> None:
    table = pd.DataFrame(
        {"estimator": ["a", "a", "b"], "reference_j_per_slot": [1.0, 2.0, 4.0], "estimated_j_per_slot": [0.5, 3.0, 4.0]}
    )
    assert mape(table) == pytest.approx({"a": 50.0, "b": 0.0})


def test_shared_sinrs_leave_out_points_that_one_receiver_lacks() -> None:
    table = pd.DataFrame(
        {
            "interference_fraction": [0.0] * 5 + [0.5],
            "receiver": ["a", "b", "a", "b", "a", "a"],
            "sinr_db": [3.0, 3.0, 0.0, 0.0, 6.0, 9.0],
        }
    )
    assert shared_sinrs_db(table, 0.0) == [0.0, 3.0]


def test_plan_and_scratch_baselines() -> None:
    plan = build_plan(CONFIG)
    assert [r.name for r in plan.neural][:3] == ["teacher", "deeprx-d5-kd-s4", "deeprx-d5-scratch-s4"]
    assert len(plan.neural) == 1 + 2 * 2 * 2
    assert plan.scratch_of("deeprx-d3-kd-s5") == plan["deeprx-d3-scratch-s5"]
    assert plan.scratch_of("deeprx-d3-scratch-s5") is None


def test_a_student_that_needs_less_sinr_than_its_scratch_baseline_has_a_gain() -> None:
    """The sign of the table's columns: gain = baseline minus student, loss = student minus teacher, in dB needed."""
    rows = [
        {
            "receiver": name,
            "sinr_db": s,
            "block": b,
            "bits": 10**6,
            "bit_errors": round(1e5 * 10 ** (-(s + advantage_db) / 10)),
        }
        for name, advantage_db in (("teacher", 3.0), ("kd", 2.0), ("scratch", 0.0))
        for s in (0.0, 5.0, 10.0)
        for b in range(4)
    ]
    counts = pd.DataFrame(rows)
    assert gap_db(counts, "scratch", "kd", 0.02).gap_db == pytest.approx(2.0, abs=0.01)
    assert gap_db(counts, "kd", "teacher", 0.02).gap_db == pytest.approx(1.0, abs=0.01)
    assert np.isnan(gap_db(counts, "scratch", "kd", 1e-4).gap_db)


def test_emissions_of_coded_slots_by_hand() -> None:
    """3.6 J a slot at 500 g/kWh and PUE 2 are 1 mg; 0.8 blocks of 100 bits arrive in a slot, or none."""
    goodput = pd.DataFrame(
        {
            "receiver": ["good", "failing"],
            "interference_fraction": 0.0,
            "sinr_db": 10.0,
            "transport_blocks": 50,
            "bler": [0.2, 1.0],
            "bits_of_correct_slots_per_slot": [80.0, 0.0],
            "correct_bits_per_slot": [190.0, 100.0],
        }
    )
    inventory = SimpleNamespace(goodput=goodput, interference_fraction=0.0, sinr_db=10.0)
    energy = pd.DataFrame(
        {
            "receiver": ["good", "failing"],
            "provenance": "modelled",
            "energy_j_per_slot": 3.6,
            "duration_s_per_slot": 0.1,
        }
    ).set_index("receiver")
    site = Site(intensity=CarbonIntensity(name="half", place="x", year=2020, g_per_kwh=500, source="made up"), pue=2)
    for unit, per_slot in (("slot", 1.0), ("decoded bit", 80.0), ("correct transport block", 0.8)):
        by_receiver = emissions(inventory, energy, EmissionBasis(site, unit))  # type: ignore[arg-type]
        good = by_receiver["good"]
        assert good is not None
        assert good.g_per_unit == pytest.approx(1e-3 / per_slot)
        assert (by_receiver["failing"] is None) == (unit != "slot")
    forms = {"good": "the exported C file", "failing": "torch"}
    table = emission_table(by_receiver, "correct transport block", forms).set_index("receiver")
    assert table["form"].to_dict() == forms
    assert table.loc["failing", "line"] == "no correct transport block was delivered"
    assert table.loc["good", "line"].startswith("SCI 0.00125 gCO2e per correct transport block (modelled energy; half")


def test_every_marker_of_a_family_is_drawn_in_print() -> None:
    assert {f"{marker}{ending}" for marker in MARKERS for ending in ("", "-open")} <= charts._MATPLOTLIB_MARKER.keys()
