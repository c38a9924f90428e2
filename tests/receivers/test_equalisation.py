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
from receivers.export.equalisation import equalise
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.onnx import write_graph
from receivers.export.value_ranges import FRACTIONS, channel_ranges, graph_values, tensor_ranges


def examples(model: Any, slots: Any) -> list[dict[str, np.ndarray]]:
    return int8._examples(model, slots)


@pytest.mark.parametrize("spec", ["hybrid-w3-d2", "deeprx-w0.0625-d3"])
def test_equal_ranges_change_no_result(tmp_path: Path, small: Scenario, spec: str) -> None:
    """Values that 8 bits hold get one range for all channels, and LLRs stay as they are.

    These are inputs of depthwise convolutions, results that additions read, and inputs of last layers. Inputs of other
    convolutions share the bits with the weights.
    """
    scenario = small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 3})})
    slots = SlotStream(scenario, 1, 4, "train").block(0)
    write_graph(perturbed_receiver(spec), tmp_path / "net.onnx", scenario.grid)
    before = onnx.load(tmp_path / "net.onnx")
    after, inputs, nodes = copy.deepcopy(before), examples(before, slots), int8.integer_nodes(before.graph.node)
    equalise(after, nodes, inputs)
    onnx.checker.check_model(after)
    names = [value.name for value in before.graph.output]
    for old, new in zip(graph_values(before, names, inputs), graph_values(after, names, inputs), strict=True):
        np.testing.assert_allclose(new["llrs"], old["llrs"], atol=1e-4 * np.abs(old["llrs"]).max())
    convolutions = [node for node in after.graph.node if node.op_type == "Conv"]
    values = [node.output[0] for node in convolutions if "/scaled" in node.output[0]]
    names = [node.input[0] for node in convolutions]
    integer_values = {name for node in after.graph.node if node.name in nodes for name in node.output}
    for node in convolutions:
        has_own_scales = onnx.helper.get_node_attr_value(node, "group") > 1 or node.name not in nodes
        if has_own_scales and node.input[0] in integer_values and names.count(node.input[0]) == 1:
            values.append(node.input[0])
    assert len(values) >= 4
    for ranges in channel_ranges(after, values, inputs).values():
        is_equal = np.abs(ranges - 1) < 1e-3
        assert is_equal.mean() >= 0.5
        assert (is_equal | (ranges < 1)).all()  # smaller: the channel had less than a hundredth of the range


def test_last_layers_compute_in_floats(tmp_path: Path, small: Scenario) -> None:
    """Of a hybrid, these update the channel; of a DeepRx, the last layer gives LLRs, and additions read the rest."""
    scenario = small.model_copy(update={"grid": small.grid.model_copy(update={"num_prb": 3})})
    for spec, last in (("hybrid-w3-d2", ["conv_out", "project", "project"]), ("deeprx-w0.0625-d3", ["conv_out"])):
        write_graph(perturbed_receiver(spec), tmp_path / "net.onnx", scenario.grid)
        nodes = onnx.load(tmp_path / "net.onnx").graph.node
        names = int8.integer_nodes(nodes)
        floats = [node.name.split("/")[-2] for node in nodes if node.op_type == "Conv" and node.name not in names]
        assert sorted(name.split("_1")[0] for name in floats) == last


def a_graph(text: str) -> Any:
    """A graph of one input ``x`` and one output ``y``."""
    head = '<ir_version: 8, opset_import: ["" : 18]> g (float[1,2,1,N] x) => (float[1,2,1,N] y)'
    return onnx.parser.parse_model(f"{head} {{{text}}}")


def test_ranges_of_least_error_by_hand() -> None:
    """Even values keep their range. One outlier among many is clipped, as far as that lowers the squared error."""
    model = a_graph("y = Identity(x)")
    even = np.linspace(-1, 1, 4001, dtype=np.float32)
    outlier = np.append(np.linspace(-0.5, 0.5, 100_000, dtype=np.float32), np.float32(0.75))
    (equal,) = channel_ranges(model, ["y"], [{"x": np.stack([even, 2 * even])[None, :, None]}]).values()
    assert equal == pytest.approx([1, 2])
    (clipped,) = channel_ranges(model, ["y"], [{"x": np.stack([outlier, outlier])[None, :, None]}]).values()

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.round(outlier / step), -127, 127) * step - outlier).sum())

    best = min((0.75 * fraction for fraction in FRACTIONS), key=error)
    assert best < 0.75
    assert clipped == pytest.approx([best, best])


def test_the_range_of_a_tensor_contains_0() -> None:
    x = np.linspace(2, 6, 801, dtype=np.float32).reshape(1, 1, 1, -1)
    model = a_graph("y = Identity(x)")
    assert tensor_ranges(model, ["y"], [{"x": np.repeat(x, 2, 1)}])["y"] == pytest.approx((0, 6))


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
    monkeypatch.setattr(int8, "equalise", lambda model, nodes, inputs: None)
    monkeypatch.setattr(int8, "round_weights", lambda model, nodes, inputs: None)
    assert with_steps < 0.5 * power_of_errors(tmp_path / "without.onnx")
