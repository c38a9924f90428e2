"""Export of a receiver as C files that are compiled and proven on fresh slots."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from channels import SlotStream
from leanrx_core.errors import UserError
from leanrx_core.files import replaced_folder
from receivers.base import Receiver
from receivers.export.c_source import BUILD_FLAGS, c_sources
from receivers.export.export_card import OUTPUT, file_name, parity_entry, receiver_entry
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.parity import Parity, compare_at_points, total_parity
from receivers.neural.weights import NeuralReceiver

_COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> str:
    """The C compiler: ``$CC``, or the first of cc, gcc and clang on the path.

    Raises:
        UserError: if there is none.
    """
    candidates = [os.environ["CC"]] if os.environ.get("CC") else list(_COMPILERS)
    for candidate in candidates:
        if shutil.which(candidate):
            return candidate
    raise UserError(f"compiler: no C compiler ({', '.join(candidates)}) is installed; install one, or set CC")


def compile_library(
    source: str | Path, library: str | Path, flags: tuple[str, ...] = ("-march=native",), compiler: str = ""
) -> None:
    """Compile an exported C file as a shared library.

    Args:
        source: the ``NAME.c``, with its header beside it.
        library: file to write.
        flags: further flags of the compiler.
        compiler: its command; :func:`find_compiler` if not given.

    Raises:
        UserError: if there is no compiler, or it fails.
    """
    command = [compiler or find_compiler(), *BUILD_FLAGS, *flags, "-shared", "-fPIC", str(source), "-o", str(library)]
    result = subprocess.run([*command, "-lm"], capture_output=True, text=True, check=False)
    if result.returncode:
        message = (result.stderr or result.stdout).strip().splitlines()
        raise UserError(f"{source}: {command[0]} fails: {message[0] if message else f'code {result.returncode}'}")


def export_c(
    receiver: Receiver,
    folder: str | Path,
    stream: SlotStream,
    sinr_db: tuple[float, ...],
    interference_fractions: tuple[float, ...] = (0.0,),
) -> Parity:
    """Write a receiver in C if the compiled file computes the same LLRs on fresh slots.

    The folder gets ``NAME.c`` and ``NAME.h``, an example program ``main.c`` and ``card.json``.

    Args:
        receiver: a DeepRx, a hybrid, LMMSE or LMMSE-IRC.
        folder: replaced as a whole, and only on success.
        stream: slots for the comparison, one block per point. Its grid sets antennas, spacing and pilots of the file.
        sinr_db, interference_fractions: points of the comparison.

    Returns:
        The comparison over all points.

    Raises:
        UserError: if the receiver cannot be written in C, no C compiler is there, or LLRs or decisions differ.

    Example:
        >>> from channels import SlotStream, scenario
        >>> from receivers import load
        >>> receiver = load("tdl-6prb-hybrid-w5-d5-kd")
        >>> stream = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=8, split="test", purpose="export")
        >>> parity = export_c(receiver, "exported-c", stream, sinr_db=(9.0,))  # doctest: +SKIP
        >>> parity.equal  # doctest: +SKIP
        True
    """
    sources, name = c_sources(receiver, stream.scenario.grid), file_name(receiver)
    with replaced_folder(folder) as complete, tempfile.TemporaryDirectory() as work:
        for file, text in sources.items():
            (complete / file).write_text(text)
        (complete / "main.c").write_text(example_program(name))
        library = Path(work) / "receiver.so"
        compile_library(complete / f"{name}.c", library)
        exported = ExportedReceiver(library, f"{receiver.name} (C)")
        parities = compare_at_points(receiver, exported, stream, sinr_db, interference_fractions)
        card = _card(receiver, stream, complete, parities)
        (complete / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return total_parity(parities)


def example_program(name: str) -> str:
    """A program that calls the C file of a receiver.

    Args:
        name: of the receiver.
    """
    text = (Path(__file__).parent / "c" / "main.c.in").read_text()
    return text.replace("@NAME@", name).replace("@FLAGS@", " ".join(BUILD_FLAGS))


def _card(receiver: Receiver, stream: SlotStream, folder: Path, parities: dict[str, Parity]) -> dict[str, Any]:
    files, name, grid = sorted(path for path in folder.iterdir()), file_name(receiver), stream.scenario.grid
    return {
        "format": "c",
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files},
        "build": f"cc {' '.join(BUILD_FLAGS)} -march=native main.c {name}.c -o receiver -lm",
        "grid": grid.model_dump(mode="json", exclude={"num_prb"} if isinstance(receiver, NeuralReceiver) else set()),
        "omitted": "",
        "output": OUTPUT,
        "receiver": receiver_entry(receiver, stream.scenario),
        "parity": parity_entry(parities),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
