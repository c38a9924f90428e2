"""Time of one slot, from samples to LLRs, on one core: an exported C file beside torch and ONNX Runtime.

    python scripts/benchmarks/bench_latency.py [NAME...] [--prb 6 26] [--slots 300] [--rounds 5] [--cadence]

NAME is a receiver of the zoo or the spec of a network, such as deeprx-w0.25. The latter has weights without training,
and the same time as with them. All runtimes take turns in rounds on the same slots, one slot at a time and on one
thread. ONNX Runtime does not spin. LiteRT needs TensorFlow for the export, and is left out where TensorFlow is not
installed. AOTInductor has the whole receiver in real arithmetic, compiled ahead of time for one number of resource
blocks; the time of the compilation is printed. ``torch.compile`` covers the network, after the front end in torch.
LMMSE-IRC is the classical receiver, in C and in torch. Times are wall-clock quantiles over all rounds, and the least
CPU time of a call, which compares best on a busy machine. With ``--cadence``, a slot begins every millisecond, and the
process sleeps in between. A call that takes more than a millisecond is a miss, and the next slot then begins at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from channels import Scenario, Slots, SlotStream, scenario
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver
from receivers.export import export_litert, export_onnx
from receivers.export.c_export import compile_library
from receivers.export.c_source import c_name, c_sources
from receivers.export.onnx import slot_arrays, write_graph
from receivers.export.real_receiver import RealReceiver
from receivers.neural.registry import build, parse_spec
from receivers.neural.weights import Card, NeuralReceiver
from receivers.runtime import CLibrary, LiteRtSession, OnnxSession

Call = Callable[[Slots], object]

SLOT_S = 1e-3
"""Duration of a slot at 15 kHz subcarrier spacing."""


def on_grid(conditions: Scenario, num_prb: int) -> Scenario:
    """The conditions on a grid of ``num_prb`` resource blocks."""
    grid = {**conditions.grid.model_dump(), "num_prb": num_prb}
    return Scenario.parse({**conditions.model_dump(), "grid": grid}, "--prb")


def receiver_of(name: str) -> tuple[NeuralReceiver, Scenario]:
    """A receiver of the zoo, or a network without training, with its scenario."""
    if name in zoo.names():
        return zoo.load(name), zoo.results(name).scenario
    parse_spec(name)
    tdl_6prb = scenario("tdl-6prb")
    net = build(name, tdl_6prb.grid.num_rx, tdl_6prb.bits_per_symbol)
    card = Card(
        name=name,
        receiver=name,
        role="scratch",
        num_rx=tdl_6prb.grid.num_rx,
        num_bits=net.num_bits,
        parameters=sum(p.numel() for p in net.parameters()),
        scenario=tdl_6prb.name,
        channels=(),
        trained_sinr_db=(0.0, 0.0),
        seed=0,
        training={},
    )
    return NeuralReceiver(net, card), tdl_6prb


def c_call(receiver: Receiver, conditions: Scenario, folder: Path) -> Call:
    """The compiled C file; it reads the arrays of the slots without copies."""
    for name, text in c_sources(receiver, conditions.grid).items():
        (folder / name).write_text(text)
    path = folder / f"{c_name(receiver)}.so"
    compile_library(path.with_suffix(".c"), path)
    library = CLibrary(path)

    def call(slots: Slots) -> object:
        noise_var = (slots.noise_var + slots.interference_var).numpy()
        return library(slots.y.numpy(), slots.pilots.numpy(), noise_var, slots.bits_per_symbol.numpy())

    return call


def onnx_call(receiver: NeuralReceiver, conditions: Scenario, folder: Path) -> Call:
    """The exported file in ONNX Runtime."""
    stream = SlotStream(conditions, 1, 2, "test", purpose="export")
    export_onnx(receiver, folder / "onnx", stream, (10.0,))
    session = OnnxSession(folder / "onnx" / f"{receiver.name}.onnx")
    return lambda slots: session(*slot_arrays(slots))


def litert_call(receiver: NeuralReceiver, conditions: Scenario, folder: Path) -> Call:
    """The exported file in LiteRT."""
    graph = folder / "receiver.onnx"
    write_graph(receiver, graph, conditions.grid)
    export_litert(receiver, graph, folder / "litert", SlotStream(conditions, 1, 2, "test", purpose="export"), (10.0,))
    session = LiteRtSession(folder / "litert" / f"{receiver.name}.tflite")
    return lambda slots: session(*slot_arrays(slots))


def ahead_of_time_call(receiver: NeuralReceiver, conditions: Scenario, folder: Path) -> Call:
    """The receiver in real arithmetic as a package of AOTInductor."""

    def tensors(slots: Slots) -> tuple[torch.Tensor, ...]:
        noise_var = slots.noise_var + slots.interference_var
        return torch.view_as_real(slots.y), torch.view_as_real(slots.pilots), noise_var, slots.bits_per_symbol

    begin = time.perf_counter()
    example = tensors(SlotStream(conditions, 1, 1, "test", purpose="export").block(0))
    program = torch.export.export(RealReceiver(receiver, conditions.grid).eval(), example)
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "receiver.pt2"))
    package = torch._inductor.aoti_load_package(path)
    print(f"{receiver.name}, {conditions.grid.num_prb} PRB: AOTInductor compiles {time.perf_counter() - begin:.0f} s")
    return lambda slots: package(*tensors(slots))


def compiled_call(receiver: NeuralReceiver) -> Call:
    """The front end in torch, then the network by ``torch.compile``."""
    network = torch.compile(receiver.net.eval(), dynamic=False)
    return lambda slots: network(receiver.net.features(slots))


def times_s(
    calls: dict[str, Call], slots: Sequence[Slots], rounds: int, cadence: bool
) -> dict[str, list[tuple[float, float]]]:
    """Wall-clock time and CPU time of each call by runtime."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with torch.no_grad():
        for call in calls.values():
            for slot in slots[:3]:
                call(slot)
        for _ in range(rounds):
            for name, call in calls.items():
                begin = time.perf_counter()
                for slot in slots:
                    if cadence:
                        begin = max(begin + SLOT_S, time.perf_counter())
                        time.sleep(max(begin - time.perf_counter(), 0.0))
                    begin_call, begin_cpu = time.perf_counter(), time.process_time()
                    call(slot)
                    times[name].append((time.perf_counter() - begin_call, time.process_time() - begin_cpu))
    return times


def bench(name: str, num_prb: int, num_slots: int, rounds: int, cadence: bool) -> dict[str, np.ndarray]:
    """Wall-clock and CPU times of one receiver on one grid, in columns."""
    receiver, conditions = receiver_of(name)
    conditions = on_grid(conditions, num_prb)
    stream = SlotStream(conditions, 1, 1, "test", purpose="latency").at_sinr(12.0)
    slots = [stream.block(number) for number in range(num_slots)]
    irc = LmmseIrcReceiver(conditions)
    with tempfile.TemporaryDirectory() as work:
        calls: dict[str, Call] = {
            "C": c_call(receiver, conditions, Path(work)),
            "ONNX Runtime": onnx_call(receiver, conditions, Path(work)),
            **({"LiteRT": litert_call(receiver, conditions, Path(work))} if find_spec("tensorflow") else {}),
            "AOTInductor": ahead_of_time_call(receiver, conditions, Path(work)),
            "torch.compile": compiled_call(receiver),
            "torch": receiver,
            "LMMSE-IRC in C": c_call(irc, conditions, Path(work)),
            "LMMSE-IRC in torch": irc,
        }
        return {call: np.array(values) for call, values in times_s(calls, slots, rounds, cadence).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the zoo, or specs; default: the two smallest")
    parser.add_argument("--prb", type=int, nargs="+", default=[6, 26], help="resource blocks")
    parser.add_argument("--slots", type=int, default=300, help="slots in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cadence", action="store_true", help="one slot per millisecond, and count those that miss it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    quantiles = {"10 %": 0.1, "median": 0.5, "99 %": 0.99, "99.9 %": 0.999}
    table = Table(
        "receiver", "PRB", "runtime", *(f"{q}, us" for q in quantiles), "above 1 ms", "least CPU, us", "over C's"
    )
    try:
        for name in arguments.names or ["tdl-6prb-hybrid-w5-d5-kd", "tdl-6prb-hybrid-w13-d8-kd"]:
            for num_prb in arguments.prb:
                times = bench(name, num_prb, arguments.slots, arguments.rounds, arguments.cadence)
                for runtime, columns_s in times.items():
                    values, cpu_s = columns_s.T
                    columns = [f"{value:.0f}" for value in 1e6 * np.quantile(values, list(quantiles.values()))]
                    misses = f"{(values > SLOT_S).sum()} of {len(values)}"
                    ratio = f"{cpu_s.min() / times['C'][:, 1].min():.2f}"
                    table.add_row(name, str(num_prb), runtime, *columns, misses, f"{1e6 * cpu_s.min():.0f}", ratio)
    except UserError as error:
        sys.exit(f"bench_latency: {error}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
