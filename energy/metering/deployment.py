"""The form in which a receiver is deployed, and its energy. All results on deployed receivers use this rule.

Exact forms compute what was tested: the C file, the float32 ONNX and LiteRT files, and the receiver itself in torch. Of
those that an instrument metered, the one with the least energy per slot is the deployed form. Files of lower precision
are other receivers with other errors, and a network on its features is a part of one.
"""

from __future__ import annotations

import pandas as pd

from energy.metering.table import file_rows, inference_rows
from energy.metering.workloads import C_RUNTIME, LITERT_RUNTIME, ONNX_RUNTIME

_TORCH = "torch"


def exact_file_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of exported files that compute what was tested. A call has one slot, or as few as were metered."""
    rows = file_rows(table)
    is_exact = (rows["runtime"] == C_RUNTIME) | rows["runtime"].str.endswith("-fp32")
    rows = rows[is_exact].sort_values("batch_slots", kind="stable")
    return rows.drop_duplicates(["receiver", "method", "runtime"]).sort_index().reset_index(drop=True)


def deployed_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the deployed form of each receiver, by each instrument.

    Args:
        table: the energy of a run.
    """
    rows = pd.concat([exact_file_rows(table), inference_rows(table)], ignore_index=True)
    rows = rows[~rows["estimated"]]
    return _least(rows, "energy_j")


def latency_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the fastest exact file of each receiver that computes one slot after the other, by each instrument."""
    rows = exact_file_rows(table)
    return _least(rows[(rows["batch_slots"] == 1) | rows["runtime"].map(_is_serial).astype(bool)], "duration_s")


def _least(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The row with the least value per slot, of each receiver and method."""
    order = (rows[column] / rows["slots"]).sort_values(kind="stable").index
    return rows.loc[order].drop_duplicates(["receiver", "method"]).sort_index().reset_index(drop=True)


def _is_serial(runtime: str) -> bool:
    """Whether a runtime computes the slots of a call one after the other on one thread."""
    return runtime == C_RUNTIME or runtime.startswith(LITERT_RUNTIME)


def form_name(runtime: str) -> str:
    """What computes in a runtime, in few words.

    >>> form_name("c"), form_name("onnx-fp32"), form_name("litert-fp32"), form_name("receiver")
    ('C file', 'ONNX file', 'LiteRT file', 'torch')
    """
    if runtime == C_RUNTIME:
        return "C file"
    return {ONNX_RUNTIME: "ONNX file", LITERT_RUNTIME: "LiteRT file"}.get(runtime.partition("-")[0], _TORCH)


def deployed_form(runtime: str, batch_slots: int) -> str:
    """What a row of :func:`deployed_rows` metered, in words.

    >>> deployed_form("c", 1)
    'the exported C file, one slot after the other on one thread'
    """
    if _is_serial(runtime):
        return f"the exported {form_name(runtime)}, one slot after the other on one thread"
    call = f"{batch_slots} slot{'' if batch_slots == 1 else 's'} a call"
    if form_name(runtime) == _TORCH:
        return f"the receiver as tested, in torch, {call}"
    return f"the exported {form_name(runtime)}, {call}"
