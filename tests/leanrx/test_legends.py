"""Legends of printed figures cover nothing that is drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

from leanrx.report.legends import place_legend


def _corners(axes: Axes) -> None:
    """Points everywhere, so that no place inside is free."""
    x, y = np.meshgrid(np.linspace(0, 1, 30), np.linspace(0, 1, 30))
    axes.plot(x.ravel(), y.ravel(), "o", label="points")


def _area(axes: Axes) -> None:
    axes.fill_between([0, 1], [0, 0], [1, 1], label="an area over the whole plane")
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _bars(axes: Axes) -> None:
    axes.bar(np.arange(8), np.ones(8), 1.0, label="bars of equal height")
    axes.set_ylim(0, 1.02)


def _scatter(axes: Axes) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, 30), np.linspace(0, 1, 30))
    axes.scatter(x, y, label="points")


def _text(axes: Axes) -> None:
    for height in np.linspace(0.02, 0.95, 12):
        axes.text(0.0, height, "a text over the whole width of the axes " * 2, in_layout=False)
    axes.plot([0, 1], [0, 0], label="line")
    axes.set_ylim(0, 1)


@pytest.mark.parametrize("draw", [_corners, _area, _bars, _scatter, _text])
def test_a_legend_that_would_cover_something_lies_below_the_axes(draw) -> None:
    canvas, axes = plt.subplots(layout="constrained")
    draw(axes)
    place_legend(canvas, axes)
    assert axes.get_legend() is None
    (legend,) = canvas.legends
    canvas.draw_without_rendering()
    assert legend.get_window_extent().y1 <= axes.get_window_extent().y0
    plt.close(canvas)


def test_a_legend_with_room_lies_inside() -> None:
    canvas, axes = plt.subplots(layout="constrained")
    axes.axvspan(0, 1, alpha=0.2)  # a shade is no obstacle
    axes.plot([0, 1], [0, 1], label="line")
    place_legend(canvas, axes)
    assert axes.get_legend() is not None
    assert not canvas.legends
    plt.close(canvas)


def test_axes_without_names_have_no_legend() -> None:
    canvas, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], [0, 1])
    place_legend(canvas, axes)
    assert axes.get_legend() is None
    assert not canvas.legends
    plt.close(canvas)
