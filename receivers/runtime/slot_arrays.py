"""Arrays of received slots as the runtimes take them, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import complex_samples, modulation_orders, noise_powers

NUM_SYMBOLS = 14
SUBCARRIERS_PER_PRB = 12
MIN_PILOT = 1e-15
"""Smaller values are no pilots: their power is 0 in float32."""

INPUTS = ("y", "pilots", "noise_plus_interference_var", "bits_per_symbol")
"""Names of a graph's inputs. A graph lacks those that have no effect, such as the noise power for DeepRx."""

RECEIVER_KEY, SLOTS_KEY = "receiver", "slots"
"""Keys of the metadata of an exported graph."""


def as_real(x: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Real and imaginary parts as a last dimension of 2, without a copy where the array is contiguous."""
    return np.ascontiguousarray(x)[..., None].view(np.float32)


@dataclass(frozen=True)
class SlotFormat:
    """The slots that an exported file takes.

    Attributes:
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K.
        subcarrier_spacing_hz: subcarrier spacing that the file is made for.
        min_prb, max_prb: fewest and most resource blocks; 0 for no limit.
        pilots: where pilots can be: pairs of OFDM symbols, and subcarriers of each resource block.
        whole_prb: whether the file takes whole resource blocks only.
    """

    num_rx: int
    num_bits: int
    subcarrier_spacing_hz: int
    min_prb: int
    max_prb: int
    pilots: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    whole_prb: bool = True

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The format that a file's metadata hold.

        Raises:
            TypeError: if a field is missing.
        """
        pilots = tuple((tuple(symbols), tuple(subcarriers)) for symbols, subcarriers in values.pop("pilots"))
        return cls(pilots=pilots, **values)

    def check(
        self,
        y: NDArray[np.complex64],
        pilots: NDArray[np.complex64],
        noise_plus_interference_var: ArrayLike,
        bits_per_symbol: ArrayLike,
        file: str,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Check the arguments of a call.

        Args:
            y, pilots, noise_plus_interference_var, bits_per_symbol: as of
                :meth:`receivers.runtime.OnnxSession.__call__`.
            file: name, for messages.

        Returns:
            Noise power and bits of each slot.

        Raises:
            UserError: if an argument is not allowed.
        """
        y, pilots = complex_samples("y", y), complex_samples("pilots", pilots)
        self._check_shapes(y, pilots, file)
        for name, array in (("y", y), ("pilots", pilots)):
            if not np.isfinite(array).all():
                raise UserError(f"{name}: a value is not finite; leave such slots out")
        noise = noise_powers(noise_plus_interference_var, len(y))
        orders = modulation_orders(bits_per_symbol, len(y), self.num_bits, file)
        is_pilot = np.abs(pilots) > MIN_PILOT
        if not np.logical_or.reduce([self._has_layout(is_pilot, *layout) for layout in self.pilots]).all():
            raise UserError(
                f"pilots: they are on other symbols or subcarriers than those that {file} is made for, or below "
                f"{MIN_PILOT:g}"
            )
        return noise, orders

    def _check_shapes(self, y: NDArray[np.complex64], pilots: NDArray[np.complex64], file: str) -> None:
        rest = y.shape[-1] % SUBCARRIERS_PER_PRB if self.whole_prb and y.ndim else 0
        if y.ndim != 4 or y.shape[1:3] != (self.num_rx, NUM_SYMBOLS) or rest or not y.size:
            raise UserError(
                f"y: shape {y.shape} is not allowed; {file} takes (batch, {self.num_rx}, {NUM_SYMBOLS}, subcarriers)"
                + ", 12 subcarriers for each resource block" * self.whole_prb
            )
        num_prb = y.shape[-1] // SUBCARRIERS_PER_PRB
        if num_prb < self.min_prb or (self.max_prb and num_prb > self.max_prb):
            limits = f"{self.min_prb} to {self.max_prb}" if self.max_prb > self.min_prb else str(self.max_prb)
            limits = limits if self.max_prb else f"{self.min_prb} or more"
            raise UserError(f"y: {num_prb} resource blocks; {file} takes {limits}; export it for such a grid")
        if pilots.shape != (y.shape[0], *y.shape[2:]):
            raise UserError(f"pilots: shape {pilots.shape} does not fit y; give {(y.shape[0], *y.shape[2:])}")

    def _has_layout(
        self, is_pilot: NDArray[np.bool_], symbols: tuple[int, ...], subcarriers: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """Whether each slot has exactly these pilots; without whole resource blocks, whether it has these symbols."""
        expected = np.isin(np.arange(NUM_SYMBOLS), symbols)
        if not self.whole_prb:
            return (is_pilot.any(-1) == expected).all(-1)
        on_subcarriers = np.isin(np.arange(is_pilot.shape[-1]) % SUBCARRIERS_PER_PRB, subcarriers)
        return (is_pilot == expected[:, None] & on_subcarriers).all((1, 2))
