"""Embodied emissions of hardware, each with the boundary that the figure covers.

Figures of one device differ by two orders of magnitude with the boundary, so a footprint refuses to mix boundaries.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from pydantic import Field

from leanrx_core.errors import UserError
from leanrx_core.records import Record, read_yaml

Boundary = Literal["die", "board", "share of server", "whole device"]


class EmbodiedCarbon(Record):
    """Emissions of making one device.

    Attributes:
        device: its name.
        boundary: what the figure covers.
        kg: kgCO2e.
        lifetime_s: over which they are spread, s.
        source: who published the value.

    Example:
        >>> record = embodied_carbon("NVIDIA H100")
        >>> record.boundary, record.kg
        ('share of server', 985.5)
        >>> record.embodied_g(record.lifetime_s)  # a whole lifetime
        985500.0
    """

    device: str
    boundary: Boundary
    kg: float = Field(gt=0)
    lifetime_s: float = Field(gt=0)
    source: str

    def embodied_g(self, duration_s: float, utilisation: float = 1.0) -> float:
        """Share of a use in the emissions.

        Args:
            duration_s: of the use.
            utilisation: fraction of the lifetime in which the device is in use, above 0 and up to 1.

        Returns:
            gCO2e.

        Raises:
            UserError: if the utilisation is outside its range.
        """
        if not 0 < utilisation <= 1:
            raise UserError(f"carbon: utilisation {utilisation:g} is not allowed; give a number above 0 and up to 1")
        return 1e3 * self.kg * duration_s / (self.lifetime_s * utilisation)


@cache
def embodied_records() -> tuple[EmbodiedCarbon, ...]:
    """Read the records that come with leanrx."""
    path = resources.files("carbon") / "presets" / "embodied.yaml"
    return tuple(EmbodiedCarbon.parse(entry, path.name) for entry in read_yaml(str(path)))


def embodied_carbon(device: str, boundary: str = "share of server") -> EmbodiedCarbon:
    """Return the record of a device within a boundary.

    Raises:
        UserError: if there is no such record.
    """
    records: dict[tuple[str, str], EmbodiedCarbon] = {(r.device, r.boundary): r for r in embodied_records()}
    if (device, boundary) in records:
        return records[device, boundary]
    listed = "; ".join(f"{name} ({limit})" for name, limit in records)
    raise UserError(f"carbon: no embodied emissions of '{device}' with boundary '{boundary}'; choose from {listed}")
