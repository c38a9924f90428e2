"""Modulation and coding schemes (MCS) of 5G: the tables of TS 38.214, 5.1.3.1, and code rates as fractions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from channels.grid import Modulation
from leanrx_core.records import Record

MIN_CODE_RATE, MAX_CODE_RATE = 30 / 1024, 948 / 1024
"""Lowest and highest code rate of the tables of TS 38.214, 5.1.3.1."""

_TABLES: dict[int, dict[Modulation, tuple[float, ...]]] = {
    1: {
        "QPSK": (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
        "16-QAM": (340, 378, 434, 490, 553, 616, 658),
        "64-QAM": (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
    },
    2: {
        "QPSK": (120, 193, 308, 449, 602),
        "16-QAM": (378, 434, 490, 553, 616, 658),
        "64-QAM": (466, 517, 567, 616, 666, 719, 772, 822, 873),
        "256-QAM": (682.5, 711, 754, 797, 841, 885, 916.5, 948),
    },
    3: {
        "QPSK": (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602),
        "16-QAM": (340, 378, 434, 490, 553, 616),
        "64-QAM": (438, 466, 517, 567, 616, 666, 719, 772),
    },
}
"""Code rates times 1024 in the order of the MCS index, by number of the table 5.1.3.1-n. PUSCH without transform
precoding uses the same tables (TS 38.214, 6.1.4.1)."""


class Mcs(Record):
    """A modulation and coding scheme of TS 38.214. A number alone is an index of table 1.

    Attributes:
        index: row of the table, from 0.
        table: 1 for table 5.1.3.1-1 (up to 64-QAM), 2 for 5.1.3.1-2 (up to 256-QAM), 3 for 5.1.3.1-3 (low rates).

    Example:
        >>> scheme = Mcs(index=11)
        >>> scheme.modulation, scheme.code_rate == 378 / 1024
        ('16-QAM', True)
    """

    index: int = Field(ge=0, le=31)
    table: Literal[1, 2, 3] = 1

    @model_validator(mode="before")
    @classmethod
    def _read_index(cls, data: Any) -> Any:
        return {"index": data} if isinstance(data, int) and not isinstance(data, bool) else data

    @model_validator(mode="after")
    def _check_index(self) -> Self:
        last = len(_rows(self.table)) - 1
        if self.index > last:
            raise ValueError(f"index: {self.index} has no code rate in table {self.table}; write 0 to {last}")
        return self

    @property
    def modulation(self) -> Modulation:
        """Modulation of the scheme."""
        return _rows(self.table)[self.index][0]

    @property
    def code_rate(self) -> float:
        """Target code rate R."""
        return _rows(self.table)[self.index][1]


def _rows(table: int) -> list[tuple[Modulation, float]]:
    return [(modulation, rate / 1024) for modulation, rates in _TABLES[table].items() for rate in rates]


def _read_code_rate(value: Any) -> Any:
    """Read a number or a fraction, and check the range."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*/\s*(\d{1,6})\s*", value)
        value = float(match[1]) / int(match[2]) if match is not None and int(match[2]) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and MIN_CODE_RATE <= value <= MAX_CODE_RATE:
        return value
    raise ValueError(
        "is not a code rate of 5G; write a number such as 0.5 or a fraction such as 308/1024, from 30/1024 to 948/1024"
    )


CodeRate = Annotated[float, BeforeValidator(_read_code_rate)]
"""A target code rate, as a number or as a fraction such as ``"308/1024"``."""
