"""Arrays of received slots as the runtimes take them, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import NUM_SYMBOLS, SUBCARRIERS_PER_PRB

MIN_PILOT, MAX_SAMPLE = 1e-15, 1e15
"""Limits of the C files: smaller values are no pilots, and products of larger samples can exceed float32."""

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
            TypeError, ValueError, KeyError, AttributeError: if a field is missing or of another type.
        """
        pilots = tuple((tuple(symbols), tuple(subcarriers)) for symbols, subcarriers in values["pilots"])
        slots = cls(**{**values, "pilots": pilots})
        if any(type(x) is not int for x in (slots.num_rx, slots.num_bits, slots.min_prb, slots.max_prb)):
            raise TypeError("slots")
        return slots

    def check(self, y: NDArray[np.float32], pilots: NDArray[np.float32], file: str) -> None:
        """Check the values of slots whose shapes fit each other.

        Args:
            y, pilots: as of :meth:`receivers.runtime.ReceiverSession.__call__`, see :func:`as_real`.
            file: name, for messages.

        Raises:
            UserError: if the bandwidth, a value or the places of the pilots are not allowed.
        """
        self._check_bandwidth(y.shape[3] // SUBCARRIERS_PER_PRB, file)
        for name, array in (("y", y), ("pilots", pilots)):
            if not (array.max() < MAX_SAMPLE and array.min() > -MAX_SAMPLE):
                raise UserError(f"{name}: a value is not finite, or is {MAX_SAMPLE:g} or more; leave such slots out")
        is_pilot = np.hypot(pilots[..., 0], pilots[..., 1]) > MIN_PILOT
        if not np.logical_or.reduce([self._has_layout(is_pilot, *layout) for layout in self.pilots]).all():
            raise UserError(
                f"pilots: they are on other symbols or subcarriers than those that {file} is made for, or below "
                f"{MIN_PILOT:g}"
            )

    def _check_bandwidth(self, num_prb: int, file: str) -> None:
        if num_prb < self.min_prb or (self.max_prb and num_prb > self.max_prb):
            limits = f"{self.min_prb} to {self.max_prb}" if self.max_prb > self.min_prb else str(self.max_prb)
            limits = limits if self.max_prb else f"{self.min_prb} or more"
            raise UserError(f"y: {num_prb} resource blocks; {file} takes {limits}; export it for such a grid")

    def _has_layout(
        self, is_pilot: NDArray[np.bool_], symbols: tuple[int, ...], subcarriers: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """Whether each slot has exactly these pilots; without whole resource blocks, whether it has these symbols."""
        expected = np.isin(np.arange(NUM_SYMBOLS), symbols)
        if not self.whole_prb:
            return (is_pilot.any(-1) == expected).all(-1)
        on_subcarriers = np.isin(np.arange(is_pilot.shape[-1]) % SUBCARRIERS_PER_PRB, subcarriers)
        return (is_pilot == expected[:, None] & on_subcarriers).all((1, 2))
