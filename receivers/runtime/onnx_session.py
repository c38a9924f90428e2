"""An exported receiver in ONNX Runtime: features in, LLRs out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from leanrx_core.errors import UserError

RECEIVER_KEY = "receiver"
FEATURES_KEY = "feature_description"
"""Keys of an exported file's metadata."""


class OnnxSession:
    """An exported file, loaded for inference on the CPU.

    The features are computed outside of the file, see ``feature_description``.

    Args:
        path: the ONNX file, written by :func:`receivers.export.export_onnx` or :func:`receivers.export.export_int8`.

    Attributes:
        path: of the file.
        receiver: spec string of the network, such as ``"hybrid-w13-d8"``.
        feature_description: the features in their order.
        num_features: features per resource element C.
        num_bits: LLRs per resource element K.
        digest: SHA-256 of the file.

    Raises:
        UserError: if the file is missing, ONNX Runtime cannot load it, or it is not an exported receiver.

    Example:
        A file with two features, whose LLRs are the negative features:

        >>> import tempfile, numpy as np, onnx, onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 18]>
        ...     negative (float[batch,2,14,subcarriers] features) => (float[batch,2,14,subcarriers] llrs)
        ...     { llrs = Neg(features) }''')
        >>> onnx.helper.set_model_props(model, {"receiver": "negative", "feature_description": "y, real and imaginary"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     onnx.save(model, f"{folder}/negative.onnx")
        ...     session = OnnxSession(f"{folder}/negative.onnx")
        >>> llrs = session(np.ones((1, 2, 14, 12), np.float32))
        >>> session.receiver, llrs.shape, llrs.dtype.name, float(llrs[0, 0, 0, 0])
        ('negative', (1, 2, 14, 12), 'float32', -1.0)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            data = self.path.read_bytes()
            self._session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        except OSError:
            raise UserError(f"{path}: missing; export the receiver again") from None
        except Exception as error:
            raise UserError(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export again") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if RECEIVER_KEY not in metadata:
            raise UserError(f"{path}: its metadata name no receiver; export the receiver again")
        if FEATURES_KEY not in metadata:
            raise UserError(f"{path}: exported by an earlier version of leanrx (no {FEATURES_KEY}); export again")
        self.receiver: str = metadata[RECEIVER_KEY]
        self.feature_description: str = metadata[FEATURES_KEY]
        self.digest = hashlib.sha256(data).hexdigest()
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self.num_features = int(self._input.shape[1])
        self.num_bits = int(self._output.shape[1])

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute LLRs.

        Args:
            features: float32 ``(batch, num_features, 14, subcarriers)``. Hybrid receivers need whole resource blocks.

        Returns:
            log P(bit = 1) / P(bit = 0), float32 ``(batch, num_bits, 14, subcarriers)``; positive means 1.

        Raises:
            UserError: if dtype or shape are not those of the file.
        """
        features = np.asarray(features)
        if features.dtype != np.float32:
            raise UserError(f"features: dtype {features.dtype} is not allowed; convert with features.astype('float32')")
        sizes = self._input.shape
        fixed = [i for i, size in enumerate(sizes) if isinstance(size, int)]
        if features.ndim != len(sizes) or any(features.shape[i] != sizes[i] for i in fixed) or 0 in features.shape:
            expected = ", ".join(map(str, sizes))
            raise UserError(f"features: shape {features.shape} is not allowed; {self.path.name} takes ({expected})")
        try:
            (llrs,) = self._session.run([self._output.name], {self._input.name: np.ascontiguousarray(features)})
        except Exception as error:
            raise UserError(
                f"features: {self.path.name} cannot process shape {features.shape} ({type(error).__name__}); "
                "give whole resource blocks, 12 subcarriers each"
            ) from None
        return np.asarray(llrs, np.float32)
