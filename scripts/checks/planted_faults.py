"""Plant faults in the exported C file of a receiver, and show that the verification refuses each.

    python scripts/checks/planted_faults.py [ZOO_NAME] [--slots 4608]

Each fault is a change of the real source: a text that is replaced, which must be there. The file with the fault is
compiled and verified as any other by ``leanrx verify``. The intact file has to be proven, and each other one refused.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from leanrx.experiment.file_verification import FileVerdict, FileVerification, judge
from leanrx.experiment.run_export import ExportSource
from receivers import zoo
from receivers.export.c_export import compile_library
from receivers.export.c_source import c_sources
from receivers.export.exported_receiver import ExportedReceiver
from receivers.neural.weights import NeuralReceiver

CALL = "return receive(y, pilots, noise_var, bits_per_symbol, num_prb, llrs, 1.0f, 0);"
"""Statement of ``leanrx_receive`` that passes its inputs on."""

COPY = "memcpy(llrs + at, rows[b], sizeof(float) * num_subcarriers);"
"""Statement that writes the LLRs of one bit of a symbol."""

SAMPLES = (
    "for (int r = 0; r < R; r++) for (int s = 0; s < 14; s++) for (int f = 0; f < F; f++) for (int p = 0; p < 2; p++)"
)
ORIGINAL = "y[(((size_t)r * 14 + s) * F + f) * 2 + p]"


def replaced(text: str, old: str, new: str) -> str:
    """The text with a part replaced that occurs once.

    Raises:
        AssertionError: if it does not occur once.
    """
    assert text.count(old) == 1, f"'{old}' occurs {text.count(old)} times"
    return text.replace(old, new)


def changed_input(samples: str = ORIGINAL, pilots: str = "q[i]", noise_var: str = "noise_var") -> Callable[[str], str]:
    """A fault of the inputs: C expressions of the sample (r, s, f, p), the pilots' value i, and the noise power."""
    call = (
        "const int F = 12 * num_prb; const float *q = pilots;"
        " static float x[R * 14 * 12 * LEANRX_MAX_PRB * 2], p_[14 * 12 * LEANRX_MAX_PRB * 2];"
        f" {SAMPLES} x[(((size_t)r * 14 + s) * F + f) * 2 + p] = {samples};"
        f" for (int i = 0; i < 14 * F * 2; i++) p_[i] = {pilots};"
        f" return receive(x, p_, {noise_var}, bits_per_symbol, num_prb, llrs, 1.0f, 0);"
    )
    return lambda text: replaced(text, CALL, call)


def changed_output(llr: str) -> Callable[[str], str]:
    """A fault of the outputs: a C expression of the LLR of bit b and subcarrier f."""
    loop = f"for (int f = 0; f < 12 * num_prb; f++) llrs[at + (size_t)f] = {llr};"
    return lambda text: replaced(text, COPY, loop)


def changed_constant(name: str, change: Callable[[list[float]], list[float]]) -> Callable[[str], str]:
    """A fault of the values of a constant array."""

    def plant(text: str) -> str:
        (match,) = re.finditer(rf"static const float {name}[^=]*= (\{{[^;]*\}});", text)
        numbers = re.findall(r"-?\d[\d.]*(?:e-?\d+)?f", match[1])
        values = iter(change([float(number[:-1]) for number in numbers]))
        body = re.sub(r"-?\d[\d.]*(?:e-?\d+)?f", lambda _: f"{next(values):.9e}f", match[1])
        assert body != match[1]
        return text[: match.start(1)] + body + text[match.end(1) :]

    return plant


FAULTS: dict[str, Callable[[str], str]] = {
    "symbols and subcarriers swapped": changed_input("y[(size_t)r * 14 * F * 2 + ((size_t)f * 14 + s) * 2 + p]"),
    "real and imaginary parts swapped": changed_input(ORIGINAL.replace("+ p]", "+ 1 - p]")),
    "samples conjugated": changed_input(f"(p ? -1.0f : 1.0f) * {ORIGINAL}"),
    "antennas swapped": changed_input(ORIGINAL.replace("(size_t)r", "(size_t)(R - 1 - r)")),
    "symbols reversed": changed_input(ORIGINAL.replace("+ s)", "+ 13 - s)")),
    "samples scaled by 2": changed_input(f"2.0f * {ORIGINAL}"),
    "pilots conjugated": changed_input(pilots="(i & 1 ? -1.0f : 1.0f) * q[i]"),
    "noise power halved": changed_input(noise_var="0.5f * noise_var"),
    "noise power as an amplitude": changed_input(noise_var="sqrtf(noise_var)"),
    "LLR sign": changed_output("-rows[b][f]"),
    "LLRs saturated at 2": changed_output("min_f(max_f(rows[b][f], -2.0f), 2.0f)"),
    "LLRs scaled by 2, as by a wrong int8 scale": changed_output("2.0f * rows[b][f]"),
    "bit order": changed_output("rows[K - 1 - b][f]"),
    "bits of I and Q swapped": changed_output("rows[b ^ 1][f]"),
    "subcarriers shifted by one": changed_output("rows[b][(f + 1) % (12 * num_prb)]"),
    "last resource block lost": changed_output("f < 12 * num_prb - 12 ? rows[b][f] : 0.0f"),
    "levels of 64-QAM for 16-QAM": changed_constant("LEVELS", lambda v: [x * (10 / 42) ** 0.5 for x in v]),
    "bias of the last layer lost": changed_constant("OUT_BIAS", lambda v: [0.0 for _ in v]),
    "weights of the last layer doubled": changed_constant("OUT_WEIGHT", lambda v: [2 * x for x in v]),
}
"""Changes of a C source by name. Weights of another training are one more fault, see :func:`faulty_sources`."""


def faulty_sources(receiver: NeuralReceiver, source: ExportSource, stale: NeuralReceiver | None) -> dict[str, str]:
    """C sources by fault; the first is intact.

    Args:
        receiver: to export.
        source: its conditions.
        stale: a receiver of the same architecture with other weights.
    """
    text = c_sources(receiver, source.scenario.grid)[f"{receiver.name}.c"]
    sources = {"none": text, **{name: plant(text) for name, plant in FAULTS.items()}}
    if stale is not None:
        other = c_sources(stale, source.scenario.grid)[f"{stale.name}.c"]
        sources["weights of another training"] = other.replace(stale.name, receiver.name)
    return sources


def verdict_on(
    text: str, source: ExportSource, folder: Path, slots: int, flags: tuple[str, ...] = ("-march=native",)
) -> FileVerdict:
    """Compile a C source in an empty folder and verify it.

    Args:
        text: the source.
        source: the receiver that it should be.
        folder: for source, library and counts.
        slots: over all points.
        flags: of the compiler.
    """
    folder.mkdir(parents=True)
    name = source.receiver.name
    (folder / f"{name}.h").write_text(c_sources(source.receiver, source.scenario.grid)[f"{name}.h"])
    (folder / f"{name}.c").write_text(text)
    compile_library(folder / f"{name}.c", folder / "receiver.so", flags)
    file = ExportedReceiver(folder / "receiver.so", f"{name}.c", folder.name)
    verification = FileVerification(file, source, folder)
    screening, evaluation = verification.screening(source.target_ber), verification.evaluation(slots)
    verdict = judge(verification, screening, None, source.target_ber)
    if not verdict.faults:
        for _ in verification.count(evaluation, 1):
            pass
        verdict = judge(verification, screening, verification.counts(evaluation), source.target_ber)
    return verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="tdl-6prb-hybrid-w5-d5-kd", metavar="ZOO_NAME")
    parser.add_argument("--stale", default="tdl-6prb-hybrid-w5-d5-scratch", help="receiver of the same architecture")
    parser.add_argument("--slots", type=int, default=4608, help="slots of a file that the screening does not refuse")
    arguments = parser.parse_args()
    source = ExportSource.of_zoo(arguments.name, Path())
    sources = faulty_sources(source.neural_receiver, source, zoo.load(arguments.stale))
    missed = []
    with tempfile.TemporaryDirectory() as work:
        for number, (fault, text) in enumerate(sources.items()):
            verdict = verdict_on(text, source, Path(work) / str(number), arguments.slots)
            if bool(verdict.faults) == (fault == "none"):
                missed.append(fault)
            print(f"{fault}: {verdict.faults[0] if verdict.faults else 'proven'}", flush=True)
    planted = len(sources) - 1
    caught = planted - len([fault for fault in missed if fault != "none"])
    print(f"{caught} of {planted} faults are caught; the intact file is {'refused' if 'none' in missed else 'proven'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
