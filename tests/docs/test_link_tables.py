"""The page of case studies states what the shipped receivers give on the preset links."""

from __future__ import annotations

from types import ModuleType

import doc_pages as pages
import pytest

from carbon.link_table import carrier_links
from carbon.receiver_options import zoo_family


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return pages.script("link_tables")


def test_page_holds_the_tables_of_the_present_zoo(tables: ModuleType) -> None:
    assert tables.page() == pages.text(tables.PAGE)


def test_blocks_have_interior_optima_on_all_links(tables: ModuleType) -> None:
    links = tables.optima(zoo_family(tables.FAMILY))
    assert list(links) == list(carrier_links())
    for _, optima in links.values():
        assert all(optimum.is_interior and 0 < optimum.bler < 1 for optimum in optima)
