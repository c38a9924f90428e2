"""Write the SINRs that shipped receivers need without a code and with one into docs/results.md.

    python scripts/reproduce/coded_tables.py

All numbers are those of the zoo, where ``scripts/reproduce/coded_zoo.py`` writes the counts of transport blocks.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from carbon.receiver_options import error_curve, zoo_families
from leanrx.report.coded_table import TARGET_BLERS, code_phrase, coded_sinr_db, sinr_phrase
from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from leanrx_core.markdown import markdown_table, with_marked_content
from receivers import zoo
from receivers.zoo.shipped_results import Results

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
TARGET_BER = 0.01
BOUND = "perfect CSI"
HEAD = ["receiver", f"BER {TARGET_BER:g}", *(f"BLER {target:g}" for target in TARGET_BLERS)]
BEYOND = [f"beyond {BOUND}, {target}" for target in HEAD[1:]]

Required = tuple[float, float, float]
"""A required SINR and the ends of its 95 % interval, in dB."""


def required_sinrs(results: Results, classical: str = "") -> list[Required]:
    """SINRs for the targets of :data:`HEAD` without an interferer, of a shipped receiver or of a classical one."""
    assert results.coded is not None
    points = [point for point in results.points if point.interference_fraction == 0]
    counts = {point.sinr_db: point.classical[classical] if classical else point.counts for point in points}
    with_code = [coded_sinr_db(results.coded, 0.0, target, classical) for target in TARGET_BLERS]
    return [error_curve(counts).required_sinr_db(TARGET_BER), *with_code]


def family_sinrs(names: list[str]) -> dict[str, list[Required]]:
    """:func:`required_sinrs` of the classical receivers and of the shipped ones with coded results."""
    coded = {name: results for name in names if (results := zoo.results(name)).coded is not None}
    if not coded:
        return {}
    first = next(iter(coded.values()))
    assert first.coded is not None
    classical = {name: required_sinrs(first, name) for name in first.coded.classical}
    return {**classical, **{name: required_sinrs(results) for name, results in coded.items()}}


def markdown() -> str:
    """One table per family of the zoo."""
    parts = []
    for family, names in zoo_families().items():
        sinrs = family_sinrs(names)
        if not sinrs:
            continue
        bounds = [value for value, _, _ in sinrs[BOUND]]
        rows = [[_name(name), *_cells(own), *_gaps(own, bounds)] for name, own in sinrs.items()]
        phrase = next(code_phrase(zoo.results(name)) for name in names if name in sinrs)
        parts += [f"SINR [dB] for a target, `{family}`, {phrase}:", markdown_table([*HEAD, *BEYOND], rows)]
    return "\n\n".join(parts)


def _name(name: str) -> str:
    return f"`{name}`" if name in zoo.names() else name


def _cells(sinrs: list[Required]) -> list[str]:
    return [sinr_phrase(*sinr) for sinr in sinrs]


def _gaps(sinrs: list[Required], bounds: list[float]) -> list[str]:
    gaps = [value - bound for (value, _, _), bound in zip(sinrs, bounds, strict=True)]
    return ["" if math.isnan(gap) else f"{gap:.2f}" for gap in gaps]


def page() -> str:
    """The page with the present tables between their marks.

    Raises:
        UserError: if the page has no marks.
    """
    return with_marked_content(PAGE, {"coded": markdown()})


def main() -> None:
    try:
        write_atomic(PAGE, page())
    except UserError as error:
        sys.exit(f"coded_tables: {error}")


if __name__ == "__main__":
    main()
