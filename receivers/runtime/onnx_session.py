"""An exported receiver in ONNX Runtime: complex samples in, LLRs out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import check_llrs
from receivers.runtime.slot_arrays import INPUTS, RECEIVER_KEY, SLOTS_KEY, SlotFormat, as_real


class OnnxSession:
    """An exported file, loaded for inference on the CPU.

    Args:
        path: the ONNX file, written by :func:`receivers.export.export_onnx` or :func:`receivers.export.export_int8`.
        threads: threads that compute; they sleep between calls.

    Attributes:
        path: of the file.
        receiver: spec string of the receiver, such as ``"hybrid-w13-d8"``.
        slots: the slots that the file takes.
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K.
        digest: SHA-256 of the file.

    Raises:
        UserError: if the file is missing, ONNX Runtime is missing or cannot load it, or it is not an exported receiver.

    Example:
        A file whose LLRs are the real parts of one antenna, for two bits and pilots on symbol 2:

        >>> import json, tempfile, numpy as np, onnx, onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 18]>
        ...     real (float[b,1,14,f,2] y, float[b,14,f,2] pilots, float[b] noise_plus_interference_var,
        ...           int64[b] bits_per_symbol) => (float[b,2,14,f] llrs)
        ...     { zero = Constant<value_int = 0>() re = Gather<axis = 4>(y, zero) llrs = Concat<axis = 1>(re, re) }''')
        >>> slots = {"num_rx": 1, "num_bits": 2, "subcarrier_spacing_hz": 15000, "min_prb": 1, "max_prb": 0,
        ...          "pilots": [[[2], list(range(12))]]}
        >>> onnx.helper.set_model_props(model, {"receiver": "real", "slots": json.dumps(slots)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     onnx.save(model, f"{folder}/real.onnx")
        ...     session = OnnxSession(f"{folder}/real.onnx")
        >>> pilots = np.zeros((1, 14, 12), np.complex64)
        >>> pilots[:, 2] = 1
        >>> llrs = session(np.full((1, 1, 14, 12), 3 + 4j, np.complex64), pilots, 0.1, 2)
        >>> session.receiver, llrs.shape, llrs.dtype.name, float(llrs[0, 0, 0, 0])
        ('real', (1, 2, 14, 12), 'float32', 3.0)
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.path = Path(path)
        try:
            import onnxruntime  # other runtimes do without it
        except ImportError:
            raise UserError(f"{path}: ONNX Runtime is not installed; run: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            data = self.path.read_bytes()
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except OSError:
            raise UserError(f"{path}: missing; export the receiver again") from None
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export again") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if RECEIVER_KEY not in metadata:
            raise UserError(f"{path}: its metadata name no receiver; export the receiver again")
        if SLOTS_KEY not in metadata:
            raise UserError(f"{path}: exported by an earlier version of leanrx, without its front end; export again")
        try:
            self.slots = SlotFormat.from_json(json.loads(metadata[SLOTS_KEY]))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}: its metadata describe no slots; export again") from None
        self._inputs = {x.name for x in self._session.get_inputs()}
        if "y" not in self._inputs or not self._inputs <= set(INPUTS):
            raise UserError(f"{path}: its inputs are not {', '.join(INPUTS)}; export again")
        self.receiver: str = metadata[RECEIVER_KEY]
        self.num_rx, self.num_bits = self.slots.num_rx, self.slots.num_bits
        self.digest = hashlib.sha256(data).hexdigest()

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
            UserError: if an argument is not allowed, or values are too large for float32.
        """
        noise, orders = self.slots.check(y, pilots, noise_plus_interference_var, bits_per_symbol, self.path.name)
        arrays = zip(INPUTS, (as_real(y), as_real(pilots), noise, orders), strict=True)
        try:
            (llrs,) = self._session.run(None, {name: array for name, array in arrays if name in self._inputs})
        except Exception as error:
            raise UserError(
                f"{self.path.name}: ONNX Runtime cannot process shape {y.shape} ({type(error).__name__}); export again"
            ) from None
        llrs = np.asarray(llrs, np.float32)
        check_llrs(llrs, self.path.name)
        return llrs
