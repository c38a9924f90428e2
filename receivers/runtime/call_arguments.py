"""Arguments of a runtime's call: complex samples, and one value per slot or one for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError

NUM_SYMBOLS, SUBCARRIERS_PER_PRB = 14, 12

MIN_NOISE_VAR, MAX_NOISE_VAR = 1.2e-38, 1e30
"""Range of noise powers: normal float32 numbers below the limit of the C files."""

MAX_LLR = 1e30
"""Limit of the C files, too: larger LLRs come from values that are too large for float32."""


def complex_samples(name: str, values: ArrayLike) -> NDArray[np.complex64]:
    """An array of complex samples, as it is.

    Args:
        name: of the argument.
        values: complex64.

    Raises:
        UserError: if it has another type.
    """
    array = np.asarray(values)
    if array.dtype != np.complex64:
        raise UserError(f"{name}: dtype {array.dtype} is not allowed; convert with astype('complex64')")
    return array


def check_shapes(
    y: NDArray[np.complex64], pilots: NDArray[np.complex64], num_rx: int, whole_prb: bool, file: str
) -> None:
    """Refuse samples and pilots of other shapes than ``(B, R, 14, F)`` and ``(B, 14, F)``.

    Args:
        y, pilots: of a call.
        num_rx: receive antennas R of the file.
        whole_prb: whether it takes whole resource blocks only.
        file: its name, for messages.

    Raises:
        UserError: if a shape is not allowed, or there is no slot.
    """
    rest = y.shape[-1] % SUBCARRIERS_PER_PRB if whole_prb and y.ndim else 0
    if y.ndim != 4 or y.shape[1:3] != (num_rx, NUM_SYMBOLS) or rest or not y.size:
        raise UserError(
            f"y: shape {y.shape} is not allowed; {file} takes (batch, {num_rx}, {NUM_SYMBOLS}, subcarriers)"
            + f", {SUBCARRIERS_PER_PRB} subcarriers for each resource block" * whole_prb
        )
    if pilots.shape != (y.shape[0], *y.shape[2:]):
        raise UserError(f"pilots: shape {pilots.shape} does not fit y; give {(y.shape[0], *y.shape[2:])}")


def noise_powers(values: ArrayLike, batch: int) -> NDArray[np.float32]:
    """Noise-plus-interference power of each slot.

    Args:
        values: one value, or one per slot.
        batch: number of slots.

    Raises:
        UserError: if they are no such numbers, or one is not finite or not above 0.

    Example:
        >>> noise_powers(0.5, 2).tolist()
        [0.5, 0.5]
    """
    powers = _per_slot("noise_plus_interference_var", values, batch)
    if not ((powers >= MIN_NOISE_VAR) & (powers < MAX_NOISE_VAR)).all():
        raise UserError("noise_plus_interference_var: not a finite number above 0; give the mean power of a slot")
    return powers.astype(np.float32)


def modulation_orders(values: ArrayLike, batch: int, num_bits: int, file: str) -> NDArray[np.int64]:
    """Bits per symbol of each slot.

    Args:
        values: one value, or one per slot.
        batch: number of slots.
        num_bits: largest value that the receiver takes.
        file: its name, for messages.

    Raises:
        UserError: if they are no such numbers.
    """
    orders = _per_slot("bits_per_symbol", values, batch)
    allowed = range(2, num_bits + 1, 2)
    if not np.isin(orders, allowed).all():
        raise UserError(f"bits_per_symbol: {file} takes {', '.join(map(str, allowed))}; give one per slot")
    return orders.astype(np.int64)


def check_llrs(llrs: NDArray[np.float32], file: str) -> None:
    """Refuse the LLRs of slots whose values are too large for float32.

    Args:
        llrs: of a call.
        file: its name, for messages.

    Raises:
        UserError: if one is not finite, or :data:`MAX_LLR` or more.
    """
    if not (llrs.max() < MAX_LLR and llrs.min() > -MAX_LLR):
        raise UserError(f"{file}: values of a slot are too large for float; scale its samples and pilots to power 1")


def _per_slot(name: str, values: ArrayLike, batch: int) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name}: no numbers; give one value, or one per slot") from None
    if array.shape not in ((), (1,), (batch,)):
        raise UserError(f"{name}: shape {array.shape} is not allowed; give one value, or one for each of {batch} slots")
    return np.broadcast_to(array, (batch,))
