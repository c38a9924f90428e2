"""FLOPs of ONNX files against torch's FlopCounterMode and formulas."""

import math
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from energy.ecal.counted_flops import onnx_flops, receiver_flops
from energy.ecal.life_cycle_config import forward_flops
from leanrx_core.errors import UserError

Sizes = dict[str, list]


def save(folder: Path, nodes: list, inputs: Sizes, weights: Sizes, outputs: Sizes) -> str:
    def values(sizes: Sizes) -> list:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()]

    held = [
        helper.make_tensor(name, TensorProto.FLOAT, size, bytes(4 * math.prod(size)), raw=True)
        for name, size in weights.items()
    ]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), held)
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return str(path)


def test_convolutions_and_products(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [
            helper.make_node("Conv", ["x", "grouped"], ["a"], group=2, strides=[2, 2]),
            helper.make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "dense"], ["d"], transB=1),
            helper.make_node("MatMul", ["d", "last"], ["y"]),
        ],
        {"x": ["batch", 4, 9, 9]},
        {"grouped": [6, 2, 3, 3], "up": [6, 5, 2, 2], "dense": [7, 320], "last": [7, 3]},
        {"y": ["batch", 3]},
    )
    with FlopCounterMode(display=False) as witness:
        a = nn.functional.conv2d(torch.zeros(2, 4, 9, 9), torch.zeros(6, 2, 3, 3), stride=2, groups=2)
        b = nn.functional.conv_transpose2d(a, torch.zeros(6, 5, 2, 2), stride=2)
        b.flatten(1) @ torch.zeros(320, 7) @ torch.zeros(7, 3)
    assert onnx_flops(path, [2, 4, 9, 9]) == witness.get_total_flops()
    assert forward_flops({"kind": "onnx", "path": path, "shape": [2, 4, 9, 9]}) == witness.get_total_flops()
    with pytest.raises(UserError, match=r"leaves sizes free \(batch, 4, 9, 9\)"):
        onnx_flops(path)
    with pytest.raises(UserError, match="fixes one size to 4"):
        onnx_flops(path, [1, 3, 9, 9])
    with pytest.raises(UserError, match="3 sizes, but"):
        onnx_flops(path, [4, 9, 9])


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"])
    path = save(tmp_path, [node], {"x": [1, 4, 4]}, {}, {"y": [1]})
    with pytest.raises(UserError, match="not counted: Det"):
        onnx_flops(path)
    node = helper.make_node("Einsum", ["x", "w", "w"], ["y"], equation="bi,ij,kj->bk")
    path = save(tmp_path, [node], {"x": [1, 4]}, {"w": [4, 2]}, {"y": [1, 4]})
    with pytest.raises(UserError, match="Einsum with several contractions is not counted"):
        onnx_flops(path)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not an ONNX graph"):
        onnx_flops(str(damaged))


def test_a_receiver_by_name() -> None:
    assert receiver_flops("deeprx") == 10_626_330_624
    assert receiver_flops("LS", num_prb=6) < receiver_flops("LMMSE", num_prb=6)
    with pytest.raises(UserError, match="'resnet' is not a receiver"):
        receiver_flops("resnet")
