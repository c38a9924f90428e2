"""Draw docs/images/family-ber.png: BER over SINR of the shipped hybrids, from the counts that ship with them.

python scripts/reproduce/figure_family_ber.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from leanrx.report.charts import Curve, Figure, to_files
from leanrx_core.files import write_atomic
from receivers import Counts, zoo

PATH = Path(__file__).parents[2] / "docs" / "images" / "family-ber.png"
SHIPPED = {
    "tdl-6prb-hybrid-w5-d5-scratch": ("hybrid-w5-d5, from scratch", "#009e73", "dash", "triangle-up-open"),
    "tdl-6prb-hybrid-w5-d5-kd": ("hybrid-w5-d5, distilled", "#009e73", "solid", "triangle-up"),
    "tdl-6prb-hybrid-w13-d8-scratch": ("hybrid-w13-d8, from scratch", "#0072b2", "dash", "triangle-up-open"),
    "tdl-6prb-hybrid-w13-d8-kd": ("hybrid-w13-d8, distilled", "#0072b2", "solid", "triangle-up"),
    "tdl-6prb-hybrid-w64-d8": ("teacher, hybrid-w64-d8", "#d55e00", "solid", "square"),
}
CLASSICAL = {"LS": "#999999", "LMMSE": "#555555", "perfect CSI": "#000000"}


def curve(label: str, points: Iterable[tuple[float, Counts]], colour: str, dash: str, marker: str) -> Curve:
    """BER over SINR with 95 % intervals."""
    sinrs_db, counts = zip(*points, strict=True)
    low, high = zip(*(c.ber_interval() for c in counts), strict=True)
    bers = [c.ber for c in counts]
    return Curve(label, list(sinrs_db), bers, list(low), list(high), colour, dash, marker)


def main() -> None:
    """Draw the figure without interference."""
    points = {name: [p for p in zoo.results(name).points if p.interference_fraction == 0] for name in SHIPPED}
    teacher = points["tdl-6prb-hybrid-w64-d8"]
    curves = [
        curve(name, [(p.sinr_db, p.classical[name]) for p in teacher], colour, "dot", "diamond")
        for name, colour in CLASSICAL.items()
    ]
    curves += [curve(label, [(p.sinr_db, p.counts) for p in points[n]], *s) for n, (label, *s) in SHIPPED.items()]
    figure = Figure("family-ber", "", "SINR per receive antenna [dB]", "BER", curves, y_range=(1e-4, 1.0))
    write_atomic(PATH, to_files(figure)["family-ber.png"])
    print(PATH)


if __name__ == "__main__":
    main()
