"""Charts of bars with coloured parts: in one row, or in a strip of rows and columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leanrx.report.legends import place_legend

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure as Canvas

_ROW_INCHES = 0.26
_FEW_BARS = 8
_LINE_CHARACTERS = 16
"""Of a line of a label below few bars."""
_FILLED = 0.9
"""Part of a row that the highest bar takes."""


@dataclass(frozen=True)
class Strip:
    """Bars in rows and columns.

    Attributes:
        name, caption, x_title: as of a figure.
        y_title: what the height of a bar is.
        rows: names from top to bottom.
        columns: names from left to right.
        layers: parts of the bars by name, each ``(rows, columns)``. The parts of a bar add up to at most 1.
        colours: of the layers.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    layers: Mapping[str, NDArray[np.float64]]
    colours: Mapping[str, str]

    def bases(self) -> dict[str, NDArray[np.float64]]:
        """Lower end of each part on an axis where row ``i`` is ``len(rows) - 1 - i``, ``(rows, columns)``."""
        base = np.repeat(np.arange(len(self.rows) - 1, -1, -1.0)[:, None], len(self.columns), 1)
        bases = {}
        for name, heights in self.layers.items():
            bases[name] = base
            base = base + _FILLED * heights
        return bases


@dataclass(frozen=True)
class Bars:
    """One bar for each column, with its sum on top.

    Attributes:
        name, caption, x_title, y_title: as of a figure.
        columns: names from left to right.
        layers: parts of the bars by name, from bottom to top, each ``(columns,)``.
        colours: of the layers.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    columns: tuple[str, ...]
    layers: Mapping[str, NDArray[np.float64]]
    colours: Mapping[str, str]

    @property
    def sums(self) -> NDArray[np.float64]:
        """Height of each bar."""
        return np.asarray(sum(self.layers.values()))


def draw_bars(bars: Bars) -> Canvas:
    """The chart for print."""
    import matplotlib.pyplot as plt

    canvas, axes = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
    x, base = np.arange(len(bars.columns)), np.zeros(len(bars.columns))
    for name, heights in bars.layers.items():
        axes.bar(x, heights, 0.7, base, color=bars.colours[name], label=name)
        base = base + heights
    size = 8 if len(x) <= _FEW_BARS else 6
    for place, total in zip(x, bars.sums, strict=True):
        axes.annotate(f"{total:.3g}", (place, total), (0, 2), textcoords="offset points", ha="center", fontsize=size)
    many = len(x) > _FEW_BARS
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if many else {}
    labels = bars.columns if many else [textwrap.fill(column, _LINE_CHARACTERS) for column in bars.columns]
    axes.set_xticks(x, labels, fontsize=8, **turned)
    axes.set(xlabel=bars.x_title, ylabel=bars.y_title)
    axes.set_ylim(0, 1.1 * (bars.sums.max() or 1.0))
    axes.grid(visible=True, axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    if len(bars.layers) > 1:
        place_legend(canvas, axes)
    return canvas


def plot_bars(bars: Bars) -> go.Figure:
    """The chart for the page."""
    import plotly.graph_objects as go

    canvas = go.Figure()
    for name, heights in bars.layers.items():
        canvas.add_trace(go.Bar(x=bars.columns, y=heights.tolist(), name=name, marker_color=bars.colours[name]))
    axes = {"xaxis": {"title": bars.x_title, "type": "category"}, "yaxis": {"title": bars.y_title}}
    canvas.update_layout(barmode="stack", template="plotly_white", height=480, margin={"t": 24}, **axes)
    return canvas


def draw_strip(strip: Strip) -> Canvas:
    """The chart for print."""
    import matplotlib.pyplot as plt

    height = 1.9 + _ROW_INCHES * len(strip.rows)
    canvas, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
    x = np.arange(len(strip.columns))
    for name, bases in strip.bases().items():
        for index, (base, heights) in enumerate(zip(bases, strip.layers[name], strict=True)):
            label = name if index == 0 else None
            axes.bar(x, _FILLED * heights, 0.96, base, color=strip.colours[name], linewidth=0, label=label)
    count = len(strip.rows)
    axes.hlines(np.arange(count + 1), -0.5, len(x) - 0.5, colors="#cccccc", linewidth=0.5)
    axes.set_yticks(np.arange(count) + 0.5, strip.rows[::-1], fontsize=8)
    step = max(1, math.ceil(len(x) / 24))
    axes.set_xticks(x[::step], strip.columns[::step], fontsize=8)
    axes.tick_params(length=0)
    axes.set(xlabel=strip.x_title, ylabel=strip.y_title, xlim=(-0.5, len(x) - 0.5), ylim=(0, count))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    canvas.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    return canvas


def plot_strip(strip: Strip) -> go.Figure:
    """The chart for the page."""
    import plotly.graph_objects as go

    canvas = go.Figure()
    for name, bases in strip.bases().items():
        x = list(strip.columns) * len(strip.rows)
        y, base = (_FILLED * strip.layers[name]).ravel().tolist(), bases.ravel().tolist()
        style: dict[str, Any] = {"marker_color": strip.colours[name], "marker_line_width": 0}
        canvas.add_trace(go.Bar(x=x, y=y, base=base, name=name, **style))
    ticks = [i + 0.5 for i in range(len(strip.rows))]
    y_axis = {"title": strip.y_title, "tickvals": ticks, "ticktext": list(strip.rows[::-1]), "showgrid": False}
    x_axis = {"title": strip.x_title, "type": "category"}
    height = 150 + 26 * len(strip.rows)
    canvas.update_layout(barmode="overlay", bargap=0.04, template="plotly_white", height=height)
    canvas.update_layout(xaxis=x_axis, yaxis=y_axis, margin={"t": 24}, legend={"orientation": "h", "y": -0.12})
    return canvas
