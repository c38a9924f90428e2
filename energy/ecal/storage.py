"""Storing collected bits: a component that the authors' calculator had until February 2025, here an option."""

from __future__ import annotations

from dataclasses import dataclass

from leanrx_core.checks import choice, integer
from leanrx_core.errors import UserError

J_PER_BIT = {"SSD": 5.4e-10, "HDD": 2.92e-10}
_LEAST_DISKS = {"none": 1, "RAID0": 1, "RAID1": 2, "RAID5": 3, "RAID6": 4, "RAID10": 4}


@dataclass(frozen=True)
class Storage:
    """A medium and how many copies or parities it keeps.

    Attributes:
        medium: ``SSD`` (1.2 Wh/TB) or ``HDD`` (0.65 Wh/TB).
        raid: ``none``, ``RAID0``, ``RAID1``, ``RAID5``, ``RAID6`` or ``RAID10``.
        disks: disks in the array.

    Raises:
        UserError: if a name is unknown or the array has too few disks.
    """

    medium: str
    raid: str = "none"
    disks: int = 1

    def __post_init__(self) -> None:
        choice("storage.medium", self.medium, J_PER_BIT)
        choice("storage.raid", self.raid, _LEAST_DISKS)
        integer("storage.disks", self.disks, 1)
        if self.disks < _LEAST_DISKS[self.raid]:
            raise UserError(f"storage.disks: {self.raid} needs {_LEAST_DISKS[self.raid]} or more, given {self.disks}")

    @property
    def stored_per_bit(self) -> float:
        """Bits on disks per bit stored."""
        n = self.disks
        return {
            "none": 1.0,
            "RAID0": 1.0,
            "RAID1": 2.0,
            "RAID10": 2.0,
            "RAID5": n / max(n - 1, 1),
            "RAID6": 2.0 if n <= 4 else n / (n - 2),
        }[self.raid]

    def energy_j(self, bits: float) -> float:
        return bits * self.stored_per_bit * J_PER_BIT[self.medium]
