from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from channels import Channels, Grid, Interferer, Scenario, Slots, SlotStream, scenario
from channels.grid import constellation
from leanrx_core.errors import UserError
from receivers.classical import demap, mrc, robust_lmmse_estimate
from receivers.classical.combining import debias_covariance, residual_covariance
from receivers.evaluation.stopping import Evaluation
from receivers.export import export_int8, export_onnx
from receivers.neural import hybrid
from receivers.neural.hybrid import Hybrid
from receivers.neural.registry import FAMILIES, build, parse_spec
from receivers.neural.weights import Card, NeuralReceiver, load, save


def card(spec: str = "hybrid-w4-d2", **changes: object) -> Card:
    default = Card(
        name="net",
        receiver=spec,
        role="student",
        num_rx=2,
        num_bits=4,
        parameters=1,
        scenario="s",
        channels=("TDL-B",),
        trained_sinr_db=(0, 20),
        seed=1,
        training={},
    )
    return default.model_copy(update=changes)


def whitening(slots: Slots) -> torch.Tensor:
    """Whitening matrices of a hybrid's front end, ``(B, F, R, R)``, in double precision."""
    h, errors = robust_lmmse_estimate(slots)
    var = slots.noise_var + slots.interference_var
    covariance = debias_covariance(residual_covariance(slots, h), errors, var).to(torch.complex128)
    covariance = covariance / var.double()[:, None, None, None]
    return torch.linalg.inv(torch.linalg.cholesky(covariance)).to(torch.complex64).repeat_interleave(12, 1)


def front_end(slots: Slots) -> torch.Tensor:
    """The front end of a hybrid as a receiver, built from its parts."""
    h, errors = robust_lmmse_estimate(slots)
    passed, own = (x.repeat_interleave(12, -1) for x in (errors.gain, errors.estimation_error_var))
    noise_plus_interference_var = (slots.noise_var + slots.interference_var)[:, None, None, None]
    w = whitening(slots)
    y, h = (torch.einsum("bfrq,bqsf->brsf", w, x) for x in (slots.y, h))
    # z = h^H y / |h|^2; the error of y is var I + w (gain C + own I) w^H, where w C w^H = var I
    white = noise_plus_interference_var[..., 0] * (1 + passed)
    own = own * (w.mH @ h.permute(0, 3, 1, 2)).abs().square().sum(2).mT / h.abs().square().sum(1)
    z, var = mrc(y, h, white + own)
    return demap(z, var, slots.bits_per_symbol, slots.bits.shape[1])


def perturbed(spec: str = "hybrid-w4-d2", seed: int = 3, **shape: int) -> Hybrid:
    """A network as after training: no layer is zero."""
    net = build(spec, seed=seed, **shape)
    assert isinstance(net, Hybrid)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return net


def test_an_untrained_hybrid_is_its_front_end(small: Scenario) -> None:
    mixed = small.model_copy(update={"modulations": ("QPSK", "16-QAM")})
    slots = SlotStream(mixed, 1, 16).block(0)
    assert len(slots.bits_per_symbol.unique()) == 2
    receiver = NeuralReceiver(build("hybrid-w8-d3"), card())
    torch.testing.assert_close(receiver(slots), front_end(slots), atol=1e-3, rtol=1e-4)
    assert not torch.allclose(NeuralReceiver(perturbed(), card())(slots), front_end(slots), atol=0.1)


def test_the_front_end_beats_least_squares_and_loses_to_the_scenarios_own_covariance() -> None:
    from receivers.classical import LmmseReceiver, LsReceiver

    tdl_6prb = scenario("tdl-6prb")
    slots = SlotStream(tdl_6prb, 1, 128, "test").at_sinr(9).block(0)

    def errors(llrs: torch.Tensor) -> int:
        return int((((llrs > 0) != slots.bits.bool()) & slots.bit_mask).sum())

    assert errors(LmmseReceiver(tdl_6prb)(slots)) < errors(front_end(slots)) < 0.9 * errors(LsReceiver()(slots))


@pytest.mark.parametrize(("fraction", "maximum"), [(0.0, 1.4), (0.9, 1.2)])
def test_the_front_end_predicts_its_channel_error(fraction: float, maximum: float) -> None:
    """In the direction of the channel, where the error affects combining; without the pilot symbol itself."""
    conditions = scenario("tdl-6prb")
    conditions = conditions.model_copy(update={"channels": Channels(test=conditions.channels.train)})
    slots = SlotStream(conditions, 4, 128, "test").at_sinr(6.0, fraction).block(0)
    _, estimate, error_var = hybrid.front_end(slots)
    true = torch.einsum("bfrq,bqsf->brsf", whitening(slots), slots.h)
    error = (estimate.conj() * (estimate - true)).sum(1).abs().square() / estimate.abs().square().sum(1)
    assert 0.9 < float(error[:, 3:].mean() / error_var[:, 0, 3:].mean()) < maximum


def soft_symbols(z: torch.Tensor, var: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over the constellation."""
    mean, spread = torch.empty_like(z), torch.empty_like(var)
    for i in range(len(z)):
        points = constellation(int(order[i]))
        p = torch.softmax(-(z[i, ..., None] - points).abs().square() / var[i, ..., None], -1)
        mean[i] = (p * points).sum(-1)
        spread[i] = (p * (points - mean[i][..., None]).abs().square()).sum(-1)
    return mean, spread


def expected_em_features(slots: Slots, y: torch.Tensor, h: torch.Tensor, noise_var: torch.Tensor, error: torch.Tensor):
    """In complex arithmetic; ``noise_var`` and ``error`` are the powers of noise and of the channel's error."""
    z, var = mrc(y, h, noise_var + error)
    mean, spread = soft_symbols(z, var, slots.bits_per_symbol)
    has_symbol = slots.is_data | (slots.pilots != 0)
    x, v = torch.where(slots.is_data, mean, slots.pilots), spread * slots.is_data
    e = y - h * x[:, None]
    direction = e * x.conj()[:, None] - h * v[:, None]
    min_distance_sq = {bits: constellation(bits).real.unique().diff().min() ** 2 for bits in (2, 4, 6, 8)}
    square_distance = torch.stack([min_distance_sq[int(bits)] for bits in slots.bits_per_symbol])[:, None, None]
    reliability = torch.where(has_symbol, torch.exp(-8 * v / square_distance), 0)[:, None]
    excess = (e.abs().square().sum(1) + 1e-3) / noise_var.clamp_min(1e-3)
    logs = torch.stack([v, x.abs().square(), 0.3 * var.log(), 0.3 * excess.log(), 0.3 * error.log()], 1)
    parts = [
        direction.real,
        direction.imag,
        direction.real * reliability,
        direction.imag * reliability,
        reliability,
        logs,
    ]
    return torch.cat(parts, 1), z, var


def test_the_network_equals_its_complex_arithmetic() -> None:
    """Block by block in complex arithmetic, on four modulations, boosted pilots and REs that are empty."""
    conditions = Scenario(
        name="all",
        modulations=("QPSK", "16-QAM", "64-QAM", "256-QAM"),
        channels=Channels(train=("TDL-C",)),
        grid=Grid(num_prb=2, num_rx=3, pilot_patterns=(), dmrs={"config_type": 2, "cdm_groups_without_data": 3}),
        snr_db=(5.0, 20.0),
    )
    slots = SlotStream(conditions, 3, 12).block(0)
    assert len(slots.bits_per_symbol.unique()) == 4
    assert slots.pilots.abs().max() > 1.5
    assert not (slots.is_data | (slots.pilots != 0)).all()
    net = perturbed("hybrid-w4-d2", num_rx=3, num_bits=8).eval()
    block_features: list[torch.Tensor] = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, inputs: block_features.append(inputs[1]))
    network_llrs = net(net.features(slots))
    iterator = iter(list(block_features))
    y, h, error = hybrid.front_end(slots)
    noise_var = (slots.noise_var + slots.interference_var)[:, None, None].expand(error[:, 0].shape)
    error, state = error[:, 0].clamp_min(1e-5), torch.zeros(12, 4, 14, 4)
    interpolation = torch.stack(
        [torch.as_tensor(np.interp((np.arange(24) - 2.5) / 6, range(4), row)) for row in np.eye(4)]
    ).float()
    for block in net.blocks:
        features, _, _ = expected_em_features(slots, y, h, noise_var, error)
        pooled = features.unflatten(-1, (4, 6)).mean(-1)
        torch.testing.assert_close(next(iterator), pooled, atol=1e-4, rtol=1e-3)
        state_update, h_update, error_update = block(state, pooled)
        state = state + state_update
        h = h + torch.complex(*(h_update @ interpolation).chunk(2, 1))
        error = error * (error_update @ interpolation)[:, 0].exp()
    _, z, var = expected_em_features(slots, y, h, noise_var, error)
    llrs = demap(z, var, slots.bits_per_symbol, 8)
    scale, shift = (net.conv_out(torch.relu(state)) @ interpolation).chunk(2, 1)
    expected = llrs * (1 + scale) + shift
    mask = slots.bit_mask
    torch.testing.assert_close(network_llrs[mask], expected[mask], atol=2e-3, rtol=1e-3)


def test_intermediate_llrs_are_those_of_a_shorter_network(small: Scenario) -> None:
    net = perturbed("hybrid-w4-d3").eval()
    x = net.features(SlotStream(small, 1, 4).block(0))
    llrs, *intermediate = net(x, intermediate=True)
    assert torch.equal(llrs, net(x))
    assert len(intermediate) == 2
    for depth, llrs in enumerate(intermediate, 1):
        shorter = build(f"hybrid-w4-d{depth}").eval()
        state = shorter.state_dict()
        shorter.load_state_dict({k: v if k.startswith("conv_out") else net.state_dict()[k] for k, v in state.items()})
        torch.testing.assert_close(llrs, shorter(x))
    assert not torch.allclose(intermediate[0], intermediate[1], atol=0.1)


@pytest.mark.parametrize(
    ("modulation", "sinr_db", "fraction"), [("256-QAM", 50, 0.0), ("QPSK", -20, 0.99), ("QPSK", 30, 0.999)]
)
def test_extremes_leave_gradients_finite(modulation: str, sinr_db: float, fraction: float) -> None:
    conditions = Scenario(
        name="extreme",
        grid=Grid(num_prb=1),
        modulations=(modulation,),
        channels=Channels(test=("TDL-A",)),
        interferers=(Interferer(),),
    )
    slots = SlotStream(conditions, 1, 16, "test").at_sinr(sinr_db, fraction).block(0)
    net = perturbed("hybrid-w4-d4", num_bits=conditions.bits_per_symbol).train()
    llrs, mask = net(net.features(slots)), slots.bit_mask
    loss = binary_cross_entropy_with_logits(llrs[mask], slots.bits[mask].float())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() < 1e3 for p in net.parameters())


def test_llrs_do_not_depend_on_the_truth(small: Scenario) -> None:
    slots = SlotStream(small, 1, 8).block(0)
    receiver = NeuralReceiver(perturbed(), card())
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).roll(1)
    truths = ("h", "h_interference", "bits", "snr_db", "sir_db", "sinr_db")
    blind = replace(slots, **{name: getattr(slots, name)[order] for name in truths})
    assert not torch.equal(blind.h, slots.h)
    assert torch.equal(receiver(slots), receiver(blind))
    half = (slots.noise_var + slots.interference_var) / 2  # only the sum of the powers is known
    torch.testing.assert_close(
        receiver(replace(slots, noise_var=half, interference_var=half)), receiver(slots), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("num_prb", [1, 5])
@pytest.mark.parametrize("patterns", [((2,),), ((3, 11),)])
def test_any_number_of_resource_blocks_and_of_pilots(small: Scenario, num_prb: int, patterns: tuple) -> None:
    grid = Grid(num_prb=num_prb, pilot_patterns=patterns)
    slots = SlotStream(small.model_copy(update={"grid": grid}), 1, 3).block(0)
    assert NeuralReceiver(perturbed(), card())(slots).shape == slots.bits.shape


@pytest.mark.parametrize(
    "dmrs",
    [
        {"cdm_groups_without_data": 1},
        {"cdm_groups_without_data": 2},
        {"config_type": 2, "cdm_groups_without_data": 3},
    ],
)
def test_other_modulations_antennas_and_reference_signals(dmrs: dict) -> None:
    conditions = Scenario(
        name="comb",
        grid=Grid(num_prb=2, num_rx=3, pilot_patterns=(), dmrs=dmrs),
        modulations=("QPSK", "256-QAM"),
        channels=Channels(train=("TDL-C",)),
        interferers=(Interferer(),),
    )
    slots = SlotStream(conditions, 1, 4).block(0)
    llrs = NeuralReceiver(perturbed(num_rx=3, num_bits=8), card(num_rx=3, num_bits=8))(slots)
    assert llrs.shape == slots.bits.shape
    assert torch.isfinite(llrs).all()
    untrained = NeuralReceiver(build("hybrid", 3, 8), card())(slots)
    torch.testing.assert_close(untrained, front_end(slots), atol=1e-3, rtol=1e-4)


def test_weights_come_back_equal(tmp_path, small: Scenario) -> None:
    saved = save(tmp_path / "x", perturbed(), card())
    slots = SlotStream(small, 1, 4).block(0)
    assert torch.equal(saved(slots), load(tmp_path / "x")(slots))
    save(tmp_path / "y", build("hybrid-w4-d3"), card())
    with pytest.raises(UserError, match="another network"):
        load(tmp_path / "y")


def test_the_exported_file_computes_the_same_llrs(tmp_path, small: Scenario) -> None:
    from receivers.export.exported_receiver import ExportedReceiver

    receiver = save(tmp_path / "net", perturbed(), card())
    scenario = small.model_copy(update={"grid": Grid(num_prb=3)})  # a file for fewer resource blocks takes these alone
    parity = export_onnx(receiver, tmp_path / "out", SlotStream(scenario, 1, 8, "test"), (0.0, 10.0), (0.0, 0.5))
    assert parity.equal
    assert parity.max_llr > 1
    evaluation = Evaluation(sinr_db=(10,), block_slots=8, min_slots=8, max_slots=8, target_slot_errors=None)
    calibration = SlotStream(scenario, 1, 8, "train", purpose="calibration").block(0)
    path = tmp_path / "out" / "net.onnx"
    comparison = export_int8(path, path, calibration, SlotStream(scenario, 1, 8, "test"), evaluation, 0.4)
    fresh = SlotStream(scenario, 1, 8, "test").at_sinr(10.0).block(5)
    llrs = torch.stack([r(fresh)[fresh.bit_mask] for r in (receiver, ExportedReceiver(comparison.path, "int8"))])
    assert torch.corrcoef(llrs)[0, 1] > 0.99
    wide = SlotStream(scenario.model_copy(update={"grid": Grid(num_prb=5)}), 1, 3, "test").block(0)
    exported = ExportedReceiver(tmp_path / "out" / "net.onnx", "x")
    mask = wide.bit_mask
    torch.testing.assert_close(exported(wide)[mask], receiver(wide)[mask], atol=1e-3, rtol=1e-3)


def test_specs() -> None:
    assert parse_spec("hybrid") == (FAMILIES["hybrid"], 16, 6)
    assert parse_spec("hybrid-w16-d4") == (FAMILIES["hybrid"], 16, 4)
    assert parse_spec("deeprx-w0.5-d5") == (FAMILIES["deeprx"], 0.5, 5)
    for wrong in ("hybrid-w0.5", "hybrid-w1", "hybrid-w200", "hybrid-d0", "hybrid-d33", "hybrid-d4-w16", "hybridx"):
        with pytest.raises(UserError, match=wrong):
            parse_spec(wrong)


def test_sizes_are_those_of_a_compact_receiver() -> None:
    sizes = [sum(p.numel() for p in build(spec).parameters()) for spec in ("hybrid-w4-d5", "hybrid", "hybrid-w32-d8")]
    assert 1_000 < sizes[0] < sizes[1] < 30_000 < sizes[2] < 100_000
