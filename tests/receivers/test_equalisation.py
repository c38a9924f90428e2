"""Steps before the quantisation to 8 bits: what they keep exactly, and what they save."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from factories import perturbed_receiver

from channels import Scenario, SlotStream
from receivers import zoo
from receivers.export import int8
from receivers.export.equalisation import computed, equalise
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.onnx import write_graph


def examples(model: Any, slots: Any) -> list[dict[str, np.ndarray]]:
    return int8._examples(model, slots)


@pytest.mark.parametrize("spec", ["hybrid-w3-d2", "deeprx-w0.0625-d3"])
def test_equal_ranges_change_no_result(tmp_path: Path, small: Scenario, spec: str) -> None:
    """Inputs and results of convolutions get one range for all channels, and LLRs stay as they are."""
    scenario = small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 3})})
    slots = SlotStream(scenario, 1, 4, "train").block(0)
    write_graph(perturbed_receiver(spec), tmp_path / "net.onnx", scenario.grid)
    before = onnx.load(tmp_path / "net.onnx")
    after, inputs = copy.deepcopy(before), examples(before, slots)
    equalise(after, inputs)
    onnx.checker.check_model(after)
    names = [value.name for value in before.graph.output]
    for old, new in zip(computed(before, names, inputs), computed(after, names, inputs), strict=True):
        np.testing.assert_allclose(new["llrs"], old["llrs"], atol=1e-4 * np.abs(old["llrs"]).max())
    results = [node.output[0] for node in after.graph.node if node.op_type == "Conv" and "/scaled" in node.output[0]]
    assert len(results) >= 3
    peaks = dict.fromkeys(results, 0.0)
    for values in computed(after, results, inputs):
        peaks = {name: np.maximum(peaks[name], np.abs(x).max((0, 2, 3))) for name, x in values.items()}
    for peak in peaks.values():
        assert np.allclose(peak, 1, atol=1e-3) or (peak[peak < 0.999] < 1).all()
        assert peak.max() == pytest.approx(1, abs=1e-3)


def test_the_errors_of_8_bits_are_a_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest shipped receiver, with and without the two steps, on the same slots."""
    name = "tdl-6prb-hybrid-w5-d5-kd"
    receiver, scenario = zoo.load(name), zoo.results(name).scenario
    write_graph(receiver, tmp_path / "net.onnx", scenario.grid)
    calibration = SlotStream(scenario, 1, 64, "train", purpose="calibration").block(0)
    slots = SlotStream(scenario, 1, 32, "test", purpose="export").at_sinr(12.0).block(0)
    expected = receiver(slots)[slots.bit_mask]

    def power_of_errors(path: Path) -> float:
        int8.quantise(tmp_path / "net.onnx", path, calibration)
        return float((ExportedReceiver(path, "x")(slots)[slots.bit_mask] - expected).square().mean())

    with_steps = power_of_errors(tmp_path / "with.onnx")
    monkeypatch.setattr(int8, "equalise", lambda model, inputs: None)
    monkeypatch.setattr(int8, "round_weights", lambda model, inputs: None)
    assert with_steps < 0.5 * power_of_errors(tmp_path / "without.onnx")
