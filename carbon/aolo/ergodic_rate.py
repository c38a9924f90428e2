"""Spectral efficiency of a link with and without Rayleigh fading, its inverse, and the SNR of least energy per bit.

The mean rate over Rayleigh fading is ``E[log2(1 + s |h|^2)] = exp(1/s) E1(1/s) / ln 2`` with mean SNR ``s`` (M.-S.
Alouini, A. J. Goldsmith, IEEE Trans. Veh. Technol. 48, 1999). The mean *time* of a transmission ``E[1/R]`` has no
finite value under Rayleigh fading: near ``|h|^2 = 0`` the rate is proportional to ``|h|^2``, whose density is positive
there. Times here therefore divide by the mean rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

_NEWTON_STEPS = 60


def spectral_efficiency(snr: ArrayLike, rayleigh: ArrayLike = False) -> Array:
    """Mean bits per second and hertz.

    Args:
        snr: mean SNR, linear, 0 or more.
        rayleigh: whether the link fades, broadcast against ``snr``.

    Example:
        >>> float(spectral_efficiency(1.0)), round(float(spectral_efficiency(1.0, rayleigh=True)), 6)
        (1.0, 0.860347)
    """
    s, fades = np.broadcast_arrays(np.asarray(snr, dtype=float), np.asarray(rayleigh, dtype=bool))
    result = np.asarray(np.log2(1 + s))
    fading = fades & (s > 0)
    if fading.any():
        result[fading] = _fading_nats(s[fading]) / np.log(2)
    return result


def _fading_nats(snr: Array) -> Array:
    """``exp(u) E1(u)`` with ``u = 1 / snr``; its asymptotic series where the exponential is large."""
    u = 1 / snr
    near = np.minimum(u, _SERIES_BEGIN)
    result = np.exp(near) * special.exp1(near)
    far = u > _SERIES_BEGIN
    if far.any():
        terms = np.cumprod(-np.arange(1.0, _SERIES_TERMS) / u[far][..., None], -1)
        result[far] = (1 + terms.sum(-1)) / u[far]
    return result


_SERIES_BEGIN = 60.0
_SERIES_TERMS = 20
"""At 60, the 20 terms leave a relative error below 1e-16."""


def snr_for_efficiency(efficiency: ArrayLike, rayleigh: ArrayLike = False) -> Array:
    """Mean SNR that gives a spectral efficiency: the inverse of :func:`spectral_efficiency`.

    Args:
        efficiency: bits per second and hertz, 0 or more; infinity gives infinity.
        rayleigh: whether the link fades.
    """
    e, fades = np.broadcast_arrays(np.asarray(efficiency, dtype=float), np.asarray(rayleigh, dtype=bool))
    with np.errstate(over="ignore"):
        result = np.asarray(np.exp2(e) - 1)
    fading = fades & (e > 0) & (e < _MAX_EFFICIENCY)
    if fading.any():
        result[fading] = _invert_fading(e[fading] * np.log(2), result[fading])
    return result


_MAX_EFFICIENCY = 100.0
"""An efficiency beyond it needs an SNR above 300 dB, and is not inverted under fading."""


def _invert_fading(nats: Array, snr: Array) -> Array:
    """Newton's method from the SNR without fading, a lower bound; a concave function keeps it below the root."""
    for _ in range(_NEWTON_STEPS):
        value = _fading_nats(snr)
        step = (nats - value) / _fading_slope(snr, value)
        snr = snr + step
        if (np.abs(step) <= 1e-13 * snr).all():
            break
    return snr


def _fading_slope(snr: Array, nats: Array) -> Array:
    """Derivative of ``exp(1/s) E1(1/s)`` with respect to ``s``; its series where the difference would cancel."""
    with np.errstate(over="ignore"):
        series = 1 - 2 * snr + 6 * snr**2 - 24 * snr**3
    return np.where(snr > 1e-3, (snr - nats) / snr**2, series)


def snr_of_least_energy(ratio: ArrayLike, rayleigh: ArrayLike = False) -> Array:
    """The SNR ``x`` that minimises ``(ratio + x) / spectral_efficiency(x)``, the energy per bit of a transmitter.

    A transmitter of static power ``A`` and slope ``d`` at SNR ``c P`` needs ``(A + d P) / R(P)`` joules per bit, so its
    ratio is ``c A / d``. Without fading, ``(1 + x) ln(1 + x) - x = ratio`` has the root ``exp(1 + W((ratio - 1) / e))
    - 1`` with Lambert's W. Under fading the numerator is affine and the rate concave, so there is one minimum; it is
    the root of ``f / f' - x = ratio``.

    Args:
        ratio: 0 or more.
        rayleigh: whether the link fades.
    """
    a, fades = np.broadcast_arrays(np.asarray(ratio, dtype=float), np.asarray(rayleigh, dtype=bool))
    result = np.asarray(np.exp(1 + special.lambertw((a - 1) / np.e).real) - 1)
    fading = fades & (a > 0)
    if fading.any():
        result[fading] = _least_energy_fading(a[fading])
    return np.where(a > 0, np.maximum(result, 0.0), 0.0)


def _least_energy_fading(ratio: Array) -> Array:
    """Bisection of the logarithm of the SNR."""
    low, high = np.full_like(ratio, -30.0), np.full_like(ratio, 60.0)
    for _ in range(_NEWTON_STEPS):
        middle = (low + high) / 2
        snr = np.exp(middle)
        nats = _fading_nats(snr)
        above = nats / _fading_slope(snr, nats) - snr > ratio
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp((low + high) / 2)
