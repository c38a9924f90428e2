"""Tables on disk: what another program changed is refused, by the digest, the schema or the rules of the values."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from leanrx_core.errors import UserError
from leanrx_core.tables import TableSchema, columns_of, impossible_values, read_table, write_table


@dataclass
class Sample:
    name: str
    slots: int
    energy_j: float
    estimated: bool


def problem(table: pd.DataFrame) -> str:
    return impossible_values(table, {"slots of 1 or more": table["slots"] >= 1})


SCHEMA = TableSchema("samples", 1, columns_of(Sample), problem)
TABLE = pd.DataFrame([Sample("LS", 8, 0.5, True), Sample("LMMSE \u00b1", 16, math.nan, False)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "samples.parquet"
    write_table(path, TABLE, SCHEMA)
    return path


def error(path: Path, schema: TableSchema = SCHEMA) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, schema, "write it again")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith(": damaged or of another version; write it again")
    return text.removeprefix(f"{path}: ").removesuffix(": damaged or of another version; write it again")


def test_a_table_is_read_as_it_was_written_by_leanrx_and_by_other_programs(path: Path) -> None:
    pd.testing.assert_frame_equal(read_table(path, SCHEMA, ""), TABLE)
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)


def test_the_digest_does_not_depend_on_the_file_format(path: Path) -> None:
    arrow = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(arrow, path, compression="none", use_dictionary=False, data_page_version="2.0")
    pd.testing.assert_frame_equal(read_table(path, SCHEMA, ""), TABLE)


@pytest.mark.parametrize(("column", "value"), [("name", "LS2"), ("slots", 9), ("energy_j", 0.25), ("estimated", False)])
def test_changed_values_are_refused(path: Path, column: str, value: object) -> None:
    arrow = pyarrow.parquet.read_table(path)
    values = arrow.column(column).to_pylist()
    changed = arrow.set_column(
        arrow.column_names.index(column), arrow.schema.field(column), [pa.array([value, *values[1:]])]
    )
    pyarrow.parquet.write_table(changed, path)
    assert error(path) == "its values are not those that were written"


def test_every_flipped_byte_is_refused_or_changes_no_value(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for position in np.random.default_rng(1).choice(len(data), 60, replace=False):
        damaged = data.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            table = read_table(path, SCHEMA, "")
        except UserError:
            continue
        pd.testing.assert_frame_equal(table, TABLE)


def test_tables_of_other_schemas_are_refused(path: Path) -> None:
    columns = dict(SCHEMA.columns)
    assert error(path, TableSchema("samples", 2, columns, problem)) == "no table of samples in version 2"
    assert error(path, TableSchema("counts", 1, columns, problem)) == "no table of counts in version 1"
    assert error(path, TableSchema("samples", 1, {**columns, "bits": int}, problem)) == "no column bits"
    assert error(path, TableSchema("samples", 1, {**columns, "slots": float}, problem)) == "column slots is not double"
    del columns["slots"]
    assert error(path, TableSchema("samples", 1, columns, problem)) == "unknown column slots"


def test_tables_without_a_digest_are_refused(path: Path) -> None:
    arrow = pyarrow.parquet.read_table(path)
    TABLE.to_parquet(path)
    assert error(path) == "column name is not string"  # pandas writes large strings
    for description in (b"{", b"[]", json.dumps({"table": "samples"}).encode()):
        pyarrow.parquet.write_table(arrow.replace_schema_metadata({b"leanrx": description}), path)
        assert error(path) == "no table of samples in version 1"


def test_missing_empty_and_foreign_files_are_refused(path: Path) -> None:
    write_table(path, TABLE.iloc[:0], SCHEMA)
    assert error(path) == "no rows"
    path.write_bytes(b"")
    assert error(path).startswith("no Parquet table (")
    path.unlink()
    assert error(path) == "no Parquet table (FileNotFoundError)"
    path.mkdir()
    assert error(path) == "no Parquet table (IsADirectoryError)"


def test_impossible_values_are_neither_written_nor_read(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"row 2 breaks: slots of 1 or more; the table of samples is not written"):
        write_table(path, TABLE.assign(slots=[8, 0]), SCHEMA)
    assert path.read_bytes() == before
    write_table(path, TABLE.assign(slots=[0, 8]), TableSchema("samples", 1, SCHEMA.columns, lambda table: ""))
    assert error(path) == "row 1 breaks: slots of 1 or more"
