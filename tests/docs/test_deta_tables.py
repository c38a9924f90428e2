"""The pages state the values of DETA's study, of receiving sites, of federated receivers, and of adaptation."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import doc_pages as pages
import pytest

from carbon.deta.receiver_dispatch import receiver_dispatch
from carbon.deta.receiver_network import read_receiver_network
from carbon.receiver_options import zoo_family
from leanrx.life_cycle.adaptation import shipped_adaptation


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deta_tables", pages.ROOT / "scripts/reproduce/deta_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", ["docs/carbon.md", "docs/carbon-case-studies.md", "docs/distillation.md"])
def test_the_page_is_what_the_script_writes(tables: ModuleType, path: str) -> None:
    assert tables.page(path) == pages.text(pages.ROOT / path)


def test_the_day_of_the_sites_is_that_of_the_present_receivers(tables: ModuleType) -> None:
    kept = {policy["policy"]: policy["total_g"] for policy in tables.kept_values()["sites"]["policies"]}
    network = read_receiver_network(pages.ROOT / "configs" / "receiver-network.yaml")
    result = receiver_dispatch(network, zoo_family(tables.FAMILY), "B1")
    assert result.total_g == pytest.approx(kept["B1"], rel=1e-6)
    assert kept["DETA+wait"] <= kept["DETA"] <= min(kept["DET"], kept["DAT"]) <= kept["B1"] <= kept["B0"]


def test_cuts_over_the_regions_are_those_of_the_reference(tables: ModuleType) -> None:
    cuts = {cut["DETA"]["sites"]: 100 * cut["DETA"]["mean"] for cut in tables.kept_values()["cuts"]}
    assert cuts == pytest.approx({2: 21.5, 3: 30.2, 5: 39.9, 8: 44.1, 10: 48.0}, abs=5)


def test_federated_receivers_were_trained_as_stated(tables: ModuleType) -> None:
    values = tables.kept_values("federated-receivers")
    settings = values["settings"]
    assert set(values["sites"]) == {"3", "5"}
    for sites, trainings in values["sites"].items():
        assert trainings["federated"]["bytes_each_way_a_round"] == 14_192
        assert {training["steps"] for training in trainings.values()} == {
            int(sites) * settings["rounds"] * settings["steps"]
        }


def test_adaptation_is_measured_on_several_seeds() -> None:
    adaptation = shipped_adaptation()
    assert len({seed.seed for seed in adaptation.seeds}) == len(adaptation.seeds) == 3
    for seed in adaptation.seeds:
        assert seed.adapted_ber <= seed.scratch_ber
    low, high = adaptation.interval
    assert low <= adaptation.ratio <= high
