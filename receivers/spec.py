"""From a spec string to a network: ``deeprx``, ``deeprx-w0.25``, ``deeprx-w0.5-d5``.

``w`` scales the layer widths of DeepRx's table I and ``d`` is the number of residual blocks (11 in the table).
"""

from __future__ import annotations

import re

import torch

from channels import UserError
from receivers.deeprx import WIDTHS_BY_DEPTH, DeepRx

_SPEC = re.compile(r"deeprx(?:-w(?P<width>\d*\.?\d+))?(?:-d(?P<depth>\d+))?")


def parse_spec(spec: str) -> tuple[float, int]:
    """Width factor and depth of a spec string.

    Raises:
        UserError: if the string is not a spec, or its width or depth is not available.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(
            f"receiver: '{spec}' is not a receiver; write deeprx, deeprx-w<factor> or deeprx-w<factor>-d<blocks>"
        )
    width, depth = float(match["width"] or 1.0), int(match["depth"] or 11)
    if not 0 < width <= 4:
        raise UserError(f"receiver: width {width:g} of '{spec}' is outside 0..4 (0 excluded)")
    if depth not in WIDTHS_BY_DEPTH:
        allowed = ", ".join(map(str, sorted(WIDTHS_BY_DEPTH)))
        raise UserError(f"receiver: depth {depth} of '{spec}' is not available; blocks: {allowed}")
    return width, depth


def build(spec: str, num_rx: int = 2, num_bits: int = 4, seed: int = 0) -> DeepRx:
    """The network of a spec string, freshly initialised from ``seed``.

    Raises:
        UserError: as :func:`parse_spec`.
    """
    width, depth = parse_spec(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DeepRx(num_rx, num_bits, width, depth)
