"""Figures of the report: one description of curves, drawn by plotly for the page and by matplotlib for print."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distillation.report.analysis import METERED, Analysis, mape, pareto
from receivers.classical import BOUNDS

_STUDENT_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539")
_CLASSICAL = {
    "LS": "#999999",
    "LMMSE": "#555555",
    "LMMSE-IRC": "#8c6d31",
    "perfect CSI": "#000000",
    "perfect CSI-IRC": "#404040",
}
_TEACHER = "#d55e00"


@dataclass(frozen=True)
class Curve:
    """One series: points, optional interval, and how it looks.

    ``low`` and ``high`` bound ``y``; where ``y`` is 0 only ``high`` is drawn, as an upper bound. ``fill`` colours the
    area down to the curve before, or to 0 for the first.
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


@dataclass(frozen=True)
class Figure:
    """A figure: axes in words and units (y logarithmic unless said, x where said), and curves.

    ``second_x`` is a factor and a title for a second scale of the same axis, above.
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


def figures(analysis: Analysis) -> list[Figure]:
    """All figures of a report."""
    shares = sorted(analysis.rates["interference_share"].unique())
    return [*(_ber(analysis, float(s)) for s in shares), _trade_off(analysis), _agreement(analysis)]


def colours(names: list[str]) -> dict[str, str]:
    """A colour per receiver; a student and its twin share theirs."""
    found = dict(_CLASSICAL)
    found["teacher"] = _TEACHER
    specs = list(dict.fromkeys(_spec(n) for n in names if n not in found))
    for name in names:
        if name not in found:
            found[name] = _STUDENT_COLOURS[specs.index(_spec(name)) % len(_STUDENT_COLOURS)]
    return found


def _spec(name: str) -> str:
    return name.split("-kd")[0].split("-twin")[0]


def _dash(name: str) -> str:
    if name in _CLASSICAL:
        return "dot"
    return "dash" if "-twin" in name else "solid"


def _marker(name: str) -> str:
    if name in _CLASSICAL:
        return "diamond"
    if name == "teacher":
        return "square"
    return "circle-open" if "-twin" in name else "circle"


def style(name: str) -> tuple[str, str]:
    """Dash and marker of a receiver."""
    return _dash(name), _marker(name)


def _ber(analysis: Analysis, share: float) -> Figure:
    table = analysis.rates[analysis.rates["interference_share"] == share]
    names = [n for n in analysis.sizes["receiver"] if n in set(table["receiver"])]
    palette = colours(names)
    curves = []
    for name in names:
        rows = table[table["receiver"] == name].sort_values("sinr_db")
        curves.append(
            Curve(
                name,
                rows["sinr_db"].tolist(),
                rows["ber"].tolist(),
                rows["ber_low"].tolist(),
                rows["ber_high"].tolist(),
                palette[name],
                _dash(name),
                _marker(name),
            )  # fmt: skip
        )
    slots = (
        f"{table['slots'].min()} to {table['slots'].max()}" if table["slots"].nunique() > 1 else table["slots"].min()
    )
    conditions = f"{share:.0%} of the unwanted power is an interferer" if share else "no interferer"
    built = table[~table["receiver"].isin(BOUNDS) & (table["ber"] > 0)]
    floor = max(1e-7, 0.3 * float(built["ber"].min()))
    return Figure(
        name=f"ber-interference-{share:g}",
        caption=f"Uncoded BER over SINR, {conditions}. {slots} slots per point, the same for all receivers; bars are "
        "95 % intervals over slots; an arrow is an upper bound where no error was seen. The axis ends a little below "
        "the best receiver that can be built.",
        x_title="SINR per receive antenna [dB]",
        y_title="BER",
        curves=curves,
        y_range=(floor, 1.0),
    )


def _trade_off(analysis: Analysis) -> Figure:
    table = analysis.sizes.dropna(subset=["energy_j_per_slot"])
    palette = colours(list(table["receiver"]))
    curves = [
        Curve(
            str(row.receiver),
            [1e3 * row.energy_j_per_slot],
            [row.ber],
            [row.ber_low],
            [row.ber_high],
            palette[str(row.receiver)],
            "solid",
            _marker(str(row.receiver)),
            False,
            [str(row.receiver)],
        )  # fmt: skip
        for row in table.itertuples()
    ]
    front = table[pareto(table["energy_j_per_slot"], table["ber"])].sort_values("energy_j_per_slot")
    curves.insert(
        0,
        Curve(
            "Pareto front",
            (1e3 * front["energy_j_per_slot"]).tolist(),
            front["ber"].tolist(),
            colour="#bbbbbb",
            marker="none",
        ),  # fmt: skip
    )
    return Figure(
        name="trade-off",
        caption=f"BER at {analysis.sinr_db:g} dB SINR against energy of inference, {METERED} "
        f"({analysis.metered_kind}). Down and left is better; the line joins receivers that no other beats in both.",
        x_title=f"energy per slot [mJ, {analysis.metered_kind}]",
        y_title=f"BER at {analysis.sinr_db:g} dB",
        curves=curves,
        x_log=True,
        second_x=(1e3 / analysis.data_bits_per_slot, "energy per data bit [µJ]"),
    )


def _agreement(analysis: Analysis) -> Figure:
    table = analysis.agreement
    errors = mape(table)
    styles = {"FLOPs/clock": ("#0072b2", "circle"), "FLOPs/W": ("#d55e00", "square")}
    both = np.concatenate([table["metered_j_per_slot"], table["estimated_j_per_slot"]])
    ends = [float(both.min()) / 1.5, float(both.max()) * 1.5]
    curves = [Curve("estimate = meter", ends, ends, colour="#bbbbbb", dash="dash", marker="none")]
    for estimator, rows in table.groupby("estimator"):
        colour, marker = styles[str(estimator)]
        curves.append(
            Curve(
                f"{estimator} (MAPE {errors[str(estimator)]:.0f} %)",
                rows["metered_j_per_slot"].tolist(),
                rows["estimated_j_per_slot"].tolist(),
                colour=colour,
                marker=marker,
                lines=False,
                labels=rows["receiver"].tolist(),
            )  # fmt: skip
        )
    return Figure(
        name="agreement",
        caption="Energy per slot estimated from FLOPs against the meter. " + agreement_words(analysis),
        x_title=f"{METERED} energy per slot [J, {analysis.metered_kind}]",
        y_title="estimated energy per slot [J, modelled]",
        curves=curves,
        x_log=True,
    )


def agreement_words(analysis: Analysis) -> str:
    """Says whether the estimates are held against a measurement or against another model."""
    if analysis.metered_kind == "measured":
        return "The meter read hardware counters."
    return (
        "No hardware counter was readable here: the meter is CodeCarbon's model, CPU power times this process's share "
        "of CPU time, so this compares an estimate with a model, not with a measurement. What differs between the two "
        "is the time: counted FLOPs at an assumed rate against the clock on the wall."
    )


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
        ticks = {"tickvals": values_125, "ticktext": [f"{v:.3g}" for v in values_125]}
    return {"title": title, "type": "log", "range": [math.log10(low), math.log10(high)], **ticks}


def to_plotly(figure: Figure) -> Any:
    """The figure for the page."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for curve in figure.curves:
        y = [v if v > 0 else h for v, h in zip(curve.y, curve.high or curve.y, strict=True)]
        markers = ["triangle-down-open" if v <= 0 else curve.marker for v in curve.y]
        trace: dict[str, Any] = {
            "x": curve.x, "y": y, "name": curve.name,
            "mode": "lines" if curve.marker == "none" else "lines+markers" if curve.lines else "markers",
            "line": {"color": curve.colour, "dash": curve.dash, "width": 2},
        }  # fmt: skip
        if curve.marker != "none":
            trace["marker"] = {"symbol": markers, "size": 8, "color": curve.colour}
        if curve.low and curve.high:
            up = [h - v if v > 0 else 0 for v, h in zip(curve.y, curve.high, strict=True)]
            down = [v - lo if v > 0 else 0 for v, lo in zip(curve.y, curve.low, strict=True)]
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
    drawn.update_layout(xaxis=x_axis, yaxis=y_axis, **_LAYOUT)
    return drawn


_MATPLOTLIB_DASH = {"solid": "-", "dash": "--", "dot": ":"}
_MATPLOTLIB_MARKER = {"circle": "o", "circle-open": "o", "square": "s", "diamond": "D", "none": ""}


def to_files(figure: Figure) -> dict[str, bytes]:
    """The figure for print: PNG and PDF by file name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    drawn, axes = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
    for index, curve in enumerate(figure.curves):
        if curve.fill:
            below = figure.curves[index - 1].y if index else [0.0] * len(curve.y)
            axes.fill_between(curve.x, below, curve.y, color=curve.colour, alpha=0.5, linewidth=0, label=curve.name)
        else:
            _draw(axes, curve)
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
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:.3g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    files = {}
    for kind in ("png", "pdf"):
        buffer = io.BytesIO()
        drawn.savefig(buffer, format=kind, dpi=160, metadata={"CreationDate": None} if kind == "pdf" else None)
        files[f"{figure.name}.{kind}"] = buffer.getvalue()
    plt.close(drawn)
    return files


def _draw(axes: Any, curve: Curve) -> None:
    x, y = np.array(curve.x), np.array(curve.y, dtype=float)
    seen = y > 0
    style: dict[str, Any] = {
        "color": curve.colour, "marker": _MATPLOTLIB_MARKER[curve.marker], "markersize": 4,
        "linestyle": _MATPLOTLIB_DASH[curve.dash] if curve.lines else "", "label": curve.name,
        "markerfacecolor": "white" if curve.marker == "circle-open" else curve.colour,
    }  # fmt: skip
    if curve.low and curve.high:
        low, high = np.array(curve.low), np.array(curve.high)
        bars = np.stack([y - low, high - y])[:, seen]
        axes.errorbar(x[seen], y[seen], yerr=bars, elinewidth=0.8, capsize=2, **style)
        axes.plot(x[~seen], high[~seen], linestyle="", marker="$\\downarrow$", markersize=9, color=curve.colour)
    else:
        axes.plot(x, y, **style)
