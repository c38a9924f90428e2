"""Channel estimation from pilots: least squares with linear interpolation, and LMMSE with known covariance."""

from __future__ import annotations

import torch

from channels import Scenario, Slots, SlotStream
from channels.scenario import Split


def ls_estimate(slots: Slots) -> torch.Tensor:
    """Least squares at the pilots, linear interpolation over symbols, the nearest estimate beyond the outer pilots.

    Returns:
        complex64 ``(B, R, S, F)``.
    """
    h = torch.empty_like(slots.y)
    patterns, of_slot = slots.pilot_symbols.unique(dim=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        chosen, at = torch.nonzero(of_slot == i)[:, 0], torch.nonzero(pattern)[:, 0]
        raw = slots.y[chosen][:, :, at] * slots.pilots[chosen][:, None, at].conj()  # unit-modulus pilots
        if len(at) > 1:
            raw = torch.einsum("st,brtf->brsf", _interpolation(at, len(pattern)).to(raw.dtype), raw)
        h[chosen] = raw
    return h


def _interpolation(at: torch.Tensor, num_symbols: int) -> torch.Tensor:
    """Weights ``(num_symbols, pilots)`` that interpolate linearly from the symbols ``at``, which increase."""
    symbols = torch.arange(num_symbols, device=at.device).clamp(int(at[0]), int(at[-1]))
    right = torch.searchsorted(at, symbols).clamp_min(1)
    share = (symbols - at[right - 1]) / (at[right] - at[right - 1])
    rows = torch.arange(num_symbols, device=at.device)
    weights = torch.zeros(num_symbols, len(at), device=at.device)
    weights[rows, right - 1] = 1 - share
    weights[rows, right] = share
    return weights


class Covariance:
    """Covariance of a scenario's channel over time and over frequency, and the LMMSE estimator built on it.

    The channel of one antenna over the grid is taken to have covariance ``R_t kron R_f`` (delay and Doppler
    independent), which holds for TDL-A, B and C and approximately for others and mixtures. ``R_t`` and ``R_f`` are
    averaged from simulated channels along their diagonals, since the channel is stationary.

    Args:
        scenario: its channels of ``split`` are averaged over their delay spreads and Dopplers.
        split: which channel models.
        num_slots: slots to average over.
    """

    def __init__(self, scenario: Scenario, split: Split = "test", num_slots: int = 2048, device: str = "cpu") -> None:
        stream = SlotStream(scenario, seed=0, block_slots=128, split=split, device=device, purpose="covariance")
        num_blocks = -(-num_slots // stream.block_slots)
        lags_t: torch.Tensor | float = 0.0
        lags_f: torch.Tensor | float = 0.0
        for number in range(num_blocks):
            h = stream.block(number).h.to(torch.complex128)
            lags_t = lags_t + _lags(h.transpose(2, 3)) / num_blocks
            lags_f = lags_f + _lags(h) / num_blocks
        self.time = _toeplitz(torch.as_tensor(lags_t))
        self.frequency = _toeplitz(torch.as_tensor(lags_f))
        self._values_f, self._vectors_f = _eigh(self.frequency)

    def estimate(self, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint time-frequency LMMSE estimate from the raw pilot estimates, exact for ``R_t kron R_f``.

        With ``R_t(pilots) = U_t D_t U_t^H`` and ``R_f = U_f D_f U_f^H`` the estimator is
        ``(R_t(:, pilots) U_t kron R_f U_f) (D_t kron D_f + var I)^-1 (U_t kron U_f)^H``, so that no slot needs a
        matrix inverted.

        Returns:
            the estimate, complex64 ``(B, R, S, F)``, and its mean error power per symbol, float32 ``(B, 1, S, 1)``.
        """
        raw = slots.y * slots.pilots.conj()[:, None]
        var = slots.noise_var + slots.interference_var
        h = torch.empty_like(raw)
        error = torch.empty(len(slots), 1, raw.shape[2], 1, device=raw.device)
        vectors_f = self._vectors_f.to(raw.dtype)
        out_f = vectors_f * self._values_f.to(raw.dtype)  # R_f U_f
        patterns, of_slot = slots.pilot_symbols.unique(dim=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            chosen = torch.nonzero(of_slot == i)[:, 0]
            at = torch.nonzero(pattern)[:, 0]
            values_t, vectors_t = _eigh(self.time[at][:, at])
            out_t = (self.time[:, at] @ vectors_t).to(raw.dtype)
            pilots = torch.einsum("brtf,tu->bruf", raw[chosen][:, :, at], vectors_t.conj().to(raw.dtype))
            pilots = pilots @ vectors_f.conj()
            product = (values_t[:, None] * self._values_f).float()
            inverse = 1 / (product + var[chosen, None, None])
            pilots = pilots * inverse[:, None]
            h[chosen] = torch.einsum("st,brtf->brsf", out_t, pilots) @ out_f.T
            explained = torch.einsum("st,btf->bsf", out_t.abs().square(), inverse) * self._values_f.square().float()
            prior = float(self.time[0, 0].real * self.frequency[0, 0].real)
            error[chosen] = (prior - explained.mean(-1))[:, None, :, None].clamp_min(0)
        return h, error


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


def _eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.clamp_min(0), vectors
