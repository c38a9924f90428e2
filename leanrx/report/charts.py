"""Descriptions of figures, and their two backends: plotly for the page and matplotlib for print.

Example:
    >>> curve = Curve("LMMSE", x=[0.0, 10.0], y=[0.1, 0.01])
    >>> figure = Figure("ber", "BER over SINR.", "SINR [dB]", "BER", [curve])
    >>> sorted(to_files(figure))
    ['ber.pdf', 'ber.png']
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrx.report.bar_charts import Bars, Strip, draw_bars, draw_strip, plot_bars, plot_strip
from leanrx.report.legends import place_legend

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Curve:
    """One series of points with its style.

    Attributes:
        name: in the legend; an empty name has no entry.
        x, y: the points.
        low, high: ends of the interval of each ``y``. On a logarithmic axis a ``y`` of 0 is drawn as the upper bound
            ``high``.
        colour, dash, marker: the style. ``marker`` is a plotly symbol or ``none``.
        lines: whether the points are joined.
        labels: one text per point, shown by the mouse pointer.
        fill: whether the area down to the previous curve is filled, or down to 0 for the first curve.
        size: of the markers in points.
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

    @classmethod
    def of(cls, rows: pd.DataFrame, x: str, y: str, name: str, **style: Any) -> Curve:
        """The curve of two columns of a table, with the interval in the columns ``<y>_low`` and ``<y>_high``.

        Args:
            rows: the points.
            x, y: names of columns.
            name: in the legend.
            style: the other attributes of a curve.
        """
        columns = (rows[column].astype(float).tolist() for column in (x, y, f"{y}_low", f"{y}_high"))
        return cls(name, *columns, **style)


def level(name: str, ends: list[float], value: float, colour: str = "#999999", dash: str = "dash") -> Curve:
    """A horizontal line between two ends of the horizontal axis."""
    return Curve(name, ends, [value, value], colour=colour, dash=dash, marker="none")


@dataclass(frozen=True)
class Band:
    """A shaded range of the horizontal axis.

    Attributes:
        name: written at the top of the range.
        low, high: its ends.
        colour: of the shade.
    """

    name: str
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Figure:
    """Curves over two axes.

    Attributes:
        name: of its files, without suffix.
        caption: one or more sentences.
        x_title, y_title: quantity and unit of each axis.
        curves: drawn in this order.
        x_log, y_log: whether the axis is logarithmic.
        second_x: factor and title of a second scale of the horizontal axis, at the top.
        y_range: ends of the vertical axis; by the values if not given.
        x_labels: texts at 0, 1, 2, ... of the horizontal axis, in place of numbers.
        bands: shaded ranges of a linear horizontal axis.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    curves: list[Curve]
    x_log: bool = False
    second_x: tuple[float, str] | None = None
    y_range: tuple[float, float] | None = None
    y_log: bool = True
    x_labels: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class HeatMap:
    """A heat map of values around 0.

    Attributes:
        name, caption, x_title, y_title: as of :class:`Figure`.
        z_title: quantity and unit of the colours.
        x, y: categories of the columns and rows.
        z: ``z[i][j]`` is the value at ``y[i]`` and ``x[j]``; NaN where there is none.
        labels: text of each cell; ``<br>`` breaks a line.
    """

    name: str
    caption: str
    x_title: str
    y_title: str
    z_title: str
    x: list[str]
    y: list[str]
    z: list[list[float]]
    labels: list[list[str]]

    @property
    def max_abs(self) -> float:
        """The largest magnitude. It ends the colour scale on both sides."""
        return float(np.nanmax(np.abs(self.z)))


AnyFigure = Figure | HeatMap | Strip | Bars

_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "height": 560,
    "margin": {"l": 64, "r": 16, "t": 56, "b": 56},
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.18, "font": {"size": 11}},
    "font": {"size": 13},
}
_SHADE = 0.15
"""Opacity of a band."""
_LABEL_OPACITY = 0.75
"""Opacity of the white behind a band's name, which may lie over a curve."""
_FEW_DECADES = 2.5
"""A logarithmic axis over fewer decades has ticks at 1, 2 and 5 of each."""


def to_plotly(figure: AnyFigure) -> go.Figure:
    """The figure for the page."""
    import plotly.graph_objects as go

    if isinstance(figure, Strip | Bars):
        return plot_strip(figure) if isinstance(figure, Strip) else plot_bars(figure)
    if isinstance(figure, HeatMap):
        axes = {
            axis: {"title": title, "type": "category"}
            for axis, title in (("xaxis", figure.x_title), ("yaxis", figure.y_title))
        }
        return go.Figure(go.Heatmap(_heat_map_trace(figure)), {**_LAYOUT, **axes})
    canvas = go.Figure()
    for band in figure.bands:
        shade: dict[str, Any] = {"fillcolor": band.colour, "opacity": _SHADE, "line_width": 0, "layer": "below"}
        text = {"text": band.name, "textangle": -90, "font": {"size": 11}}
        if band.name:
            text["bgcolor"] = f"rgba(255,255,255,{_LABEL_OPACITY})"
        canvas.add_vrect(x0=band.low, x1=band.high, annotation=text, annotation_position="inside bottom", **shade)
    for index, curve in enumerate(figure.curves):
        canvas.add_trace(go.Scatter(_curve_trace(curve, figure.y_log, first=index == 0)))
    x_values = [v for c in figure.curves for v in c.x]
    y_values = [v for c in figure.curves for v in (*c.y, *(c.low or ()), *(c.high or ())) if v > 0]
    x_axis = _plotly_axis(figure.x_title, x_values, figure.x_log)
    y_axis = _plotly_axis(figure.y_title, y_values, figure.y_log, figure.y_range)
    if figure.second_x:
        factor, title = figure.second_x
        upper = _plotly_axis(title, [v * factor for v in x_values], figure.x_log)
        canvas.add_trace(go.Scatter(x=[], y=[], xaxis="x2", showlegend=False))
        canvas.update_layout(xaxis2={**upper, "overlaying": "x", "side": "top", "showgrid": False, "fixedrange": True})
        x_axis["fixedrange"] = True
    if figure.x_labels:
        x_axis |= {"tickvals": list(range(len(figure.x_labels))), "ticktext": list(figure.x_labels)}
    legend_rows = math.ceil(sum(bool(c.name) for c in figure.curves) / 4)
    height = _LAYOUT["height"] + 20 * max(0, legend_rows - 2)
    canvas.update_layout({**_LAYOUT, "xaxis": x_axis, "yaxis": y_axis, "height": height})
    return canvas


def _heat_map_trace(figure: HeatMap) -> dict[str, Any]:
    return {
        "x": figure.x,
        "y": figure.y,
        "z": figure.z,
        "zmin": -figure.max_abs,
        "zmax": figure.max_abs,
        "colorscale": "RdBu",
        "text": figure.labels,
        "texttemplate": "%{text}",
        "hoverinfo": "skip",
        "colorbar": {"title": figure.z_title},
    }


def _curve_trace(curve: Curve, log: bool, first: bool) -> dict[str, Any]:
    lowest = 0 if log else -math.inf
    high = curve.high or curve.y
    trace: dict[str, Any] = {
        "x": curve.x,
        "y": [h if v <= lowest else v for v, h in zip(curve.y, high, strict=True)],
        "name": curve.name,
        "showlegend": bool(curve.name),
        "mode": "lines" if curve.marker == "none" else "lines+markers" if curve.lines else "markers",
        "line": {"color": curve.colour, "dash": curve.dash, "width": 2},
    }
    if curve.marker != "none":
        symbols = ["triangle-down-open" if v <= lowest else curve.marker for v in curve.y]
        trace["marker"] = {"symbol": symbols, "size": curve.size + 1, "color": curve.colour}
    if curve.low and curve.high:
        trace["error_y"] = {
            "array": [h - v if v > lowest else 0 for v, h in zip(curve.y, curve.high, strict=True)],
            "arrayminus": [v - lo if v > lowest else 0 for v, lo in zip(curve.y, curve.low, strict=True)],
            "symmetric": False,
            "thickness": 1,
            "width": 3,
        }
    if curve.fill:
        trace |= {"fill": "tozeroy" if first else "tonexty", "line": {"color": curve.colour, "width": 0.5}}
    if curve.labels:
        trace |= {"text": curve.labels, "hovertemplate": "%{text}<br>%{x:.3e}, %{y:.3e}<extra></extra>"}
    return trace


def _plotly_axis(title: str, values: list[float], log: bool, ends: tuple[float, float] | None = None) -> dict[str, Any]:
    """A plotly axis; on a logarithmic one the ticks are decades, or 1-2-5 where there are few of those."""
    if not log:
        return {"title": title, "range": list(ends)} if ends else {"title": title}
    low, high = ends or (min(values) / 1.5, max(values) * 1.5)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if math.log10(high / low) > _FEW_DECADES:
        ticks = {"dtick": 1, "exponentformat": "power"}
    else:
        values_125 = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        ticks = {"tickvals": values_125, "ticktext": [f"{v:.4g}" for v in values_125]}
    return {"title": title, "type": "log", "range": [math.log10(low), math.log10(high)], **ticks}


_MATPLOTLIB_DASH = {"solid": "-", "dash": "--", "dot": ":"}
_MATPLOTLIB_MARKER = {
    "circle": "o",
    "circle-open": "o",
    "triangle-up": "^",
    "triangle-up-open": "^",
    "triangle-down": "v",
    "triangle-down-open": "v",
    "square": "s",
    "square-open": "s",
    "diamond": "D",
    "diamond-open": "D",
    "pentagon": "p",
    "pentagon-open": "p",
    "hexagon": "h",
    "hexagon-open": "h",
    "star": "*",
    "star-open": "*",
    "cross": "P",
    "cross-open": "P",
    "arrow-up": "$\\uparrow$",
    "none": "",
}


def to_files(figure: AnyFigure) -> dict[str, bytes]:
    """The figure for print: PNG and PDF by file name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if isinstance(figure, Strip | Bars):
        canvas = draw_strip(figure) if isinstance(figure, Strip) else draw_bars(figure)
    else:
        canvas, axes = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
        if isinstance(figure, HeatMap):
            _draw_heat_map(canvas, axes, figure)
        else:
            _draw_curves(axes, figure)
            _draw_axes(axes, figure)
            place_legend(canvas, axes)
    files = {}
    for suffix in ("png", "pdf"):
        buffer = io.BytesIO()
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        with warnings.catch_warnings():  # placing the legend can take long on a busy machine; matplotlib then warns
            warnings.filterwarnings("ignore", 'Creating legend with loc="best" can be slow')
            canvas.savefig(buffer, format=suffix, dpi=160, metadata=metadata)
        files[f"{figure.name}.{suffix}"] = buffer.getvalue()
    plt.close(canvas)
    return files


def _draw_heat_map(canvas: Canvas, axes: Axes, figure: HeatMap) -> None:
    end = figure.max_abs
    image = axes.imshow(figure.z, cmap="RdBu", vmin=-end, vmax=end, origin="lower", aspect="auto")
    for i, row in enumerate(figure.labels):
        for j, label in enumerate(row):
            colour = "w" if abs(figure.z[i][j]) > 0.6 * end else "k"
            axes.text(j, i, label.replace("<br>", "\n"), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(figure.x)), figure.x)
    axes.set_yticks(range(len(figure.y)), figure.y)
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.y_title)
    canvas.colorbar(image, ax=axes, label=figure.z_title)


def _draw_curves(axes: Axes, figure: Figure) -> None:
    for band in figure.bands:
        axes.axvspan(band.low, band.high, color=band.colour, alpha=_SHADE, linewidth=0)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "rotation": 90}
        box = {"facecolor": "white", "alpha": _LABEL_OPACITY, "linewidth": 0, "pad": 1}
        axes.annotate(band.name, ((band.low + band.high) / 2, 0.02), fontsize=7, bbox=box, zorder=4, **place)
    for index, curve in enumerate(figure.curves):
        if curve.fill:
            below = figure.curves[index - 1].y if index else [0.0] * len(curve.y)
            axes.fill_between(curve.x, below, curve.y, color=curve.colour, alpha=0.5, linewidth=0, label=curve.name)
        else:
            _draw_curve(axes, curve, figure.y_log)


def _draw_curve(axes: Axes, curve: Curve, log: bool) -> None:
    x, y = np.array(curve.x), np.array(curve.y, dtype=float)
    in_range = y > (0 if log else -np.inf)
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
        bars = np.stack([y - low, high - y])[:, in_range]
        axes.errorbar(x[in_range], y[in_range], yerr=bars, elinewidth=0.8, capsize=2, **style)
        arrow: dict[str, Any] = {"linestyle": "", "marker": "$\\downarrow$", "markersize": 9, "color": curve.colour}
        axes.plot(x[~in_range], high[~in_range], **arrow)
    else:
        axes.plot(x, y, **style)


def _draw_axes(axes: Axes, figure: Figure) -> None:
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.y_title)
    logarithmic: list[Axis] = []
    if figure.x_log:
        axes.set_xscale("log")
        logarithmic.append(axes.xaxis)
    if figure.y_log:
        axes.set_yscale("log")
        logarithmic.append(axes.yaxis)
    if figure.y_range:
        axes.set_ylim(*figure.y_range)
    if figure.second_x:
        factor, title = figure.second_x
        scale: Any = (lambda x: x * factor, lambda x: x / factor)
        second = axes.secondary_xaxis("top", functions=scale)
        second.set_xlabel(title)
        logarithmic.append(second.xaxis)
    _set_ticks(logarithmic)
    axes.grid(visible=True, which="both", alpha=0.25)
    if figure.x_labels:
        axes.set_xticks(range(len(figure.x_labels)), figure.x_labels, rotation=25, ha="right")


def _set_ticks(logarithmic: Iterable[Axis]) -> None:
    """Ticks at 1, 2 and 5 where a logarithmic axis has few decades."""
    from matplotlib import ticker

    for axis in logarithmic:
        low, high = axis.get_view_interval()
        if low > 0 and math.log10(high / low) < _FEW_DECADES:
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:.4g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
