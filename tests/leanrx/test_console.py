"""Progress on the console while errors are counted."""

import io

from rich.console import Console

from leanrx.cli.console import ConsoleProgress
from leanrx.experiment.sweep_config import SweepConfig
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.monte_carlo import PointState


def counts(errors: int, blocks: int = 0, block_errors: int = 0) -> Counts:
    """1000 slots of 100 bits, of which the first ``errors`` have one wrong."""
    return Counts(
        slots=1000,
        bits=100_000,
        bit_errors=errors,
        slot_errors=errors,
        transport_blocks=blocks,
        block_errors=block_errors,
        bit_errors_sq=errors,
        bit_errors_x_bits=100 * errors,
        bits_sq=10_000_000,
        bit_errors_cu=errors,
        bit_errors_sq_x_bits=100 * errors,
        bit_errors_x_bits_sq=10_000 * errors,
        bits_cu=1e9,
    )


def console_text(state: PointState, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None)
    ConsoleProgress(console).on_evaluation(iter([state]), list(state.counts))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rates_have_intervals_and_no_errors_are_a_bound() -> None:
    state = PointState(0.0, 9.0, {"LS": counts(400, 1000, 100), "LMMSE": counts(0, 1000, 0)}, "most slots")
    low, high = state.counts["LS"].ber_interval()
    half = 50 * (high - low) / 4e-3
    for terminal in (False, True):
        text = console_text(state, terminal)
        assert f"4.0e-03 ±{half:.0f}%" in text
        assert "BLER 1.0e-01 ±" in text
        assert "< 1.5e-03" in text  # three in a thousand slots, half of the bits of each
        assert "BLER < 3.8e-03" in text
        assert "0.0e+00" not in text
        assert "1000" in text
        assert "most slots" in text


def test_uncoded_points_show_no_bler() -> None:
    assert "BLER" not in console_text(PointState(0.0, 9.0, {"LS": counts(400)}, "targets met"), False)


def test_the_transport_blocks_of_a_run_are_shown() -> None:
    console = Console(file=io.StringIO(), width=140)
    config = SweepConfig.parse(
        {
            "label": "x",
            "scenario": "tdl-6prb",
            "students": {"receivers": ["hybrid-w8-d2"]},
            "evaluation": {"sinr_db": [0], "mcs": {"index": 12}},
        },
        "x",
    )
    ConsoleProgress(console).show_transport_formats(config)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "transport block of 1,608 bits in 3,744 coded bits (4 per RE), rate 0.4295 for 0.4238, base graph 2\n"
    )
