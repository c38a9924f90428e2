"""Counted blocks on disk: an append-only journal while counting, one Parquet table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leanrx_core.errors import UserError
from leanrx_core.files import append_lines, write_atomic
from leanrx_core.tables import TableSchema, columns_of, impossible_values, read_table, write_table
from receivers.evaluation.error_counts import BlockCount

Key = tuple[str, float, float, int]
"""Receiver, interference fraction, SINR in dB and block number."""


def _impossible_counts(table: pd.DataFrame) -> str:
    """What no counting can give; empty if there is nothing."""
    numbers = table[[name for name, kind in _COLUMNS.items() if kind in (int, float)]]
    for column in numbers:
        rules = {f"{column} is finite": np.isfinite(numbers[column])}
        if column != "sinr_db":
            rules[f"{column} of 0 or more"] = numbers[column] >= 0
        if problem := impossible_values(table, rules):
            return problem
    return impossible_values(
        table,
        {
            "slots of 1 or more": table["slots"] >= 1,
            "bits of 1 or more": table["bits"] >= 1,
            "bit_errors up to bits": table["bit_errors"] <= table["bits"],
            "slot_errors up to slots": table["slot_errors"] <= table["slots"],
            "slot_errors up to bit_errors": table["slot_errors"] <= table["bit_errors"],
            "block_errors up to transport_blocks": table["block_errors"] <= table["transport_blocks"],
            "correct_slot_bits up to bits": table["correct_slot_bits"] <= table["bits"],
            "decoded_bits up to transport_block_bits": table["decoded_bits"] <= table["transport_block_bits"],
            "interference_fraction below 1": table["interference_fraction"] < 1,
            "code_rate below 1": table["code_rate"] < 1,
            "one row per receiver, point, block and code": ~table.duplicated([*_ORDER, "digest", "stream", "device"]),
        },
    )


_COLUMNS = columns_of(BlockCount)
_ORDER = ["interference_fraction", "sinr_db", "receiver", "block"]

COUNTS = TableSchema("counts", 1, _COLUMNS, _impossible_counts)
"""The table of error counts: one row per receiver and block of slots."""


class CountStore:
    """Rows of a table and of its journal, which lies next to it.

    Args:
        path: the table (Parquet); it need not exist.
        matches: whether a stored row is still valid; other rows are ignored.

    Raises:
        UserError: if a file cannot be read.
    """

    def __init__(self, path: str | Path, matches: Callable[[BlockCount], bool]) -> None:
        self.path = Path(path)
        self.journal = self.path.with_suffix(".journal.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = read_counts(self.path) if self.path.exists() else []
        self._table = {row.key: row for row in table if matches(row)}
        self._new = {row.key: row for row in self._read_journal() if matches(row) and row.key not in self._table}

    def get(self, key: Key) -> BlockCount | None:
        """The row of a key, if it is stored."""
        return self._table.get(key) or self._new.get(key)

    def add(self, rows: Iterable[BlockCount]) -> None:
        """Append rows to the journal; they are on disk when the call returns."""
        rows = list(rows)
        append_lines(self.journal, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
        self._new |= {row.key: row for row in rows}

    def finalize(self, num_blocks: dict[tuple[float, float], int]) -> None:
        """Write the table and remove the journal.

        Args:
            num_blocks: number of blocks of each point, by interference fraction and SINR. New rows beyond it are
                dropped, so the table does not depend on the order of counting.
        """
        rows = [row for row in self._new.values() if row.block < num_blocks.get(row.key[1:3], row.block + 1)]
        rows = [*self._table.values(), *rows]
        write_table(self.path, _frame(rows).sort_values(_ORDER, ignore_index=True), COUNTS)
        self.journal.unlink(missing_ok=True)

    def _read_journal(self) -> list[BlockCount]:
        if not self.journal.exists():
            return []
        lines = self.journal.read_bytes().split(b"\n")
        if lines[-1]:  # the last line is incomplete after a kill: drop it, so that appending starts a new line
            write_atomic(self.journal, b"".join(line + b"\n" for line in lines[:-1]))
        try:
            rows = [_row(json.loads(line)) for line in lines[:-1]]
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged_journal(self.journal, str(error)) from None
        problem = _impossible_counts(_frame(rows)) if rows else ""
        if problem:
            raise _damaged_journal(self.journal, problem)
        return rows


def read_counts(path: str | Path, remedy: str = "delete it to count again") -> list[BlockCount]:
    """Read the rows of a table of counts.

    Args:
        path: the table.
        remedy: end of the error message.

    Raises:
        UserError: as :func:`leanrx_core.tables.read_table`.
    """
    return [
        BlockCount(**{str(k): v for k, v in row.items()}) for row in read_table(path, COUNTS, remedy).to_dict("records")
    ]


def _frame(rows: list[BlockCount]) -> pd.DataFrame:
    return pd.DataFrame({name: [getattr(row, name) for row in rows] for name in _COLUMNS})


def _row(data: Any) -> BlockCount:
    """A line of the journal with exactly the columns of a row."""
    if not isinstance(data, dict) or data.keys() != _COLUMNS.keys():
        raise ValueError("other columns")
    for name, kind in _COLUMNS.items():
        value = data[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise TypeError(f"column {name} is not {kind.__name__}")
    return BlockCount(**data)


def _damaged_journal(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}: damaged or of another version; delete it to count its blocks again")
