"""An exported receiver in ONNX Runtime: complex samples in, LLRs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrx_core.errors import UserError
from receivers.runtime.graph_session import GraphSession
from receivers.runtime.receiver_session import file_content

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
"""Types of inputs by their names in ONNX Runtime."""


class OnnxSession(GraphSession):
    """An exported ONNX file, loaded for inference on the CPU. It needs numpy and onnxruntime.

    Args:
        path: the ONNX file, written by :func:`receivers.export.export_onnx` or :func:`receivers.export.export_int8`.
        threads: threads that compute; they sleep between calls.

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

    runtime = "ONNX Runtime"

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        data = file_content(path)
        try:
            import onnxruntime  # other runtimes do without it
        except ImportError:
            raise UserError(f"{path}: ONNX Runtime is not installed; run: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export again") from None
        inputs = {x.name: {"dtype": _DTYPES.get(x.type, x.type), "shape": x.shape} for x in self._session.get_inputs()}
        super().__init__(path, data, self._session.get_modelmeta().custom_metadata_map, inputs)

    def _run(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        (llrs,) = self._session.run(None, arrays)
        return np.asarray(llrs, np.float32)
