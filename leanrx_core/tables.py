"""Tables on disk: Parquet files with a fixed schema, its version, and a digest of the values.

Any program can read them as Parquet. leanrx itself refuses a table that another program changed, because the results of
a run follow from it.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanrx_core.errors import UserError
from leanrx_core.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_METADATA = b"leanrx"


@dataclass(frozen=True)
class TableSchema:
    """What a table holds.

    Attributes:
        name: of the table, as a noun.
        version: of the meaning of the columns.
        columns: type of each column, by name: ``str``, ``int``, ``float`` or ``bool``.
        problem: what is impossible in the values of a table; empty if nothing is.
    """

    name: str
    version: int
    columns: Mapping[str, type]
    problem: Callable[[pd.DataFrame], str]


def columns_of(row: type) -> dict[str, type]:
    """Columns of a table whose rows are dataclasses.

    Example:
        >>> @dataclass
        ... class Reading:
        ...     power_w: float
        >>> columns_of(Reading)
        {'power_w': <class 'float'>}
    """
    types = typing.get_type_hints(row)
    return {f.name: types[f.name] for f in fields(row)}


def impossible_values(table: pd.DataFrame, rules: Mapping[str, Any]) -> str:
    """The first rule that a table breaks, with the number of its row; empty if it breaks none.

    Args:
        table: the values.
        rules: by name, a Boolean per row: whether the row keeps the rule.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"slots": [8, -1]})
        >>> impossible_values(table, {"slots of 1 or more": table["slots"] >= 1})
        'row 2 breaks: slots of 1 or more'
    """
    for name, is_kept in rules.items():
        if not is_kept.all():
            return f"row {int((~is_kept).to_numpy().argmax()) + 1} breaks: {name}"
    return ""


def write_table(path: str | Path, table: pd.DataFrame, schema: TableSchema) -> None:
    """Write a table as a whole.

    Raises:
        UserError: if a value is impossible, such as a negative energy; the file then stays as it was.
    """
    import pyarrow as pa
    import pyarrow.parquet

    problem = schema.problem(table)
    if problem:
        raise UserError(f"{path}: {problem}; the table of {schema.name} is not written")
    types = _arrow_types(schema)
    arrays = [
        pa.array(table[c].to_numpy(dtype=_NUMPY[t]), types[c], from_pandas=False) for c, t in schema.columns.items()
    ]
    arrow = pa.table(arrays, names=list(schema.columns))
    description = {"table": schema.name, "version": schema.version, "sha256": _digest(arrow)}
    buffer = pa.BufferOutputStream()
    pyarrow.parquet.write_table(
        arrow.replace_schema_metadata({_METADATA: json.dumps(description).encode()}), buffer, compression="snappy"
    )
    write_atomic(path, buffer.getvalue().to_pybytes())


def read_table(path: str | Path, schema: TableSchema, remedy: str) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote.

    Args:
        path: the file.
        schema: required.
        remedy: end of the error message.

    Returns:
        the table, with at least one row.

    Raises:
        UserError: if it cannot be read, has another schema or version, was changed, or has impossible values.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        arrow = pyarrow.parquet.read_table(pa.BufferReader(Path(path).read_bytes()))
        problem = _schema_problem(arrow, schema)
        table = None if problem else arrow.replace_schema_metadata(None).to_pandas()
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        problem, table = f"no Parquet table ({type(error).__name__})", None
    if table is not None:
        problem = schema.problem(table) if len(table) else "no rows"
    if problem or table is None:
        raise UserError(f"{path}: {problem}: damaged or of another version; {remedy}")
    return table


def read_csv(path: str | Path, columns: Sequence[str], numbers: Sequence[str], remedy: str) -> pd.DataFrame:
    """Read columns of a CSV file.

    Args:
        path: the file.
        columns: required; others are left out.
        numbers: those of ``columns`` that hold numbers; empty cells are NaN.
        remedy: end of the error message.

    Raises:
        UserError: if it cannot be read, has no rows, lacks a column, or a number is none or is infinite.
    """
    import numpy as np
    import pandas as pd

    try:
        table = pd.read_csv(path, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}): damaged; {remedy}") from None
    problem = "no rows" if table.empty else ""
    for name in columns:
        if name not in table:
            problem = problem or f"no column {name}"
        elif name in numbers and (table[name].dtype.kind not in "iuf" or np.isinf(table[name]).any()):
            problem = problem or f"column {name} is not of numbers"
    if problem:
        raise UserError(f"{path}: {problem}: damaged or of another version; {remedy}")
    return table[list(columns)]


_NUMPY: dict[type, str] = {str: "object", int: "int64", float: "float64", bool: "bool"}


def _arrow_types(schema: TableSchema) -> dict[str, pa.DataType]:
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return {name: types[t] for name, t in schema.columns.items()}


def _schema_problem(arrow: pa.Table, schema: TableSchema) -> str:
    """Why a table is not one of a schema; empty if it is."""
    missing = [name for name in schema.columns if name not in arrow.column_names]
    unknown = [name for name in arrow.column_names if name not in schema.columns]
    if missing or unknown:
        return f"no column {missing[0]}" if missing else f"unknown column {unknown[0]}"
    for name, required in _arrow_types(schema).items():
        column = arrow.column(name)
        if column.type != required or column.null_count:
            return f"column {name} is not {required}" if column.type != required else f"empty cells in {name}"
    try:
        description = json.loads((arrow.schema.metadata or {}).get(_METADATA, b"{}"))
    except ValueError:
        description = {}
    if not isinstance(description, dict) or (description.get("table"), description.get("version")) != (
        schema.name,
        schema.version,
    ):
        return f"no table of {schema.name} in version {schema.version}"
    if description.get("sha256") != _digest(arrow):
        return "its values are not those that were written"
    return ""


def _digest(arrow: pa.Table) -> str:
    """SHA-256 of names and values, the same for every version of the libraries."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrow.column_names):
        column = arrow.column(name)
        digest.update(f"{name}:{column.type}:{len(column)}\n".encode())
        if str(column.type) == "string":
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            values = column.to_numpy()
            values = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
