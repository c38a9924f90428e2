"""From a spec string to a network: ``deeprx``, ``deeprx-w0.25``, ``deeprx-w0.5-d5``, ``hybrid``, ``hybrid-w16-d4``.

In the DeepRx family ``w`` scales the layer widths of DeepRx's table I and ``d`` is the number of residual blocks (11 in
the table). In the hybrid family, whose sizes no paper sets, ``w`` is the number of channels and ``d`` that of blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch

from leanrx_core.errors import UserError
from receivers.neural.deeprx import WIDTHS_BY_DEPTH, DeepRx
from receivers.neural.hybrid import Hybrid
from receivers.neural.network import Network

_SPEC = re.compile(r"(?P<family>deeprx|hybrid)(?:-w(?P<width>\d*\.?\d+))?(?:-d(?P<depth>\d+))?")


class Spec(NamedTuple):
    """A network's family, width (factor or channels) and depth."""

    family: type[DeepRx] | type[Hybrid]
    width: float
    depth: int


def parse_spec(spec: str) -> Spec:
    """What a spec string stands for.

    Raises:
        UserError: if the string is not a spec, or its width or depth is not available.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(
            f"receiver: '{spec}' is not a receiver; write deeprx, deeprx-w<factor>, deeprx-w<factor>-d<blocks> or "
            "hybrid-w<channels>-d<blocks>"
        )
    return _FAMILIES[match["family"]](spec, match["width"], match["depth"])


def _deeprx(spec: str, w: str | None, d: str | None) -> Spec:
    width, depth = float(w or 1.0), int(d or 11)
    if not 0 < width <= 4:
        raise UserError(f"receiver: width {width:g} of '{spec}' is outside 0..4 (0 excluded)")
    if depth not in WIDTHS_BY_DEPTH:
        allowed = ", ".join(map(str, sorted(WIDTHS_BY_DEPTH)))
        raise UserError(f"receiver: depth {depth} of '{spec}' is not available; blocks: {allowed}")
    return Spec(DeepRx, width, depth)


def _hybrid(spec: str, w: str | None, d: str | None) -> Spec:
    width, depth = float(w or 16), int(d or 6)
    if not 2 <= width <= 128 or not width.is_integer():
        raise UserError(f"receiver: width {width:g} of '{spec}' is not a whole number of channels in 2..128")
    if not 1 <= depth <= 32:
        raise UserError(f"receiver: depth {depth} of '{spec}' is outside 1..32 blocks")
    return Spec(Hybrid, int(width), depth)


_FAMILIES: dict[str, Callable[[str, str | None, str | None], Spec]] = {"deeprx": _deeprx, "hybrid": _hybrid}


def build(spec: str, num_rx: int = 2, num_bits: int = 4, seed: int = 0) -> Network:
    """The network of a spec string, freshly initialised from ``seed``.

    Raises:
        UserError: as :func:`parse_spec`.
    """
    family, width, depth = parse_spec(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return family(num_rx, num_bits, width, depth)  # type: ignore[arg-type]
