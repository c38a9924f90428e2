"""MACs of ONNX operators against products of sizes by hand, and what runs in integers against ONNX Runtime itself."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from energy.counting import onnx_operators
from energy.counting.onnx_file import count_onnx, read_interface
from energy.counting.onnx_operators import contraction_macs
from leanrx_core.errors import UserError

MICROSOFT = "com.microsoft"
SLOT = [1, 8, 14, 12]


def save(
    folder: Path,
    nodes: list[Any],
    shape: list[Any],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    **changes: Any,
) -> Path:
    """A file with one input ``x`` and one output ``y`` of unknown sizes."""
    initialisers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initialisers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid("custom", 1)]
    model = helper.make_model(graph, opset_imports=opsets, **{"ir_version": 8, **changes})
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def ones(*sizes: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(sizes, dtype)


def test_weights_of_four_bits(tmp_path: Path) -> None:
    """K 24, N 16, blocks of 16: bytes are the stored ones, parameters are the weights and not the scales."""
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["h"], domain=MICROSOFT, K=24, N=16, bits=4, block_size=16)
    relu = helper.make_node("Relu", ["h"], ["y"])
    constants = {"w": ones(16, 2, 8, dtype=np.uint8), "s": ones(32)}
    profile = count_onnx(save(tmp_path, [node, relu], [1, 8, 14, 24], constants))
    assert profile.macs == 8 * 14 * 24 * 16 == 43_008
    assert profile.parameters == 24 * 16
    assert profile.precision == "fp32"
    (layer,) = profile.layers
    assert (layer.operator, layer.weight_bytes) == ("com.microsoft::MatMulNBits", 16 * 2 * 8 + 4 * 32)
    assert layer.written_bytes == 4 * 8 * 14 * 16
    assert not profile.uncounted


def test_dynamically_quantised_product(tmp_path: Path) -> None:
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z"], ["y"], domain=MICROSOFT)
    constants = {"w": ones(12, 16, dtype=np.int8), "s": ones(1), "z": ones(1, dtype=np.int8)}
    path = save(tmp_path, [node], SLOT, constants)
    profile = count_onnx(path)
    assert profile.macs == 8 * 14 * 12 * 16 == 21_504
    assert (profile.parameters, profile.precision) == (12 * 16, "int8")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": ones(*SLOT)})
    assert profile.layers[0].written_bytes == result.nbytes


@pytest.mark.parametrize(
    ("nodes", "constants", "shape", "macs"),
    [
        ([("FusedConv", "xw", {"activation": "Relu", "pads": [1, 1, 1, 1]})], {"w": (4, 8, 3, 3)}, SLOT, 168 * 4 * 72),
        ([("FusedMatMul", "xw", {"alpha": 0.5})], {"w": (12, 5)}, SLOT, 8 * 14 * 12 * 5),
        ([("FusedGemm", "xw", {"transA": 1, "activation": "Relu"})], {"w": (6, 5)}, [6, 7], 6 * 7 * 5),
        ([("Einsum", "xw", {"equation": "bcst,dc->bdst"})], {"w": (3, 8)}, SLOT, 168 * 8 * 3),
        ([("LSTM", "xwr", {"hidden_size": 5})], {"w": (1, 20, 4), "r": (1, 20, 5)}, [9, 2, 4], 9 * 2 * 20 * (4 + 5)),
        ([("GRU", "xwr", {"hidden_size": 5})], {"w": (1, 15, 4), "r": (1, 15, 5)}, [9, 2, 4], 9 * 2 * 15 * (4 + 5)),
        (
            [("RNN", "xwr", {"hidden_size": 5, "direction": "bidirectional"})],
            {"w": (2, 5, 4), "r": (2, 5, 5)},
            [9, 2, 4],
            2 * 9 * 2 * 5 * (4 + 5),
        ),
        ([("Attention", "xkv", {})], {"k": (2, 3, 7, 16), "v": (2, 3, 7, 8)}, [2, 3, 5, 16], 2 * 3 * 5 * 7 * (16 + 8)),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) and isinstance(value[0], tuple) else "",
)
def test_products_by_hand(tmp_path: Path, nodes: list, constants: dict, shape: list[int], macs: int) -> None:
    graph = [
        helper.make_node(name, list(inputs), ["y"], domain=MICROSOFT if name.startswith("Fused") else "", **attributes)
        for name, inputs, attributes in nodes
    ]
    weights = {name: ones(*sizes) for name, sizes in constants.items()}
    path = save(tmp_path, graph, shape, weights, opset=23 if nodes[0][0] == "Attention" else 18)
    assert count_onnx(path).macs == macs


def test_contractions_of_two_operands() -> None:
    """By the shapes of numpy: labels of one operand alone are summed before the product."""
    assert contraction_macs("ij,jk", [(2, 3), (3, 5)]) == 2 * 3 * 5
    assert contraction_macs("ij,ij->ij", [(2, 3), (2, 3)]) == 0, "a product without a sum"
    assert contraction_macs("aij,jk->ik", [(7, 2, 3), (3, 5)]) == 2 * 3 * 5
    assert contraction_macs("ij->j", [(2, 3)]) == 0
    with pytest.raises(ValueError, match="several"):
        contraction_macs("ij,jk,kl->il", [(2, 3), (3, 5), (5, 7)])


@pytest.mark.parametrize(
    ("name", "domain"),
    [("QMoE", MICROSOFT), ("Anything", "custom"), ("Det", ""), ("Loop", ""), ("DFT", ""), ("Conv", "custom")],
)
def test_what_is_not_known_is_refused(tmp_path: Path, name: str, domain: str) -> None:
    path = save(tmp_path, [helper.make_node(name, ["x"], ["y"], domain=domain)], SLOT)
    with pytest.raises(UserError, match=f"not counted: {domain}{'::' * bool(domain)}{name};"):
        count_onnx(path)


def test_every_standard_operator_is_counted_or_refused() -> None:
    """Names of the tables are those of ONNX, and operators that contain others are in none."""
    schemas = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    counted = {name for name in onnx_operators.MAC_FORMULAS if "::" not in name}
    standard = {name for name in onnx_operators.WITHOUT_MACS if "::" not in name}
    assert counted | standard <= schemas | {"SimplifiedLayerNormalization"}
    assert not set(onnx_operators.MAC_FORMULAS) & onnx_operators.WITHOUT_MACS
    assert {"If", "Loop", "Scan", "DFT", "DeformConv", "SequenceMap"} <= schemas - counted - onnx_operators.WITHOUT_MACS


def test_local_functions_are_counted(tmp_path: Path) -> None:
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("custom", "Product", ["a", "b"], ["c"], body, [helper.make_opsetid("", 18)])
    node = helper.make_node("Product", ["x", "w"], ["y"], domain="custom")
    assert count_onnx(save(tmp_path, [node], SLOT, {"w": ones(12, 5)}, functions=[function])).macs == 8 * 14 * 12 * 5


def layer_of_8_bits(operator: str, weights: tuple[int, ...], activations: bool, result: bool) -> tuple[list[Any], dict]:
    """A convolution or product with weights in 8 bits, and its operand and result too if asked for."""
    name, nodes = "x", [helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["wd"])]
    if activations:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]))
        name = "xd"
    nodes.append(helper.make_node(operator, [name, "wd"], ["h" if result else "y"]))
    if result:
        nodes.append(helper.make_node("QuantizeLinear", ["h", "s", "z"], ["hq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["hq", "s", "z"], ["y"]))
    scale, zero = np.float32(0.1), np.uint8(0)
    constants = {
        "w": ones(*weights, dtype=np.int8),
        "s": np.array(scale),
        "z": np.array(zero),
        "zw": np.array(np.int8(0)),
    }
    return nodes, constants


@pytest.mark.parametrize(
    ("operator", "weights", "activations", "result", "precision"),
    [
        ("Conv", (4, 8, 3, 3), True, True, "int8"),
        ("Conv", (4, 8, 3, 3), True, False, "fp32"),
        ("Conv", (4, 8, 3, 3), False, False, "fp32"),
        ("Conv", (4, 8, 3, 3), False, True, "fp32"),
        ("MatMul", (12, 16), True, False, "int8"),
        ("MatMul", (12, 16), False, False, "fp32"),
    ],
)
def test_integers_are_those_of_the_runtime(
    tmp_path: Path, operator: str, weights: tuple[int, ...], activations: bool, result: bool, precision: str
) -> None:
    path = save(tmp_path, *_with_shape(layer_of_8_bits(operator, weights, activations, result)))
    profile = count_onnx(path)
    assert profile.precision == precision
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    executed = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert bool(executed & {"QLinearConv", "MatMulIntegerToFloat"}) == (precision == "int8")
    if operator == "Conv":
        own = [x.operator for x in profile.layers]
        assert own.count("DequantizeLinear") == (1 if precision == "int8" else 1 + activations + result)
        assert profile.parameters == 4 * 8 * 9


class Pool(torch.nn.Module):
    """Convolutions with a skip, a concatenation, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 1)
        self.last = torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.first(x), torch.sigmoid(self.second(x))
        pooled = torch.nn.functional.avg_pool2d(torch.cat([a + b, a * b], 1), 2)
        return self.last(pooled.mean((2, 3)))


@pytest.mark.parametrize("is_optimised", [False, True])
@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_graphs_of_the_runtimes_quantiser(tmp_path: Path, form: str, is_optimised: bool) -> None:
    """Static quantisation as the runtime writes it, with operators of its own domain, and after its own fusions."""
    from onnxruntime import quantization

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._slots = [{"x": np.random.default_rng(1).normal(size=SLOT).astype(np.float32)}]

        def get_next(self) -> object:
            return self._slots.pop() if self._slots else None

    float32, int8, optimised = (tmp_path / f"{name}.onnx" for name in ("float32", "int8", "optimised"))
    net = Pool()
    torch.onnx.export(net, (torch.zeros(SLOT),), str(float32), dynamo=False, input_names=["x"], output_names=["y"])
    quantization.quantize_static(float32, int8, Calibration(), quant_format=quantization.QuantFormat[form])
    path = int8
    if is_optimised:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath, options.log_severity_level, path = str(optimised), 4, optimised
        onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    profile = count_onnx(path)
    assert profile.macs == 168 * (8 * 8 * 9 + 8 * 8) + 16 * 4
    assert profile.precision == "int8"
    assert not profile.uncounted
    assert profile.parameters == sum(p.numel() for p in net.parameters())


def _with_shape(graph: tuple[list[Any], dict]) -> tuple[list[Any], list[int], dict]:
    nodes, constants = graph
    return nodes, SLOT, constants


def test_shared_weights_and_indices(tmp_path: Path) -> None:
    """Weights that two products share count once, and indices are no parameters."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Gather", ["b", "i"], ["y"], axis=3),
    ]
    profile = count_onnx(save(tmp_path, nodes, SLOT, {"w": ones(12, 12), "i": np.arange(5)}))
    assert profile.parameters == 12 * 12
    assert profile.macs == 2 * 8 * 14 * 12 * 12


def test_all_results_of_a_node_are_written(tmp_path: Path) -> None:
    """Both parts of a split, and the last state of a recurrent cell whose other results are left out."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=3, num_outputs=2),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    split, add = count_onnx(save(tmp_path, nodes, SLOT)).layers
    assert split.read_bytes == split.written_bytes == 4 * 8 * 14 * 12
    assert add.read_bytes == 2 * add.written_bytes == 4 * 8 * 14 * 12
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=5)
    (layer,) = count_onnx(save(tmp_path, [node], [9, 2, 4], {"w": ones(1, 20, 4), "r": ones(1, 20, 5)})).layers
    assert (layer.name, layer.macs, layer.written_bytes) == ("y", 9 * 2 * 20 * (4 + 5), 4 * 2 * 5)


def test_a_file_of_version_3_lists_constants_among_its_inputs(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(ones(12, 5), "w")
    inputs = [
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [12, 5]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, SLOT),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 14, 5])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    path = tmp_path / "old.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3), path)
    assert read_interface(path).input_sizes == tuple(SLOT)
    assert count_onnx(path).macs == 8 * 14 * 12 * 5


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "without inputs"),
        ([helper.make_tensor_value_info("x", TensorProto.FLOAT, [])], "no tensor of known rank"),
        ([helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], "no tensor of known rank"),
        ([helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)], "no tensor of known rank"),
        ([helper.make_tensor_value_info("x", TensorProto.FLOAT, [0, 4])], "give a number of 1 or more"),
    ],
)
def test_inputs_that_cannot_be_counted(tmp_path: Path, inputs: list[Any], words: str) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(ones(1)))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs)).SerializeToString())
    with pytest.raises(UserError, match=words):
        count_onnx(path)


def test_recurrent_cells_of_torch_and_of_a_file_agree(tmp_path: Path) -> None:
    from energy.counting.torch_net import count_module

    cell = torch.nn.LSTM(4, 5)
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)]
    path = save(tmp_path, nodes, [9, 2, 4], {"w": ones(1, 20, 4), "r": ones(1, 20, 5)})
    assert count_onnx(path).macs == count_module(cell, torch.zeros(9, 2, 4)).macs


def damage(data: bytes, rng: random.Random) -> bytes:
    """A file that is cut, has wrong bits, or a node without operands, of another operator or of another domain."""
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        flipped = bytearray(data)
        for _ in range(rng.randrange(1, 50)):
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    model = onnx.load_from_string(data)
    node = rng.choice(model.graph.node)
    if kind == 2:
        del rng.choice([node.input, node.output, node.attribute, model.graph.initializer, model.graph.node])[:]
    else:
        node.domain = rng.choice(["", MICROSOFT, "custom"])
        node.op_type = rng.choice([*sorted({name.split("::")[-1] for name in onnx_operators.MAC_FORMULAS}), "Loop"])
    return bytes(model.SerializeToString())


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.onnx", tmp_path / "damaged.onnx"
    torch.onnx.export(Pool(), (torch.zeros(SLOT),), str(whole), dynamo=False, input_names=["x"], output_names=["y"])
    rng, messages = random.Random(1), []
    for _ in range(200):
        path.write_bytes(damage(whole.read_bytes(), rng))
        try:
            count_onnx(path)
        except UserError as error:
            messages.append(str(error).removeprefix(str(path)))
    assert len(messages) > 100, "others still are graphs"
    assert max(map(len, messages)) <= 300
    assert not [message for message in messages if "\n" in message]
