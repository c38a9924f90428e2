"""Compare the slots per second of leanrx and of plain Sionna: same scenario, batch and process, interleaved runs.

The Sionna chain consists of documented blocks: BinarySource, Mapper, ResourceGridMapper, and OFDMChannel over TDL or
CDL. An interferer is a second such chain, scaled and added. The chain draws one delay spread per call, and its
interferer is synchronous. leanrx draws delay spread and timing per slot, and computes the realised ratios. The floor is
the time of the random numbers, matrix products and FFTs of a block alone. By default torch has one thread, as in the
workers of an evaluation.

    python scripts/benchmarks/bench_channels.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from channels import Channels, Grid, Interferer, Scenario, SlotStream
from channels.link_level import SPEED_OF_LIGHT_M_S
from channels.links import DataSymbols, InterferingLink, WantedLink

BATCH = 128
SNR_DB, SIR_DB, DELAY_SPREAD_S, DOPPLER_HZ = 10.0, 5.0, 100e-9, 500.0
STAGES = {
    "_draw_data": (SlotStream, "draws"),
    "_draw_wanted": (SlotStream, "draws"),
    "_draw_interferers": (SlotStream, "draws"),
    "receive wanted": (WantedLink, "wanted channel"),
    "receive": (InterferingLink, "interferer"),
    "symbols": (DataSymbols, "QAM symbols"),
}


def leanrx_stream(model: str, num_prb: int, interferer: bool) -> SlotStream:
    scenario = Scenario(
        name="bench",
        grid=Grid(num_prb=num_prb, pilot_patterns=((2, 11),)),
        channels=Channels.model_validate({"train": [f"{model}-A"]}),
        delay_spread_s=(DELAY_SPREAD_S, DELAY_SPREAD_S),
        max_doppler_hz=(0.0, DOPPLER_HZ),
        snr_db=(SNR_DB, SNR_DB),
        interferers=(Interferer(sir_db=(SIR_DB, SIR_DB)),) if interferer else (),
    )
    return SlotStream(scenario, seed=1, block_slots=BATCH)


def plain_sionna(model: str, num_prb: int, interferer: bool) -> Callable[[], object]:
    from sionna.phy.channel import OFDMChannel
    from sionna.phy.channel.tr38901 import CDL, TDL, PanelArray
    from sionna.phy.mapping import BinarySource, Mapper
    from sionna.phy.ofdm import ResourceGrid, ResourceGridMapper

    carrier_hz = 4e9
    speed = DOPPLER_HZ * SPEED_OF_LIGHT_M_S / carrier_hz
    grid = ResourceGrid(
        num_ofdm_symbols=14,
        fft_size=12 * num_prb,
        subcarrier_spacing=15e3,
        pilot_pattern="kronecker",
        pilot_ofdm_symbol_indices=[2, 11],
        device="cpu",
    )

    def channel() -> OFDMChannel:
        if model == "TDL":
            fading = TDL("A", DELAY_SPREAD_S, carrier_hz, max_speed=speed, num_rx_ant=2, device="cpu")
        else:
            ut_array, bs_array = (
                PanelArray(
                    num_rows_per_panel=1,
                    num_cols_per_panel=n,
                    polarization="single",
                    polarization_type="V",
                    antenna_pattern="omni",
                    carrier_frequency=carrier_hz,
                    device="cpu",
                )
                for n in (1, 2)
            )
            fading = CDL("A", DELAY_SPREAD_S, carrier_hz, ut_array, bs_array, "uplink", max_speed=speed, device="cpu")
        return OFDMChannel(fading, grid, return_channel=True, device="cpu")

    source, mapper, to_grid = BinarySource(device="cpu"), Mapper("qam", 4, device="cpu"), ResourceGridMapper(grid)
    wanted_channel, interferer_channel = channel(), channel()
    bits_shape = [BATCH, 1, 1, int(grid.num_data_symbols) * 4]
    noise_var, no_noise = torch.tensor(10 ** (-SNR_DB / 10)), torch.tensor(0.0)

    def simulate() -> object:
        bits = source(bits_shape)
        y, h = wanted_channel(to_grid(mapper(bits)), noise_var)
        if interferer:
            interference, _ = interferer_channel(to_grid(mapper(source(bits_shape))), no_noise)
            y = y + 10 ** (-SIR_DB / 20) * interference
        return bits, y, h

    return simulate


def floor(num_prb: int, interferer: bool) -> Callable[[], object]:
    """Return a function that only computes the random numbers, matrix products and FFTs of one TDL block."""
    subcarriers, paths, nodes = 12 * num_prb, 23, 12
    size = Grid(num_prb=num_prb).fft_size
    gains = torch.randn(BATCH, 2 * 14, paths, dtype=torch.complex64)
    phases = torch.randn(BATCH, paths, subcarriers, dtype=torch.complex64)
    spectrum = torch.randn(BATCH, 2, 15, size, dtype=torch.complex64)

    def link() -> None:
        torch.randn(BATCH, 2 * paths, nodes, dtype=torch.complex64)
        torch.empty(BATCH * 14 * subcarriers // 8, dtype=torch.int64).random_(-(2**63), None)
        gains @ phases

    def compute() -> None:
        link()
        torch.randn(BATCH, 2, 14, subcarriers, dtype=torch.complex64)
        if interferer:
            link()
            torch.fft.fft(torch.fft.ifft(spectrum)[:, :, 1:])

    return compute


def duration_s(function: Callable[[], object], repeats: int) -> float:
    """Return the mean duration of a call."""
    begin = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - begin) / repeats


def stage_fractions(stream: SlotStream, repeats: int) -> dict[str, float]:
    """Return the fraction of a block's time by stage. Calls from one stage to another count for the caller."""
    time_s = {stage: 0.0 for _, stage in STAGES.values()}
    depth = [0]
    originals = {}
    for key, (owner, stage) in STAGES.items():
        method = key.split()[0]
        originals[owner, method] = getattr(owner, method)

        def timed(*arguments: Any, _inner: Any = originals[owner, method], _stage: str = stage, **named: Any) -> Any:
            depth[0] += 1
            begin = time.perf_counter()
            try:
                return _inner(*arguments, **named)
            finally:
                depth[0] -= 1
                if depth[0] == 0:
                    time_s[_stage] += time.perf_counter() - begin

        setattr(owner, method, timed)
    total_s = repeats * duration_s(next_block(stream), repeats)
    for (owner, method), original in originals.items():
        setattr(owner, method, original)
    fractions = {stage: value / total_s for stage, value in time_s.items()}
    return {**fractions, "noise, sums, pilots, bits": 1 - sum(fractions.values())}


def next_block(stream: SlotStream) -> Callable[[], object]:
    """Return a function that computes the next block of the stream."""
    numbers = iter(range(10**9))
    return lambda: stream.block(next(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three runs of one block instead of five runs of three")
    parser.add_argument("--threads", type=int, default=1, help="number of torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quick = arguments.quick
    runs, repeats = (3, 1) if quick else (5, 3)
    table = Table("case", "leanrx slots/s", "Sionna slots/s", "ratio", "floor slots/s", "stages of leanrx")
    cases: list[dict[str, Any]] = []
    for model in ("TDL", "CDL"):
        for num_prb in (6, 26):
            for interferer in (False, True):
                stream = leanrx_stream(model, num_prb, interferer)
                functions = {
                    "leanrx": next_block(stream),
                    "sionna": plain_sionna(model, num_prb, interferer),
                    "floor": floor(num_prb, interferer),
                }
                times: dict[str, list[float]] = {name: [] for name in functions}
                for function in functions.values():
                    function()
                for _ in range(runs):
                    for name, function in functions.items():
                        times[name].append(duration_s(function, repeats))
                rate = {name: BATCH / statistics.median(values) for name, values in times.items()}
                ratio = statistics.median(s / o for s, o in zip(times["sionna"], times["leanrx"], strict=True))
                fractions = stage_fractions(stream, repeats)
                case = f"{model}, {num_prb} PRB, {'interferer' if interferer else 'no interferer'}"
                cases.append({"case": case, "ratio": ratio, "slots_per_s": rate, "stages": fractions})
                stages = ", ".join(f"{stage} {fraction:.0%}" for stage, fraction in fractions.items())
                table.add_row(
                    case,
                    f"{rate['leanrx']:.0f}",
                    f"{rate['sionna']:.0f}",
                    f"{ratio:.2f}",
                    f"{rate['floor']:.0f}",
                    stages,
                )
    Console(width=160).print(table)
    headline = min(c["ratio"] for c in cases)
    print(
        json.dumps(
            {
                "bench": "channels",
                "peer": "sionna",
                "ratio": headline,
                "runs": runs,
                "batch": BATCH,
                "threads": torch.get_num_threads(),
                "cases": cases,
            }
        )
    )


if __name__ == "__main__":
    main()
