"""Constants of C files: numbers and arrays as initialisers, and the polynomials of elementary functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from channels.grid import pam_levels

_EXP_DEGREE, _LOG_DEGREE = 4, 7


def c_float(value: float) -> str:
    """A float32 literal."""
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".en") else f"{text}.0f"


def c_array(values: NDArray[np.floating]) -> str:
    """An initialiser, in lines of moderate length."""
    if values.ndim == 1:
        return "{" + ", ".join(c_float(float(value)) for value in values) + "}"
    return "{" + ",\n ".join(c_array(row) for row in values) + "}"


def float64(values: torch.Tensor | None) -> NDArray[np.float64]:
    """The values of a tensor that exists."""
    assert values is not None
    return values.detach().cpu().double().numpy()


def padded(values: NDArray[np.float64], *multiples: int) -> NDArray[np.float64]:
    """Values with zeros behind them, so that each dimension is a multiple of a number.

    Example:
        >>> padded(np.ones((1, 3)), 2, 4).tolist()
        [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    return np.pad(values, [(0, -size % multiple) for size, multiple in zip(values.shape, multiples, strict=True)])


def by_fours(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (outputs, inputs) to (outputs / 4, inputs, 4), filled up with zeros."""
    return padded(weight, 4, 1).reshape(-1, 4, weight.shape[1]).swapaxes(1, 2)


def level_constants(num_bits: int) -> str:
    """PAM levels of each order by label."""
    levels = [pam_levels(bits)[0].double().numpy() for bits in range(1, num_bits // 2 + 1)]
    rows = np.array([np.pad(row, (0, 2 ** (num_bits // 2) - len(row))) for row in levels])
    return f"static const float LEVELS[][MAX_LEVELS] = {c_array(rows)};"


def function_values() -> dict[str, str]:
    """Polynomials of the exponential and the logarithm, and their largest errors."""
    exp = _interpolate(np.exp2, _EXP_DEGREE, -0.5, 0.5)
    log = _interpolate(lambda r: np.log1p(r) / r, _LOG_DEGREE - 1, np.sqrt(0.5) - 1, np.sqrt(2) - 1)
    r, s = np.linspace(-0.5, 0.5, 10001), np.linspace(np.sqrt(0.5) - 1, np.sqrt(2) - 1, 10000)
    exp_error = abs(_rounded(exp)(r) / np.exp2(r) - 1).max()
    log_error = abs(s * _rounded(log)(s) - np.log1p(s)).max()
    return {
        "EXP_POLYNOMIAL": _estrin(exp),
        "EXP_ERROR": f"{exp_error:.0e}",
        "LOG_POLYNOMIAL": f"r * ({_estrin(log)})",
        "LOG_ERROR": f"{log_error:.0e}",
    }


def _interpolate(function: Callable[[Any], Any], degree: int, low: float, high: float) -> NDArray[np.float64]:
    """Coefficients by powers of the polynomial that is equal at Chebyshev nodes."""
    chebyshev = np.polynomial.Chebyshev.interpolate(function, degree, [low, high])
    return np.asarray(chebyshev.convert(kind=np.polynomial.Polynomial).coef, np.float64)


def _rounded(coefficients: NDArray[np.float64]) -> np.polynomial.Polynomial:
    return np.polynomial.Polynomial(coefficients.astype(np.float32))


def _estrin(coefficients: NDArray[np.float64]) -> str:
    """A polynomial of r, r2 = r^2 and r4 = r^4 up to degree 7, whose products do not wait for one another."""
    terms = [c_float(float(value)) for value in coefficients]
    for power in ("r", "r2", "r4"):
        pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
        terms = [f"({pair[1]} * {power} + {pair[0]})" if len(pair) == 2 else pair[0] for pair in pairs]
    return terms[0]
