"""What bounds a training step on one CPU core: its operations per second, and where its time goes.

    python scripts/benchmarks/bench_training_step.py [RECEIVER] [--slots 32] [--prb 6] [--steps 8] [--bfloat16]

The step has forward pass, backward pass and AdamW, without a teacher. Times are processor times, and the shortest of
``--steps`` counts, because other programs may use the machine. The operations come from
:func:`energy.counting.torch_net.count_module`. A product of two large matrices in float32 shows what the core can do.
``--bfloat16`` times steps in float32 and in bfloat16 autocast in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

from channels import Grid, Scenario, SlotStream, scenario
from distillation.losses import bit_loss
from energy.counting.torch_net import count_module
from receivers.neural.registry import build

CONSOLE = Console(width=120)
MATRIX_SIZE = 2048
GROUPS = {
    "convolutions": ("convolution", "mm"),
    "batch normalisation": ("batch_norm",),
    "copies": ("copy_", "cat", "fill_"),
}
"""Parts of names of operators, by what they do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receiver", nargs="?", default="deeprx-w0.25")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--prb", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tdl = scenario("tdl-6prb")
    conditions: Scenario = tdl.model_copy(update={"grid": Grid(**{**tdl.grid.model_dump(), "num_prb": arguments.prb})})
    stream = SlotStream(conditions, 1, arguments.slots)
    slots = stream.block(0)
    net = build(arguments.receiver, conditions.grid.num_rx, conditions.bits_per_symbol, seed=1)
    net = net.to(memory_format=net.memory_format)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

    def features() -> torch.Tensor:
        return net.features(slots).contiguous(memory_format=net.memory_format)

    def step(bfloat16: bool = False) -> None:
        with torch.autocast("cpu", torch.bfloat16, bfloat16):
            llrs = net(inputs)
        loss = bit_loss(llrs.float(), slots)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    inputs = features()
    seconds = _cpu_s(step, arguments.steps)
    slots_s = _cpu_s(lambda: stream.block(1), arguments.steps) + _cpu_s(features, arguments.steps)
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    peak = 2 * MATRIX_SIZE**3 / _cpu_s(lambda: matrix @ matrix, 3) / 1e9
    gflop = count_module(net, inputs, training=True).flops / 1e9
    table = Table("part of a step", "share of its time", title=f"{arguments.receiver}, {arguments.slots} slots")
    for name, share in _shares(step).items():
        table.add_row(name, f"{share:.0%}")
    CONSOLE.print(table)
    CONSOLE.print(
        f"{seconds:.3f} s a step, and {slots_s:.3f} s for slots and features; {gflop:.1f} GFLOP: "
        f"{gflop / seconds:.0f} GFLOP/s, where a product of large matrices has {peak:.0f}"
    )
    result = {"bench": "training step", "step_s": seconds, "slots_s": slots_s, "gflop": gflop, "peak": peak}
    if arguments.bfloat16:
        rounded_s = _cpu_s(lambda: step(bfloat16=True), arguments.steps)
        seconds = min(seconds, _cpu_s(step, arguments.steps))
        CONSOLE.print(f"{rounded_s:.3f} s a step in bfloat16: {seconds / rounded_s:.2f} times as fast as in float32")
        result |= {"step_s": seconds, "bfloat16_step_s": rounded_s}
    print(json.dumps(result))


def _cpu_s(call: Callable[[], object], repeats: int) -> float:
    """Shortest processor time of a call, after a first one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def _shares(step: Callable[[], None]) -> dict[str, float]:
    """Share of the time by group of operators."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        group = next((g for g, words in GROUPS.items() if any(w in event.key for w in words)), "all else")
        times[group] += event.self_cpu_time_total
    total = sum(times.values())
    return {group: times[group] / total for group in [*GROUPS, "all else"]}


if __name__ == "__main__":
    main()
