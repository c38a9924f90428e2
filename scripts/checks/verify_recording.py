"""Replay recorded slots through an exported receiver, and compare its errors with those of the recording.

    python verify_recording.py RECORDING.h5 FILE
    python verify_recording.py RECORDING.h5 --raw FOLDER

FILE is an ONNX file, a LiteRT file (.tflite), a C file with its header beside it, or a compiled C file (.so). The
script needs numpy and h5py. An ONNX file needs onnxruntime, a LiteRT file ai-edge-litert, and a C file a C compiler.
Nothing of leanrx is used. Exit code 1: the file has other errors. Exit code 2: an input is damaged. A file is compared
with the hash in its card, if ``card.json`` is beside it, and a LiteRT file with the hash in it.

With --raw, it writes the slots for the example program ``main.c`` of a C export, and the commands that decode them.
Then a C compiler is enough. ``count_errors.c`` beside this script counts the errors.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

FORMAT, VERSION = "leanrx recording", 1
MARGIN_DB = {"float": 0.02, "fp16": 0.02, "int8": 0.05}

MAX_DIFFERENCE = 1e-4
"""Of the decisions, and of an LLR over the largest one, for float files."""

BLOCK_SLOTS = 32
FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
ERRORS = {-1: "PRB", -2: "modulation", -3: "noise power", -4: "pilots", -5: "samples", -6: "pointer", -7: "overflow"}
INPUTS = ("y", "pilots", "noise_plus_interference_var", "bits_per_symbol")
"""Names of a graph's inputs; one without effect is left out."""

Receiver = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Problem(Exception):
    """A bad input, described in one line."""


def as_real(x: np.ndarray) -> np.ndarray:
    """Real and imaginary parts as a last dimension of 2."""
    return np.ascontiguousarray(x)[..., None].view(np.float32)


def check_digests(path: Path) -> None:
    """Compare a file, and the header of a C file, with the hashes in its card. Without a card, there are none."""
    digests: dict[str, str] = {}
    for card in (path.parent / "card.json", path.with_suffix(".json")):
        if card.is_file():
            try:
                values = json.loads(card.read_text(encoding="utf-8"))
                digests |= {name: entry["sha256"] for name, entry in values.get("files", {}).items()}
                digests |= {values["file"]: values["sha256"]} if "file" in values else {}
            except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise Problem(f"{card}: damaged; export the receiver again") from None
    for part in (path, path.with_suffix(".h")):
        if part.name in digests and hashlib.sha256(content(part)).hexdigest() != digests[part.name]:
            raise Problem(f"{part}: changed since its export; export the receiver again")


def content(path: Path) -> bytes:
    """The bytes of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"{path}: cannot be read ({error.strerror}); export the receiver again") from None


def litert_model(path: Path) -> bytes:
    """The model of a ``.tflite`` file, compared with its hash in the archive at the end: LiteRT reads it unchecked."""
    data = content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            digest = json.loads(archive.read("leanrx.json"))["model_sha256"]
            model = data[: archive.getinfo("leanrx.json").header_offset]
    except (zipfile.BadZipFile, LookupError, ValueError, TypeError, OSError, EOFError, NotImplementedError):
        raise Problem(f"{path}: damaged, or not exported by leanrx; export it again") from None
    if hashlib.sha256(model).hexdigest() != digest:
        raise Problem(f"{path}: damaged since its export; export it again")
    return model


@contextlib.contextmanager
def without_information() -> Iterator[None]:
    """Leave out the lines in which LiteRT names its kernels. It has no setting for this."""
    with tempfile.TemporaryFile() as lines:
        standard_error = os.dup(2)
        os.dup2(lines.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            lines.seek(0)
            os.write(2, b"".join(line for line in lines if not line.startswith(b"INFO: ")))


def onnx_receiver(path: Path) -> tuple[Receiver, str]:
    """An ONNX file in ONNX Runtime, and its arithmetic."""
    try:
        import onnxruntime
    except ImportError:
        raise Problem("onnxruntime: not installed; run: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Problem(f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); export it again") from None
    inputs = {x.name for x in session.get_inputs()}
    if not {"y", "pilots"} <= inputs <= set(INPUTS):
        raise Problem(f"{path}: its inputs are {', '.join(sorted(inputs))}; give a file that takes samples and pilots")

    def receive(y: np.ndarray, pilots: np.ndarray, noise: np.ndarray, orders: np.ndarray) -> np.ndarray:
        arrays = dict(zip(INPUTS, (as_real(y), as_real(pilots), noise, orders), strict=True))
        return np.asarray(session.run(None, {name: arrays[name] for name in inputs})[0])

    metadata = session.get_modelmeta().custom_metadata_map
    return receive, "int8" if b"QuantizeLinear" in path.read_bytes() else metadata.get("arithmetic", "float")


def litert_receiver(path: Path) -> tuple[Receiver, str]:
    """A ``.tflite`` file in LiteRT, and its arithmetic. It computes one slot at a time."""
    model = litert_model(path)
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise Problem("ai-edge-litert: not installed; run: pip install ai-edge-litert") from None
    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        inputs = {x["name"].removeprefix("serving_default_").split(":")[0]: x for x in interpreter.get_input_details()}
    except (ValueError, RuntimeError) as error:
        raise Problem(f"{path}: LiteRT cannot load it ({type(error).__name__}); export it again") from None
    if not {"y", "pilots"} <= inputs.keys() <= set(INPUTS):
        raise Problem(f"{path}: its inputs are {', '.join(sorted(inputs))}; give a file that takes samples and pilots")
    output = interpreter.get_output_details()[0]["index"]
    is_int8 = any(x["dtype"] == np.int8 for x in interpreter.get_tensor_details())
    widths = [0]

    def receive(y: np.ndarray, pilots: np.ndarray, noise: np.ndarray, orders: np.ndarray) -> np.ndarray:
        if widths[0] != y.shape[3]:
            for x in inputs.values():
                shape = [y.shape[3] if size < 0 else int(size) for size in x["shape_signature"]]
                interpreter.resize_tensor_input(x["index"], shape)
            with without_information():
                interpreter.allocate_tensors()
            widths[0] = y.shape[3]
        arrays, llrs = dict(zip(INPUTS, (*map(as_real, (y, pilots)), noise, orders), strict=True)), []
        for i in range(len(y)):
            for name, x in inputs.items():
                interpreter.set_tensor(x["index"], arrays[name][i : i + 1])
            interpreter.invoke()
            llrs.append(interpreter.get_tensor(output)[0])
        return np.stack(llrs)

    return receive, "int8" if is_int8 else "float"


def c_receiver(path: Path) -> tuple[Receiver, str]:
    """A compiled C file."""
    try:
        library = ctypes.CDLL(str(path.resolve()))
        num_bits, function = library.leanrx_num_bits(), library.leanrx_receive
    except (OSError, AttributeError):
        raise Problem(f"{path}: no library of an exported C file; compile NAME.c with -shared -fPIC") from None

    def receive(y: np.ndarray, pilots: np.ndarray, noise: np.ndarray, orders: np.ndarray) -> np.ndarray:
        llrs = np.empty((len(y), num_bits, *y.shape[2:]), np.float32)
        for i in range(len(y)):
            arrays = (np.ascontiguousarray(x[i]) for x in (y, pilots))
            pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
            numbers = ctypes.c_float(noise[i]), ctypes.c_int(orders[i]), ctypes.c_int(y.shape[3] // 12)
            code = function(*pointers, *numbers, llrs[i].ctypes.data_as(ctypes.c_void_p))
            if code:
                raise Problem(f"{path}: refuses slot {i} of a block: {ERRORS.get(code, code)}")
        return llrs

    return receive, "float"


def compiled(source: Path, folder: Path) -> Path:
    """The library of a C file."""
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), "")
    if not shutil.which(compiler):
        raise Problem(f"{source}: no C compiler ({compiler or 'cc, gcc, clang'}); install one, or set CC")
    library = folder / "receiver.so"
    command = [compiler, *FLAGS, "-march=native", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"{source}: {compiler} fails: {(done.stderr.strip().splitlines() or ['no message'])[0]}")
    return library


def open_recording(path: Path) -> h5py.File:
    """The recording, whose format is checked."""
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise Problem(f"{path}: missing, or no HDF5 file; write it with: leanrx record") from None
    if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
        raise Problem(f"{path}: no recording of version {VERSION}; write it again with: leanrx record")
    return file


def blocks(file: h5py.File) -> Iterator[slice]:
    """Slices of slots, so that memory stays small."""
    count = len(file["y"])
    for first in range(0, count, BLOCK_SLOTS):
        yield slice(first, min(first + BLOCK_SLOTS, count))


def bit_mask(file: h5py.File, part: slice) -> np.ndarray:
    """Where slots carry bits, (slots, bits, symbols, subcarriers)."""
    order = np.arange(file["bits"].shape[1])
    used = order < file["bits_per_symbol"][part][:, None]
    return file["is_data"][part][:, None] & used[..., None, None]


def replay(file: h5py.File, receive: Receiver) -> tuple[np.ndarray, np.ndarray, float]:
    """Bit errors and bits of each slot, and the largest LLR difference over the largest LLR."""
    errors, bits, differences, largest = [], [], [0.0], [0.0]
    llr_slots, begin, due = list(file["llr_slots"][()]), time.monotonic(), 0.0
    for part in blocks(file):
        fields = ("y", "pilots", "noise_plus_interference_var", "bits_per_symbol")
        mask = bit_mask(file, part)
        llrs = receive(*(file[name][part] for name in fields))[:, : mask.shape[1]]  # a file can have LLRs of more bits
        if llrs.shape != mask.shape:
            raise Problem(f"LLRs have shape {llrs.shape}, and the recorded bits {mask.shape}; give another file")
        if not np.isfinite(llrs[mask]).all():
            raise Problem("LLRs are not finite; the file is damaged")
        errors.append((((llrs > 0) != file["bits"][part].astype(bool)) & mask).sum((1, 2, 3)))
        bits.append(mask.sum((1, 2, 3)))
        for row in (i for i, slot in enumerate(llr_slots) if part.start <= slot < part.stop):
            slot = llr_slots[row] - part.start
            expected = file["llrs"][row][mask[slot]]
            differences.append(float(np.abs(llrs[slot][mask[slot]] - expected).max()))
            largest.append(float(np.abs(expected).max()))
        if (elapsed := time.monotonic() - begin) > due:
            print(f"{part.stop} of {len(file['y'])} slots, {elapsed:.0f} s", file=sys.stderr)
            due = elapsed + 10
    return np.concatenate(errors), np.concatenate(bits), max(differences) / max(max(largest), 1e-30)


def required_sinr_db(sinr_db: np.ndarray, ber: np.ndarray, target: float) -> float:
    """SINR at which a curve first falls to a BER, linear in dB over log10(BER); NaN where it does not."""
    for i in range(len(ber) - 1):
        if ber[i] > target >= ber[i + 1]:
            fraction = np.log(ber[i] / target) / np.log(ber[i] / ber[i + 1])
            return float(sinr_db[i] + fraction * (sinr_db[i + 1] - sinr_db[i]))
    return float("nan")


def compare(file: h5py.File, receive: Receiver, arithmetic: str) -> list[str]:
    """Replay all slots and print both BERs at each point. Returns why the file is refused, or nothing."""
    errors, bits, llr_difference = replay(file, receive)
    expected, sinr_db, fraction = (file[x][()] for x in ("bit_errors", "sinr_db", "interference_fraction"))
    faults, target = [], float(file.attrs["target_ber"])
    for part in np.unique(fraction):
        curves, points = [], np.unique(sinr_db[fraction == part])
        for point in points:
            at = (fraction == part) & (sinr_db == point)
            rates = [max(int(x[at].sum()), 0.5) / int(bits[at].sum()) for x in (errors, expected)]
            where = f"{point:>6g} dB, interference fraction {part:g}"
            print(f"{where}: BER {rates[1]:.3e} recorded, {rates[0]:.3e} of the file")
            curves.append(rates)
        required = [required_sinr_db(points, curve, target) for curve in np.array(curves).T]
        gap_db, margin_db = required[0] - required[1], MARGIN_DB[arithmetic]
        print(f"gap at BER {target:g}, interference fraction {part:g}: {gap_db:+.4f} dB, allowed {margin_db} dB")
        if not abs(gap_db) <= margin_db:
            faults.append(f"gap of {gap_db:+.3f} dB at BER {target:g}")
    changed = int(np.abs(errors - expected).sum())
    print(f"slots: {len(errors)}, bit errors: {expected.sum()} recorded, {errors.sum()} of the file")
    print(f"largest LLR difference: {llr_difference:.1e} of the largest LLR")
    if arithmetic == "float" and changed > MAX_DIFFERENCE * bits.sum():
        faults.append(f"the slots' error counts differ by {changed} of {bits.sum()} bits")
    if arithmetic == "float" and llr_difference > MAX_DIFFERENCE:
        faults.append(f"LLRs differ by {llr_difference:.1e} of the largest one")
    return faults


def write_raw(file: h5py.File, folder: Path) -> None:
    """Write the slots of each point and modulation as raw files, and print the commands that decode them."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = ("interference_fraction", "sinr_db", "bits_per_symbol", "noise_plus_interference_var")
    table = np.stack([file[key][()].astype(float) for key in keys], 1)
    for number, values in enumerate(np.unique(table, axis=0)):
        name = f"{number:03d}-sinr{values[1]:+06.2f}-fraction{values[0]:.3f}-bits{values[2]:.0f}"
        slots = np.flatnonzero((table == values).all(1))
        with open(folder / f"{name}.f32", "wb") as samples, open(folder / f"{name}.bits", "wb") as bits:
            for i in slots:
                samples.write(file["y"][i].tobytes() + file["pilots"][i].tobytes())
                mask = bit_mask(file, slice(i, i + 1))[0]
                bits.write(np.where(mask, file["bits"][i], 2).astype(np.uint8).tobytes())
        path, num_prb = folder / name, file["y"].shape[3] // 12
        print(f"./receiver {num_prb} {values[2]:.0f} {values[3]:.9g} < {path}.f32 > {path}.llrs")
        print(f"./count_errors {path}.llrs {path}.bits {file['bit_errors'][slots].sum()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--raw", type=Path, metavar="FOLDER", help="write raw slots for the example program")
    arguments = parser.parse_args()
    if (arguments.file is None) == (arguments.raw is None):
        parser.error("give FILE or --raw FOLDER")
    try:
        with open_recording(arguments.recording) as file, tempfile.TemporaryDirectory() as work:
            if arguments.raw is not None:
                write_raw(file, arguments.raw)
                return
            path = arguments.file
            if not path.is_file() or path.suffix not in (".onnx", ".tflite", ".c", ".so", ".dylib"):
                raise Problem(f"{path}: no exported file; give an ONNX, LiteRT, C or compiled C file")
            check_digests(path)
            if path.suffix in (".onnx", ".tflite"):
                receive, arithmetic = (onnx_receiver if path.suffix == ".onnx" else litert_receiver)(path)
            else:
                receive, arithmetic = c_receiver(compiled(path, Path(work)) if path.suffix == ".c" else path)
            faults = compare(file, receive, arithmetic)
    except Problem as problem:
        print(f"verify_recording: {problem}", file=sys.stderr)
        sys.exit(2)
    for fault in faults:
        print(f"verify_recording: {arguments.file}: {fault}", file=sys.stderr)
    print("different" if faults else "equal")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
