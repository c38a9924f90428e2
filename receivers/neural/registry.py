"""Families of learned receivers, and spec strings such as ``deeprx-w0.5-d5`` or ``hybrid-w16-d4``.

A spec string is the name of a family, its width after ``-w`` and its depth after ``-d``; both sizes are optional. Each
family is one row of :data:`FAMILIES`; :func:`register` adds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from channels import Grid, Scenario
from channels.grid import SUBCARRIERS_PER_PRB
from leanrx_core.errors import UserError
from leanrx_core.messages import echo
from receivers.neural import deeprx, hybrid, recurrent_hybrid, shared_hybrid
from receivers.neural.network import Network

MARKERS = ("circle", "triangle-up", "triangle-down", "square", "diamond", "pentagon", "hexagon", "star", "cross")
"""Plotly symbols that figures draw in print, too. Teachers are drawn as squares."""

_FAMILY_NAME = r"[a-z][a-z0-9]*(?:-[a-z]{2,})*"
_SPEC = re.compile(rf"(?P<family>{_FAMILY_NAME})" + r"(?:-w(?P<width>\d{0,6}\.?\d{1,12}))?(?:-d(?P<depth>\d{1,6}))?")


@dataclass(frozen=True)
class Family:
    """A family of learned receivers.

    Attributes:
        name: first part of its spec strings: a lower-case letter, then lower-case letters and digits. Words of two or
            more letters can follow after hyphens.
        network: class of its networks; ``network(num_rx, num_bits, width, depth)`` builds one.
        default_width, default_depth: sizes where the spec string names none.
        check_size: raises ``ValueError`` with a reason if a width and depth are not available.
        colour: of its points in figures, ``#rrggbb``.
        marker: of its points in figures, one of :data:`MARKERS`.
        dash: of its lines in figures that compare families, a plotly dash.
    """

    name: str
    network: type[Network]
    default_width: float
    default_depth: int
    check_size: Callable[[float, int], None]
    colour: str
    marker: str
    dash: str = "solid"


class Spec(NamedTuple):
    """A parsed spec string: family, width and depth of a network.

    Attributes:
        family: row of :data:`FAMILIES`.
        width: factor on the layer widths (``deeprx``) or number of channels (``hybrid``).
        depth: number of blocks.
    """

    family: Family
    width: float
    depth: int


FAMILIES: dict[str, Family] = {}
"""Families by name."""


def register(family: Family) -> Family:
    """Add a family to :data:`FAMILIES`.

    Raises:
        ValueError: if its name is taken or cannot stand in a spec string, or its marker is unknown.
    """
    if not re.fullmatch(_FAMILY_NAME, family.name):
        raise ValueError(f"family '{family.name}': write a lower-case letter, then lower-case letters and digits")
    if family.name in FAMILIES:
        raise ValueError(f"family '{family.name}' is registered already")
    if family.marker not in MARKERS:
        raise ValueError(
            f"family '{family.name}': marker '{family.marker}' is unknown; choose from {', '.join(MARKERS)}"
        )
    FAMILIES[family.name] = family
    return family


register(
    Family(
        name="deeprx",
        network=deeprx.DeepRx,
        default_width=1.0,
        default_depth=11,
        check_size=deeprx.check_size,
        colour="#0072b2",
        marker="circle",
    )
)
register(
    Family(
        name="deeprx-interpolated",
        network=deeprx.InterpolatedDeepRx,
        default_width=1.0,
        default_depth=11,
        check_size=deeprx.check_size,
        colour="#56b4e9",
        marker="diamond",
        dash="dashdot",
    )
)
register(
    Family(
        name="hybrid",
        network=hybrid.Hybrid,
        default_width=16,
        default_depth=6,
        check_size=hybrid.check_size,
        colour="#009e73",
        marker="triangle-up",
        dash="dash",
    )
)
register(
    Family(
        name="hybrid-shared",
        network=shared_hybrid.SharedHybrid,
        default_width=10,
        default_depth=8,
        check_size=shared_hybrid.check_size,
        colour="#cc79a7",
        marker="triangle-down",
        dash="dot",
    )
)
register(
    Family(
        name="hybrid-recurrent",
        network=recurrent_hybrid.RecurrentHybrid,
        default_width=10,
        default_depth=3,
        check_size=recurrent_hybrid.check_size,
        colour="#d55e00",
        marker="pentagon",
        dash="longdash",
    )
)


def family_of(spec: str) -> Family:
    """The family of a spec string.

    Raises:
        UserError: if the string names no family.
    """
    return _match(spec)[0]


def parse_spec(spec: str) -> Spec:
    """Read a spec string.

    Raises:
        UserError: if the string is not a spec, or its width or depth is not available.
    """
    family, match = _match(spec)
    width, depth = float(match["width"] or family.default_width), int(match["depth"] or family.default_depth)
    try:
        family.check_size(width, depth)
    except ValueError as error:
        raise UserError(f"receiver: '{spec}': {error}") from None
    return Spec(family, width, depth)


def check_grid(spec: str, grid: Grid) -> None:
    """Check that the network of a spec string can receive the slots of a grid.

    Raises:
        UserError: if it cannot, or as :func:`parse_spec`.

    Example:
        >>> from channels import Subcarriers
        >>> check_grid("hybrid-w5-d5", Grid(subcarriers=Subcarriers(fft_size=64)))
        Traceback (most recent call last):
        leanrx_core.errors.UserError: receiver: 'hybrid-w5-d5' needs whole resource blocks, and the grid has 64 ...
    """
    family = parse_spec(spec).family
    is_whole = grid.num_subcarriers % SUBCARRIERS_PER_PRB == 0 and not grid.empty_subcarriers
    if family.network.needs_resource_blocks and not is_whole:
        raise UserError(
            f"receiver: '{spec}' needs whole resource blocks, and the grid has {grid.num_subcarriers} subcarriers; "
            "write num_prb in place of subcarriers, or choose another receiver"
        )


def check_conditions(spec: str, scenario: Scenario) -> None:
    """Check that the network of a spec string can receive the slots of a scenario and of its mixture.

    Raises:
        UserError: if it cannot, or as :func:`parse_spec`.
    """
    grids = [scenario.grid, *(member.grid for member in scenario.training_members)]
    for grid in grids:
        check_grid(spec, grid)
    numbers = sorted({grid.num_rx for grid in grids})
    if len(numbers) > 1 and not parse_spec(spec).family.network.takes_any_num_rx:
        takers = ", ".join(family.name for family in FAMILIES.values() if family.network.takes_any_num_rx)
        raise UserError(
            f"receiver: '{spec}' has one number of antennas, and the scenario has {', '.join(map(str, numbers))}; "
            f"choose a receiver of {takers}, or write one num_rx"
        )


def build(spec: str, num_rx: int = 2, num_bits: int = 4, seed: int = 0) -> Network:
    """Build the network of a spec string with random weights.

    Args:
        spec: such as ``"deeprx-w0.5-d5"`` or ``"hybrid-w16-d4"``.
        num_rx: receive antennas R.
        num_bits: LLRs per resource element K: bits per symbol of the highest modulation.
        seed: of the initial weights; the global random state is neither used nor changed.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        UserError: as :func:`parse_spec`.

    Example:
        >>> from receivers import build
        >>> net = build("hybrid-w5-d5", num_rx=2, num_bits=4, seed=1)
        >>> sum(p.numel() for p in net.parameters())
        3548
    """
    family, width, depth = parse_spec(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return family.network(num_rx, num_bits, width, depth)  # type: ignore[call-arg]


def _match(spec: str) -> tuple[Family, re.Match[str]]:
    match = _SPEC.fullmatch(spec)
    if match is None or match["family"] not in FAMILIES:
        names = ", ".join(FAMILIES)
        raise UserError(f"receiver: {echo(spec)} is not a receiver; write <family>-w<width>-d<depth>, of {names}")
    return FAMILIES[match["family"]], match
