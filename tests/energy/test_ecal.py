"""eCAL's inference term against outputs of the authors' calculator (tests/reference/ecal_cases.json)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import Grid, UserError
from energy.ecal import collection_j, inference_term, slot_bits

CASES = json.loads((Path(__file__).parent.parent / "reference" / "ecal_cases.json").read_text())


GENERIC = [c for c in CASES["transmission"]["cases"] if c["stack_name"] == "generic" and c["failure_rate"] == 0]
MLP = CASES["fig13"]["models"]["SimpleMLP"]
PROCESSING_J = (MLP["forward_flops"] + 6 * 10) * 1.4e-8  # forward pass and normalisation of 10 values


@pytest.mark.parametrize("case", GENERIC, ids=lambda c: str(c["payload_bits"]))
def test_collection_equals_the_calculator(case: dict) -> None:
    assert collection_j(case["payload_bits"], truncate=True) == pytest.approx(case["total_energy_j"], rel=1e-12)


def test_one_inference_of_the_published_case() -> None:
    """640 bits over one generic hop; normalising costs one FLOP more per call."""
    term = inference_term(PROCESSING_J + 1.4e-8, 640, "modelled", hops=1, truncate=True)
    assert term.ecal_j_per_bit == pytest.approx(MLP["single_inference_j_per_bit"], rel=1e-12)


def test_limit_of_many_inferences() -> None:
    """What 9,000 more inferences add to the published curve, 10 % virtualisation included."""
    points = {p["gamma"]: p for p in MLP["points"]}
    added_j = points[10_000]["ecal_abs_j"] - points[1_000]["ecal_abs_j"]
    added_bits = points[10_000]["total_bits"] - points[1_000]["total_bits"]
    term = inference_term(PROCESSING_J, 640, "modelled", hops=1, virtualisation=0.1)
    assert term.ecal_j_per_bit == pytest.approx(added_j / added_bits, rel=1e-4)


def test_generic_stack_per_bit() -> None:
    assert collection_j(1.0) == pytest.approx(6.427043637214842e-7, rel=1e-12)


@given(
    st.floats(0, 1e3), st.integers(1, 10**9), st.integers(0, 4), st.floats(0, 1)
)  # fmt: skip
def test_components_add_up(processing_j: float, bits: int, hops: int, share: float) -> None:
    term = inference_term(processing_j, bits, "modelled", hops, share)
    total = term.collection_j + term.processing_j + term.virtualisation_j
    assert term.ecal_j_per_bit * bits == pytest.approx(total)
    assert total == pytest.approx((1 + share) * (hops * collection_j(bits) + processing_j))


def test_bits_of_a_slot() -> None:
    assert slot_bits(Grid(num_prb=26), 32) == 2 * 2 * 14 * 312 * 32


def test_impossible_terms_are_refused() -> None:
    for wrong in ({"bits": 0}, {"processing_j": -1.0}, {"hops": -1}, {"virtualisation": 1.5}):
        with pytest.raises(UserError):
            inference_term(**{"processing_j": 1.0, "bits": 1, "kind": "modelled", **wrong})  # type: ignore[arg-type]
