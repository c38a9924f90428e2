"""Exported files: found, opened, compiled, and compared with their cards."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY
from receivers.export.c_export import compile_library, find_compiler
from receivers.export.c_source import BUILD_FLAGS
from receivers.export.exported_receiver import Arithmetic, ExportedReceiver
from receivers.runtime import LiteRtSession

SUFFIXES = (".c", ".onnx", ".tflite")
LIBRARY_SUFFIXES = (".so", ".dylib", ".dll")
CARD = "card.json"


def open_exported(path: str | Path, build_folder: str | Path) -> ExportedReceiver:
    """Open an exported file, and compile it if it is a C file.

    Args:
        path: an ONNX, LiteRT or C file, a shared library, or the folder of an export.
        build_folder: for the compiled C file.

    Raises:
        UserError: if there is no such file, it cannot be loaded or compiled, or no compiler is there.
    """
    path = exported_file(path)
    if path.suffix == ".c":
        return _compiled(path, Path(build_folder))
    receiver = ExportedReceiver(path, path.name)
    receiver.arithmetic = _arithmetic(receiver)
    return receiver


def exported_file(path: str | Path) -> Path:
    """The file of an export: the path itself, or the only file of its folder.

    Raises:
        UserError: if there is none, or its format is unknown.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [p for suffix in SUFFIXES for p in sorted(path.glob(f"*{suffix}")) if p.name != "main.c"]
        if not candidates:
            raise UserError(
                f"{path}: has no exported file; give an ONNX file, a LiteRT file, a C file or a compiled C file"
            )
        if len(candidates) > 1:
            names = ", ".join(p.name for p in candidates)
            raise UserError(f"{path}: has several exported files ({names}); give one of them")
        path = candidates[0]
    if path.suffix not in (*SUFFIXES, *LIBRARY_SUFFIXES):
        raise UserError(f"{path}: is no exported file; give an ONNX file, a LiteRT file, a C file or a compiled C file")
    if not path.is_file():
        raise UserError(f"{path}: missing; export the receiver again, or give another file")
    return path


def card_of(path: Path) -> dict[str, Any]:
    """The card beside an exported file; empty if there is none.

    Raises:
        UserError: if it is damaged.
    """
    card = path.parent / CARD
    if not card.is_file():
        return {}
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
        card_receiver(values)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{card}: damaged, or of another program; export the receiver again") from None
    return dict(values)


def card_receiver(card: dict[str, Any]) -> tuple[str, str]:
    """Name and digest of the receiver of a card: the weights' hash of a neural one, and the digest of a classical one.

    Raises:
        LookupError: if the card has none of these.
        TypeError: if they are no texts.
    """
    receiver = card["receiver"]
    name, digest = receiver["name"], receiver["digest" if "digest" in receiver else "weights_sha256"]
    if not isinstance(name, str) or not isinstance(digest, str):
        raise TypeError("receiver")
    return name, digest


def check_digests(path: Path, card: dict[str, Any]) -> None:
    """Compare an exported file with the hashes in its card. A compiled C file has none.

    Raises:
        UserError: if the file, or the header of a C file, is another one.
    """
    cards, quantised = [card], path.with_suffix(".json")
    try:
        if path.suffix in (".onnx", ".tflite") and quantised.is_file():
            cards.append(json.loads(quantised.read_text(encoding="utf-8")))
        digests = {name: entry["sha256"] for name, entry in card.get("files", {}).items()}
        digests |= {entry["file"]: entry["sha256"] for entry in cards if "file" in entry}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path.parent / CARD}: damaged, or of another program; export the receiver again") from None
    names = [path.name, f"{path.stem}.h"] if path.suffix == ".c" else [path.name]
    for name in names:
        if name in digests and _sha256(path.parent / name) != digests[name]:
            raise UserError(f"{path.parent / name}: changed since its export; export again, or give --checkpoint")


def _compiled(source: Path, build_folder: Path) -> ExportedReceiver:
    compiler = find_compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = [*BUILD_FLAGS, version, _sha256(source), _sha256(source.with_suffix(".h"))]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    library = build_folder / f"{source.stem}.{digest[:16]}.so"
    if not library.is_file():
        build_folder.mkdir(parents=True, exist_ok=True)
        temporary = build_folder / f"{TEMPORARY}{library.name}"
        compile_library(source, temporary, compiler=compiler)
        temporary.replace(library)
    return ExportedReceiver(library, source.name, digest)


def _arithmetic(receiver: ExportedReceiver) -> Arithmetic:
    """Arithmetic of a file's network. C files compute in floats."""
    if isinstance(receiver.session, LiteRtSession):
        return "int8" if receiver.session.is_quantised else "float"
    if receiver.path.suffix != ".onnx":
        return "float"
    import onnx

    graph = onnx.load(receiver.path).graph
    if any("QuantizeLinear" in node.op_type or node.op_type.endswith("Integer") for node in graph.node):
        return "int8"
    is_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    return "fp16" if is_half else "float"


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export the receiver again") from None
