"""Charts of estimates against metered values."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from leanrx.report.legends import place_legend
from leanrx_core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure


CHARTED_ESTIMATORS = ("FLOPs/clock", "FLOPs/clock, fitted", "roofline, fitted")


def write_estimator_charts(rows: pd.DataFrame, folder: Path) -> None:
    """Write ``estimates-time`` and ``estimates-energy`` as PNG and PDF, with the estimators that have points.

    Operations of classical receivers have no byte counts, and a fitted model needs several networks. Without any point,
    nothing is written.

    Args:
        rows: as :func:`energy.estimation.validation.validation_table` makes it.
        folder: of the files.
    """
    for quantity, name in (("s", "time"), ("j", "energy")):
        points = rows.dropna(subset=["flops_per_byte", f"metered_{quantity}", f"estimated_{quantity}"])
        estimators = [e for e in CHARTED_ESTIMATORS if e in set(points["estimator"])]
        if not estimators:
            continue
        for suffix, data in estimator_charts(rows, estimators, quantity).items():
            write_atomic(folder / f"estimates-{name}.{suffix}", data)


def estimator_charts(
    rows: pd.DataFrame, estimators: Sequence[str], quantity: str = "s", clock: str = "wall clock"
) -> dict[str, bytes]:
    """Estimates over metered values with the identity line, one panel per estimator, coloured by FLOPs per byte.

    Args:
        rows: as :func:`energy.estimation.validation.validation_table` makes it.
        estimators: names; each has one panel.
        quantity: ``s`` for time, ``j`` for energy; per slot.
        clock: of metered times.

    Returns:
        the figure as ``png`` and ``pdf``.
    """
    import matplotlib
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    what = {"s": "time per slot [ms]", "j": "energy per slot [mJ]"}[quantity]
    source = "/".join(sorted(set(rows["provenance"]))) if quantity == "j" else clock
    points = rows[rows["estimator"].isin(estimators)].dropna(subset=["flops_per_byte"])
    scale = 1e3 / points["batch_slots"]
    per_slot = points.assign(x=scale * points[f"metered_{quantity}"], y=scale * points[f"estimated_{quantity}"])
    per_slot = per_slot.dropna(subset=["x", "y"])
    ends = [per_slot[["x", "y"]].min().min() / 1.5, per_slot[["x", "y"]].max().max() * 1.5]
    colours = LogNorm(per_slot["flops_per_byte"].min(), per_slot["flops_per_byte"].max() * 1.001)
    with matplotlib.rc_context({"svg.hashsalt": "leanrx"}):
        figure = Figure(figsize=(4.2 * len(estimators), 4.2), layout="constrained")
        panels = figure.subplots(1, len(estimators), squeeze=False)[0]
        for axes, estimator in zip(panels, estimators, strict=True):
            dots = _scatter(axes, per_slot[per_slot["estimator"] == estimator], ends, colours)
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=estimator)
            axes.set_xlabel(f"metered {what}, {source}")
            axes.grid(alpha=0.25, which="both")
        panels[0].set_ylabel(f"estimated {what}")
        figure.colorbar(dots, ax=panels, label="FLOPs per byte moved")
        place_legend(figure, panels[0])
        return {kind: _file(figure, kind) for kind in ("png", "pdf")}


def _scatter(axes: Axes, calls: pd.DataFrame, ends: list[float], colours: LogNorm) -> PathCollection:
    """The calls of one estimator, with the identity line and one marker per runtime."""
    axes.plot(ends, ends, color="0.5", linewidth=1, zorder=1)
    for marker, (runtime, part) in zip("osD^v", calls.groupby("runtime"), strict=False):
        dots = axes.scatter(
            part["x"],
            part["y"],
            c=part["flops_per_byte"],
            norm=colours,
            cmap="viridis",
            marker=marker,
            edgecolor="black",
            linewidth=0.4,
            label=str(runtime),
            zorder=2,
        )
    return dots


def _file(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()
