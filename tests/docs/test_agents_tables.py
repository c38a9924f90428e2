"""The page of case studies states the values of the agents that were trained, on equal terms."""

from __future__ import annotations

from types import ModuleType

import doc_pages as pages
import pytest

from carbon.aolo.parameter_sweeps import SWEEPS
from carbon.aolo.study import ACTORS, LEARNING_RATES, LONGEST, StudySettings


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return pages.script("aolo_tables")


def test_page_holds_the_tables_of_the_trainings(tables: ModuleType) -> None:
    assert tables.page() == pages.text(tables.PAGE)


@pytest.mark.parametrize(("task", "seeds"), [("requests", 5), ("site", 5)])
def test_both_agents_have_equal_terms(tables: ModuleType, task: str, seeds: int) -> None:
    part = tables.kept_values()[task]
    assert set(part["summaries"]) == set(ACTORS)
    assert part["steps"] == StudySettings().steps == 30_000
    assert part["is_tuned"]
    assert set(part["learning_rates"].values()) <= set(LEARNING_RATES)
    assert {summary["gap"]["seeds"] for summary in part["summaries"].values()} == {seeds}
    assert all(summary["gap"]["mean"] >= 0 for summary in part["summaries"].values())
    for name, summary in part["until_flat"].items():
        assert part["max_steps"] == LONGEST * part["steps"]
        assert summary["flat_seeds"] == summary["gap"]["seeds"] == seeds
        assert len(part["decisions"][name]) == seeds


def test_closed_part_follows_from_the_excess(tables: ModuleType) -> None:
    values = tables.kept_values()
    for name, summary in values["site"]["summaries"].items():
        # myopic (1 + m), agent (1 + g), reference 1
        by_hand = 1 - summary["gap"]["mean"] / values["myopic_excess"]
        assert values["site"]["closed"][name]["mean"] == pytest.approx(by_hand)


def test_policies_of_the_site_are_ordered(tables: ModuleType) -> None:
    """What the page says in words: agents close less of the gap than a constant choice, and the planner nearly all."""
    values = tables.kept_values()
    closed = [part["mean"] for part in values["site"]["closed"].values()]
    assert 0 < max(closed) < values["constant_closed"] < values["planner_closed"] < 1
    assert values["planner_closed"] > 0.95
    headline = values["site"]["headline"]
    assert headline["low"] < 0 < headline["high"]


def test_sweeps_are_a_range(tables: ModuleType) -> None:
    sweeps = tables.kept_values()["sweeps"]
    assert set(sweeps) == set(SWEEPS)
    assert all(len(values) == 5 for values in SWEEPS.values())
    for parameter, sweep in sweeps.items():
        assert sweep["values"] == [min(SWEEPS[parameter]), max(SWEEPS[parameter])]
        assert sweep["reduction"][0] <= sweep["reduction"][1]


def test_lower_agent_by_the_meter_is_named(tables: ModuleType) -> None:
    metered = tables.kept_values()["metered"]
    assert set(metered) == set(ACTORS)
    lower = "SAC" if metered["sac"]["decision_j"] < metered["sdrl"]["decision_j"] else "SDRL"
    assert f"By the meter, a decision of {lower} needs less." in tables.tables()
