"""FLOPs of a forward pass in closed form.

Two conventions, kept apart because the case study mixes them:

* :func:`mlp`, :func:`cnn`, :func:`kan` and :func:`transformer` are the authors' calculator's own forms, for
  compatibility. They are rough: the MLP knows one width and no output layer, the CNN's channels never change and its
  multiply and add count as one, the Transformer has no softmax, norm or output head.
* :func:`layers` adds up layer after layer in the convention of calflops, with which the published MLP and CNN were
  counted: 2 FLOPs per MAC, a convolution's bias one per output and a linear layer's none, batch-norm 2 and ReLU 1 per
  element, pooling 1 per input element; additions outside layers none.

leanrx's own receivers are counted in :mod:`energy.counting.counter`, where FLOP = 2 x MAC and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leanrx_core.checks import choice, integer
from leanrx_core.errors import UserError


def mlp(num_layers: int, width: int) -> int:
    """``(L - 1) (2 d^2 + 2 d)``."""
    integer("mlp.num_layers", num_layers, 2)
    integer("mlp.width", width, 1)
    return (num_layers - 1) * (2 * width**2 + 2 * width)


def kan(num_layers: int, width: int, grid_size: int, spline_order: int = 3) -> float:
    """``(L - 1) (2 d + d^2 M)`` with ``M = 9 k (G + 1.5 k) + 2 G - 2.5 k + 3``."""
    integer("kan.num_layers", num_layers, 2)
    for name, value in (("width", width), ("grid_size", grid_size), ("spline_order", spline_order)):
        integer(f"kan.{name}", value, 1)
    k, g = spline_order, grid_size
    return (num_layers - 1) * (2 * width + width**2 * (9 * k * (g + 1.5 * k) + 2 * g - 2.5 * k + 3))


def transformer(
    context_length: int, embedding_size: int, num_heads: int, num_blocks: int, feed_forward_size: int
) -> int:
    """Blocks times ``2 (3 C E^2 + C^2 E + H C^2 floor(E / H) + C E^2) + 4 C E S``, S the feed-forward size."""
    sizes = {
        "context_length": context_length,
        "embedding_size": embedding_size,
        "num_heads": num_heads,
        "num_blocks": num_blocks,
        "feed_forward_size": feed_forward_size,
    }
    for name, value in sizes.items():
        integer(f"transformer.{name}", value, 1)
    c, e, h = context_length, embedding_size, num_heads
    attention = 2 * (3 * c * e**2 + c**2 * e + h * c**2 * (e // h) + c * e**2)
    return num_blocks * (attention + 4 * c * e * feed_forward_size)


def cnn(
    num_conv_layers: int,
    num_pool_layers: int,
    rows: int,
    columns: int,
    kernel: int | Sequence[int],
    channels: int = 1,
    stride: int | Sequence[int] = 1,
    num_filters: int = 3,
) -> float:
    """The calculator's CNN as it computes it, its doubling of rows and columns in place of channels included.

    Args:
        num_conv_layers, num_pool_layers: convolutions (one fewer is counted) and pooling steps.
        rows, columns: of the input.
        kernel, stride: rows and columns, or one number for both.
        channels, num_filters: input channels and filters of every convolution.
    """
    integer("cnn.num_conv_layers", num_conv_layers, 2)
    integer("cnn.num_pool_layers", num_pool_layers, 0)
    for name, value in (("rows", rows), ("columns", columns), ("channels", channels), ("num_filters", num_filters)):
        integer(f"cnn.{name}", value, 1)
    k_r, k_c = _per_axis("cnn.kernel", kernel, 2, 1)
    s_r, s_c = _per_axis("cnn.stride", stride, 2, 1)
    height, width, flops = float(rows), float(columns), 0.0

    def out() -> tuple[float, float]:
        return (height - k_r + 2 * (k_r - 1)) / s_r + 1, (width - k_c + 2 * k_c) / s_c + 1

    for step in range(num_conv_layers - 1):
        o_r, o_c = out()
        flops += o_r * o_c * (channels * k_r * k_c + 1) * num_filters
        height, width = rows * 2.0**step, columns * 2.0**step
    o_r, o_c = out()
    flops += num_pool_layers * o_r * o_c * channels
    return flops + 2 * o_r * o_c + 2 * o_r


FORMS: dict[str, Callable[..., float]] = {"mlp": mlp, "cnn": cnn, "kan": kan, "transformer": transformer}
"""The calculator's closed forms by name."""


def layers(shape: Sequence[int], network: Iterable[dict[str, Any]]) -> int:
    """FLOPs of a chain of layers in the convention of calflops.

    Args:
        shape: input, ``(features,)``, ``(channels, length)`` or ``(channels, rows, columns)``.
        network: layers in order, each with ``kind``: ``linear`` (``out``), ``conv`` (``out``, ``kernel``, ``padding``,
            ``stride``, ``dilation``, ``groups``, ``bias``; sizes as one number or one per axis), ``batch_norm``,
            ``relu``, ``pool`` (``size``) or ``mean`` (over positions, not counted).

    Raises:
        UserError: if a layer or one of its keys is unknown or missing.
    """
    for value in shape:
        integer("layers.shape", value, 1)
    size, flops = tuple(shape), 0
    for entry in network:
        options = dict(entry)
        kind = options.pop("kind", None)
        required, optional = _KEYS[choice("layers.kind", kind, _KEYS)]
        for key in options:
            choice(f"layers.{kind}", key, (*required, *optional))
        for key in required:
            if key not in options:
                raise UserError(f"layers.{kind}: {key} is missing; add it")
        layer_flops, size = _layer(kind, size, options)
        flops += layer_flops
    return flops


_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("out",), ()),
    "conv": (("out", "kernel"), ("padding", "stride", "dilation", "groups", "bias")),
    "batch_norm": ((), ()),
    "relu": ((), ()),
    "pool": (("size",), ()),
    "mean": ((), ()),
}


def _layer(kind: str, shape: tuple[int, ...], options: dict[str, Any]) -> tuple[int, tuple[int, ...]]:
    elements, positions = math.prod(shape), shape[1:]
    if kind == "linear":
        out = integer("layers.linear.out", options["out"], 1)
        return 2 * elements * out, (*shape[:-1], out)
    if kind == "batch_norm":
        return 2 * elements, shape
    if kind == "relu":
        return elements, shape
    if kind == "mean":
        return 0, shape[:1]
    if not positions:
        raise UserError(f"layers.{kind}: its input has no positions, only {shape[0]} features; put it before a mean")
    if kind == "pool":
        size = _per_axis("layers.pool.size", options["size"], len(positions), 1)
        return elements, (shape[0], *(n // s for n, s in zip(positions, size, strict=True)))
    out, groups = (
        integer("layers.conv.out", options["out"], 1),
        integer("layers.conv.groups", options.get("groups", 1), 1),
    )
    if shape[0] % groups or out % groups:
        raise UserError(f"layers.conv.groups: {groups} must divide {shape[0]} channels in and {out} out")
    kernel = _per_axis("layers.conv.kernel", options["kernel"], len(positions), 1)
    padding = _per_axis("layers.conv.padding", options.get("padding", 0), len(positions), 0)
    stride = _per_axis("layers.conv.stride", options.get("stride", 1), len(positions), 1)
    dilation = _per_axis("layers.conv.dilation", options.get("dilation", 1), len(positions), 1)
    axes = zip(positions, kernel, padding, stride, dilation, strict=True)
    after = (out, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in axes))
    if min(after) < 1:
        raise UserError(f"layers.conv.kernel: {options['kernel']} is larger than its padded input {list(positions)}")
    outputs = math.prod(after)
    return 2 * outputs * math.prod(kernel) * (shape[0] // groups) + bool(options.get("bias", True)) * outputs, after


def _per_axis(name: str, value: int | Sequence[int], axes: int, least: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * axes
    if len(values) != axes:
        raise UserError(f"{name}: {len(values)} sizes for {axes} axes; give one number or one per axis")
    return tuple(integer(name, v, least) for v in values)
