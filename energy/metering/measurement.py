"""What an instrument says about a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Joules:
    """Energy of one component in one window, by one instrument.

    Attributes:
        instrument, version: what was read.
        component: ``cpu``, ``gpu``, ``ram`` or ``whole`` (a wattmeter).
        kind: ``measured``, ``modelled`` or ``assumed``.
        energy_j: of the window.
        resolution_j: smallest step of the counter, or its power times the interval between its updates.
    """

    instrument: str
    version: str
    component: str
    kind: str
    energy_j: float
    resolution_j: float


class Instrument(Protocol):
    """Something that is read at both ends of a window.

    Attributes:
        name: as in tables.
        shortest_s: shortest window that it can say anything about.
    """

    name: str
    shortest_s: float

    def begin(self) -> None:
        """Open a window."""
        ...

    def end(self) -> list[Joules]:
        """Close it.

        Raises:
            UserError: if the counter cannot be read, or did not advance.
        """
        ...
