"""Time of one slot, from samples to LLRs, on one core: exported files beside torch.

    python scripts/benchmarks/bench_latency.py [NAME...] [--prb 6 26] [--slots 300] [--rounds 5] [--cadence] [--busy]

NAME is a receiver of the zoo or the spec of a network, such as deeprx-w0.25. The latter has weights without training,
and the same time as with them. All runtimes take turns in rounds on the same slots, one slot at a time and on one
thread. ONNX Runtime does not spin, but for the row "ONNX Runtime, as shipped", which has its default threads. LiteRT
needs TensorFlow for the export, and is left out where TensorFlow is not installed. AOTInductor has the whole receiver
in real arithmetic, compiled ahead of time for one number of resource blocks; ``--quick`` leaves it out, because this
takes a minute. ``torch.compile`` covers the network, after the front end in torch. LMMSE-IRC is the classical receiver,
in C, ONNX Runtime, LiteRT and torch.

``--c-only`` times C programs without Python between the calls, see ``slot_timer.c``, so it can take a million slots:
``--slots 500 --rounds 2000``. With ``--cadence``, the time of a slot begins with its arrival there, so
it contains the wake-up and the wait for a late slot before. ``--real-time`` gives these programs a priority over all
others, as a receiver in service has. ``scripts/reproduce/latency_tables.py`` puts outputs of this script into the docs.

With ``--cadence``, a slot begins every millisecond, and the process sleeps in between. A call that takes more than a
millisecond is a miss, and the next slot then begins at once. ``--busy`` keeps all other cores busy with one process
each, and the benchmark on the first core. ``--quick`` takes few slots.

The columns are:

* median, 99 %, 99.9 %, most: quantiles of the wall clock of a call over all rounds, in microseconds.
* least CPU: least CPU time of a call, which compares best on a busy machine.
* CPU: CPU time of all threads of this process over the slots of a round, per slot, in microseconds. With ``--cadence``,
  it contains what threads burn while they wait for the next slot.
* above 1 ms: number of calls that took longer.
* over C: least CPU time over that of the C file.
* start: loading the file and the first call in a fresh process, in milliseconds, without imports.
* memory: peak resident memory of that process in MB, above that of Python with numpy.

The last line is one JSON object with all values.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cpuinfo
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from channels import Scenario, Slots, SlotStream, scenario
from channels.grid import SUBCARRIERS_PER_PRB
from leanrx_core.errors import UserError
from receivers import zoo
from receivers.base import Receiver
from receivers.classical import LmmseIrcReceiver
from receivers.export import export_litert, export_onnx
from receivers.export.c_export import compile_library, find_compiler
from receivers.export.c_source import BUILD_FLAGS, c_sources
from receivers.export.export_card import file_name
from receivers.export.exported_receiver import runtime_arguments
from receivers.export.onnx import write_graph
from receivers.export.real_receiver import RealReceiver
from receivers.neural.registry import build, parse_spec
from receivers.neural.weights import Card, NeuralReceiver
from receivers.runtime import CLibrary, LiteRtSession, OnnxSession
from receivers.runtime.slot_format import INPUTS, as_real

Call = Callable[[Slots], object]

SLOT_S = 1e-3
"""Duration of a slot at 15 kHz subcarrier spacing."""

QUANTILES = {"median": 0.5, "99 %": 0.99, "99.9 %": 0.999, "most": 1.0}
BUSY_PROGRAM = "while True: sum(range(1000000))"
C, ONNX = "C", "ONNX Runtime"


@dataclass(frozen=True)
class Runtime:
    """A receiver in one runtime.

    Attributes:
        call: receives a slot.
        file: that a fresh process can load; none for torch.
    """

    call: Call
    file: Path | None = None


@dataclass(frozen=True)
class Timing:
    """Times of one runtime.

    Attributes:
        wall_s: of each call.
        call_cpu_s: CPU time of each call.
        cpu_s: CPU time per slot of each round.
    """

    wall_s: NDArray[np.float64]
    call_cpu_s: NDArray[np.float64]
    cpu_s: NDArray[np.float64]


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


def c_runtime(receiver: Receiver, conditions: Scenario, folder: Path, march: str) -> Runtime:
    """The C file, compiled for an instruction set; it reads the arrays of the slots without copies."""
    for name, text in c_sources(receiver, conditions.grid).items():
        (folder / name).write_text(text)
    path = folder / f"{file_name(receiver)}.so"
    compile_library(path.with_suffix(".c"), path, (f"-march={march}",))
    library = CLibrary(path)
    return Runtime(lambda slots: library(*runtime_arguments(slots)), path)


def onnx_runtime(receiver: Receiver, conditions: Scenario, folder: Path) -> Runtime:
    """The exported file in ONNX Runtime."""
    stream = SlotStream(conditions, 1, 2, "test", purpose="export")
    export_onnx(receiver, folder / f"{file_name(receiver)}-onnx", stream, (10.0,))
    path = folder / f"{file_name(receiver)}-onnx" / f"{file_name(receiver)}.onnx"
    session = OnnxSession(path)
    return Runtime(lambda slots: session(*runtime_arguments(slots)), path)


def shipped_onnx_runtime(path: Path) -> Runtime:
    """The same file with the default threads of ONNX Runtime, which spin."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = {x.name for x in session.get_inputs()}

    def call(slots: Slots) -> object:
        y, pilots, noise, orders = runtime_arguments(slots)
        arrays = dict(zip(INPUTS, (as_real(y), as_real(pilots), noise, orders), strict=True))
        return session.run(None, {name: array for name, array in arrays.items() if name in names})

    return Runtime(call)


def compiled_runtime(receiver: NeuralReceiver) -> Runtime:
    """The front end in torch, then the network by ``torch.compile``."""
    network = torch.compile(receiver.net.eval(), dynamic=False)
    return Runtime(lambda slots: network(receiver.net.features(slots)))


def litert_runtime(receiver: Receiver, conditions: Scenario, folder: Path) -> Runtime:
    """The exported file in LiteRT."""
    name, stream = file_name(receiver), SlotStream(conditions, 1, 2, "test", purpose="export")
    graph, export = folder / f"{name}-graph.onnx", folder / f"{name}-litert"
    write_graph(receiver, graph, conditions.grid)
    export_litert(receiver, graph, export, stream, (10.0,))
    session = LiteRtSession(export / f"{name}.tflite")
    return Runtime(lambda slots: session(*runtime_arguments(slots)))


def ahead_of_time_runtime(receiver: NeuralReceiver, conditions: Scenario, slot: Slots, folder: Path) -> Runtime:
    """The receiver in real arithmetic as a package of AOTInductor, for one slot a call."""
    begin = time.perf_counter()
    program = torch.export.export(RealReceiver(receiver, conditions.grid).eval(), _tensors(slot))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "receiver.pt2"))
    package = torch._inductor.aoti_load_package(path)
    print(f"{receiver.name}, {conditions.grid.num_prb} PRB: AOTInductor compiles {time.perf_counter() - begin:.0f} s")
    return Runtime(lambda slots: package(*_tensors(slots)))


def _tensors(slots: Slots) -> tuple[torch.Tensor, ...]:
    noise_plus_interference_var = slots.noise_var + slots.interference_var
    y, pilots = torch.view_as_real(slots.y), torch.view_as_real(slots.pilots)
    return y, pilots, noise_plus_interference_var, slots.bits_per_symbol


def c_program(receiver: Receiver, conditions: Scenario, folder: Path, march: str) -> Path:
    """A program that times the calls of the C file, see ``slot_timer.c``."""
    for name, text in c_sources(receiver, conditions.grid).items():
        (folder / name).write_text(text)
    stem, timer = file_name(receiver), Path(__file__).with_name("slot_timer.c")
    program = folder / f"{stem}-timer"
    flags = [*BUILD_FLAGS, f"-march={march}", "-D_GNU_SOURCE", f'-DRECEIVER="{stem}.h"', f"-I{folder}"]
    command = [find_compiler(), *flags, str(timer), str(folder / f"{stem}.c"), "-o", str(program), "-lm"]
    if subprocess.run(command).returncode:
        raise UserError(f"--march: the compiler refuses the program with '{march}'; see its lines above")
    return program


def program_timing(program: Path, slots: Sequence[Slots], arguments: argparse.Namespace) -> Timing:
    """Times of a program of :func:`c_program`, with the slots in turn; all have the modulation of the first one.

    Raises:
        UserError: if the program cannot have a real-time priority, or fails.
    """
    prefix = ["chrt", "--fifo", "50"] if arguments.real_time else []
    arrays = [runtime_arguments(slot) for slot in slots]
    parts = [part for y, pilots, noise, _ in arrays for part in (noise, as_real(y), as_real(pilots))]
    raw = b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in parts)
    y, _, _, orders = arrays[0]
    period_ns = round(1e9 * SLOT_S) if arguments.cadence else 0
    numbers = [y.shape[-1] // SUBCARRIERS_PER_PRB, int(orders[0]), len(slots) * arguments.rounds, period_ns]
    try:
        run = subprocess.run([*prefix, str(program), *map(str, numbers)], input=raw, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        remedy = "--real-time needs chrt and root; leave it out" if prefix else "see its lines above"
        raise UserError(f"{program.name}: does not run ({type(error).__name__}); {remedy}") from None
    wall_s, cpu_s = np.frombuffer(run.stdout).reshape(-1, 2).T
    return Timing(wall_s, cpu_s, cpu_s)


def timings(runtimes: dict[str, Runtime], slots: Sequence[Slots], rounds: int, cadence: bool) -> dict[str, Timing]:
    """Times of all runtimes, which take turns."""
    wall_s: dict[str, list[float]] = {name: [] for name in runtimes}
    call_cpu_s: dict[str, list[float]] = {name: [] for name in runtimes}
    cpu_s: dict[str, list[float]] = {name: [] for name in runtimes}
    with torch.no_grad():
        for runtime in runtimes.values():
            for slot in slots[:3]:
                runtime.call(slot)
        for _ in range(rounds):
            for name, runtime in runtimes.items():
                begin, begin_cpu = time.perf_counter(), time.process_time()
                for slot in slots:
                    if cadence:
                        begin = max(begin + SLOT_S, time.perf_counter())
                        time.sleep(max(begin - time.perf_counter(), 0.0))
                    begin_call, begin_call_cpu = time.perf_counter(), time.process_time()
                    runtime.call(slot)
                    wall_s[name].append(time.perf_counter() - begin_call)
                    call_cpu_s[name].append(time.process_time() - begin_call_cpu)
                cpu_s[name].append((time.process_time() - begin_cpu) / len(slots))
    return {name: Timing(*(np.array(values[name]) for values in (wall_s, call_cpu_s, cpu_s))) for name in runtimes}


def cold_start(file: Path, slot: Slots, folder: Path) -> dict[str, float]:
    """Times and memory of a fresh process that loads a file, see ``cold_start.py``."""
    arrays: dict[str, Any] = dict(zip(INPUTS, runtime_arguments(slot), strict=True))
    np.savez(folder / "slot.npz", **arrays)
    program = Path(__file__).with_name("cold_start.py")
    command = [sys.executable, str(program), str(file), str(folder / "slot.npz")]
    values: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return values


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """One busy process on each core but the first, and this process on the first.

    Raises:
        UserError: if there is one core only.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise UserError("--busy: this process has one core only; leave it out")
    processes = [subprocess.Popen([sys.executable, "-c", BUSY_PROGRAM]) for _ in others]
    try:
        for core, process in zip(others, processes, strict=True):
            os.sched_setaffinity(process.pid, {core})
        os.sched_setaffinity(0, {first})
        yield
    finally:
        os.sched_setaffinity(0, {first, *others})
        for process in processes:
            process.kill()
            process.wait()


def build_runtimes(
    receiver: NeuralReceiver, conditions: Scenario, slot: Slots, folder: Path, arguments: argparse.Namespace
) -> dict[str, Runtime]:
    """The runtimes that the command line asks for, C first."""
    irc = LmmseIrcReceiver(conditions)
    graph = folder / f"{file_name(receiver)}-onnx" / f"{file_name(receiver)}.onnx"
    builders: dict[str, Callable[[], Runtime]] = {
        C: lambda: c_runtime(receiver, conditions, folder, arguments.march),
        ONNX: lambda: onnx_runtime(receiver, conditions, folder),
        f"{ONNX}, as shipped": lambda: shipped_onnx_runtime(graph),
        "LiteRT": lambda: litert_runtime(receiver, conditions, folder),
        "AOTInductor": lambda: ahead_of_time_runtime(receiver, conditions, slot, folder),
        "torch.compile": lambda: compiled_runtime(receiver),
        "torch": lambda: Runtime(receiver),
        f"LMMSE-IRC in {C}": lambda: c_runtime(irc, conditions, folder, arguments.march),
        f"LMMSE-IRC in {ONNX}": lambda: onnx_runtime(irc, conditions, folder),
        "LMMSE-IRC in LiteRT": lambda: litert_runtime(irc, conditions, folder),
        "LMMSE-IRC in torch": lambda: Runtime(irc),
    }
    if not find_spec("tensorflow"):
        builders = {key: build for key, build in builders.items() if not key.endswith("LiteRT")}
    if arguments.quick:
        builders.pop("AOTInductor", None)
    return {key: build() for key, build in builders.items()}


def bench(name: str, num_prb: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """One row of results per runtime, of one receiver of the zoo on one grid."""
    receiver, conditions = receiver_of(name)
    conditions = conditions.on_grid(num_prb, "--prb")
    stream = SlotStream(conditions, 1, 1, "test", purpose="latency").at_sinr(12.0)
    slots = [stream.block(number) for number in range(arguments.slots)]
    busy = busy_cores() if arguments.busy else contextlib.nullcontext()
    starts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as work:
        if arguments.c_only:
            receivers: dict[str, Receiver] = {C: receiver, f"LMMSE-IRC in {C}": LmmseIrcReceiver(conditions)}
            programs = {key: c_program(r, conditions, Path(work), arguments.march) for key, r in receivers.items()}
            with busy:
                times = {key: program_timing(program, slots, arguments) for key, program in programs.items()}
        else:
            runtimes = build_runtimes(receiver, conditions, slots[0], Path(work), arguments)
            starts = {k: cold_start(r.file, slots[0], Path(work)) for k, r in runtimes.items() if r.file is not None}
            with busy:
                times = timings(runtimes, slots, arguments.rounds, arguments.cadence)
    return [_row(name, num_prb, key, times, starts.get(key, {})) for key in times]


def _row(name: str, num_prb: int, key: str, times: dict[str, Timing], start: dict[str, float]) -> dict[str, object]:
    wall_s = times[key].wall_s
    quantiles = dict(zip(QUANTILES, np.quantile(wall_s, list(QUANTILES.values())).tolist(), strict=True))
    return {
        "receiver": name,
        "num_prb": num_prb,
        "runtime": key,
        "seconds": quantiles,
        "cpu_s_per_slot": float(np.median(times[key].cpu_s)),
        "calls": len(wall_s),
        "misses": int((wall_s > SLOT_S).sum()),
        "least_cpu_s": float(times[key].call_cpu_s.min()),
        "cpu_over_c": float(times[key].call_cpu_s.min() / times[C].call_cpu_s.min()),
        **start,
    }


def print_table(rows: Sequence[dict[str, object]]) -> None:
    head = ["receiver", "PRB", "runtime", *(f"{q}, us" for q in QUANTILES)]
    table = Table(*head, "CPU, us", "above 1 ms", "least CPU, us", "over C", "start, ms", "memory, MB")
    for row in rows:
        seconds, start, peak, base = (row.get(key) for key in ("seconds", "start_s", "peak_mb", "numpy_mb"))
        assert isinstance(seconds, dict)
        table.add_row(
            *(str(row[key]) for key in ("receiver", "num_prb", "runtime")),
            *(f"{1e6 * value:.0f}" for value in seconds.values()),
            f"{1e6 * float(str(row['cpu_s_per_slot'])):.0f}",
            f"{row['misses']} of {row['calls']}",
            f"{1e6 * float(str(row['least_cpu_s'])):.0f}",
            f"{float(str(row['cpu_over_c'])):.2f}",
            f"{1e3 * start:.1f}" if isinstance(start, float) else "",
            f"{peak - base:.1f}" if isinstance(peak, float) and isinstance(base, float) else "",
        )
    Console(width=170).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the zoo, or specs; default: the two smallest")
    parser.add_argument("--prb", type=int, nargs="+", default=[6, 26], help="resource blocks")
    parser.add_argument("--slots", type=int, default=300, help="slots in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cadence", action="store_true", help="one slot per millisecond, and count those that miss it")
    parser.add_argument("--busy", action="store_true", help="keep all other cores busy")
    parser.add_argument("--march", default="native", help="instructions of the C files, such as x86-64-v3 for AVX2")
    parser.add_argument("--c-only", action="store_true", help="C programs alone, for many slots")
    parser.add_argument("--real-time", action="store_true", help="C programs with a real-time priority; needs root")
    parser.add_argument("--quick", action="store_true", help="20 slots, one round, 6 resource blocks")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.slots, arguments.rounds, arguments.prb = 20, 1, [6]
    if arguments.real_time and not arguments.c_only:
        parser.error("--real-time: is for C programs; add --c-only")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    warnings.simplefilter("ignore")
    names = arguments.names or ["tdl-6prb-hybrid-w5-d5-kd", "tdl-6prb-hybrid-w13-d8-kd"]
    try:
        rows = [row for name in names for num_prb in arguments.prb for row in bench(name, num_prb, arguments)]
    except UserError as error:
        sys.exit(f"bench_latency: {error}")
    print_table(rows)
    ratio = min((float(str(row["cpu_over_c"])) for row in rows if row["runtime"] == ONNX), default=None)
    cpu = cpuinfo.get_cpu_info().get("brand_raw", "unknown")
    machine = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": load,
        "real_time": arguments.real_time,
    }
    settings = {"cadence": arguments.cadence, "busy": arguments.busy, "march": arguments.march, **machine}
    answer = {"bench": "latency", "peer": ONNX, "ratio": ratio, "runs": arguments.rounds, **settings, "cases": rows}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
