"""An exported receiver in LiteRT (TensorFlow Lite): complex samples in, LLRs out."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrx_core.errors import UserError
from receivers.runtime.call_arguments import check_llrs
from receivers.runtime.slot_arrays import INPUTS, NUM_SYMBOLS, RECEIVER_KEY, SLOTS_KEY, SlotFormat, as_real

METADATA_FILE = "leanrx.json"
"""Name in the ZIP archive at the end of a file, where TensorFlow Lite has the files that belong to a model."""

MODEL_DIGEST_KEY = "model_sha256"
"""Key of the metadata: SHA-256 of the model before the archive."""


class LiteRtSession:
    """An exported ``.tflite`` file, loaded for inference on the CPU.

    It needs numpy, and ai-edge-litert or TensorFlow. It computes one slot at a time. The number of resource blocks may
    change from call to call; then LiteRT allocates its memory anew, which takes longer than a slot.

    Args:
        path: the file, written by :func:`receivers.export.litert.export_litert`.
        threads: threads that compute.

    Attributes:
        path: of the file.
        receiver: spec string of the receiver, such as ``"hybrid-w13-d8"``.
        slots: the slots that the file takes.
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K.
        inputs: types and shapes by name; ``"subcarriers"`` is free.
        is_quantised: whether some operators compute in 8-bit integers.
        digest: SHA-256 of the file.

    Raises:
        UserError: if the file is missing or damaged, is not an exported receiver, or no runtime is installed.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.path = Path(path)
        try:
            data = self.path.read_bytes()
        except OSError:
            raise UserError(f"{path}: missing; export the receiver again") from None
        model, metadata = _parts(data, path)
        self.receiver, self.slots = _description(metadata, path)
        self.num_rx, self.num_bits = self.slots.num_rx, self.slots.num_bits
        self.digest = hashlib.sha256(data).hexdigest()
        try:
            self._interpreter = _interpreter_class(path)(model_content=model, num_threads=threads)
            inputs = {x["name"].removeprefix("serving_default_").split(":")[0]: x for x in _inputs(self._interpreter)}
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: LiteRT cannot load it ({type(error).__name__}); export again") from None
        if "y" not in inputs or not inputs.keys() <= set(INPUTS):
            raise UserError(f"{path}: its inputs are not {', '.join(INPUTS)}; export again")
        self._inputs, self._num_subcarriers = list(inputs.values()), 0
        self._indices = {name: int(details["index"]) for name, details in inputs.items()}
        self.inputs: dict[str, dict[str, Any]] = {
            name: {"dtype": np.dtype(x["dtype"]).name, "shape": _shape(x)} for name, x in inputs.items()
        }
        self.is_quantised = any(x["dtype"] == np.int8 for x in self._interpreter.get_tensor_details())
        self._output: int = self._interpreter.get_output_details()[0]["index"]

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
        values: tuple[NDArray[Any], ...] = (as_real(y), as_real(pilots), noise, orders)
        arrays = zip(INPUTS, values, strict=True)
        used = [(self._indices[name], array) for name, array in arrays if name in self._indices]
        llrs = np.empty((len(y), self.num_bits, NUM_SYMBOLS, y.shape[3]), np.float32)
        try:
            self._allocate(y.shape[3])
            for i in range(len(y)):
                for index, array in used:
                    self._interpreter.set_tensor(index, array[i : i + 1])
                self._interpreter.invoke()
                llrs[i] = self._interpreter.get_tensor(self._output)[0]
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.path.name}: LiteRT cannot process shape {y.shape} ({type(error).__name__}); export again"
            ) from None
        check_llrs(llrs, self.path.name)
        return llrs

    def _allocate(self, num_subcarriers: int) -> None:
        """Allocate memory for slots of a bandwidth."""
        if num_subcarriers == self._num_subcarriers:
            return
        self._num_subcarriers = 0
        for details in self._inputs:
            shape = [num_subcarriers if size < 0 else int(size) for size in details["shape_signature"]]
            self._interpreter.resize_tensor_input(details["index"], shape)
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


def _description(metadata: dict[str, Any], path: str | Path) -> tuple[str, SlotFormat]:
    """Spec string of the receiver, and the slots that the file takes."""
    try:
        return str(metadata[RECEIVER_KEY]), SlotFormat.from_json(metadata[SLOTS_KEY])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{path}: its metadata describe no receiver; export again") from None


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


def _inputs(interpreter: Any) -> list[dict[str, Any]]:
    return list(interpreter.get_input_details())
