"""The form in which a receiver is deployed, and its energy and latency."""

from __future__ import annotations

import pandas as pd

from energy.metering.deployment import deployed_form, deployed_rows, exact_file_rows, latency_rows

ROW = {
    "receiver": "net",
    "phase": "inference",
    "component": "sum",
    "method": "RAPL",
    "estimated": False,
    "slots": 10,
    "energy_j": 1.0,
    "duration_s": 1.0,
}


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **row} for row in rows])


def test_a_file_of_lower_precision_is_not_what_was_tested() -> None:
    rows = [{"runtime": f"{runtime}-{p}", "batch_slots": 1} for runtime in ("onnx", "litert") for p in ("int8", "fp16")]
    eight, one = {"runtime": "c", "batch_slots": 8}, {"runtime": "c", "batch_slots": 1, "energy_j": 1.1}
    (exported,) = exact_file_rows(table(*rows, eight, one)).to_dict("records")
    assert (exported["runtime"], exported["batch_slots"]) == ("c", 1), "one slot a call, though eight need less"


def test_a_receiver_is_deployed_in_its_cheapest_form() -> None:
    rows = [
        {"runtime": "receiver", "batch_slots": 4, "energy_j": 0.40},
        {"runtime": "receiver", "batch_slots": 4, "energy_j": 0.01, "method": "FLOPs/W", "estimated": True},
        {"runtime": "onnx-fp32", "batch_slots": 1, "energy_j": 0.30},
        {"runtime": "eager", "batch_slots": 4, "energy_j": 0.10},
        {"runtime": "c", "batch_slots": 4, "energy_j": 0.20},
        {"runtime": "c", "batch_slots": 4, "energy_j": 0.01, "method": "CodeCarbon"},
        {"runtime": "litert-fp32", "batch_slots": 1, "energy_j": 0.15},
        {"runtime": "litert-int8", "batch_slots": 1, "energy_j": 0.05},
    ]

    def deployed(count: int) -> tuple[float, str]:
        by_instrument = deployed_rows(table(*rows[:count]))
        assert not by_instrument["estimated"].any()
        (row,) = by_instrument[by_instrument["method"] == "RAPL"].to_dict("records")
        return row["energy_j"] / row["slots"], deployed_form(row["runtime"], row["batch_slots"])

    assert deployed(2) == (0.04, "the receiver as tested, in torch, 4 slots a call")
    assert deployed(4) == (0.03, "the exported ONNX file, 1 slot a call"), "a network alone is no receiver"
    assert deployed(6) == (0.02, "the exported C file, one slot after the other on one thread")
    assert deployed(8) == (0.015, "the exported LiteRT file, one slot after the other on one thread")
    torch_is_cheapest = table(*rows, {"runtime": "classical", "batch_slots": 4, "energy_j": 0.14})
    assert deployed_rows(torch_is_cheapest).set_index("method").loc["RAPL", "runtime"] == "classical"


def test_latency_is_that_of_the_fastest_file_with_one_slot_after_the_other() -> None:
    rows = [
        {"runtime": "receiver", "batch_slots": 4, "duration_s": 0.01},
        {"runtime": "onnx-fp32", "batch_slots": 8, "duration_s": 0.02},
        {"runtime": "c", "batch_slots": 8, "duration_s": 0.04},
        {"runtime": "litert-fp32", "batch_slots": 1, "duration_s": 0.03, "energy_j": 9.0},
    ]
    (row,) = latency_rows(table(*rows)).to_dict("records")
    assert row["runtime"] == "litert-fp32"
    assert latency_rows(table(*rows[:2])).empty, "eight slots at once, and torch, have no latency of one slot"
