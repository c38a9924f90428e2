"""Robust LMMSE estimation against dense linear algebra, against simulated covariances, and over bandwidths."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.special import j0

from channels import Channels, Dmrs, Grid, Scenario, Slots, SlotStream
from leanrx_core.errors import UserError
from receivers.classical import LmmseEstimator, robust_lmmse_estimate
from receivers.classical.robust_estimation import frequency_lags, robust_lmmse_macs, time_lags

PILOTS = {
    "one symbol": {"pilot_patterns": ((2,),)},
    "three symbols": {"pilot_patterns": ((1, 6, 12),)},
    "DMRS type 1": {"dmrs": Dmrs(additional_positions=(1,))},
    "DMRS type 2": {"dmrs": Dmrs(config_type=2, length=2, cdm_groups_without_data=3)},
}


def conditions(num_prb: int, pilots: str, subcarrier_spacing_hz: int = 15000) -> Scenario:
    grid = Grid(num_prb=num_prb, subcarrier_spacing_hz=subcarrier_spacing_hz, **PILOTS[pilots])  # type: ignore[arg-type]
    models = Channels(train=("TDL-A", "TDL-B"), test=("TDL-C",))
    delay_spread_s = (10e-9, 3e-7 if subcarrier_spacing_hz < 120000 else 1.5e-7)
    return Scenario(
        name="s",
        grid=grid,
        channels=models,
        delay_spread_s=delay_spread_s,
        modulations=("16-QAM",),
        snr_db=(0.0, 25.0),
    )


def concatenate(*parts: Slots) -> Slots:
    return Slots(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Slots)})


def dense_estimate(slots: Slots, index: int, spacing_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate of one slot and its error power by a matrix inverse over all pilots, in double precision."""
    num_symbols, num_subcarriers = slots.pilots.shape[1:]
    doppler_hz = 500 / 15e3 * spacing_hz * (np.arange(1000) + 0.5) / 1000
    delay_s = 10e-9 + 290e-9 * (np.arange(1000) + 0.5) / 1000
    lag_s = np.arange(num_symbols) * 15 / 14 / spacing_hz
    lags_f = (1 / (1 + 2j * np.pi * np.outer(np.arange(num_subcarriers) * spacing_hz, delay_s))).mean(1)
    covariance = np.kron(toeplitz(j0(2 * np.pi * np.outer(lag_s, doppler_hz)).mean(1)), toeplitz(lags_f, lags_f.conj()))
    pilots = slots.pilots[index].flatten().numpy()
    at = np.flatnonzero(pilots)
    var = float(slots.noise_var[index] + slots.interference_var[index]) / np.mean(abs(pilots[at]) ** 2)
    inverse = np.linalg.inv(covariance[np.ix_(at, at)] + var * np.eye(len(at)))
    raw = slots.y[index].flatten(1).numpy()[:, at] / pilots[at]
    estimate = raw @ (covariance[:, at] @ inverse).T
    error = 1 - np.einsum("ij,jk,ik->i", covariance[:, at], inverse, covariance[:, at].conj()).real
    return estimate.reshape(-1, num_symbols, num_subcarriers), error.reshape(num_symbols, num_subcarriers)


@pytest.mark.parametrize("spacing_hz", [15000, 120000])
@pytest.mark.parametrize("pilots", PILOTS)
def test_one_window_is_the_dense_estimator(pilots: str, spacing_hz: int) -> None:
    slots = SlotStream(conditions(3, pilots, spacing_hz), 1, 2).block(0)
    h, error = robust_lmmse_estimate(slots)
    error_var = error.total_var(slots.noise_var + slots.interference_var)
    for index in range(2):
        expected, expected_error = dense_estimate(slots, index, spacing_hz)
        np.testing.assert_allclose(h[index].numpy(), expected, atol=0.02)
        per_prb = expected_error.reshape(14, 3, 12).mean(2)
        np.testing.assert_allclose(error_var[index].numpy(), per_prb, rtol=0.02, atol=4e-4)


def test_each_resource_block_uses_its_neighbours() -> None:
    slots = SlotStream(conditions(6, "DMRS type 1"), 1, 2).block(0)
    h, _ = robust_lmmse_estimate(slots)

    def part(first: int) -> torch.Tensor:
        grids = {f.name: getattr(slots, f.name)[..., 12 * first : 12 * (first + 3)] for f in fields(Slots)}
        keep = {f.name: getattr(slots, f.name) for f in fields(Slots) if getattr(slots, f.name).dim() == 1}
        return robust_lmmse_estimate(Slots(**{**grids, **keep}))[0].unflatten(-1, (3, 12))

    blocks = [part(0)[..., 0, :], *(part(first)[..., 1, :] for first in range(4)), part(3)[..., 2, :]]
    torch.testing.assert_close(h, torch.cat(blocks, -1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_prb", [1, 2, 5])
def test_the_error_is_that_of_channels_with_its_covariance(num_prb: int) -> None:
    """Channels of exactly the assumed covariance: errors at all REs, and residuals at the pilots, by resource block."""
    generator = torch.Generator().manual_seed(num_prb)
    stream = SlotStream(conditions(num_prb, "DMRS type 1"), 3, 1024).at_sinr(8.0)
    slots = stream.block(0)
    lags_f = frequency_lags(12 * num_prb, 15e3)
    roots = []
    for covariance in (toeplitz(time_lags()), toeplitz(lags_f, lags_f.conj())):
        values, vectors = np.linalg.eigh(covariance)
        roots.append(torch.as_tensor(vectors * values.clip(0) ** 0.5, dtype=torch.complex64))
    white = torch.randn(slots.y.shape, dtype=torch.complex64, generator=generator)
    h = torch.einsum("st,brtf,gf->brsg", roots[0], white, roots[1])
    noise = torch.randn(slots.y.shape, dtype=torch.complex64, generator=generator)
    noise *= slots.noise_var.sqrt()[:, None, None, None]
    slots = replace(slots, y=h * slots.pilots[:, None] + noise, h=h)
    estimate, error = robust_lmmse_estimate(slots)
    measured = (estimate - h).abs().square().unflatten(-1, (num_prb, 12)).mean((0, 1, 4))
    expected = error.total_var(slots.noise_var)[0]
    torch.testing.assert_close(measured, expected, rtol=0.12, atol=2e-3)
    residual = (slots.y - estimate * slots.pilots[:, None]) * (slots.pilots != 0)[:, None]
    power = residual.abs().square().unflatten(-1, (num_prb, 12)).sum((1, 2, 4)).mean(0) / (2 * 6 * 2)
    of_residual = error.residual_gain[0] * slots.noise_var[0] + error.residual_error_var[0]
    torch.testing.assert_close(power, of_residual, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("spacing_hz", [15000, 60000])
def test_the_fixed_covariance_is_that_of_its_channel(spacing_hz: int) -> None:
    """Exponential delays and Jakes' Doppler, drawn as such: their products average to the assumed lags."""
    generator = torch.Generator().manual_seed(0)
    count, f = 200_000, torch.arange(24)
    delay_spread_s = 10e-9 + 290e-9 * torch.rand(count, generator=generator)
    delay_s = delay_spread_s * torch.empty(count).exponential_(generator=generator)
    over_f = torch.exp(-2j * torch.pi * spacing_hz * f * delay_s[:, None]).mean(0)  # of lag f
    doppler_hz = 500 * spacing_hz / 15e3 * torch.rand(count, generator=generator)
    angle = 2 * torch.pi * torch.rand(count, generator=generator)
    at_s = torch.arange(14) / 14e3 * 15e3 / spacing_hz
    over_t = torch.exp(2j * torch.pi * at_s * (doppler_hz * torch.cos(angle))[:, None]).mean(0)
    np.testing.assert_allclose(frequency_lags(24, spacing_hz), over_f.numpy(), atol=0.01)
    np.testing.assert_allclose(time_lags(), over_t.numpy(), atol=0.01)


@pytest.mark.parametrize("sinr_db", [0.0, 12.0, 30.0])
def test_a_window_loses_little_to_the_whole_grid(sinr_db: float) -> None:
    """At most 0.25 dB of mean squared error, of which the LLRs notice less than 0.1 dB."""
    slots = SlotStream(conditions(26, "one symbol"), 2, 64).at_sinr(sinr_db).block(0)
    lags_f = torch.as_tensor(frequency_lags(26 * 12, 15e3))
    whole, _ = LmmseEstimator(torch.as_tensor(time_lags(), dtype=torch.complex128), lags_f).estimate(slots)
    window, _ = robust_lmmse_estimate(slots)
    noise = float(slots.noise_var[0])
    errors = [float((h - slots.h).abs().square().mean()) + noise for h in (whole, window)]
    assert 10 * np.log10(errors[1] / errors[0]) < 0.05


def test_slots_of_two_spacings_in_a_batch_are_estimated_by_their_own() -> None:
    narrow, wide = (SlotStream(conditions(4, "one symbol", spacing), 1, 4).block(0) for spacing in (15000, 60000))
    both, _ = robust_lmmse_estimate(concatenate(narrow, wide))
    torch.testing.assert_close(both[:4], robust_lmmse_estimate(narrow)[0])
    torch.testing.assert_close(both[4:], robust_lmmse_estimate(wide)[0])
    wrong, _ = robust_lmmse_estimate(replace(wide, subcarrier_spacing_hz=narrow.subcarrier_spacing_hz))
    assert (wrong - wide.h).abs().square().mean() > 1.05 * (both[4:] - wide.h).abs().square().mean()


@pytest.mark.parametrize("pilots", PILOTS)
def test_operations_per_re_do_not_depend_on_the_bandwidth(pilots: str) -> None:
    per_re = {n: robust_lmmse_macs(conditions(n, pilots).grid) / n for n in (4, 6, 26, 106, 273)}
    total = 1000 / 4 * 168  # complex MACs of the smallest receiver, per resource block
    assert max(per_re.values()) - min(per_re.values()) < 0.05 * total


def test_hand_counted_operations() -> None:
    """One resource block, one antenna, pilots on one whole symbol: 12 pilots, Q significant eigenvalues."""
    lags_f = frequency_lags(12, 15e3)
    q = int((np.linalg.eigvalsh(toeplitz(lags_f, lags_f.conj())) > 1e-4).sum())
    grid = Grid(num_prb=1, num_rx=1, pilot_patterns=((2,),))
    assert robust_lmmse_macs(grid) == 12 + 12 * q + q + 12 * q + 14 * 12 // 2


def test_grids_that_are_not_made_of_equal_resource_blocks_are_refused() -> None:
    slots = SlotStream(conditions(3, "DMRS type 1"), 1, 2).block(0)
    shifted = slots.pilots.clone()
    shifted[..., 24:] = shifted[..., 24:].roll(1, -1)
    with pytest.raises(UserError, match="resource blocks of a slot differ in their pilots"):
        robust_lmmse_estimate(replace(slots, pilots=shifted))
    with pytest.raises(UserError, match="30 subcarriers are not whole resource blocks of 12"):
        robust_lmmse_estimate(replace(slots, y=slots.y[..., :30], pilots=slots.pilots[..., :30]))
