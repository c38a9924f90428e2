"""The page on carbon states the values of the agents that were trained."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import doc_pages as pages
import pytest

from carbon.aolo.parameter_sweeps import SWEEPS
from carbon.aolo.study import LEARNING_RATES


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", pages.ROOT / "scripts/reproduce/aolo_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_holds_the_tables_of_the_trainings(tables: ModuleType) -> None:
    assert tables.page() == pages.text(pages.ROOT / "docs" / "carbon-case-studies.md")


def test_trainings_are_those_of_the_study(tables: ModuleType) -> None:
    values = tables.kept_values()
    requests, site = values["requests"], values["site"]
    assert set(requests["summaries"]) == set(site["summaries"]) == {"sac", "sdrl"}
    assert len({summary["gap"]["seeds"] for summary in requests["summaries"].values()}) == 1
    assert set(requests["learning_rates"].values()) <= set(LEARNING_RATES)
    assert set(values["sweeps"]) == set(SWEEPS)
    for summary in requests["summaries"].values():
        assert summary["gap"]["mean"] >= 0
    for name, summary in site["summaries"].items():
        # the closed part from the gap: myopic (1 + m), agent (1 + g), reference 1
        by_hand = 1 - summary["gap"]["mean"] / values["myopic_excess"]
        assert site["closed"][name] == pytest.approx(by_hand)
