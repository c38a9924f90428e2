"""Places of legends in figures for print: inside of the axes only where nothing is covered."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_MOST_INSIDE = 8
"""A legend with more entries is placed below the axes."""
_MARGIN = 3.0
"""Pixels around a legend that stay free."""
_SHORT_NAME = 40
"""Characters of a name up to which three names are put side by side."""
_ROW_INCHES = 0.22


def place_legend(canvas: Figure, axes: Axes) -> None:
    """Draw the legend of some axes: inside if it covers nothing there, else below all axes.

    Args:
        canvas: with a constrained layout.
        axes: complete but for the legend.

    Example:
        >>> from matplotlib.figure import Figure
        >>> canvas = Figure(layout="constrained")
        >>> axes = canvas.subplots()
        >>> _ = axes.plot([0, 1], [0, 1], label="a line from corner to corner")
        >>> place_legend(canvas, axes)
        >>> axes.get_legend() is not None
        True
    """
    _, names = axes.get_legend_handles_labels()
    if not names:
        return
    if len(names) <= _MOST_INSIDE:
        legend = axes.legend(fontsize=8)
        with warnings.catch_warnings():  # the search for a place can take long on a busy machine; matplotlib then warns
            warnings.filterwarnings("ignore", 'Creating legend with loc="best" can be slow')
            canvas.draw_without_rendering()
        if not _covers(axes, legend.get_window_extent().padded(_MARGIN)):
            return
        legend.remove()
    columns = 3 if max(map(len, names)) <= _SHORT_NAME else 2
    canvas.set_figheight(canvas.get_figheight() + _ROW_INCHES * (math.ceil(len(names) / columns) - 1))
    canvas.legend(fontsize=7, ncols=columns, loc="outside lower center")


def _covers(axes: Axes, box: Bbox) -> bool:
    """Whether a box in pixels covers a line, a marker, a bar, an interval, a filled area or a text of the axes."""
    from matplotlib.collections import PathCollection

    for line in axes.lines:
        path = line.get_transform().transform_path(line.get_path())
        joined = line.get_linestyle() not in ("None", "none", "", " ")
        marked = line.get_marker() not in ("None", "none", "", " ", None)
        if (marked and box.count_contains(path.vertices)) or (joined and path.intersects_bbox(box, filled=False)):
            return True
    for collection in axes.collections:
        if isinstance(collection, PathCollection):  # a scatter: one path at many places
            if box.count_contains(collection.get_offset_transform().transform(collection.get_offsets())):
                return True
            continue
        transform, filled = collection.get_transform(), len(collection.get_facecolor()) > 0
        if any(transform.transform_path(path).intersects_bbox(box, filled) for path in collection.get_paths()):
            return True
    bars = [bar for container in axes.containers for bar in getattr(container, "patches", ())]
    texts = [text for text in axes.texts if text.get_text()]
    return any(shape.get_window_extent().overlaps(box) for shape in (*bars, *texts))
