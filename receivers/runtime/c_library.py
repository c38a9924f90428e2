"""An exported receiver in C, compiled as a shared library: complex samples in, LLRs out."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import NUM_SYMBOLS, SUBCARRIERS_PER_PRB
from receivers.runtime.receiver_session import ReceiverSession, file_content

_FUNCTIONS = ("leanrx_receive", "leanrx_message", "leanrx_num_rx", "leanrx_num_bits", "leanrx_max_prb")


class CLibrary(ReceiverSession):
    """A shared library built from an exported C file. It needs numpy.

    It computes one slot at a time on one thread. The library keeps its state in static memory, so two threads must not
    call it at once. It checks values, bandwidth and pilots itself, and gives a code.

    Args:
        path: the library, built with ``-shared -fPIC`` from the ``NAME.c`` of :func:`receivers.export.export_c`.

    Attributes:
        max_prb: largest number of resource blocks.

    Raises:
        UserError: if the file is missing, or is not such a library.
    """

    def __init__(self, path: str | Path) -> None:
        data = file_content(path, "build it again")
        try:
            library = ctypes.CDLL(str(Path(path).resolve()))
        except OSError:
            raise UserError(f"{path}: no shared library of this machine; build it again") from None
        missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
        if missing:
            raise UserError(f"{path}: has no function {missing[0]}; build it from a C file of leanrx export")
        self._receive, self._message = library.leanrx_receive, library.leanrx_message
        self._message.restype = ctypes.c_char_p
        self.max_prb = int(library.leanrx_max_prb())
        super().__init__(path, data, int(library.leanrx_num_rx()), int(library.leanrx_num_bits()))

    def _llrs(
        self,
        y: NDArray[np.complex64],
        pilots: NDArray[np.complex64],
        noise_plus_interference_var: NDArray[np.float32],
        orders: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        batch, num_subcarriers = len(y), y.shape[3]
        llrs = np.empty((batch, self.num_bits, NUM_SYMBOLS, num_subcarriers), np.float32)
        for i in range(batch):
            y_slot, pilots_slot = np.ascontiguousarray(y[i]), np.ascontiguousarray(pilots[i])
            code = self._receive(
                y_slot.ctypes.data_as(ctypes.c_void_p),
                pilots_slot.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_float(noise_plus_interference_var[i]),
                ctypes.c_int(int(orders[i])),
                ctypes.c_int(num_subcarriers // SUBCARRIERS_PER_PRB),
                llrs[i].ctypes.data_as(ctypes.c_void_p),
            )
            if code != 0:
                raise UserError(f"{self.path.name}: slot {i} of the batch: {self._message(code).decode()}")
        return llrs
