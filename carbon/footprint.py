"""A carbon footprint as a matrix of stage, component and scope, where each gram has a provenance.

What is not modelled is a row of its own without grams. It prints "not modelled" and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from carbon.accounting import CarbonIntensity, IntensityBasis
from carbon.embodied import Boundary, EmbodiedCarbon
from leanrx_core.errors import UserError
from leanrx_core.records import Record
from leanrx_core.units import JOULES_PER_KWH

NOT_MODELLED = "not modelled"
Provenance = Literal["measured", "modelled", "assumed"]
Scope = Literal[1, 2, 3]
"""Of the Greenhouse Gas Protocol, seen from the operator: 2 is electricity bought, 3 is everything up and down the
chain: user devices and the making of hardware."""


class Emission(Record):
    """Emissions of one stage in one component.

    Attributes:
        stage: part of the chain or of the life cycle, such as ``decode`` or ``development``.
        process: part of the stage, such as ``training``; empty where the stage has one.
        component: where it happens, such as ``user device``, ``RAN``, ``core`` or ``edge/cloud``.
        scope: see :data:`Scope`.
        g: gCO2e; none where it is not modelled.
        energy_j: electricity behind it, PUE included; none without electricity.
        provenance: of the grams: that of the joules, or of the embodied emissions.
        intensity: name of the carbon intensity.
        basis: of the intensity.
        boundary: of embodied emissions.
    """

    stage: str
    process: str = ""
    component: str
    scope: Scope
    g: float | None = Field(None, ge=0)
    energy_j: float | None = Field(None, ge=0)
    provenance: Provenance | None = None
    intensity: str = ""
    basis: IntensityBasis | None = None
    boundary: Boundary | None = None

    @classmethod
    def of_energy(
        cls,
        stage: str,
        component: str,
        scope: Scope,
        energy_j: float,
        intensity: CarbonIntensity,
        provenance: Provenance,
        pue: float = 1.0,
        process: str = "",
    ) -> Self:
        """Emissions of electricity: ``energy_j`` at the socket of the device, times PUE and intensity."""
        total_j = energy_j * pue
        return cls(
            stage=stage,
            process=process,
            component=component,
            scope=scope,
            g=total_j / JOULES_PER_KWH * intensity.g_per_kwh,
            energy_j=total_j,
            provenance=provenance,
            intensity=intensity.name,
            basis=intensity.basis,
        )

    @classmethod
    def of_hardware(
        cls, stage: str, component: str, record: EmbodiedCarbon, duration_s: float, utilisation: float = 1.0
    ) -> Self:
        """Share of a use of ``duration_s`` in the emissions of making a device; scope 3."""
        return cls(
            stage=stage,
            component=component,
            scope=3,
            g=record.embodied_g(duration_s, utilisation),
            provenance="assumed",
            boundary=record.boundary,
        )

    @property
    def title(self) -> str:
        """Stage and process."""
        return f"{self.stage}, {self.process}" if self.process else self.stage

    @property
    def text(self) -> str:
        """The grams as text, or "not modelled"."""
        return NOT_MODELLED if self.g is None else f"{self.g:.6g} g"


class Footprint(Record):
    """Emissions of all stages; ``+`` joins footprints.

    Attributes:
        rows: the emissions, in the order of the chain.

    Raises:
        UserError: on parsing, if electricity has two bases, or hardware two boundaries.

    Example:
        >>> from carbon import carbon_intensity
        >>> world = carbon_intensity("world-2023")
        >>> footprint = Footprint(rows=(
        ...     Emission.of_energy("decode", "edge/cloud", 2, energy_j=96.0, intensity=world, provenance="modelled"),
        ...     Emission(stage="transport", component="core", scope=2),
        ... ))
        >>> for row in footprint.rows:
        ...     print(row.stage, row.text)
        decode 0.0128267 g
        transport not modelled
    """

    rows: tuple[Emission, ...]

    @model_validator(mode="after")
    def _check_bases(self) -> Self:
        electric = [row for row in self.rows if row.g is not None and row.boundary is None]
        bases = {str(row.basis or "not stated"): row.stage for row in electric}
        if len(bases) > 1:
            named = " and ".join(f"'{basis}' ({stage})" for basis, stage in bases.items())
            raise UserError(
                f"carbon: one sum has intensities of two bases: {named}; choose intensities of one basis for all stages"
            )
        boundaries = {row.boundary: row.stage for row in self.rows if row.g is not None and row.boundary}
        if len(boundaries) > 1:
            named = " and ".join(f"'{boundary}' ({stage})" for boundary, stage in boundaries.items())
            raise UserError(f"carbon: one sum has embodied emissions of two boundaries: {named}; choose one boundary")
        return self

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(rows=self.rows + other.rows)

    @property
    def total_g(self) -> float:
        """Sum of all modelled rows, gCO2e."""
        return math.fsum(row.g for row in self.rows if row.g is not None)

    @property
    def not_modelled(self) -> list[str]:
        """Stages and processes without grams."""
        return [row.title for row in self.rows if row.g is None]

    def sums(self, key: Literal["stage", "component", "scope", "provenance"]) -> dict[str, float | None]:
        """Grams by stage, component, scope or provenance; none where a group has no modelled row."""
        groups: dict[str, list[float | None]] = {}
        for row in self.rows:
            if key != "provenance" or row.g is not None:
                groups.setdefault(str(getattr(row, key)), []).append(row.g)
        return {name: _sum(values) for name, values in groups.items()}

    def matrix(self) -> dict[tuple[str, str, int], float | None]:
        """Grams by stage, component and scope; none where a cell is not modelled."""
        cells: dict[tuple[str, str, int], list[float | None]] = {}
        for row in self.rows:
            cells.setdefault((row.stage, row.component, row.scope), []).append(row.g)
        return {cell: _sum(values) for cell, values in cells.items()}


def _sum(values: Iterable[float | None]) -> float | None:
    modelled = [value for value in values if value is not None]
    return math.fsum(modelled) if modelled else None
