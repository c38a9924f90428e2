"""Channel estimation from pilots: LMMSE with a known covariance."""

from __future__ import annotations

from typing import NamedTuple

import torch

from channels import Scenario, Slots, SlotStream
from channels.scenarios import Split
from receivers.classical.pilot_groups import pilot_groups
from receivers.classical.slot_sizes import SlotSizes
from receivers.noise_power import noise_plus_interference_var


def raw_estimate_macs(sizes: SlotSizes) -> int:
    """Complex MACs of the raw estimates at the pilots: ``R P Q``."""
    return sizes.antennas * sizes.pilot_symbols * sizes.pilot_subcarriers


def lmmse_estimate_macs(sizes: SlotSizes) -> int:
    """Complex MACs of :meth:`LmmseEstimator.estimate`.

    The raw estimates, and the way into and out of two eigenbases, ``R (P^2 Q + P Q^2 + P Q) + R (P Q F + S P F)``.
    """
    r, s, f, p, q, _ = sizes
    return raw_estimate_macs(sizes) + r * (p * p * q + p * q * q + p * q) + r * (p * q * f + s * p * f)


class LmmseEstimator:
    """LMMSE channel estimation for a channel of known covariance over time and over frequency.

    The estimator assumes that the channel of one antenna over the grid has covariance ``R_t kron R_f``: delay and
    Doppler are independent. This holds for TDL-A, B and C, and approximately for other models and mixtures.

    Args:
        lags_t, lags_f: autocorrelation ``E[h(i + lag) h*(i)]`` over symbols and over subcarriers, complex128 ``(S,)``
            and ``(F,)``.
    """

    def __init__(self, lags_t: torch.Tensor, lags_f: torch.Tensor) -> None:
        self._time, self._frequency = _Axis(lags_t), _Axis(lags_f)
        self.time, self.frequency = self._time.covariance, self._frequency.covariance

    def time_basis(self, symbols: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Eigenbasis of the covariance at P pilot symbols.

        Args:
            symbols: int64 ``(P,)``.

        Returns:
            Eigenvalues ``(P,)`` and eigenvectors ``(P, P)`` of ``R_t(pilots, pilots)``, then ``R_t(:, pilots)`` times
            the eigenvectors and its squared magnitude, both ``(S, P)``. Powers are float64, the others complex64.
        """
        return self._time.restricted_to(symbols)

    def frequency_basis(self, subcarriers: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Eigenbasis of the covariance at Q subcarriers with pilots, as :meth:`time_basis`."""
        return self._frequency.restricted_to(subcarriers)

    def estimate(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint time-frequency LMMSE estimate from the raw pilot estimates, exact for ``R_t kron R_f``.

        With ``R_t(pilots) = U_t D_t U_t^H`` on the symbols and ``R_f(pilots) = U_f D_f U_f^H`` on the subcarriers that
        carry pilots, the estimator is ``(R_t(:, pilots) U_t kron R_f(:, pilots) U_f) (D_t kron D_f + var I)^-1
        (U_t kron U_f)^H``. So no slot needs a matrix inverse. ``var`` is the noise-plus-interference power over the
        power of a pilot.

        Args:
            slots: received slots, whose noise-plus-interference power is known.

        Returns:
            The estimate, complex64 ``(B, R, S, F)``, and its mean error power per symbol, float32 ``(B, 1, S, 1)``.
        """
        h = torch.empty_like(slots.y)
        error = torch.empty(len(slots), 1, h.shape[2], 1, device=h.device)
        var_of_slot = noise_plus_interference_var(slots)
        prior = (self.time.diagonal() * self.frequency.diagonal().mean()).real
        for group in pilot_groups(slots):
            raw, power = group.raw_estimates(slots)
            var = var_of_slot[group.indices] / power
            values_t, vectors_t, out_t, gain_t = self.time_basis(group.symbols)
            values_f, vectors_f, out_f, gain_f = self.frequency_basis(group.subcarriers)
            pilots = torch.einsum("brtf,tu->bruf", raw, vectors_t.conj()) @ vectors_f.conj()
            inverse = 1 / (values_t[:, None] * values_f + var.double()[:, None, None])
            over_subcarriers = (pilots * inverse.float()[:, None]) @ out_f.T
            h[group.indices] = torch.einsum("st,brtf->brsf", out_t, over_subcarriers)
            explained = inverse @ gain_f.mean(0) @ gain_t.T  # double precision, for the small difference to the prior
            error[group.indices] = (prior - explained).clamp_min(0).float()[:, None, :, None]
        return h, error

    def error_decomposition(self, slots: Slots, error: torch.Tensor) -> ErrorDecomposition:
        """Split the estimate's error into passed noise and estimation error, see :class:`ErrorDecomposition`.

        Args:
            slots: received slots.
            error: the estimate's mean error power, second return value of :meth:`estimate`.
        """
        var_of_slot = noise_plus_interference_var(slots)
        gain, estimation_error = torch.empty(2, len(slots), slots.y.shape[2], 1, device=slots.y.device)
        residual_gain, residual_error = torch.empty(2, len(slots), 1, device=slots.y.device)
        for group in pilot_groups(slots):
            _, power = group.raw_estimates(slots)
            var = var_of_slot[group.indices].double()
            values_t, _, _, gain_t = self.time_basis(group.symbols)
            values_f, _, _, gain_f = self.frequency_basis(group.subcarriers)
            values = values_t[:, None] * values_f
            inverse = 1 / (values + (var / power)[:, None, None])
            passed = inverse.square() @ gain_f.mean(0) @ gain_t.T / power[:, None]
            gain[group.indices] = passed.float()[..., None]
            estimation_error[group.indices] = (error[group.indices, 0] - (passed * var[:, None])[..., None]).float()
            residual = (inverse * (var / power)[:, None, None]).square()
            residual_gain[group.indices] = residual.mean((1, 2)).float()[:, None]
            residual_error[group.indices] = ((residual * values).mean((1, 2)) * power).float()[:, None]
        return ErrorDecomposition(gain, estimation_error.clamp_min(0), residual_gain, residual_error)


class ErrorDecomposition(NamedTuple):
    """The error of an LMMSE channel estimate, split by its source.

    C is the covariance of noise and interference across antennas. The error at symbol s has covariance
    ``gain[s] C + estimation_error_var[s] I``. The residual ``y - h pilot`` has covariance
    ``residual_gain C + residual_error_var I``. The error is a mean over N parts of the bandwidth: all of it (N = 1),
    or each resource block.

    Attributes:
        gain: factor of the noise that the estimator passes, float32 ``(B, S, N)``.
        estimation_error_var: error power without noise, float32 ``(B, S, N)``.
        residual_gain, residual_error_var: the same of the residual, float32 ``(B, N)``.
    """

    gain: torch.Tensor
    estimation_error_var: torch.Tensor
    residual_gain: torch.Tensor
    residual_error_var: torch.Tensor

    def total_var(self, var: torch.Tensor) -> torch.Tensor:
        """Error power in white noise of power ``var``, float32 ``(B,)``; returns float32 ``(B, S, N)``."""
        return self.gain * var[:, None, None] + self.estimation_error_var


class Covariance(LmmseEstimator):
    """The LMMSE estimator of a scenario, with ``R_t`` and ``R_f`` from the paths of simulated channels.

    The paths have independent phases. So only the power and the time variation of each path matter.

    Args:
        scenario: its channels of ``split`` are averaged over their delay spreads and Dopplers.
        split: channel models of training or of test.
        num_slots: slots to average over.
        device: torch device.
    """

    def __init__(self, scenario: Scenario, split: Split = "test", num_slots: int = 2048, device: str = "cpu") -> None:
        stream = SlotStream(scenario, seed=0, block_slots=128, split=split, device=device, purpose="covariance")
        num_blocks = -(-num_slots // stream.block_slots)
        spacings_hz = scenario.grid.subcarrier_spacing_hz * torch.arange(scenario.grid.num_subcarriers, device=device)
        lags_t: torch.Tensor | float = 0.0
        lags_f: torch.Tensor | float = 0.0
        for number in range(num_blocks):
            gains, delays_s = stream.channel(number)
            power = gains.abs().square().mean((1, 2)).double() / len(gains) / num_blocks  # of the paths, (B, P)
            turns = -2 * torch.pi * delays_s.double()[..., None] * spacings_hz
            lags_f = lags_f + torch.einsum("bp,bpf->f", power.to(torch.complex128), torch.polar(turns * 0 + 1, turns))
            lags_t = lags_t + _lags(gains.to(torch.complex128).transpose(2, 3)) * gains.shape[3] / num_blocks
        super().__init__(torch.as_tensor(lags_t), torch.as_tensor(lags_f))


class _Axis:
    """Eigenbases of one axis, cached by the set of pilots.

    Args:
        lags: autocorrelation, complex128 ``(N,)``. It is an average over lags of unequal frequency, so its Toeplitz
            matrix can have eigenvalues slightly below 0; these are set to 0.
    """

    def __init__(self, lags: torch.Tensor) -> None:
        values, vectors = torch.linalg.eigh(_toeplitz(lags))
        values = values.clamp_min(0)
        self.covariance = (vectors * values) @ vectors.mH
        self._cache = {tuple(range(len(lags))): _basis(values, vectors, vectors * values)}

    def restricted_to(self, pilots: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Eigenbasis of the covariance at P pilots.

        Args:
            pilots: positions on this axis, int64 ``(P,)``.

        Returns:
            Eigenvalues ``(P,)`` and eigenvectors ``(P, P)`` of ``R(pilots, pilots)``, then ``R(:, pilots)`` times the
            eigenvectors and its squared magnitude, both ``(N, P)``. Powers are float64, the others complex64.
        """
        key = tuple(pilots.tolist())
        if key not in self._cache:
            cross = self.covariance[:, pilots]
            values, vectors = torch.linalg.eigh(cross[pilots])
            self._cache[key] = _basis(values.clamp_min(0), vectors, cross @ vectors)
        return self._cache[key]


def _basis(values: torch.Tensor, vectors: torch.Tensor, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return values, vectors.to(torch.complex64), out.to(torch.complex64), out.abs().square()


def _lags(h: torch.Tensor) -> torch.Tensor:
    """Autocorrelation ``E[h(i + lag) h*(i)]`` along the last axis, complex128 ``(N,)``; mean over all other axes."""
    n = h.shape[-1]
    spectrum = torch.fft.fft(h, n=2 * n).abs().square().flatten(0, -2).mean(0)
    sums = torch.fft.ifft(spectrum)[:n]
    return sums / torch.arange(n, 0, -1, device=h.device)


def _toeplitz(lags: torch.Tensor) -> torch.Tensor:
    index = torch.arange(len(lags), device=lags.device)
    lag = index[:, None] - index
    return torch.where(lag >= 0, lags[lag.abs()], lags[lag.abs()].conj())
