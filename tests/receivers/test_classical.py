import numpy as np
import pytest
import torch

from channels import Channels, Grid, Scenario, Slots, SlotStream, scenario
from receivers.ber import count_block
from receivers.classical import (
    Covariance,
    LmmseIrcReceiver,
    LmmseReceiver,
    LsReceiver,
    PerfectCsiReceiver,
    combine,
    combine_rejecting,
    demap,
    ls_estimate,
    residual_covariance,
)


def test_demapper_equals_sionna() -> None:
    from sionna.phy.mapping import Demapper

    generator = torch.Generator().manual_seed(1)
    for num_bits in (2, 4, 6, 8):
        z = torch.randn(2, 14, 12, dtype=torch.complex64, generator=generator)
        var = 0.01 + torch.rand(2, 14, 12, generator=generator)
        ours = demap(z, var, torch.full((2,), num_bits), 8)
        theirs = Demapper("app", "qam", num_bits, device="cpu")(z, var).reshape(2, 14, 12, num_bits)
        torch.testing.assert_close(ours[:, :num_bits], theirs.permute(0, 3, 1, 2), atol=2e-3, rtol=1e-4)
        assert (ours[:, num_bits:] == 0).all()


def test_combining_is_lmmse_without_its_bias() -> None:
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(1, 4, 1, 1, dtype=torch.complex128, generator=generator)
    y = torch.randn(1, 4, 1, 1, dtype=torch.complex128, generator=generator)
    z, error = combine(y, h, torch.tensor(0.3))
    hv, yv = h[0, :, 0, 0].numpy(), y[0, :, 0, 0].numpy()
    weights = np.linalg.solve(np.outer(hv, hv.conj()) + 0.3 * np.eye(4), hv).conj()
    assert complex(z) == pytest.approx((weights @ yv) / (weights @ hv))
    assert float(error) == pytest.approx(0.3 * (np.abs(weights) ** 2).sum() / abs(weights @ hv) ** 2)


@pytest.fixture(scope="module")
def two_patterns() -> Slots:
    made = Scenario(
        name="two", grid=Grid(num_prb=1, pilot_patterns=((2,), (2, 11))), channels=Channels(test=("TDL-C",)),
        delay_spread_s=(100e-9, 300e-9), snr_db=(5, 15),
    )  # fmt: skip
    return SlotStream(made, 1, 12, "test").block(0)


def test_ls_interpolates_linearly(two_patterns: Slots) -> None:
    estimate = ls_estimate(two_patterns)
    for i in range(len(two_patterns)):
        raw = two_patterns.y[i] * two_patterns.pilots[i].conj()
        at = torch.nonzero(two_patterns.pilot_symbols[i])[:, 0].tolist()
        for r in range(2):
            real = [np.interp(range(14), at, raw[r, at, f].real) for f in range(12)]
            imag = [np.interp(range(14), at, raw[r, at, f].imag) for f in range(12)]
            expected = np.array(real).T + 1j * np.array(imag).T
            np.testing.assert_allclose(estimate[i, r].numpy(), expected, atol=1e-5)


def test_lmmse_equals_the_textbook_solution(two_patterns: Slots) -> None:
    """Against one dense solve per slot with the whole Kronecker covariance."""
    made = Scenario(name="two", grid=Grid(num_prb=1), channels=Channels(test=("TDL-C",)))
    covariance = Covariance(made, num_slots=256)
    estimate, error = covariance.estimate(two_patterns)
    full = np.kron(covariance.time.numpy(), covariance.frequency.numpy())
    for i in range(len(two_patterns)):
        at = torch.nonzero(two_patterns.pilot_symbols[i])[:, 0].numpy()
        index = (at[:, None] * 12 + np.arange(12)).ravel()
        var = float(two_patterns.noise_var[i] + two_patterns.interference_var[i])
        inner = full[np.ix_(index, index)] + var * np.eye(len(index))
        weights = np.linalg.solve(inner.T, full[:, index].T).T
        raw = (two_patterns.y[i] * two_patterns.pilots[i].conj()).numpy()[:, at].reshape(2, -1)
        np.testing.assert_allclose(estimate[i].reshape(2, -1).numpy(), raw @ weights.T, atol=2e-4)
        expected_error = np.diag(full - weights @ full[index]).real.reshape(14, 12).mean(1)
        np.testing.assert_allclose(error[i, 0, :, 0].numpy(), expected_error, atol=2e-4)


def test_a_better_channel_estimate_gives_a_lower_ber() -> None:
    desk = scenario("desk")
    slots = SlotStream(desk, 5, 256, "test").at_sinr(10).block(0)
    errors = [count_block(r, slots)["bit_errors"] for r in (LsReceiver(), LmmseReceiver(desk), PerfectCsiReceiver())]
    assert errors[0] > 1.1 * errors[1] > 1.1 * errors[2]
    lmmse, predicted = Covariance(desk).estimate(slots)
    found = float((lmmse - slots.h).abs().square().mean())
    assert found < float((ls_estimate(slots) - slots.h).abs().square().mean()) - 0.1  # at least the noise power less
    assert found == pytest.approx(float(predicted.mean()), rel=0.1)


@pytest.mark.parametrize("model", ["TDL-A", "TDL-E", "CDL-A", "CDL-E"])
def test_interference_does_about_what_noise_of_its_power_does(model: str) -> None:
    """Off, the BER is that of the noise; on, at an equal SINR, it is near that of white noise of the same power."""
    desk = scenario("desk").model_copy(update={"channels": Channels.model_validate({"test": [model]})})
    stream = SlotStream(desk, 5, 512, "test")
    receiver = PerfectCsiReceiver()

    def ber(sinr_db: float, share: float) -> float:
        counts = count_block(receiver, stream.at_sinr(sinr_db, share).block(0))
        return counts["bit_errors"] / counts["bits"]

    clean, noisy, loud = ber(29.0, 0.0), ber(9.0, 0.0), ber(9.0, 0.99)
    assert clean < 0.1 * noisy
    assert loud == pytest.approx(noisy, rel=0.35)


def test_rejecting_in_white_noise_is_plain_combining() -> None:
    generator = torch.Generator().manual_seed(1)
    h, y = (torch.randn(2, 3, 14, 24, dtype=torch.complex64, generator=generator) for _ in range(2))
    white = (0.2 * torch.eye(3, dtype=torch.complex64)).expand(2, 2, 3, 3)
    plain, rejecting = combine(y, h, torch.tensor(0.3)), combine_rejecting(y, h, white, torch.full((2, 14, 1), 0.1))
    for a, b in zip(plain, rejecting, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_rejecting_equals_the_dense_formula() -> None:
    rng = np.random.default_rng(1)
    h = (rng.normal(size=4) + 1j * rng.normal(size=4)).astype(np.complex64)
    y = (rng.normal(size=4) + 1j * rng.normal(size=4)).astype(np.complex64)
    a = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    covariance = (a @ a.conj().T + np.eye(4)).astype(np.complex64)

    def grid(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x)[None, :, None, None].expand(1, 4, 14, 12)

    z, var = combine_rejecting(grid(y), grid(h), torch.tensor(covariance)[None, None], torch.zeros(1, 14, 1))
    inverse = np.linalg.inv(covariance)
    gain = (h.conj() @ inverse @ h).real
    assert complex(z[0, 3, 5]) == pytest.approx(h.conj() @ inverse @ y / gain, rel=1e-3)
    assert float(var[0, 3, 5]) == pytest.approx(1 / gain, rel=1e-3)


def test_residual_covariance_finds_a_strong_interferer() -> None:
    """With the true channel, the residual is noise and interference; a strong one leaves rank one per antenna pair."""
    desk = scenario("desk")
    slots = SlotStream(desk, 5, 64, "test").at_sinr(0, 0.999).block(0)
    found = residual_covariance(slots, slots.h)
    power = found.diagonal(dim1=-2, dim2=-1).real.mean()
    assert float(power) == pytest.approx(1.0, rel=0.15)
    values = torch.linalg.eigvalsh(found)
    assert float((values[..., 0] / values[..., 1]).median()) < 0.3


def ber_of(receiver: object, slots: Slots) -> float:
    counts = count_block(receiver, slots)  # type: ignore[arg-type]
    return counts["bit_errors"] / counts["bits"]


def test_irc_beats_plain_lmmse_under_interference_and_equals_it_without() -> None:
    """Slow channels, so that the pilots' symbol tells of the others; four antennas, to have some to spare."""
    quiet = Scenario(
        name="slow", grid=Grid(num_prb=6, num_rx=4, pilot_patterns=((2, 11),)),
        channels=Channels(test=("TDL-A", "CDL-A")), max_doppler_hz=(0, 20),
    )  # fmt: skip
    stream = SlotStream(quiet, 5, 256, "test")
    plain, rejecting = LmmseReceiver(quiet), LmmseIrcReceiver(quiet)
    loud, clean = stream.at_sinr(3, 0.95).block(0), stream.at_sinr(3).block(0)
    assert ber_of(rejecting, loud) < 0.6 * ber_of(plain, loud)
    assert ber_of(rejecting, clean) == pytest.approx(ber_of(plain, clean), rel=0.06)
