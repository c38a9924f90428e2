"""What the runtimes of exported receivers have in common: the arguments of a call, and LLRs as its result."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import check_shapes, complex_samples, modulation_orders, noise_powers


class ReceiverSession(ABC):
    """An exported receiver, opened for inference on the CPU: complex samples in, LLRs out.

    Args:
        path: of the file.
        data: its bytes.
        num_rx, num_bits, whole_prb: see the attributes.

    Attributes:
        path: of the file.
        digest: SHA-256 of the file.
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K.
        whole_prb: whether the file takes whole resource blocks only.
    """

    def __init__(self, path: str | Path, data: bytes, num_rx: int, num_bits: int, whole_prb: bool = True) -> None:
        self.path, self.digest = Path(path), hashlib.sha256(data).hexdigest()
        self.num_rx, self.num_bits, self.whole_prb = num_rx, num_bits, whole_prb

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
            noise_plus_interference_var: mean power per resource element and antenna, float ``(B,)``, or one value.
            bits_per_symbol: bits of each slot's modulation, 2, 4, 6 or 8, int ``(B,)``, or one value.

        Returns:
            log P(bit = 1) / P(bit = 0), float32 ``(B, K, 14, F)``; positive means 1, and 0 where there is no data bit.

        Raises:
            UserError: if an argument is not allowed, or values are too large for float32.
        """
        y, pilots = complex_samples("y", y), complex_samples("pilots", pilots)
        check_shapes(y, pilots, self.num_rx, self.whole_prb, self.path.name)
        noise_plus_interference_var = noise_powers(noise_plus_interference_var, len(y))
        orders = modulation_orders(bits_per_symbol, len(y), self.num_bits, self.path.name)
        return self._llrs(y, pilots, noise_plus_interference_var, orders)

    @abstractmethod
    def _llrs(
        self,
        y: NDArray[np.complex64],
        pilots: NDArray[np.complex64],
        noise_plus_interference_var: NDArray[np.float32],
        orders: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """LLRs of slots whose types, shapes, noise powers and modulations are checked."""


def file_content(path: str | Path, remedy: str = "export the receiver again") -> bytes:
    """The bytes of an exported file.

    Args:
        path: of the file.
        remedy: what helps where it is missing.

    Raises:
        UserError: if it is missing.
    """
    try:
        return Path(path).read_bytes()
    except OSError:
        raise UserError(f"{path}: missing; {remedy}") from None
