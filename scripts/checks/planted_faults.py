"""Plant faults in the exported files of a receiver, and show that the verification refuses each.

    python scripts/checks/planted_faults.py [ZOO_NAME | RUN NAME] [--stale NAME] [--format c|onnx|litert] [--slots 4608]

Each fault is a change of the real file. In C, a text is replaced, which must be there, and the file is compiled. In
ONNX, nodes are added to the graph, or weights are changed. A LiteRT file is converted from such a graph. The file is
then verified as any other by ``leanrx verify``.
The intact file has to be proven, and each other one refused.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from channels import SlotStream
from leanrx.experiment.file_verification import FileVerdict, FileVerification, judge
from leanrx.experiment.run import load_run
from leanrx.experiment.run_export import ExportSource
from receivers import zoo
from receivers.export import export_onnx
from receivers.export.c_export import compile_library
from receivers.export.c_source import c_sources
from receivers.export.exported_receiver import ExportedReceiver
from receivers.export.litert import litert_file
from receivers.neural.deeprx import DeepRx, InterpolatedDeepRx
from receivers.neural.hybrid import Hybrid
from receivers.neural.network import Network
from receivers.neural.weights import NeuralReceiver

SMALLEST, STALE = "tdl-6prb-hybrid-w5-d5-kd", "tdl-6prb-hybrid-w5-d5-scratch"
"""The smallest receiver of the zoo, and one of its architecture with other weights."""

Fault = Callable[[str], str]
"""Changes a C source."""

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


def changed_input(samples: str = ORIGINAL, pilots: str = "q[i]", noise_var: str = "noise_var") -> Fault:
    """A fault of the inputs: C expressions of the sample (r, s, f, p), the pilots' value i, and the noise power."""
    call = (
        "const int F = 12 * num_prb; const float *q = pilots;"
        " static float x[R * 14 * 12 * LEANRX_MAX_PRB * 2], p_[14 * 12 * LEANRX_MAX_PRB * 2];"
        f" {SAMPLES} x[(((size_t)r * 14 + s) * F + f) * 2 + p] = {samples};"
        f" for (int i = 0; i < 14 * F * 2; i++) p_[i] = {pilots};"
        f" return receive(x, p_, {noise_var}, bits_per_symbol, num_prb, llrs, 1.0f, 0);"
    )
    return lambda text: replaced(text, CALL, call)


def changed_output(llr: str) -> Fault:
    """A fault of the outputs: a C expression of the LLR of bit b and subcarrier f."""
    loop = f"for (int f = 0; f < 12 * num_prb; f++) llrs[at + (size_t)f] = {llr};"
    return lambda text: replaced(text, COPY, loop)


def changed_constant(name: str, change: Callable[[list[float]], list[float]]) -> Fault:
    """A fault of the values of a constant array."""

    def plant(text: str) -> str:
        (match,) = re.finditer(rf"static const float {name}[^=]*= (\{{[^;]*\}});", text)
        numbers = re.findall(r"-?\d[\d.]*(?:e-?\d+)?f", match[1])
        values = iter(change([float(number[:-1]) for number in numbers]))
        body = re.sub(r"-?\d[\d.]*(?:e-?\d+)?f", lambda _: f"{next(values):.9e}f", match[1])
        assert body != match[1]
        return text[: match.start(1)] + body + text[match.end(1) :]

    return plant


FAULTS: dict[str, Fault] = {
    "symbols and subcarriers swapped": changed_input("y[(size_t)r * 14 * F * 2 + ((size_t)f * 14 + s) * 2 + p]"),
    "real and imaginary parts swapped": changed_input(ORIGINAL.replace("+ p]", "+ 1 - p]")),
    "samples conjugated": changed_input(f"(p ? -1.0f : 1.0f) * {ORIGINAL}"),
    "antennas swapped": changed_input(ORIGINAL.replace("(size_t)r", "(size_t)(R - 1 - r)")),
    "symbols reversed": changed_input(ORIGINAL.replace("+ s)", "+ 13 - s)")),
    "samples scaled by 2": changed_input(f"2.0f * {ORIGINAL}"),
    "pilots conjugated": changed_input(pilots="(i & 1 ? -1.0f : 1.0f) * q[i]"),
    "LLR sign": changed_output("-rows[b][f]"),
    "LLRs saturated at 2": changed_output("min_f(max_f(rows[b][f], -2.0f), 2.0f)"),
    "LLRs scaled by 2, as by a wrong int8 scale": changed_output("2.0f * rows[b][f]"),
    "bit order": changed_output("rows[K - 1 - b][f]"),
    "bits of I and Q swapped": changed_output("rows[b ^ 1][f]"),
    "subcarriers shifted by one": changed_output("rows[b][(f + 1) % (12 * num_prb)]"),
    "last resource block lost": changed_output("f < 12 * num_prb - 12 ? rows[b][f] : 0.0f"),
    "bias of the last layer lost": changed_constant("OUT_BIAS", lambda v: [0.0 for _ in v]),
    "weights of the last layer doubled": changed_constant("OUT_WEIGHT", lambda v: [2 * x for x in v]),
}
"""Changes of a C source by name. Weights of another training are one more fault, see :func:`faulty_sources`."""

HYBRID_FAULTS: dict[str, Fault] = {
    **FAULTS,
    "noise power halved": changed_input(noise_var="0.5f * noise_var"),
    "noise power as an amplitude": changed_input(noise_var="sqrtf(noise_var)"),
    "levels of 64-QAM for 16-QAM": changed_constant("LEVELS", lambda v: [x * (10 / 42) ** 0.5 for x in v]),
}


def changed_text(old: str, new: str) -> Fault:
    """A fault of the code: a part of the source, which occurs once, is another one."""
    return lambda text: replaced(text, old, new)


DEEPRX_FAULTS: dict[str, Fault] = {
    **FAULTS,
    "raw estimate without the conjugate": changed_text("- z[2 * i] * q[2 * i + 1]", "+ z[2 * i] * q[2 * i + 1]"),
    "kernels reversed in time": changed_text("rows[0], rows[1], rows[2]", "rows[2], rows[1], rows[0]"),
    "no dilation over subcarriers": changed_text("block->dilation_subcarriers, tile", "1, tile"),
    "shortcuts lost": changed_text("block->has_shortcut ? block->channels_in : 0", "0"),
    "normalisation of a block lost": changed_constant("SCALE_0", lambda v: [1.0 for _ in v]),
    "bias of a block lost": changed_constant("BIAS_0", lambda v: [0.0 for _ in v]),
}
INTERPOLATED_DEEPRX_FAULTS: dict[str, Fault] = {
    **DEEPRX_FAULTS,
    "raw estimates not interpolated": changed_text("#define INTERPOLATES 1", "#define INTERPOLATES 0"),
    "raw estimates of a symbol without pilots": changed_text(
        "nearest(layout->symbols, layout->num_symbols, s)", "layout->symbols[0] + 1"
    ),
}
FAULTS_BY_NETWORK = {
    Hybrid: HYBRID_FAULTS,
    DeepRx: DEEPRX_FAULTS,
    InterpolatedDeepRx: INTERPOLATED_DEEPRX_FAULTS,
}


Graph = onnx.ModelProto


def added_to_input(
    name: str, operator: str, *constants: tuple[Sequence[float], bool], **attributes: Any
) -> Callable[[Graph], None]:
    """A fault of an input: an operator between it and the graph."""

    def plant(model: Graph) -> None:
        for node in model.graph.node:
            for i, value in enumerate(node.input):
                if value == name:
                    node.input[i] = "faulty_input"
        names = [_add_constant(model, *constant) for constant in constants]
        node = onnx.helper.make_node(operator, [name, *names], ["faulty_input"], **attributes)
        model.graph.node.insert(0, node)

    return plant


def added_to_output(
    operator: str, *constants: tuple[Sequence[float], bool], **attributes: Any
) -> Callable[[Graph], None]:
    """A fault of the output: an operator between the graph and it."""

    def plant(model: Graph) -> None:
        (last,) = [node for node in model.graph.node if "llrs" in node.output]
        last.output[0] = "intact_llrs"
        names = [_add_constant(model, *constant) for constant in constants]
        model.graph.node.append(onnx.helper.make_node(operator, ["intact_llrs", *names], ["llrs"], **attributes))

    return plant


def changed_initialiser(end: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Graph], None]:
    """A fault of the weights whose name has an end."""

    def plant(model: Graph) -> None:
        (tensor,) = [t for t in model.graph.initializer if t.name.endswith(end)]
        intact = onnx.numpy_helper.to_array(tensor)
        values = np.ascontiguousarray(change(intact), intact.dtype)
        assert not np.array_equal(values, intact)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    return plant


def shift_subcarriers(model: Graph) -> None:
    """A fault of the output: each subcarrier has the LLRs of the next one."""
    (last,) = [node for node in model.graph.node if "llrs" in node.output]
    last.output[0] = "intact_llrs"
    zero, one, end, axis = (_add_constant(model, [v], True) for v in (0, 1, 2**40, 3))
    for output, first, stop in (("later_llrs", one, end), ("first_llrs", zero, one)):
        node = onnx.helper.make_node("Slice", ["intact_llrs", first, stop, axis], [output])
        model.graph.node.append(node)
    model.graph.node.append(onnx.helper.make_node("Concat", ["later_llrs", "first_llrs"], ["llrs"], axis=3))


def _add_constant(model: Graph, values: Sequence[float], is_integer: bool) -> str:
    name = f"fault_{len(model.graph.initializer)}"
    array = np.array(values, np.int64 if is_integer else np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return name


REAL, INTEGER = False, True
GRAPH_FAULTS: dict[str, Callable[[Graph], None]] = {
    "real and imaginary parts swapped": added_to_input("y", "Gather", ([1, 0], INTEGER), axis=4),
    "samples conjugated": added_to_input("y", "Mul", ([1, -1], REAL)),
    "antennas swapped": added_to_input("y", "Gather", ([1, 0], INTEGER), axis=1),
    "symbols reversed": added_to_input("y", "Gather", (range(13, -1, -1), INTEGER), axis=2),
    "samples scaled by 2": added_to_input("y", "Mul", ([2], REAL)),
    "pilots conjugated": added_to_input("pilots", "Mul", ([1, -1], REAL)),
    "LLR sign": added_to_output("Neg"),
    "LLRs scaled by 2, as by a wrong int8 scale": added_to_output("Mul", ([2], REAL)),
    "bit order": added_to_output("Gather", (range(3, -1, -1), INTEGER), axis=1),
    "bits of I and Q swapped": added_to_output("Gather", ([1, 0, 3, 2], INTEGER), axis=1),
    "subcarriers shifted by one": shift_subcarriers,
    "bias of the last layer lost": changed_initialiser("conv_out.bias", np.zeros_like),
    "weights of the last layer doubled": changed_initialiser("conv_out.weight", lambda x: 2 * x),
}
"""Changes of the graph of any network by name."""


def saturate(model: Graph) -> None:
    """A fault of the output: LLRs limited to -2 to 2. The limits are scalars."""
    added_to_output("Max", ([-2], REAL))(model)
    (last,) = [node for node in model.graph.node if "llrs" in node.output]
    last.output[0] = "limited_llrs"
    limit = _add_constant(model, [2], REAL)
    model.graph.node.append(onnx.helper.make_node("Min", ["limited_llrs", limit], ["llrs"]))


GRAPH_FAULTS["LLRs saturated at 2"] = saturate
HYBRID_GRAPH_FAULTS: dict[str, Callable[[Graph], None]] = {
    **GRAPH_FAULTS,
    "noise power halved": added_to_input("noise_plus_interference_var", "Mul", ([0.5], REAL)),
    "noise power as an amplitude": added_to_input("noise_plus_interference_var", "Sqrt"),
    "levels of 64-QAM for 16-QAM": changed_initialiser("_levels", lambda x: x * (10 / 42) ** 0.5),
    "bias of a block lost": changed_initialiser("blocks.0.project.bias", np.zeros_like),
    "kernel reversed in time": changed_initialiser("blocks.1.depthwise.weight", lambda x: x[:, :, ::-1]),
}
DEEPRX_GRAPH_FAULTS: dict[str, Callable[[Graph], None]] = {
    **GRAPH_FAULTS,
    "bias of a block lost": changed_initialiser("blocks.0.conv2.1.bias", np.zeros_like),
    "kernel reversed in time": changed_initialiser("blocks.1.conv2.0.parts.0.weight", lambda x: x[:, :, ::-1]),
    "normalisation of a block lost": changed_initialiser("blocks.0.norm1.weight", np.ones_like),
}


def graph_faults(net: Network) -> dict[str, Callable[[Graph], None]]:
    """Changes of the graph of a network by name."""
    return DEEPRX_GRAPH_FAULTS if isinstance(net, DeepRx) else HYBRID_GRAPH_FAULTS


def faulty_graphs(model: Graph, net: Network, stale: Graph | None) -> dict[str, Graph]:
    """Graphs by fault; the first is intact.

    Args:
        model: an exported graph.
        net: its network.
        stale: that of a receiver with other weights.
    """
    graphs = {"none": model}
    for name, plant in graph_faults(net).items():
        graphs[name] = Graph()
        graphs[name].CopyFrom(model)
        plant(graphs[name])
    return graphs if stale is None else {**graphs, "weights of another training": stale}


def exported_graph(receiver: NeuralReceiver, source: ExportSource, folder: Path) -> Graph:
    """Export a receiver to ONNX, with a comparison of a few slots."""
    stream = SlotStream(source.scenario, source.seed, 2, "test", purpose="export")
    export_onnx(receiver, folder, stream, source.evaluation.sinr_db[:1])
    return onnx.load(folder / f"{receiver.name}.onnx")


def faulty_sources(receiver: NeuralReceiver, source: ExportSource, stale: NeuralReceiver | None) -> dict[str, str]:
    """C sources by fault; the first is intact.

    Args:
        receiver: to export.
        source: its conditions.
        stale: a receiver of the same architecture with other weights.
    """
    text = c_sources(receiver, source.scenario.grid)[f"{receiver.name}.c"]
    faults = FAULTS_BY_NETWORK[type(receiver.net)]
    sources = {"none": text, **{name: plant(text) for name, plant in faults.items()}}
    if stale is not None:
        other = c_sources(stale, source.scenario.grid)[f"{stale.name}.c"]
        sources["weights of another training"] = other.replace(stale.name, receiver.name)
    return sources


def c_file(
    text: str, source: ExportSource, folder: Path, flags: tuple[str, ...] = ("-march=native",)
) -> ExportedReceiver:
    """Compile a C source in an empty folder.

    Args:
        text: the source.
        source: the receiver that it should be.
        folder: for source and library.
        flags: of the compiler.
    """
    folder.mkdir(parents=True)
    name = source.receiver.name
    (folder / f"{name}.h").write_text(c_sources(source.receiver, source.scenario.grid)[f"{name}.h"])
    (folder / f"{name}.c").write_text(text)
    compile_library(folder / f"{name}.c", folder / "receiver.so", flags)
    return ExportedReceiver(folder / "receiver.so", f"{name}.c", folder.name)


def onnx_file(model: onnx.ModelProto, source: ExportSource, folder: Path) -> ExportedReceiver:
    """Write a graph in an empty folder."""
    folder.mkdir(parents=True)
    path = folder / f"{source.receiver.name}.onnx"
    onnx.save(model, path)
    return ExportedReceiver(path, path.name, folder.name)


def tflite_file(model: onnx.ModelProto, source: ExportSource, folder: Path) -> ExportedReceiver:
    """Write the LiteRT form of a graph in an empty folder."""
    folder.mkdir(parents=True)
    path = folder / f"{source.receiver.name}.tflite"
    path.write_bytes(litert_file(model))
    return ExportedReceiver(path, path.name, folder.name)


def verdict_on(file: ExportedReceiver, source: ExportSource, folder: Path, slots: int) -> FileVerdict:
    """Verify a file as ``leanrx verify`` does.

    Args:
        file: with or without a fault.
        source: the receiver that it should be.
        folder: for the counts.
        slots: over all points.
    """
    verification = FileVerification(file, source, folder)
    screening, evaluation = verification.screening(source.target_ber), verification.evaluation(slots)
    verdict = judge(verification, screening, None, source.target_ber)
    if not verdict.faults:
        for _ in verification.count(evaluation, 1):
            pass
        verdict = judge(verification, screening, verification.counts(evaluation), source.target_ber)
    return verdict


def exported_files(
    file_format: str, source: ExportSource, stale: NeuralReceiver | None, root: Path
) -> Iterator[tuple[str, ExportedReceiver]]:
    """Files by fault, each in a folder of its own; the first is intact."""
    if file_format == "c":
        for fault, text in faulty_sources(source.neural_receiver, source, stale).items():
            yield fault, c_file(text, source, root / fault.replace(" ", "-"))
    else:
        intact = exported_graph(source.neural_receiver, source, root / source.receiver.name)
        other = exported_graph(stale, source, root / stale.name) if stale is not None else None
        file = onnx_file if file_format == "onnx" else tflite_file
        for fault, model in faulty_graphs(intact, source.neural_receiver.net, other).items():
            yield fault, file(model, source, root / fault.replace(" ", "-"))


def opened_source(source: str, name: str | None, stale: str | None) -> tuple[ExportSource, NeuralReceiver | None]:
    """A receiver of a run or, without a name, of the zoo, and one of the same architecture with other weights."""
    if name is None:
        stale = stale or (STALE if source == SMALLEST else None)
        return ExportSource.of_zoo(source, Path()), zoo.load(stale) if stale else None
    run = load_run(Path(source))
    return ExportSource.of_run(run, name), run.receiver(stale) if stale else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default=SMALLEST, metavar="ZOO_NAME or RUN")
    parser.add_argument("name", nargs="?", help="receiver of the run")
    parser.add_argument("--stale", help="receiver of the same architecture in zoo or run")
    parser.add_argument("--slots", type=int, default=4608, help="slots of a file that the screening does not refuse")
    parser.add_argument("--format", choices=["c", "onnx", "litert"], default="c", help="of the file")
    arguments = parser.parse_args()
    source, stale = opened_source(arguments.source, arguments.name, arguments.stale)
    missed = []
    with tempfile.TemporaryDirectory() as work:
        files = dict(exported_files(arguments.format, source, stale, Path(work)))
        for fault, file in files.items():
            verdict = verdict_on(file, source, file.path.parent, arguments.slots)
            if bool(verdict.faults) == (fault == "none"):
                missed.append(fault)
            print(f"{fault}: {verdict.faults[0] if verdict.faults else 'proven'}", flush=True)
    planted = len(files) - 1
    caught = planted - len([fault for fault in missed if fault != "none"])
    print(f"{caught} of {planted} faults are caught; the intact file is {'refused' if 'none' in missed else 'proven'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
