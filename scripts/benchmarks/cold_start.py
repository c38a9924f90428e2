"""Load an exported file and receive one slot in this fresh process; print times and peak memory as JSON.

    python scripts/benchmarks/cold_start.py FILE SLOT.npz

FILE is an ONNX file or a compiled C file. SLOT.npz has the arrays ``y``, ``pilots``, ``noise`` and ``orders`` of one
slot. The process imports numpy and, for an ONNX file, onnxruntime. ``import_s`` is the time of these imports, and
``start_s`` the time of loading the file and of the first call. ``second_s`` is the time of the next call. ``peak_mb``
is the largest resident memory, and ``numpy_mb`` that before FILE and onnxruntime were loaded.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INPUTS = ("y", "pilots", "noise_plus_interference_var", "bits_per_symbol")
Slot = dict[str, NDArray[np.generic]]


def c_call(path: Path, slot: Slot) -> Callable[[], object]:
    """The compiled C file."""
    library = ctypes.CDLL(str(path.resolve()))
    y, pilots = (np.ascontiguousarray(slot[name][0]) for name in INPUTS[:2])
    llrs = np.empty((library.leanrx_num_bits(), *y.shape[1:]), np.float32)
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (y, pilots, llrs)]
    noise, order = ctypes.c_float(slot[INPUTS[2]][0]), ctypes.c_int(slot[INPUTS[3]][0])
    num_prb = ctypes.c_int(y.shape[-1] // 12)
    return lambda: library.leanrx_receive(*pointers[:2], noise, order, num_prb, pointers[2])


def onnx_call(path: Path, slot: Slot) -> Callable[[], object]:
    """The ONNX file in ONNX Runtime, on one thread that sleeps between calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    real = {name: np.ascontiguousarray(slot[name])[..., None].view(np.float32) for name in INPUTS[:2]}
    names = {x.name for x in session.get_inputs()}
    arrays = {name: array for name, array in {**slot, **real}.items() if name in names}
    return lambda: session.run(None, arrays)


def peak_mb() -> float:
    """Largest resident memory of this process so far, on Linux; getrusage adds that of the process that forked it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    path, slot = Path(sys.argv[1]), dict(np.load(sys.argv[2]))
    numpy_mb, begin = peak_mb(), time.perf_counter()
    if path.suffix == ".onnx":
        import onnxruntime  # noqa: F401
    imported = time.perf_counter()
    call = (onnx_call if path.suffix == ".onnx" else c_call)(path, slot)
    call()
    started = time.perf_counter()
    call()
    second_s = time.perf_counter() - started
    times = {"import_s": imported - begin, "start_s": started - imported, "second_s": second_s}
    print(json.dumps({**times, "peak_mb": peak_mb(), "numpy_mb": numpy_mb}))


if __name__ == "__main__":
    main()
