"""An exported receiver in LiteRT (TensorFlow Lite): complex samples in, LLRs out."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import NUM_SYMBOLS
from receivers.runtime.graph_session import GraphSession
from receivers.runtime.receiver_session import file_content
from receivers.runtime.standard_error import without_lines

METADATA_FILE = "leanrx.json"
"""Name in the ZIP archive at the end of a file, where TensorFlow Lite has the files that belong to a model."""

MODEL_DIGEST_KEY = "model_sha256"
"""Key of the metadata: SHA-256 of the model before the archive."""


class LiteRtSession(GraphSession):
    """An exported ``.tflite`` file, loaded for inference on the CPU. It needs numpy, and ai-edge-litert or TensorFlow.

    It computes one slot at a time. The number of resource blocks may change from call to call; then LiteRT allocates
    its memory anew, which takes longer than a slot.

    Args:
        path: the file, written by :func:`receivers.export.litert.export_litert`.
        threads: threads that compute.

    Attributes:
        is_quantised: whether some operators compute in 8-bit integers.

    Raises:
        UserError: if the file is missing or damaged, is not an exported receiver, or no runtime is installed.
    """

    runtime = "LiteRT"

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        data = file_content(path)
        model, metadata = _parts(data, path)
        try:
            self._interpreter = _interpreter_class(path)(model_content=model, num_threads=threads)
            details: list[dict[str, Any]] = list(self._interpreter.get_input_details())
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: LiteRT cannot load it ({type(error).__name__}); export again") from None
        self._details = {x["name"].removeprefix("serving_default_").split(":")[0]: x for x in details}
        inputs = {name: {"dtype": np.dtype(x["dtype"]).name, "shape": _shape(x)} for name, x in self._details.items()}
        super().__init__(path, data, metadata, inputs)
        self.is_quantised = any(x["dtype"] == np.int8 for x in self._interpreter.get_tensor_details())
        self._output: int = self._interpreter.get_output_details()[0]["index"]
        self._num_subcarriers = 0

    def _run(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        y = arrays["y"]
        llrs = np.empty((len(y), self.num_bits, NUM_SYMBOLS, y.shape[3]), np.float32)
        by_index = [(int(self._details[name]["index"]), array) for name, array in arrays.items()]
        self._allocate(y.shape[3])
        for i in range(len(y)):
            for index, array in by_index:
                self._interpreter.set_tensor(index, array[i : i + 1])
            self._interpreter.invoke()
            llrs[i] = self._interpreter.get_tensor(self._output)[0]
        return llrs

    def _allocate(self, num_subcarriers: int) -> None:
        """Allocate memory for slots of a bandwidth."""
        if num_subcarriers == self._num_subcarriers:
            return
        self._num_subcarriers = 0
        for details in self._details.values():
            shape = [num_subcarriers if size < 0 else int(size) for size in details["shape_signature"]]
            self._interpreter.resize_tensor_input(details["index"], shape)
        with without_lines("INFO: "):  # it names its kernels
            self._interpreter.allocate_tensors()
        self._num_subcarriers = num_subcarriers


def _parts(data: bytes, path: str | Path) -> tuple[bytes, dict[str, Any]]:
    """The model, and the metadata in the archive at its end. The interpreter would read a damaged model unchecked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            metadata = json.loads(archive.read(METADATA_FILE))
            model = data[: archive.getinfo(METADATA_FILE).header_offset]
            digest = metadata[MODEL_DIGEST_KEY]
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        RecursionError,
        OSError,
        EOFError,
        NotImplementedError,
    ):
        raise UserError(f"{path}: damaged, or not exported by leanrx; export the receiver again") from None
    if hashlib.sha256(model).hexdigest() != digest:
        raise UserError(f"{path}: damaged since its export; export the receiver again")
    return model, metadata


def _interpreter_class(path: str | Path) -> Any:
    """LiteRT's interpreter, of the small package if it is installed, else of TensorFlow."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tensorflow.lite.python.interpreter import Interpreter
        except ImportError:
            raise UserError(f"{path}: LiteRT is not installed; run: pip install ai-edge-litert") from None
    return Interpreter


def _shape(details: dict[str, Any]) -> list[int | str]:
    return ["subcarriers" if size < 0 else int(size) for size in details["shape_signature"]]
