"""An exported receiver in C, compiled as a shared library: complex samples in, LLRs out."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import complex_samples, modulation_orders, noise_powers

NUM_SYMBOLS = 14
SUBCARRIERS_PER_PRB = 12
_FUNCTIONS = ("leanrx_receive", "leanrx_message", "leanrx_num_rx", "leanrx_num_bits", "leanrx_max_prb")


class CLibrary:
    """A shared library built from an exported C file.

    It computes one slot at a time on one thread. The library keeps its state in static memory, so two threads must not
    call it at once.

    Args:
        path: the library, built with ``-shared -fPIC`` from the ``NAME.c`` of :func:`receivers.export.export_c`.

    Attributes:
        path: of the library.
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K.
        max_prb: largest number of resource blocks.
        digest: SHA-256 of the library.

    Raises:
        UserError: if the file is missing, or is not such a library.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
            library = ctypes.CDLL(str(self.path.resolve()))
        except OSError:
            raise UserError(f"{path}: missing, or no shared library of this machine; build it again") from None
        missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
        if missing:
            raise UserError(f"{path}: has no function {missing[0]}; build it from a C file of leanrx export")
        self._receive, self._message = library.leanrx_receive, library.leanrx_message
        self._message.restype = ctypes.c_char_p
        self.num_rx = int(library.leanrx_num_rx())
        self.num_bits = int(library.leanrx_num_bits())
        self.max_prb = int(library.leanrx_max_prb())

    def __call__(
        self,
        y: NDArray[np.complex64],
        pilots: NDArray[np.complex64],
        noise_plus_interference_var: ArrayLike,
        bits_per_symbol: ArrayLike,
    ) -> NDArray[np.float32]:
        """Compute LLRs.

        Args:
            y: received grid, complex64 ``(B, R, 14, F)``; the mean power of the wanted signal is 1.
            pilots: transmitted pilots, 0 on all other resource elements, complex64 ``(B, 14, F)``.
            noise_plus_interference_var: mean power per resource element and antenna, float ``(B,)``.
            bits_per_symbol: bits of each slot's modulation, 2, 4, 6 or 8, int ``(B,)``.

        Returns:
            log P(bit = 1) / P(bit = 0), float32 ``(B, K, 14, F)``; positive means 1, and 0 where there is no data bit.

        Raises:
            UserError: if shapes or dtypes are not allowed, or the receiver refuses a slot.
        """
        y, pilots = complex_samples("y", y), complex_samples("pilots", pilots)
        batch, num_subcarriers = self._check_shapes(y, pilots)
        noise = noise_powers(noise_plus_interference_var, batch)
        orders = modulation_orders(bits_per_symbol, batch, self.num_bits, self.path.name)
        llrs = np.empty((batch, self.num_bits, NUM_SYMBOLS, num_subcarriers), np.float32)
        for i in range(batch):
            y_slot, pilots_slot = np.ascontiguousarray(y[i]), np.ascontiguousarray(pilots[i])
            code = self._receive(
                y_slot.ctypes.data_as(ctypes.c_void_p),
                pilots_slot.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_float(noise[i]),
                ctypes.c_int(int(orders[i])),
                ctypes.c_int(num_subcarriers // SUBCARRIERS_PER_PRB),
                llrs[i].ctypes.data_as(ctypes.c_void_p),
            )
            if code != 0:
                raise UserError(f"{self.path.name}: slot {i} of the batch: {self._message(code).decode()}")
        return llrs

    def _check_shapes(self, y: NDArray[np.complex64], pilots: NDArray[np.complex64]) -> tuple[int, int]:
        is_grid = y.ndim == 4 and y.shape[1:3] == (self.num_rx, NUM_SYMBOLS)
        if not is_grid or y.shape[3] % SUBCARRIERS_PER_PRB or not y.size:
            raise UserError(
                f"y: shape {y.shape} is not allowed; {self.path.name} takes (batch, {self.num_rx}, {NUM_SYMBOLS}, "
                f"{SUBCARRIERS_PER_PRB} subcarriers for each of 1 to {self.max_prb} resource blocks)"
            )
        if pilots.shape != (y.shape[0], *y.shape[2:]):
            raise UserError(f"pilots: shape {pilots.shape} does not fit y; give {(y.shape[0], *y.shape[2:])}")
        return y.shape[0], y.shape[3]
