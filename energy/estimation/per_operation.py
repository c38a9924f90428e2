"""Energy per operation in 45 nm silicon, for orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from energy.counting.profile import OperationProfile
from energy.estimation.estimate import Estimate, MeteredCall
from energy.hardware.devices import Device
from leanrx_core.errors import UserError

# Energies at 45 nm and 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
# figure 1.1.9. A multiply and an add; int8 products are added up in 32 bits. Bytes come from a 1 MB cache (100 pJ per
# 64 bits) at best, from DRAM (1.3 to 2.6 nJ per 64 bits) at worst.
J_PER_MAC_45NM = {"fp32": 3.7e-12 + 0.9e-12, "fp16": 1.1e-12 + 0.4e-12, "int8": 0.2e-12 + 0.1e-12}
J_PER_BYTE_CACHE_45NM, J_PER_BYTE_DRAM_45NM = 100e-12 / 8, 2600e-12 / 8


@dataclass(frozen=True)
class PerOperation:
    """Joules of arithmetic and of moving operands in 45 nm silicon: the computation alone, without a computer.

    No instruction is fetched and nothing idles. The estimate is the geometric mean of two bounds: all bytes from a
    cache, and all from DRAM. It gives no time, and no energy in a precision that the table lacks.

    Example:
        >>> low, high = PerOperation().bounds_j(OperationProfile.from_formula("net", macs=1000))
        >>> f"{low:.2e}"
        '4.60e-09'
    """

    name: str = "per operation"
    relative_sd: float | None = None

    def bounds_j(self, profile: OperationProfile) -> tuple[float, float]:
        """All operands from a 1 MB cache, and all from DRAM.

        Raises:
            UserError: if the table lacks the precision.
        """
        if profile.precision not in J_PER_MAC_45NM:
            raise UserError(
                f"precision: {profile.precision} is not in the 45 nm table; there are {list(J_PER_MAC_45NM)}"
            )
        macs_j = J_PER_MAC_45NM[profile.precision] * profile.macs
        return macs_j + J_PER_BYTE_CACHE_45NM * profile.bytes, macs_j + J_PER_BYTE_DRAM_45NM * profile.bytes

    def estimate(self, profile: OperationProfile, device: Device) -> Estimate:
        """Energy midway between both bounds; NaN in a precision that the table lacks."""
        if profile.precision not in J_PER_MAC_45NM:
            return Estimate(self.name, math.nan, math.nan, f"the 45 nm table has no {profile.precision}")
        low, high = self.bounds_j(profile)
        return Estimate(
            self.name,
            math.nan,
            math.sqrt(low * high),
            f"45 nm silicon, no particular device: {low:.3g} J with all operands in a cache, {high:.3g} J from DRAM"
            f"{profile.missing_bytes}",
            math.sqrt(high / low) - 1,
        )

    def fitted(self, observations: Sequence[MeteredCall], device: Device) -> Self:
        """The same: there is nothing to fit."""
        return self
