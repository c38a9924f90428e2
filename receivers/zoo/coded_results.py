"""Results of a shipped receiver with the LDPC code of 5G: wrong transport blocks over SINR."""

from __future__ import annotations

from pydantic import Field

from leanrx_core.records import Record
from receivers.evaluation.error_counts import Counts
from receivers.evaluation.mcs import Mcs


class CodedPoint(Record):
    """Wrong transport blocks of one receiver at one test point.

    Attributes:
        interference_fraction: part of interference in the interference-plus-noise power.
        sinr_db: mean powers, per receive antenna.
        blocks, block_errors: decoded transport blocks, one per slot, and wrong ones.
    """

    interference_fraction: float
    sinr_db: float
    blocks: int = Field(ge=1)
    block_errors: int = Field(ge=0)


class CodedResults(Record):
    """Wrong transport blocks of a shipped receiver, and of classical receivers.

    All receivers see the slots of the uncoded test, from the first one on. Each of them has its own points, and its own
    number of slots at a point.

    Attributes:
        mcs: modulation and coding scheme.
        points: of the receiver.
        classical: points of classical receivers, by name.

    Example:
        >>> counted = {"interference_fraction": 0, "blocks": 200}
        >>> points = [{"sinr_db": 9, "block_errors": 20, **counted}, {"sinr_db": 6, "block_errors": 60, **counted}]
        >>> coded = CodedResults(mcs=14, points=points, classical={"LMMSE": ()})
        >>> {sinr_db: counts.block_errors for sinr_db, counts in coded.counts(0.0).items()}
        {6.0: 60, 9.0: 20}
    """

    mcs: Mcs
    points: tuple[CodedPoint, ...]
    classical: dict[str, tuple[CodedPoint, ...]]

    @property
    def interference_fractions(self) -> list[float]:
        """Parts of interference in the interference-plus-noise power at the test points."""
        return sorted({point.interference_fraction for point in self.points})

    def counts(self, interference_fraction: float, classical: str = "") -> dict[float, Counts]:
        """Counts by SINR; none where a receiver was not tested.

        Args:
            interference_fraction: of the points.
            classical: name of a classical receiver; the shipped receiver if not given.
        """
        points = self.classical.get(classical, ()) if classical else self.points
        return {
            p.sinr_db: Counts(slots=p.blocks, transport_blocks=p.blocks, block_errors=p.block_errors)
            for p in sorted(points, key=lambda p: p.sinr_db)
            if p.interference_fraction == interference_fraction
        }
