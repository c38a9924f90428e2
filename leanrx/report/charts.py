"""Descriptions of figures, drawn by plotly for the page and by matplotlib for print."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One series: points, optional interval, and how it looks.

    ``low`` and ``high`` bound ``y``; where ``y`` is 0 only ``high`` is drawn, as an upper bound. ``fill`` colours the
    area down to the curve before, or to 0 for the first. ``size`` is that of the marks, in points.
    """

    name: str
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
    colour: str = "#000000"
    dash: str = "solid"
    marker: str = "circle"
    lines: bool = True
    labels: list[str] | None = None
    fill: bool = False
    size: float = 7.0


@dataclass(frozen=True)
class Figure:
    """A figure: axes in words and units (y logarithmic unless said, x where said), and curves.

    ``second_x`` is a factor and a title for a second scale of the same axis, above. ``x_words`` stand at 0, 1, 2 and so
    on in place of numbers.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    curves: list[Curve]
    x_log: bool = False
    second_x: tuple[float, str] | None = None
    y_range: tuple[float, float] | None = field(default=None)
    y_log: bool = True
    x_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Map:
    """A heat map of values around 0: ``z[i][j]`` at ``y[i]`` and ``x[j]``, NaN where there is none.

    ``words`` are written into the cells.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    z_title: str
    x: list[str]
    y: list[str]
    z: list[list[float]]
    words: list[list[str]]

    @property
    def reach(self) -> float:
        """The largest magnitude, at which both colours are full."""
        return float(np.nanmax(np.abs(self.z)))


_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "height": 560,
    "margin": {"l": 64, "r": 16, "t": 56, "b": 56},
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.18, "font": {"size": 11}},
    "font": {"size": 13},
}


def _axis(title: str, values: list[float], log: bool, ends: tuple[float, float] | None = None) -> dict[str, Any]:
    """A plotly axis; on a logarithmic one the ticks are decades, or 1-2-5 where there are few of those."""
    if not log:
        return {"title": title, "range": list(ends)} if ends else {"title": title}
    low, high = ends or (min(values) / 1.5, max(values) * 1.5)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if math.log10(high / low) > 2.5:
        ticks = {"dtick": 1, "exponentformat": "power"}
    else:
        values_125 = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        ticks = {"tickvals": values_125, "ticktext": [f"{v:.4g}" for v in values_125]}
    return {"title": title, "type": "log", "range": [math.log10(low), math.log10(high)], **ticks}


def to_plotly(figure: Figure | Map) -> Any:
    """The figure for the page."""
    import plotly.graph_objects as go

    if isinstance(figure, Map):
        cells = go.Heatmap(
            x=figure.x,
            y=figure.y,
            z=figure.z,
            zmin=-figure.reach,
            zmax=figure.reach,
            colorscale="RdBu",
            text=figure.words,
            texttemplate="%{text}",
            hoverinfo="skip",
            colorbar={"title": figure.z_title},
        )
        titles = {"xaxis": figure.x_title, "yaxis": figure.y_title}
        axes = {axis: {"title": title, "type": "category"} for axis, title in titles.items()}
        return go.Figure(cells, {**_LAYOUT, **axes})
    drawn = go.Figure()
    for curve in figure.curves:
        lowest = 0 if figure.y_log else -math.inf
        y = [h if v <= lowest else v for v, h in zip(curve.y, curve.high or curve.y, strict=True)]
        markers = ["triangle-down-open" if v <= lowest else curve.marker for v in curve.y]
        trace: dict[str, Any] = {
            "x": curve.x,
            "y": y,
            "name": curve.name,
            "showlegend": bool(curve.name),
            "mode": "lines" if curve.marker == "none" else "lines+markers" if curve.lines else "markers",
            "line": {"color": curve.colour, "dash": curve.dash, "width": 2},
        }
        if curve.marker != "none":
            trace["marker"] = {"symbol": markers, "size": curve.size + 1, "color": curve.colour}
        if curve.low and curve.high:
            up = [h - v if v > lowest else 0 for v, h in zip(curve.y, curve.high, strict=True)]
            down = [v - lo if v > lowest else 0 for v, lo in zip(curve.y, curve.low, strict=True)]
            trace["error_y"] = {
                "array": up,
                "arrayminus": down,
                "symmetric": False,
                "thickness": 1,
                "width": 3,
            }
        if curve.fill:
            trace |= {"fill": "tonexty" if drawn.data else "tozeroy", "line": {"color": curve.colour, "width": 0.5}}
        if curve.labels:
            trace |= {"text": curve.labels, "hovertemplate": "%{text}<br>%{x:.3e}, %{y:.3e}<extra></extra>"}
        drawn.add_trace(go.Scatter(**trace))
    x_values = [v for c in figure.curves for v in c.x]
    y_values = [v for c in figure.curves for v in (*c.y, *(c.low or ()), *(c.high or ())) if v > 0]
    x_axis = _axis(figure.x_title, x_values, figure.x_log)
    y_axis = _axis(figure.y_title, y_values, figure.y_log, figure.y_range)
    if figure.second_x:
        factor, title = figure.second_x
        upper = _axis(title, [v * factor for v in x_values], figure.x_log)
        drawn.add_trace(go.Scatter(x=[], y=[], xaxis="x2", showlegend=False))
        drawn.update_layout(xaxis2={**upper, "overlaying": "x", "side": "top", "showgrid": False, "fixedrange": True})
        x_axis["fixedrange"] = True
    if figure.x_words:
        x_axis |= {"tickvals": list(range(len(figure.x_words))), "ticktext": list(figure.x_words)}
    rows_of_legend = math.ceil(sum(bool(c.name) for c in figure.curves) / 4)
    height = _LAYOUT["height"] + 20 * max(0, rows_of_legend - 2)
    drawn.update_layout({**_LAYOUT, "xaxis": x_axis, "yaxis": y_axis, "height": height})
    return drawn


_MATPLOTLIB_DASH = {"solid": "-", "dash": "--", "dot": ":"}
_MATPLOTLIB_MARKER = {
    "circle": "o",
    "circle-open": "o",
    "triangle-up": "^",
    "triangle-up-open": "^",
    "square": "s",
    "diamond": "D",
    "arrow-up": "$\\uparrow$",
    "none": "",
}
_LEGEND_INSIDE = 8
"""Curves up to which the legend has room among them."""


def to_files(figure: Figure | Map) -> dict[str, bytes]:
    """The figure for print: PNG and PDF by file name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
    if isinstance(figure, Map):
        _draw_map(drawn, axes, figure)
    else:
        _draw_curves(drawn, axes, figure)
    files = {}
    for kind in ("png", "pdf"):
        buffer = io.BytesIO()
        with warnings.catch_warnings():  # a busy machine takes long to place a legend, and matplotlib would say so
            warnings.filterwarnings("ignore", 'Creating legend with loc="best" can be slow')
            drawn.savefig(buffer, format=kind, dpi=160, metadata={"CreationDate": None} if kind == "pdf" else None)
        files[f"{figure.name}.{kind}"] = buffer.getvalue()
    plt.close(drawn)
    return files


def _draw_map(drawn: Any, axes: Any, figure: Map) -> None:
    cells = axes.imshow(figure.z, cmap="RdBu", vmin=-figure.reach, vmax=figure.reach, origin="lower", aspect="auto")
    for i, row in enumerate(figure.words):
        for j, words in enumerate(row):
            dark = abs(figure.z[i][j]) > 0.6 * figure.reach
            axes.text(
                j, i, words.replace("<br>", "\n"), ha="center", va="center", fontsize=8, color="w" if dark else "k"
            )
    axes.set_xticks(range(len(figure.x)), figure.x)
    axes.set_yticks(range(len(figure.y)), figure.y)
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.y_title)
    drawn.colorbar(cells, ax=axes, label=figure.z_title)


def _draw_curves(drawn: Any, axes: Any, figure: Figure) -> None:
    from matplotlib import ticker

    for index, curve in enumerate(figure.curves):
        if curve.fill:
            below = figure.curves[index - 1].y if index else [0.0] * len(curve.y)
            axes.fill_between(curve.x, below, curve.y, color=curve.colour, alpha=0.5, linewidth=0, label=curve.name)
        else:
            _draw(axes, curve, figure.y_log)
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.y_title)
    if figure.x_log:
        axes.set_xscale("log")
    if figure.y_log:
        axes.set_yscale("log")
    if figure.y_range:
        axes.set_ylim(*figure.y_range)
    scales: list[Any] = [a for a, log in ((axes.xaxis, figure.x_log), (axes.yaxis, figure.y_log)) if log]
    if figure.second_x:
        factor, title = figure.second_x
        scale: Any = (lambda x: x * factor, lambda x: x / factor)
        second = axes.secondary_xaxis("top", functions=scale)
        second.set_xlabel(title)
        scales.append(second.xaxis)
    for axis in scales:
        low, high = axis.get_view_interval()
        if low > 0 and math.log10(high / low) < 2.5:
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:.4g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(visible=True, which="both", alpha=0.25)
    if figure.x_words:
        axes.set_xticks(range(len(figure.x_words)), figure.x_words, rotation=25, ha="right")
    named = sum(bool(c.name) for c in figure.curves)
    if named > _LEGEND_INSIDE:
        drawn.set_figheight(4.6 + 0.22 * math.ceil(named / 3))
        drawn.legend(fontsize=7, ncols=3, loc="outside lower center")
    elif named:
        axes.legend(fontsize=8)


def _draw(axes: Any, curve: Curve, log: bool) -> None:
    x, y = np.array(curve.x), np.array(curve.y, dtype=float)
    seen = y > (0 if log else -np.inf)
    style: dict[str, Any] = {
        "color": curve.colour,
        "marker": _MATPLOTLIB_MARKER[curve.marker],
        "markersize": 0.6 * curve.size,
        "linestyle": _MATPLOTLIB_DASH[curve.dash] if curve.lines else "",
        "label": curve.name,
        "markerfacecolor": "white" if curve.marker.endswith("-open") else curve.colour,
    }
    if curve.low and curve.high:
        low, high = np.array(curve.low), np.array(curve.high)
        bars = np.stack([y - low, high - y])[:, seen]
        axes.errorbar(x[seen], y[seen], yerr=bars, elinewidth=0.8, capsize=2, **style)
        axes.plot(x[~seen], high[~seen], linestyle="", marker="$\\downarrow$", markersize=9, color=curve.colour)
    else:
        axes.plot(x, y, **style)
