import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

from channels import Channels, Dmrs, Grid, Interferer, Scenario, Slots, SlotStream, Subcarriers, scenario
from channels.grid import modulate
from receivers.base import Receiver
from receivers.classical import (
    Covariance,
    LmmseIrcReceiver,
    LmmseReceiver,
    LsErrorPower,
    LsReceiver,
    PerfectCsiIrcReceiver,
    PerfectCsiReceiver,
    classical_receivers,
    demap,
    ls_estimate,
    mmse_irc_combine,
    mrc,
    residual_covariance,
    whiten_with_genie_csi,
)
from receivers.classical.combining import apply_per_prb, whitening_matrix
from receivers.evaluation.error_counts import count_block


@pytest.mark.parametrize("method", ["app", "maxlog"])
def test_demapper_equals_sionna(method: Literal["app", "maxlog"]) -> None:
    from sionna.phy.mapping import Demapper

    generator = torch.Generator().manual_seed(1)
    for num_bits in (2, 4, 6, 8):
        z = torch.randn(2, 14, 12, dtype=torch.complex64, generator=generator)
        var = 0.01 + torch.rand(2, 14, 12, generator=generator)
        llrs = demap(z, var, torch.full((2,), num_bits), 8, method)
        reference = Demapper(method, "qam", num_bits, device="cpu")(z, var).reshape(2, 14, 12, num_bits)
        torch.testing.assert_close(llrs[:, :num_bits], reference.permute(0, 3, 1, 2), atol=2e-3, rtol=1e-4)
        assert (llrs[:, num_bits:] == 0).all()


def test_combining_is_lmmse_without_its_bias() -> None:
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(1, 4, 1, 1, dtype=torch.complex128, generator=generator)
    y = torch.randn(1, 4, 1, 1, dtype=torch.complex128, generator=generator)
    z, error = mrc(y, h, torch.tensor(0.3))
    hv, yv = h[0, :, 0, 0].numpy(), y[0, :, 0, 0].numpy()
    weights = np.linalg.solve(np.outer(hv, hv.conj()) + 0.3 * np.eye(4), hv).conj()
    assert complex(z) == pytest.approx((weights @ yv) / (weights @ hv))
    assert float(error) == pytest.approx(0.3 * (np.abs(weights) ** 2).sum() / abs(weights @ hv) ** 2)


PILOTS = {
    "whole symbols": Grid(num_prb=1, pilot_patterns=((2,), (2, 11))),
    "type 1 at amplitude sqrt(2)": Grid(num_prb=2, dmrs=Dmrs(additional_positions=(0, 1, 3))),
    "type 1 with data": Grid(num_prb=2, dmrs=Dmrs(additional_positions=(1,), cdm_groups_without_data=1)),
    "type 2 at amplitude sqrt(3), double": Grid(
        num_prb=2, dmrs=Dmrs(config_type=2, length=2, additional_positions=(0, 1), cdm_groups_without_data=3)
    ),
}


@pytest.fixture(params=PILOTS, scope="module")
def slots_of_patterns(request: pytest.FixtureRequest) -> Slots:
    conditions = Scenario(
        name="patterns",
        grid=PILOTS[request.param],
        channels=Channels(test=("TDL-C",)),
        delay_spread_s=(100e-9, 300e-9),
        snr_db=(5, 15),
    )
    return SlotStream(conditions, 1, 12, "test").block(0)


def pilots_of(slots: Slots, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Symbols and subcarriers of slot i's pilots, raw estimates ``(R, P, Q)`` and the power of a pilot."""
    grid = slots.pilots[i].numpy()
    symbols, subcarriers = np.nonzero(grid.any(1))[0], np.nonzero(grid.any(0))[0]
    pilots = grid[np.ix_(symbols, subcarriers)]
    raw = slots.y[i].numpy()[:, symbols][:, :, subcarriers] / pilots
    return symbols, subcarriers, raw, float((abs(pilots) ** 2).mean())


def pairs(raw: np.ndarray, positions: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbouring pilots and of their positions."""
    first, second = (np.take(raw, range(i, len(positions), 2), axis) for i in (0, 1))
    return (first + second) / 2, positions.reshape(-1, 2).mean(1)


def test_ls_interpolates_and_extrapolates_linearly_along_both_axes(slots_of_patterns: Slots) -> None:
    """From the pilots of whole symbols, or from the means of the pairs of a comb and of a double symbol."""
    estimate = ls_estimate(slots_of_patterns).numpy()
    num_symbols, num_subcarriers = estimate.shape[2:]
    for i in range(len(slots_of_patterns)):
        symbols, subcarriers, raw, _ = pilots_of(slots_of_patterns, i)
        if len(subcarriers) < num_subcarriers:
            raw, subcarriers = pairs(raw, subcarriers, 2)
            if len(symbols) > 1 and symbols[1] == symbols[0] + 1:
                raw, symbols = pairs(raw, symbols, 1)
        expected = interp1d(subcarriers, raw, axis=2, fill_value="extrapolate")(range(num_subcarriers))
        if len(symbols) > 1:
            expected = interp1d(symbols, expected, axis=1, fill_value="extrapolate")(range(num_symbols))
        np.testing.assert_allclose(estimate[i], np.broadcast_to(expected, estimate[i].shape), atol=1e-4)


def test_ls_equals_sionna_on_the_grid_of_its_tutorial() -> None:
    """With guards, an empty subcarrier at the carrier frequency, and two pilot symbols."""
    from sionna.phy.ofdm import LSChannelEstimator, PilotPattern, ResourceGrid

    subcarriers = Subcarriers(fft_size=128, guards=(5, 6), dc_null=True)
    grid = Grid(subcarriers=subcarriers, subcarrier_spacing_hz=30000, pilot_patterns=((2, 11),))
    conditions = Scenario(name="x", grid=grid, channels=Channels(test=("CDL-C",)), delay_spread_s=(1e-7, 1e-7))
    slots = SlotStream(conditions, 1, 2, "test").at_sinr(10).block(0)
    occupied = slots.pilots[0, 2] != 0
    estimate, (error_var, _) = ls_estimate(slots), LsErrorPower()(slots)
    for i in range(2):
        mask = (slots.pilots[i] != 0)[:, occupied]
        values = slots.pilots[i][:, occupied][mask]
        resource_grid = ResourceGrid(
            num_ofdm_symbols=14,
            fft_size=128,
            subcarrier_spacing=30e3,
            num_guard_carriers=[5, 6],
            dc_null=True,
            pilot_pattern=PilotPattern(mask[None, None], values[None, None], device="cpu"),
            device="cpu",
        )
        y = torch.nn.functional.pad(slots.y[i], (5, 6))[None, None]
        sionna = LSChannelEstimator(resource_grid, interpolation_type="lin", device="cpu")
        expected, expected_var = sionna(y, slots.noise_var[i])
        torch.testing.assert_close(estimate[i][..., occupied], expected[0, 0, :, 0, 0], atol=1e-4, rtol=0)
        at_pilots = expected_var[0, 0, 0, 0, 0][mask]
        torch.testing.assert_close(error_var[i][:, occupied][mask], at_pilots, atol=1e-6, rtol=1e-4)


def test_ls_of_pusch_has_less_error_than_that_of_sionna() -> None:
    """Sionna repeats the mean of a CDM pair at both pilots; here it stands between them."""
    from sionna.phy.nr import CarrierConfig, PUSCHConfig, PUSCHDMRSConfig, PUSCHLSChannelEstimator, PUSCHTransmitter

    num_prb, count = 6, 64
    dmrs = Dmrs(additional_positions=(1,))
    grid = Grid(num_prb=num_prb, subcarrier_spacing_hz=30000, dmrs=dmrs)
    conditions = Scenario(
        name="x", grid=grid, channels=Channels(test=("TDLC300",)), max_doppler_hz=(0, 400), snr_db=(7, 20)
    )
    slots = SlotStream(conditions, 1, count, "test").block(0)
    config = PUSCHConfig(
        carrier_config=CarrierConfig(n_size_grid=num_prb, subcarrier_spacing=30),
        pusch_dmrs_config=PUSCHDMRSConfig(additional_position=1, num_cdm_groups_without_data=2),
    )
    resource_grid = PUSCHTransmitter(config, output_domain="freq", device="cpu").resource_grid
    pattern = resource_grid.pilot_pattern
    mask = pattern.mask[0, 0].bool()
    errors = []
    for i in range(count):
        pattern.pilots = slots.pilots[i][mask][None, None]
        sionna = PUSCHLSChannelEstimator(resource_grid, 1, 1, 2, interpolation_type="lin", device="cpu")
        h, _ = sionna(slots.y[i][None, None], slots.noise_var[i])
        errors.append((h[0, 0, :, 0, 0] - slots.h[i]).abs().square().mean())
    error = (ls_estimate(slots) - slots.h).abs().square().mean((1, 2, 3))
    assert float(error.mean()) < 0.97 * float(torch.stack(errors).mean())


def test_ls_extrapolates_where_that_has_less_error() -> None:
    """Two pilot symbols: the line beyond them amplifies noise at low SINR, and follows the channel at high SINR."""
    grid = Grid(num_prb=2, pilot_patterns=((2, 11),))
    conditions = Scenario(name="x", grid=grid, channels=Channels(test=("TDL-A",)), max_doppler_hz=(0, 400))
    covariance, stream = Covariance(conditions, num_slots=256), SlotStream(conditions, 5, 256, "test")
    for sinr_db, is_line in ((0.0, False), (25.0, True)):
        slots = stream.at_sinr(sinr_db).block(0)
        error_var, extrapolate = LsErrorPower(covariance)(slots)
        assert extrapolate.tolist() == 256 * [is_line]
        errors = [float((ls_estimate(slots, e) - slots.h).abs().square().mean()) for e in (extrapolate, ~extrapolate)]
        assert errors[0] < 0.97 * errors[1]
        assert errors[0] == pytest.approx(float(error_var.mean()), rel=0.15)


@pytest.mark.parametrize(("name", "sinr_db"), [("whole symbols", 20.0), ("type 1 at amplitude sqrt(2)", 10.0)])
def test_error_power_of_ls_is_what_its_symbols_have(name: str, sinr_db: float) -> None:
    """In channels that change over the slot. With the noise alone, the LLRs would be too sure of themselves."""
    conditions = Scenario(name="x", grid=PILOTS[name], channels=Channels(test=("TDL-A",)), delay_spread_s=(1e-7, 3e-7))
    slots = SlotStream(conditions, 5, 512, "test").at_sinr(sinr_db).block(0)
    x = torch.where(slots.is_data, modulate(slots.bits), slots.pilots)
    ratios = []
    for receiver in (LsReceiver(), LsReceiver(scenario=conditions)):
        z, error_var = receiver.symbols(slots)
        ratios.append(float(((z - x).abs().square() / error_var)[slots.is_data].mean()))
    assert 0.75 < ratios[1] < 1.3
    assert ratios[0] > 1.1 * ratios[1]


def test_lmmse_equals_the_textbook_solution(slots_of_patterns: Slots) -> None:
    """Against one dense solve per slot with the whole Kronecker covariance; noise is weaker at strong pilots."""
    slots = slots_of_patterns
    conditions = Scenario(name="prior", grid=Grid(num_prb=slots.y.shape[-1] // 12), channels=Channels(test=("TDL-C",)))
    covariance = Covariance(conditions, num_slots=256)
    estimate, error = covariance.estimate(slots)
    full = np.kron(covariance.time.numpy(), covariance.frequency.numpy())
    for i in range(len(slots)):
        symbols, subcarriers, raw, power = pilots_of(slots, i)
        index = (symbols[:, None] * slots.y.shape[-1] + subcarriers).ravel()
        var = float(slots.noise_var[i] + slots.interference_var[i]) / power
        inner = full[np.ix_(index, index)] + var * np.eye(len(index))
        weights = np.linalg.solve(inner.T, full[:, index].T).T
        np.testing.assert_allclose(estimate[i].reshape(2, -1).numpy(), raw.reshape(2, -1) @ weights.T, atol=5e-4)
        expected_error = np.diag(full - weights @ full[index]).real.reshape(14, -1).mean(1)
        np.testing.assert_allclose(error[i, 0, :, 0].numpy(), expected_error, atol=5e-4)


@pytest.mark.parametrize("name", list(PILOTS))
def test_lmmse_error_is_the_predicted_one(name: str) -> None:
    """For channels of the covariance; a power of the pilots taken for another would show in the noise that is left."""
    conditions = Scenario(
        name="matched", grid=PILOTS[name], channels=Channels(test=("TDL-C",)), delay_spread_s=(1e-7, 1e-7)
    )
    slots = SlotStream(conditions, 5, 3000, "test").at_sinr(5).block(0)
    estimate, predicted = Covariance(conditions).estimate(slots)
    error = (estimate - slots.h).abs().square().mean()
    assert float(error) == pytest.approx(float(predicted.mean()), rel=0.1)


def test_a_better_channel_estimate_gives_a_lower_ber() -> None:
    tdl_6prb = scenario("tdl-6prb")
    slots = SlotStream(tdl_6prb, 5, 256, "test").at_sinr(10).block(0)
    errors = [
        count_block(r, slots)["bit_errors"] for r in (LsReceiver(), LmmseReceiver(tdl_6prb), PerfectCsiReceiver())
    ]
    assert errors[0] > 1.1 * errors[1] > 1.1 * errors[2]
    lmmse, predicted = Covariance(tdl_6prb).estimate(slots)
    error = float((lmmse - slots.h).abs().square().mean())
    assert error < float((ls_estimate(slots) - slots.h).abs().square().mean()) - 0.1  # at least the noise power less
    assert error == pytest.approx(float(predicted.mean()), rel=0.1)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-E", "CDL-A", "CDL-E"])
def test_interference_acts_like_noise_of_its_power(model: str) -> None:
    """Off, the BER is that of the noise; on, at an equal SINR, it is near that of white noise of the same power."""
    tdl_6prb = scenario("tdl-6prb").model_copy(update={"channels": Channels.model_validate({"test": [model]})})
    stream = SlotStream(tdl_6prb, 5, 512, "test")
    receiver = PerfectCsiReceiver()

    def ber(sinr_db: float, fraction: float) -> float:
        counts = count_block(receiver, stream.at_sinr(sinr_db, fraction).block(0))
        return counts["bit_errors"] / counts["bits"]

    clean, noisy, loud = ber(29.0, 0.0), ber(9.0, 0.0), ber(9.0, 0.99)
    assert clean < 0.1 * noisy
    assert loud == pytest.approx(noisy, rel=0.35)


def test_mmse_irc_in_white_noise_equals_mrc() -> None:
    generator = torch.Generator().manual_seed(1)
    h, y = (torch.randn(2, 3, 14, 24, dtype=torch.complex64, generator=generator) for _ in range(2))
    white = (0.2 * torch.eye(3, dtype=torch.complex64)).expand(2, 2, 3, 3)
    combined = mrc(y, h, torch.tensor(0.3)), mmse_irc_combine(y, h, white, torch.full((2, 14, 1), 0.1))
    for a, b in zip(*combined, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_mmse_irc_equals_the_dense_formula() -> None:
    rng = np.random.default_rng(1)
    h = (rng.normal(size=4) + 1j * rng.normal(size=4)).astype(np.complex64)
    y = (rng.normal(size=4) + 1j * rng.normal(size=4)).astype(np.complex64)
    a = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    covariance = (a @ a.conj().T + np.eye(4)).astype(np.complex64)

    def grid(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x)[None, :, None, None].expand(1, 4, 14, 12)

    z, var = mmse_irc_combine(grid(y), grid(h), torch.tensor(covariance)[None, None], torch.zeros(1, 14, 1))
    inverse = np.linalg.inv(covariance)
    gain = (h.conj() @ inverse @ h).real
    assert complex(z[0, 3, 5]) == pytest.approx(h.conj() @ inverse @ y / gain, rel=1e-3)
    assert float(var[0, 3, 5]) == pytest.approx(1 / gain, rel=1e-3)


def test_residual_covariance_finds_a_strong_interferer() -> None:
    """With the true channel, the residual is noise and interference; a strong one leaves rank one per antenna pair."""
    tdl_6prb = scenario("tdl-6prb")
    slots = SlotStream(tdl_6prb, 5, 64, "test").at_sinr(0, 0.999).block(0)
    covariance = residual_covariance(slots, slots.h)
    power = covariance.diagonal(dim1=-2, dim2=-1).real.mean()
    assert float(power) == pytest.approx(1.0, rel=0.15)
    values = torch.linalg.eigvalsh(covariance)
    assert float((values[..., 0] / values[..., 1]).median()) < 0.3


@pytest.mark.parametrize("name", list(PILOTS))
def test_residual_covariance_has_the_noise_power_whatever_the_pilots(name: str) -> None:
    grid = PILOTS[name].model_copy(update={"num_prb": 6})
    conditions = Scenario(name="noise", grid=grid, channels=Channels(test=("TDL-A",)))
    slots = SlotStream(conditions, 5, 64, "test").at_sinr(7).block(0)
    covariance = residual_covariance(slots, slots.h)
    assert float(covariance.diagonal(dim1=-2, dim2=-1).real.mean()) == pytest.approx(10**-0.7, rel=0.03)
    assert float(covariance[..., 0, 1].abs().mean()) < 0.5 * 10**-0.7


def test_the_whitening_matrix_gives_white_noise_of_the_given_power() -> None:
    """Exactly for its own sample covariance; noise and interference near the pilots become much whiter."""
    slots = SlotStream(scenario("tdl-6prb"), 5, 64, "test").at_sinr(0, 0.95).block(0)
    sample = residual_covariance(slots, slots.h)
    power = slots.noise_var + slots.interference_var
    weights = whitening_matrix(sample, power)
    assert not weights[..., 0, 1].any()
    exact = (power[:, None, None, None] * torch.eye(2)).to(torch.complex64).expand(64, 6, 2, 2)
    torch.testing.assert_close(weights @ sample @ weights.mH, exact, atol=1e-3, rtol=1e-3)
    disturbance = slots.y - slots.h * torch.where(slots.is_data, modulate(slots.bits), slots.pilots)[:, None]
    ratios = []
    for x in (disturbance, apply_per_prb(weights, disturbance)):
        blocks = x[:, :, 1:4].unflatten(-1, (6, 12))  # the pilots are on symbol 2
        values = torch.linalg.eigvalsh(torch.einsum("brspk,bqspk->bprq", blocks, blocks.conj()))
        ratios.append(float((values[..., 0] / values[..., 1]).median()))
    assert ratios[1] > 6 * ratios[0]


def with_aligned_interferers(slots: Slots, count: int, num_rx: int, power: float, seed: int = 2) -> Slots:
    """The same slots with ``count`` interferers whose channels are drawn per RE and whose symbols are aligned."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(slots), count, num_rx, *slots.y.shape[2:])
    g = math.sqrt(power) * torch.randn(shape, dtype=torch.complex64, generator=generator)
    symbols = torch.randn(len(slots), count, 1, *slots.y.shape[2:], dtype=torch.complex64, generator=generator)
    return replace(
        slots,
        y=slots.y + (g * symbols).sum(1),
        h_interference=g,
        interference_var=slots.interference_var + count * power,
    )


@pytest.mark.parametrize(("num_rx", "count"), [(1, 1), (2, 1), (4, 2), (2, 3)])
@pytest.mark.parametrize("power", [1e-3, 1.0, 1e4])
def test_whitening_equals_the_dense_inverse(num_rx: int, count: int, power: float) -> None:
    """One solve per RE with the covariance of noise and interference across antennas."""
    grid = Grid(num_prb=1, num_rx=num_rx)
    conditions = Scenario(name="white", grid=grid, channels=Channels(test=("Rayleigh",)))
    slots = with_aligned_interferers(SlotStream(conditions, 3, 2, "test").at_sinr(10).block(0), count, num_rx, power)
    y, h = whiten_with_genie_csi(slots)
    z, var = mrc(y, h, slots.noise_var[:, None, None])
    g = slots.h_interference.numpy().transpose(0, 3, 4, 2, 1).astype(complex)
    covariance = g @ g.conj().swapaxes(-1, -2) + slots.noise_var.numpy()[:, None, None, None, None] * np.eye(num_rx)
    channel, received = (x.numpy().transpose(0, 2, 3, 1)[..., None] for x in (slots.h, slots.y))
    weights = np.linalg.solve(covariance, channel).conj().swapaxes(-1, -2)
    gain = (weights @ channel)[..., 0, 0]
    np.testing.assert_allclose(var.numpy(), 1 / gain.real, rtol=2e-2 if power > 1 else 1e-3)
    np.testing.assert_allclose(z.numpy() / np.sqrt(var), (weights @ received)[..., 0, 0] / np.sqrt(gain), atol=0.03)


def test_without_interference_genie_irc_equals_perfect_csi() -> None:
    slots = SlotStream(scenario("tdl-6prb"), 5, 16, "test").at_sinr(5).block(0)
    torch.testing.assert_close(PerfectCsiIrcReceiver()(slots), PerfectCsiReceiver()(slots))


def test_standard_list_and_its_names() -> None:
    tdl_6prb = scenario("tdl-6prb")
    assert [r.name for r in classical_receivers(tdl_6prb)] == [
        "LS",
        "LMMSE",
        "LMMSE-IRC",
        "perfect CSI",
        "perfect CSI-IRC",
    ]
    quiet = tdl_6prb.model_copy(update={"interferers": ()})
    assert [r.name for r in classical_receivers(quiet)] == ["LS", "LMMSE", "LMMSE-IRC", "perfect CSI"]
    variants = [LsReceiver(), LsReceiver("maxlog"), LmmseReceiver(tdl_6prb), LmmseReceiver(quiet), PerfectCsiReceiver()]
    assert len({r.digest for r in variants}) == len(variants)
    assert variants[1].name == "LS max-log"


def test_max_log_costs_little() -> None:
    slots = SlotStream(scenario("tdl-6prb"), 5, 64, "test").at_sinr(8).block(0)
    exact, approximate = ber_of(PerfectCsiReceiver(), slots), ber_of(PerfectCsiReceiver("maxlog"), slots)
    assert approximate == pytest.approx(exact, rel=0.01)
    assert not torch.equal(PerfectCsiReceiver()(slots), PerfectCsiReceiver("maxlog")(slots))


def ber_of(receiver: Receiver, slots: Slots) -> float:
    counts = count_block(receiver, slots)
    return counts["bit_errors"] / counts["bits"]


def excess(receiver: Receiver, other: Receiver, slots: Slots) -> tuple[float, float]:
    """Mean over slots of the bit errors of ``receiver`` less those of ``other``, and its standard error."""
    difference = torch.zeros(len(slots))
    for sign, r in ((1, receiver), (-1, other)):
        wrong = ((r(slots) > 0) != slots.bits.bool()) & slots.bit_mask
        difference += sign * wrong.sum((1, 2, 3))
    return float(difference.mean()), float(difference.std()) / math.sqrt(len(slots))


@pytest.mark.parametrize("model", ["TDL-A", "TDL-E", "CDL-A", "CDL-E", "Rayleigh"])
def test_perfect_csi_is_never_beaten(model: str) -> None:
    """Beyond three standard errors, on the same slots; LMMSE comes near it, so that this could fail."""
    conditions = scenario("tdl-6prb").model_copy(update={"channels": Channels.model_validate({"test": [model]})})
    stream, bound = SlotStream(conditions, 7, 192, "test"), PerfectCsiReceiver()
    for sinr_db, fraction in ((-2, 0.0), (6, 0.0), (15, 0.0), (25, 0.0), (0, 0.7), (10, 0.7)):
        slots = stream.at_sinr(sinr_db, fraction).block(0)
        for receiver in (LsReceiver(), LmmseReceiver(conditions)):
            mean, error = excess(bound, receiver, slots)
            assert mean <= 3 * error, (model, sinr_db, fraction, receiver.name)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-E", "CDL-A", "CDL-E"])
@pytest.mark.parametrize("late", [(0.0, 0.04), (0.0, 1.0)])
def test_perfect_csi_irc_is_at_least_as_good_as_all_under_interference(model: str, late: tuple[float, float]) -> None:
    conditions = scenario("tdl-6prb").model_copy(
        update={
            "channels": Channels.model_validate({"test": [model]}),
            "interferers": (Interferer(timing_offset_symbols=late), Interferer(timing_offset_symbols=late)),
        }
    )
    stream = SlotStream(conditions, 7, 128, "test")
    *real, bound = classical_receivers(conditions)
    assert bound.name == "perfect CSI-IRC"
    for sinr_db, fraction in ((0, 0.5), (0, 0.95), (10, 0.95)):
        slots = stream.at_sinr(sinr_db, fraction).block(0)
        for receiver in real:
            mean, error = excess(bound, receiver, slots)
            assert mean <= 3 * error, (model, sinr_db, fraction, receiver.name)


@pytest.mark.parametrize("name", ["whole symbols", "type 1 at amplitude sqrt(2)"])
def test_irc_beats_plain_lmmse_under_interference_and_equals_it_without(name: str) -> None:
    """Slow channels, so that the pilots' symbols tell of the others; four antennas, to have some to spare."""
    grid = PILOTS[name].model_copy(update={"num_prb": 6, "num_rx": 4})
    slow = Scenario(
        name="slow",
        grid=grid,
        channels=Channels(test=("TDL-A", "CDL-A")),
        max_doppler_hz=(0, 20),
        interferers=(Interferer(),),
    )
    stream = SlotStream(slow, 5, 256, "test")
    lmmse, irc, genie = LmmseReceiver(slow), LmmseIrcReceiver(slow), PerfectCsiIrcReceiver()
    loud, clean = stream.at_sinr(3, 0.95).block(0), stream.at_sinr(3).block(0)
    assert ber_of(irc, loud) < 0.6 * ber_of(lmmse, loud)
    assert ber_of(genie, loud) < 0.7 * ber_of(irc, loud)
    assert ber_of(irc, clean) == pytest.approx(ber_of(lmmse, clean), rel=0.06)


@pytest.mark.parametrize("num_rx", [2, 4])
def test_error_power_of_irc_is_what_its_symbols_have(num_rx: int) -> None:
    """Mean |z - x|^2 over the error power that the demapper gets, without and with interference."""
    conditions = Scenario(
        name="x",
        grid=Grid(num_prb=6, num_rx=num_rx, pilot_patterns=((2, 11),)),
        channels=Channels.model_validate({"test": ["TDL-A", "TDL-C"]}),
        max_doppler_hz=(0, 50),
        interferers=(Interferer(timing_offset_symbols=(0, 0.05)),),
    )
    for sinr_db, fraction in ((10.0, 0.0), (3.0, 0.8)):
        slots = SlotStream(conditions, 5, 256, "test").at_sinr(sinr_db, fraction).block(0)
        z, error_var = LmmseIrcReceiver(conditions).symbols(slots)
        x = torch.where(slots.is_data, modulate(slots.bits), slots.pilots)
        ratio = float(((z - x).abs().square() / error_var)[slots.is_data].mean())
        assert 0.75 < ratio < 1.25


@pytest.mark.parametrize("sinr_db", [95.0, 100.0])
@pytest.mark.parametrize("num_rx", [4, 16])
def test_irc_without_interference_has_no_errors_at_a_very_high_sinr(sinr_db: float, num_rx: int) -> None:
    """Four pilots of one resource block fit all of the noise, which leaves none in the residuals."""
    grid = Grid(num_prb=1, num_rx=num_rx, dmrs=Dmrs(config_type=2))
    conditions = Scenario(
        name="x", grid=grid, channels=Channels(test=("CDL-E",)), delay_spread_s=(1e-8, 1e-7), max_doppler_hz=(0, 0)
    )
    slots = SlotStream(conditions, 1, 32, "test").at_sinr(sinr_db).block(0)
    receiver = LmmseIrcReceiver(conditions)
    assert count_block(receiver, slots)["bit_errors"] == 0
    z, error_var = receiver.symbols(slots)
    x = torch.where(slots.is_data, modulate(slots.bits), slots.pilots)
    ratio = float(((z - x).abs().square() / error_var)[slots.is_data].mean())
    assert 0.7 < ratio < 1.4
    estimate, predicted = Covariance(conditions).estimate(slots)
    assert float((estimate - slots.h).abs().square().mean()) == pytest.approx(float(predicted.mean()), rel=0.2)


def test_irc_of_an_incomplete_last_resource_block() -> None:
    """117 subcarriers with an empty one: nine blocks and three quarters. Without interference, IRC changes little."""
    subcarriers = Subcarriers(fft_size=128, guards=(5, 6), dc_null=True)
    grid = Grid(subcarriers=subcarriers, subcarrier_spacing_hz=30000, pilot_patterns=((2, 11),))
    conditions = Scenario(
        name="x",
        grid=grid,
        channels=Channels(test=("TDL-A",)),
        max_doppler_hz=(0, 100),
        interferers=(Interferer(timing_offset_symbols=(0, 0.05)),),
    )
    stream, lmmse, irc = SlotStream(conditions, 5, 96, "test"), LmmseReceiver(conditions), LmmseIrcReceiver(conditions)
    clean, loud = stream.at_sinr(10).block(0), stream.at_sinr(5, 0.95).block(0)
    assert residual_covariance(clean, clean.h).shape == (96, 10, 2, 2)
    assert ber_of(irc, clean) == pytest.approx(ber_of(lmmse, clean), rel=0.1)
    assert ber_of(irc, loud) < 0.7 * ber_of(lmmse, loud)
    power = residual_covariance(clean, clean.h).diagonal(dim1=-2, dim2=-1).real.mean((0, 2))
    torch.testing.assert_close(power, torch.full((10,), 0.1), rtol=0.1, atol=0)
