"""The SINR that shipped receivers need with the LDPC code of 5G, as values, phrases and lines of a card."""

from __future__ import annotations

import math
from typing import Any

from carbon.receiver_options import error_curve
from leanrx.report.formatting import interval
from receivers.evaluation.transport_block import scenario_formats
from receivers.zoo.coded_results import CodedResults
from receivers.zoo.shipped_results import Results

TARGET_BLERS = (0.1, 0.01)


def coded_sinr_db(
    coded: CodedResults, interference_fraction: float, target_bler: float, classical: str = ""
) -> tuple[float, float, float]:
    """SINR at which the BLER falls to a target, and the ends of its 95 % interval; NaN where it never does.

    Args:
        coded: of a shipped receiver.
        interference_fraction: of the test points.
        target_bler: the BLER.
        classical: name of a classical receiver; the shipped receiver if not given.
    """
    return error_curve(coded.counts(interference_fraction, classical), blocks=True).required_sinr_db(target_bler)


def coded_cell(coded: CodedResults, interference_fraction: float, target_bler: float, classical: str = "") -> str:
    """:func:`coded_sinr_db` in words, or the highest tested SINR, which is not enough.

    Example:
        >>> counted = {"interference_fraction": 0, "blocks": 1000}
        >>> points = [{"sinr_db": 6, "block_errors": 900, **counted}, {"sinr_db": 24, "block_errors": 300, **counted}]
        >>> coded = CodedResults(mcs=14, points=points, classical={})
        >>> coded_cell(coded, 0.0, 0.5), coded_cell(coded, 0.0, 0.1)
        ('15.63 (14.68 to 16.65)', 'above 24')
    """
    counts = coded.counts(interference_fraction, classical)
    value, low, high = coded_sinr_db(coded, interference_fraction, target_bler, classical)
    return f"above {max(counts):g}" if math.isnan(value) else sinr_phrase(value, low, high)


def sinr_phrase(value: float, low: float, high: float) -> str:
    """A required SINR with its interval in words.

    >>> sinr_phrase(14.3, 14.1, 14.5), sinr_phrase(14.3, 14.1, math.nan), sinr_phrase(math.nan, math.nan, math.nan)
    ('14.30 (14.10 to 14.50)', '14.30 (14.10 or more)', 'not reached')
    """
    if not math.isnan(value) and not math.isnan(low) and math.isnan(high):
        return f"{value:.2f} ({low:.2f} or more)"
    return interval(value, low, high, "{:.2f}") or "not reached"


def sinr_values(required: tuple[float, float, float]) -> dict[str, float | None]:
    """A required SINR with its interval as plain values, ``None`` where a rate is not reached."""
    names = ("required_sinr_db", "required_sinr_low_db", "required_sinr_high_db")
    return {name: None if math.isnan(value) else value for name, value in zip(names, required, strict=True)}


def code_phrase(results: Results) -> str:
    """Modulation and coding scheme of the coded test, sizes of its blocks, and blocks per point."""
    coded = results.coded
    if coded is None:
        return "not tested with a code"
    sizes = sorted({block.size_bits for block in scenario_formats(results.scenario, coded.mcs.code_rate)})
    numbers = [point.blocks for points in (coded.points, *coded.classical.values()) for point in points]
    return (
        f"MCS {coded.mcs.index} of table {coded.mcs.table} ({coded.mcs.modulation}, rate "
        f"{1024 * coded.mcs.code_rate:g}/1024), {' or '.join(f'{bits:,}' for bits in sizes)} bits per block, "
        f"{min(numbers):,} to {max(numbers):,} blocks per point"
    )


def coded_rows(name: str, coded: CodedResults) -> list[dict[str, Any]]:
    """Required SINRs of a shipped receiver and of the classical ones, as plain values.

    Args:
        name: of the receiver.
        coded: its results.
    """
    return [
        {
            "receiver": classical or name,
            "interference_fraction": fraction,
            "target_bler": target,
            **sinr_values(coded_sinr_db(coded, fraction, target, classical)),
        }
        for fraction in coded.interference_fractions
        for classical in ("", *coded.classical)
        for target in TARGET_BLERS
    ]


def coded_lines(name: str, results: Results) -> list[str]:
    """The part of a card with the required SINRs of :func:`coded_rows`."""
    lines, coded = [code_phrase(results)], results.coded
    if coded is None:
        return lines
    width = max(map(len, (name, *coded.classical)))
    for fraction in coded.interference_fractions:
        targets = " and ".join(f"{target:g}" for target in TARGET_BLERS)
        lines.append(f"SINR [dB] for BLER {targets}, interference fraction {fraction:g}:")
        for classical in ("", *coded.classical):
            cells = [coded_cell(coded, fraction, target, classical) for target in TARGET_BLERS]
            lines.append(f"  {classical or name:<{width}}  {cells[0]:<24}  {cells[1]}")
    return lines
