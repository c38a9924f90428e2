"""Counted blocks on disk: an append-only journal while counting, one Parquet table at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic
from receivers.evaluation.error_counts import BlockCount

Key = tuple[str, float, float, int]
"""Receiver, interference fraction, SINR in dB and block number."""


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
        self._table = {row.key: row for row in read_table(self.path) if matches(row)} if self.path.exists() else {}
        self._new = {row.key: row for row in self._read_journal() if matches(row) and row.key not in self._table}

    def get(self, key: Key) -> BlockCount | None:
        """The row of a key, if it is stored."""
        return self._table.get(key) or self._new.get(key)

    def add(self, rows: Iterable[BlockCount]) -> None:
        """Append rows to the journal; they are on disk when the call returns."""
        rows = list(rows)
        with self.journal.open("a") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        self._new |= {row.key: row for row in rows}

    def finalize(self, num_blocks: dict[tuple[float, float], int]) -> None:
        """Write the table and remove the journal.

        Args:
            num_blocks: number of blocks of each point, by interference fraction and SINR. New rows beyond it are
                dropped, so the table does not depend on the order of counting.
        """
        rows = [row for row in self._new.values() if row.block < num_blocks.get(row.key[1:3], row.block + 1)]
        rows = [*self._table.values(), *rows]
        columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(BlockCount)}
        order = ["interference_fraction", "sinr_db", "receiver", "block"]
        write_atomic(self.path, pd.DataFrame(columns).sort_values(order, ignore_index=True).to_parquet())
        self.journal.unlink(missing_ok=True)

    def _read_journal(self) -> list[BlockCount]:
        if not self.journal.exists():
            return []
        lines = self.journal.read_bytes().split(b"\n")
        if lines[-1]:  # the last line is incomplete after a kill: drop it, so that appending starts a new line
            write_atomic(self.journal, b"".join(line + b"\n" for line in lines[:-1]))
        try:
            return [BlockCount(**json.loads(line)) for line in lines[:-1]]
        except (ValueError, TypeError) as error:
            raise _unreadable(self.journal, error) from None


def read_table(path: Path) -> list[BlockCount]:
    """Read the rows of a table of counts.

    Raises:
        UserError: if it is missing or cannot be read.
    """
    try:
        return [BlockCount(**row) for row in pd.read_parquet(path).to_dict("records")]
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a table of counts ({type(error).__name__}); delete it to count again")
