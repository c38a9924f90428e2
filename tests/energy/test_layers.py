"""Layer-by-layer counts against nets computed by hand, and exported graphs against their modules."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from channels import Grid
from energy.counting.counter import count
from energy.counting.onnx_file import count_onnx
from energy.counting.profile import Layer
from energy.counting.torch_net import count_module
from leanrx_core.errors import UserError
from receivers.neural.registry import build

P = 14 * 12  # positions


class Residual(nn.Module):
    """A block whose projection meets the skip, as in DeepRx."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(6, 8, 3, padding=1)
        self.project = nn.Conv2d(6, 8, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x)) + self.project(x)


HAND = {
    "plain": (nn.Conv2d(6, 8, 3, padding=1), P * 8 * 6 * 9),
    "strided": (nn.Conv2d(6, 8, 3, padding=1, stride=2), 7 * 6 * 8 * 6 * 9),
    "depthwise": (nn.Conv2d(6, 12, 3, padding=1, groups=6), P * 12 * 9),
    "dilated": (nn.Conv2d(6, 8, 3, padding=(2, 3), dilation=(2, 3)), P * 8 * 6 * 9),
    "grouped": (nn.Conv2d(6, 9, (1, 3), padding=(0, 1), groups=3), P * 9 * 2 * 3),
    "transposed": (nn.ConvTranspose2d(6, 4, 2, stride=2), P * 6 * 4 * 4),
    "residual": (Residual(), P * 8 * 6 * 9 + P * 8 * 6),
    "dense": (nn.Sequential(nn.Flatten(), nn.Linear(6 * P, 5)), 6 * P * 5),
}


def export(net: nn.Module, path: Path, shape: tuple[int, ...]) -> Path:
    torch.onnx.export(net.eval(), (torch.randn(shape),), str(path), dynamo=False, input_names=["x"], output_names=["y"])
    return path


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("batch", [1, 5])
def test_hand_computed_macs(name: str, batch: int) -> None:
    net, macs = HAND[name]
    work = count_module(net, torch.zeros(batch, 6, 14, 12))
    assert work.macs == batch * macs
    assert work.parameters == sum(p.numel() for p in net.parameters())
    assert not work.disagreements
    assert work.batch_slots == batch


@pytest.mark.parametrize("name", HAND)
def test_the_exported_file_counts_the_same(name: str, tmp_path: Path) -> None:
    net, macs = HAND[name]
    work = count_onnx(export(net, tmp_path / "net.onnx", (1, 6, 14, 12)))
    assert work.macs == macs
    assert work.parameters == sum(p.numel() for p in net.parameters())
    assert not work.uncounted


def test_bytes_of_one_convolution() -> None:
    net = nn.Conv2d(6, 8, 3, padding=1)
    (layer,) = count_module(net, torch.zeros(2, 6, 14, 12)).layers
    held = 8 * 6 * 9 + 8
    assert layer == Layer(
        "", "convolution", "dense", "forward", held, 2 * P * 8 * 54, 4 * held, 4 * 2 * 6 * P, 4 * 2 * 8 * P
    )
    assert count_module(net, torch.zeros(2, 6, 14, 12), precision="int8").bytes == layer.bytes // 4
    assert count_module(net, torch.zeros(2, 6, 14, 12), precision="bf16").bytes == layer.bytes // 2
    with pytest.raises(UserError, match="fp64"):
        count_module(net, torch.zeros(1, 6, 14, 12), precision="fp64")


def test_layers_are_named_and_views_are_free() -> None:
    net = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU(), nn.Flatten(1), nn.Linear(6 * P, 2))
    layers = count_module(net, torch.zeros(1, 6, 14, 12)).layers
    assert [(x.name, x.kind) for x in layers] == [("0", "grouped"), ("1", "elementwise"), ("3", "dense")]
    assert layers[1].bytes == 4 * 2 * 6 * P


def test_a_training_step() -> None:
    """Backward: as much again for the inputs (not those of the net) and for the weights; AdamW: closed form."""
    net = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.Conv2d(6, 12, 3, padding=1, groups=6))
    work = count_module(net, torch.zeros(3, 6, 14, 12), training=True)
    first, second = 3 * P * 6 * 6, 3 * P * 12 * 9
    assert work.phase("forward").macs == first + second
    assert work.phase("backward").macs == first + 2 * second
    assert work.phase("optimiser").macs == 0
    values = sum(p.numel() for p in net.parameters())
    fused = 4 * 7 * values  # weights, gradients and two moments read, all but the gradients written
    assert fused < work.phase("optimiser").bytes < 5 * fused
    assert work.macs == sum(work.phase(p).macs for p in ("forward", "backward", "optimiser"))


def test_disagreements_are_shown() -> None:
    """torch takes the weight gradient of a grouped convolution for an ungrouped one."""
    net = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Conv2d(6, 12, 3, padding=1, groups=6))
    (words,) = count_module(net, torch.zeros(1, 6, 14, 12), training=True).disagreements
    assert words == f"1: {2 * P * 12 * 9} MACs backward by formula, torch counts {P * 12 * 9 * (1 + 6)}"


class FlopCounter:
    """torch's own counter, over a network that really runs."""

    @staticmethod
    def flops(net: nn.Module, grid: Grid) -> int:
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            copy.deepcopy(net).eval()(torch.zeros(1, net.num_features, 14, grid.num_subcarriers))
        return counter.get_total_flops()


@pytest.mark.parametrize("spec", ["deeprx-w0.125-d5", "deeprx-w0.25"])
def test_receivers(spec: str) -> None:
    grid, net = Grid(num_prb=2), build(spec).train()
    work = count(net, grid, name=spec)
    assert work.flops == work.cross_check_flops == FlopCounter.flops(net, grid)
    assert work.parameters == sum(p.numel() for p in net.parameters())
    assert count(net, grid, batch_slots=16).macs == 16 * work.macs
    assert net.training
    assert next(net.parameters()).device.type == "cpu"
    assert work.as_json()["layers"][0]["name"] == "conv_in"


def test_quantised_graphs_are_counted_as_stored(tmp_path: Path) -> None:
    from onnxruntime import quantization

    net, macs = HAND["residual"]
    path = export(net, tmp_path / "net.onnx", (1, 6, 14, 12))

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = [{"x": np.random.default_rng(1).normal(size=(1, 6, 14, 12)).astype("f")}]

        def get_next(self) -> object:
            return self._left.pop() if self._left else None

    quantised = tmp_path / "int8.onnx"
    quantization.quantize_static(
        path, quantised, Calibration(), quant_format=quantization.QuantFormat.QDQ, per_channel=True
    )
    before, after = count_onnx(path), count_onnx(quantised)
    assert before.macs == after.macs == macs
    assert (before.precision, after.precision) == ("fp32", "int8")
    assert [x.operator for x in before.layers] == ["Conv", "Conv", "Add"], "the ReLU is part of its convolution"
    assert [x.operator for x in after.layers] == ["QuantizeLinear", "Conv", "Conv", "Add", "DequantizeLinear"]
    body = next(x for x in after.layers if x.macs == P * 8 * 6 * 9)
    assert (body.weight_bytes, body.read_bytes, body.written_bytes) == (8 * 54 + 4 * 8, 6 * P, 8 * P)
    into, outof = after.layers[0], after.layers[-1]
    assert (into.bytes, outof.bytes) == (5 * 6 * P, 5 * 8 * P)
