"""MACs of operators other than convolutions, against products of sizes by hand. 168 positions have 8 channels each."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from energy.counting import torch_operators
from energy.counting.profile import OperationProfile
from energy.counting.torch_net import count_module
from leanrx_core.errors import UserError

P = 14 * 12
LAST = P * 8 * 4


class Net(nn.Module):
    """Some computation on ``(B, 8, 14, F)``, and a last convolution from 8 to 4 channels."""

    def __init__(self, computation: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.computation = computation
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.computation(self, x))


def rows(x: torch.Tensor) -> torch.Tensor:
    """A vector for each position."""
    return x.permute(0, 2, 3, 1).reshape(-1, 8)


def grid(vectors: torch.Tensor) -> torch.Tensor:
    return vectors.reshape(1, 14, 12, 8).permute(0, 3, 1, 2)


def over_symbols(x: torch.Tensor) -> torch.Tensor:
    """Convolution over 14 symbols with a kernel of 3: 12 results."""
    return functional.conv_tbc(x[0].permute(1, 2, 0), torch.ones(3, 8, 8), torch.ones(8))


def count(computation: Callable[..., torch.Tensor], features: int = 8, **layers: nn.Module) -> OperationProfile:
    return count_module(Net(computation, **layers), torch.zeros(1, features, 14, 12), name="net")


def einsum_attention(net: Net, x: torch.Tensor) -> torch.Tensor:
    query, key, value = net.heads(x).chunk(3, 1)
    scores = torch.einsum("bcst,bcsu->bstu", query, key).softmax(-1)
    return torch.einsum("bstu,bcsu->bcst", scores, value)


class Attention(nn.Module):
    """Attention over 72 subcarriers between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).permute(0, 2, 3, 1)
        return self.last(functional.scaled_dot_product_attention(h, h, h).permute(0, 3, 1, 2))


@pytest.mark.parametrize("training", [False, True])
def test_attention(training: bool) -> None:
    profile = count_module(Attention(), torch.zeros(1, 8, 14, 72), training=training)
    forward = profile.phase("forward")
    assert forward.macs == 2 * 14 * 72 * 72 * 16 + 14 * 72 * (8 * 16 + 16 * 4) == 2_515_968
    assert profile.agreement == "part"
    assert profile.cross_check_gaps == ("scaled_dot_product_attention",)
    assert profile.counters_agree, "a counter that does not know attention stops no run"
    if training:  # four products for the gradients of both products; two and one for the convolutions
        convolutions = 14 * 72 * (8 * 16 + 2 * 16 * 4)
        assert profile.phase("backward").macs == 4 * 14 * 72 * 72 * 16 + convolutions


@pytest.mark.parametrize(
    ("computation", "layers", "macs"),
    [
        (lambda net, x: grid(net.cell(rows(x)[None])[0]), {"cell": nn.LSTM(8, 8)}, 2 * 4 * 8 * 8),
        (lambda net, x: grid(net.cell(rows(x)[None])[0]), {"cell": nn.GRU(8, 8)}, 2 * 3 * 8 * 8),
        (lambda net, x: grid(net.pair(rows(x), rows(x))), {"pair": nn.Bilinear(8, 8, 8)}, 8 * 8 * 8 + 8 * 8),
        (lambda net, x: x + torch.mv(rows(x), net.last.weight[0, :, 0, 0]).view(1, 1, 14, 12), {}, 8),
        (lambda net, x: x + torch.dot(x.flatten(), x.flatten()), {}, 8),
        (lambda net, x: x + torch.addbmm(x[0, 0, :12], x[0].permute(1, 2, 0), x[0].permute(1, 0, 2)).sum(), {}, 12 * 8),
        (lambda net, x: x + torch.cdist(x[0].permute(1, 2, 0), x[0].permute(1, 2, 0)).sum(), {}, 12 * 8),
        (lambda net, x: x + functional.pdist(rows(x)).sum(), {}, (P - 1) / 2 * 8),
        (lambda net, x: grid(torch.mm(rows(x), net.square.weight)), {"square": nn.Linear(8, 8, bias=False)}, 8 * 8),
        (lambda net, x: x + torch.tensordot(x, x, dims=([0, 1], [0, 1])).sum(), {}, P * 8),
        (lambda net, x: x + over_symbols(x).sum(), {}, 12 / 14 * 3 * 8 * 8),
        (lambda net, x: x + torch.einsum("bcst,bcsu->bstu", x, x).sum(), {}, 12 * 8),
        (lambda net, x: x + (x * x).sum(1, keepdim=True), {}, 0),
        (lambda net, x: torch.matmul(torch.ones(14, 14), x), {}, 14 * 8),
        (lambda net, x: x + (rows(x + 1j * x).mT @ rows(x + 1j * x)).real.sum(), {}, 4 * 8 * 8),
    ],
)
def test_products_by_hand(computation: Callable[..., torch.Tensor], layers: dict, macs: float) -> None:
    """MACs per position beside those of the last convolution."""
    profile = count(computation, **layers)
    assert profile.macs == P * macs + LAST
    assert profile.counters_agree
    assert not profile.disagreements


def test_the_values_of_common_layers() -> None:
    """LSTM, bilinear form, product with a vector, batched sum of products and distances: absolute values."""
    position = {"lstm": 512, "bilinear": 576, "mv": 8, "addbmm, cdist": 96}
    assert [P * macs + LAST for macs in position.values()] == [91_392, 102_144, 6_720, 21_504]


def test_einsum_is_compared_exactly() -> None:
    """fvcore prints four digits of an einsum's cost, which gave 77,956."""
    profile = count(einsum_attention, features=10, heads=nn.Conv2d(10, 24, 1))
    assert profile.macs == P * (10 * 24 + 2 * 12 * 8) + LAST == 77_952
    assert profile.cross_check_flops == 2 * 77_952
    assert profile.agreement == "whole"


def test_a_contradiction_in_a_known_operator_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_operators.MAC_FORMULAS, "aten::mm", lambda args, out: 1)
    profile = count(lambda net, x: grid(torch.mm(rows(x), net.square.weight)), square=nn.Linear(8, 8, bias=False))
    assert profile.agreement == "contradiction"
    assert not profile.counters_agree
    assert profile.disagreements == (f"whole network: torch counts {LAST + 1} MACs forward, fvcore {LAST + P * 64}",)


@pytest.mark.parametrize(
    ("computation", "words"),
    [
        (lambda net, x: torch.fft.fft(x).real, "aten::_fft_r2c"),
        (lambda net, x: x + torch.linalg.inv(rows(x)[:8]).sum(), "aten::linalg_inv_ex"),
        (lambda net, x: x + torch.linalg.qr(rows(x))[1].sum(), "aten::linalg_qr"),
        (lambda net, x: x if x.sum() > 0 else -x, "must not depend on values"),
    ],
)
def test_unknown_arithmetic_stops(computation: Callable[..., torch.Tensor], words: str) -> None:
    with pytest.raises(UserError, match=words) as stop:
        count(computation)
    assert "\n" not in str(stop.value)


def test_an_operator_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @torch.library.custom_op("counting_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    double.register_fake(torch.empty_like)
    with pytest.raises(UserError, match=r"net: the arithmetic of counting_test::double is not known; add its MACs"):
        count(lambda net, x: torch.ops.counting_test.double(x))
    monkeypatch.setitem(torch_operators.MAC_FORMULAS, "counting_test::double", lambda args, out: out.numel())
    profile = count(lambda net, x: torch.ops.counting_test.double(x))
    assert profile.macs == P * 8 + LAST


def test_fused_attention_by_torchs_own_formula() -> None:
    q, k, v = (torch.empty(2, 3, length, 16, device="meta") for length in (5, 7, 7))
    operator = torch.ops.aten._scaled_dot_product_efficient_attention.default
    out = operator(q, k, v, None, True)
    formula = torch_operators.macs(operator, (q, k, v), out)
    assert formula == 2 * 2 * 3 * 5 * 7 * 16
    assert 2 * formula == flop_registry[torch.ops.aten._scaled_dot_product_efficient_attention](q, k, v, out_val=out)
    backward = torch_operators.MAC_FORMULAS["aten::_scaled_dot_product_efficient_attention_backward"]
    assert backward((out[0], q, k, v), None) == 5 * 2 * 3 * 5 * 7 * 16


def test_no_name_is_in_both_tables() -> None:
    names = {name.removeprefix("aten::") for name in torch_operators.MAC_FORMULAS}
    assert not [name for name in names if torch_operators.is_without_macs(name)]
    assert torch_operators.is_without_macs("_foreach_add_")
    assert torch_operators.is_without_macs("native_batch_norm_backward")
    assert not torch_operators.is_without_macs("_foreach_mm")
    assert not torch_operators.is_without_macs("linear_backward")


def test_shared_modules_and_weights_count_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.body = nn.Conv2d(10, 10, 1, bias=False), nn.Conv2d(10, 10, 3, padding=1)
            self.again, self.last = self.body, nn.Conv2d(10, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.again(self.body(self.first(x))))

    net = Shared()
    profile = count_module(net, torch.zeros(1, 10, 14, 12))
    assert profile.parameters == sum(p.numel() for p in net.parameters()) == 1_098
    assert profile.macs == P * (100 + 2 * 900 + 80)
    tied = nn.Sequential(nn.Conv2d(10, 10, 1), nn.ReLU(), nn.Conv2d(10, 10, 1))
    tied[2].weight = tied[0].weight
    assert count_module(tied, torch.zeros(1, 10, 14, 12)).parameters == 100 + 2 * 10


def test_constants_outside_of_the_parameters() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing = torch.ones(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.mixing + torch.zeros(12)

    assert count_module(Constant(), torch.zeros(1, 2, 14, 12)).macs == 2 * P * 12


def test_complex_values_have_two_numbers() -> None:
    class Complex(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.view_as_complex(x).exp()

    for precision, size in (("fp32", 4), ("bf16", 2)):
        profile = count_module(Complex(), torch.zeros(1, 5, 2), precision=precision)
        assert profile.bytes == 2 * 5 * 2 * size


def test_views_move_nothing() -> None:
    x = torch.zeros(2, 3, 4, 5)
    with FlopCounterMode(display=False) as peer:
        (x @ x.mT).sum()

    class Matmul(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.mT

    (product,) = count_module(Matmul(), x).layers
    assert product.flops == peer.get_total_flops()
    assert product.bytes == 4 * (2 * math.prod(x.shape) + 2 * 3 * 4 * 4)
