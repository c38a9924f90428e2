"""One measurement of energy, and what an instrument does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, Self

from pydantic import TypeAdapter

from leanrx_core.errors import UserError

Provenance = Literal["measured", "modelled", "assumed"]
"""How a joule is known: read from a counter or meter, computed from a model, or taken as a constant."""

MOST_W = 4000.0
"""No processor, memory of one socket or GPU draws more. A counter that says so was reset or read wrongly."""

_WEAKEST_FIRST: tuple[Provenance, ...] = ("assumed", "modelled", "measured")


@dataclass(frozen=True)
class Measurement:
    """Energy of one component of a machine over a known time, by one instrument.

    Attributes:
        component: ``cpu``, ``gpu``, ``ram`` or ``whole`` (a wattmeter).
        energy_j: of the whole time.
        provenance: measured, modelled or assumed.
        instrument: its name.
        instrument_version: its version and mode.
        uncertainty_j: standard uncertainty of the two readings at the ends of the time.
        duration_s: length of the time.
        repeats: calls in it.

    Example:
        >>> first = Measurement("cpu", 3.0, "measured", "RAPL", "powercap", 0.1, 2.0, 10)
        >>> both = first + first
        >>> both.energy_j, both.duration_s, both.repeats, round(both.energy_per_repeat_j, 2)
        (6.0, 4.0, 20, 0.3)
    """

    component: str
    energy_j: float
    provenance: Provenance
    instrument: str
    instrument_version: str
    uncertainty_j: float
    duration_s: float
    repeats: int = 1

    @property
    def energy_per_repeat_j(self) -> float:
        """Energy of one call."""
        return self.energy_j / self.repeats

    @property
    def of_whole_machine(self) -> bool:
        """Whether all processes of a machine measure the same energy; a GPU and a share of CPU time are their own."""
        modelled_cpu = self.component == "cpu" and self.provenance != "measured"
        return self.component != "gpu" and not modelled_cpu

    def __add__(self, other: Measurement) -> Measurement:
        """The same component by the same instrument, over this time and another one."""
        return replace(
            self,
            energy_j=self.energy_j + other.energy_j,
            provenance=weakest((self.provenance, other.provenance)),
            instrument_version=other.instrument_version,
            uncertainty_j=math.hypot(self.uncertainty_j, other.uncertainty_j),
            duration_s=self.duration_s + other.duration_s,
            repeats=self.repeats + other.repeats,
        )

    def __mul__(self, fraction: float) -> Measurement:
        """A part of the energy and of the time."""
        return replace(
            self,
            energy_j=fraction * self.energy_j,
            uncertainty_j=fraction * self.uncertainty_j,
            duration_s=fraction * self.duration_s,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what :meth:`as_json` made.

        Raises:
            ValueError: if it is anything else.
        """
        return TypeAdapter(cls).validate_python(data)


class Instrument(Protocol):
    """A counter or a model that is read at both ends of a window.

    Attributes:
        name: in tables.
        shortest_s: shortest window for which it gives a value.
    """

    name: str
    shortest_s: float

    def begin(self) -> None:
        """Open a window."""
        ...

    def end(self) -> list[Measurement]:
        """Close the window: one measurement per component.

        Raises:
            UserError: if the counter cannot be read, or did not advance.
        """
        ...


def weakest(provenances: Iterable[str]) -> Provenance:
    """The weakest of several provenances: assumed before modelled before measured.

    >>> weakest(["measured", "modelled"])
    'modelled'
    """
    return _WEAKEST_FIRST[min(_WEAKEST_FIRST.index(provenance) for provenance in provenances)]


def counted(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The measurements that energies consist of: all that are not assumed."""
    return [m for m in measurements if m.provenance != "assumed"]


def check_power(what: str, energy_j: float, duration_s: float, delay_s: float, most_w: float = MOST_W) -> None:
    """Refuse an energy that no component draws in this time.

    Args:
        what: the counter and what it showed, for the message.
        energy_j: that the counter advanced.
        duration_s: in this time.
        delay_s: by which its updates may be late.
        most_w: that it draws.

    Raises:
        UserError: if that is negative or more than ``most_w``.
    """
    if not 0 <= energy_j <= most_w * (duration_s + delay_s):
        power_w = energy_j / max(duration_s, 1e-9)
        raise UserError(f"{what}; a component draws 0 to {most_w:g} W, and this is {power_w:.3g} W; meter again")


def reading_uncertainty_j(resolution_j: float) -> float:
    """Standard uncertainty of a difference of two readings, each uniform within the counter's resolution."""
    return resolution_j / math.sqrt(6)
