"""How well estimates agree with what was metered, without scoring an estimator on what it was fitted to.

Fitted estimators are scored leave-one-receiver-out: the calls of one receiver (all batches) are estimated from a fit to
the calls of all others in the same runtime and phase. Receivers that do the same work, as a student and its twin do,
are left out together: one tells all about the other. The naive ones, which learn nothing, are scored beside them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from energy.estimation.estimators import ESTIMATORS, Estimator, Observed
from energy.hardware.devices import Device


@dataclass(frozen=True)
class AgreementRow:
    """One estimate beside the metered call that it is for.

    Attributes:
        receiver, runtime, phase, batch_slots: which call.
        estimator: its name.
        flops, bytes, layers, flops_per_byte: of the call; no bytes and NaN where it was counted by formula.
        assumed_flops_per_clock: of one core, in the precision of the call.
        achieved_flops_per_clock, cycles_from: of one core, and how its cycles are known; NaN where they are not.
        metered_s, metered_j: of the call; joules are NaN where none were metered.
        kind: measured, modelled or none: what the metered joules are.
        estimated_s, estimated_j: NaN where the estimator says nothing.
        relative_sd: uncertainty that the estimator states; NaN for a bound.
    """

    receiver: str
    runtime: str
    phase: str
    batch_slots: int
    estimator: str
    flops: int
    bytes: int
    layers: int
    flops_per_byte: float
    assumed_flops_per_clock: float
    achieved_flops_per_clock: float
    cycles_from: str
    metered_s: float
    metered_j: float
    kind: str
    estimated_s: float
    estimated_j: float
    relative_sd: float


def leave_one_out(
    seen: Sequence[Observed], device: Device, estimators: Sequence[Estimator] = ESTIMATORS
) -> list[AgreementRow]:
    """Estimates of every observed call, by every estimator before a fit and after one to receivers of other work."""
    rows = []
    for one in seen:
        there = [o for o in seen if (o.runtime, o.phase) == (one.runtime, one.phase)]
        alike = {o.receiver for o in there if _costs(o) == _costs(one)}
        others = [o for o in there if o.receiver not in alike]
        for estimator in estimators:
            rows.append(_row(one, estimator, device))
            if others and (fit := estimator.fitted(others, device)) is not estimator:
                rows.append(_row(one, fit, device))
    return rows


def _costs(seen: Observed) -> tuple[object, ...]:
    """All that an estimator can know of a call."""
    return seen.work.precision, tuple((x.kind, x.macs, x.bytes) for x in seen.work.layers)


def _row(one: Observed, estimator: Estimator, device: Device) -> AgreementRow:
    made = estimator.estimate(one.work, device)
    return AgreementRow(
        receiver=one.receiver,
        runtime=one.runtime,
        phase=one.phase,
        batch_slots=one.work.batch_slots,
        estimator=estimator.name,
        flops=one.work.flops,
        bytes=one.work.bytes,
        layers=len(one.work.layers),
        flops_per_byte=one.work.intensity or math.nan,
        assumed_flops_per_clock=device.peak(one.work.precision) / device.cores / device.clock_hz,
        achieved_flops_per_clock=one.flops_per_clock,
        cycles_from=one.cycles_from,
        metered_s=one.duration_s,
        metered_j=math.nan if one.energy_j is None else one.energy_j,
        kind=one.kind,
        estimated_s=made.duration_s,
        estimated_j=made.energy_j,
        relative_sd=math.nan if made.relative_sd is None else made.relative_sd,
    )


def table(rows: Sequence[AgreementRow]) -> pd.DataFrame:
    """The rows as a table."""
    return pd.DataFrame([asdict(r) for r in rows])


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Per phase, runtime (and all together) and estimator: points, MAPE and rank correlation of time and of energy.

    MAPE is the mean of ``|estimate / metered - 1|`` in percent; the rank correlation is Spearman's. A score is NaN
    where an estimator says nothing, or there is no order among the calls. Calls without bytes are scored by their own
    runtime alone, since not every estimator speaks of them.
    """
    found = []
    for runtime in ["all", *rows["runtime"].unique()]:
        part = rows[rows["flops_per_byte"].notna()] if runtime == "all" else rows[rows["runtime"] == runtime]
        for (phase, estimator), calls in part.groupby(["phase", "estimator"], sort=False):
            found.append(
                {
                    "phase": phase,
                    "runtime": runtime,
                    "estimator": estimator,
                    "calls": len(calls),
                    "receivers": calls["receiver"].nunique(),
                    "mape_time_percent": _mape(calls["estimated_s"], calls["metered_s"]),
                    "worst_time_percent": _worst(calls["estimated_s"], calls["metered_s"]),
                    "rank_time": _rank(calls["estimated_s"], calls["metered_s"]),
                    "mape_energy_percent": _mape(calls["estimated_j"], calls["metered_j"]),
                    "rank_energy": _rank(calls["estimated_j"], calls["metered_j"]),
                }
            )
    return pd.DataFrame(found)


def _mape(estimated: pd.Series, metered: pd.Series) -> float:
    return float(100 * (estimated / metered - 1).abs().mean())


def _worst(estimated: pd.Series, metered: pd.Series) -> float:
    return float(100 * (estimated / metered - 1).abs().max())


def _rank(estimated: pd.Series, metered: pd.Series) -> float:
    known = estimated.notna() & metered.notna()
    ours, theirs = estimated[known], metered[known]
    if min(ours.nunique(), theirs.nunique()) < 2:
        return math.nan
    return float(np.corrcoef(ours.rank(), theirs.rank())[0, 1])


def draw(
    rows: pd.DataFrame, estimators: Sequence[str], quantity: str = "s", clock: str = "wall clock"
) -> dict[str, bytes]:
    """Estimates over metered values with the identity line, one panel per estimator, coloured by FLOPs per byte.

    Args:
        rows: as :func:`table` makes it.
        estimators: names, one panel each.
        quantity: ``s`` for time, ``j`` for energy; per slot.
        clock: that metered times are of.

    Returns:
        the figure as ``png`` and ``pdf``.
    """
    import matplotlib
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    what = {"s": "time per slot [ms]", "j": "energy per slot [mJ]"}[quantity]
    kinds = "/".join(sorted(set(rows["kind"]))) if quantity == "j" else clock
    shown = rows[rows["estimator"].isin(estimators)].dropna(subset=["flops_per_byte"])
    metered, estimated = f"metered_{quantity}", f"estimated_{quantity}"
    per_slot = shown.assign(
        x=1e3 * shown[metered] / shown["batch_slots"], y=1e3 * shown[estimated] / shown["batch_slots"]
    )
    per_slot = per_slot.dropna(subset=["x", "y"])
    ends = [per_slot[["x", "y"]].min().min() / 1.5, per_slot[["x", "y"]].max().max() * 1.5]
    colours = LogNorm(per_slot["flops_per_byte"].min(), per_slot["flops_per_byte"].max() * 1.001)
    with matplotlib.rc_context({"svg.hashsalt": "leanrx"}):
        figure = Figure(figsize=(4.2 * len(estimators), 4.2), layout="constrained")
        panels = figure.subplots(1, len(estimators), squeeze=False)[0]
        for axes, estimator in zip(panels, estimators, strict=True):
            axes.plot(ends, ends, color="0.5", linewidth=1, zorder=1)
            calls = per_slot[per_slot["estimator"] == estimator]
            for marker, (runtime, part) in zip("osD^v", calls.groupby("runtime"), strict=False):
                dots = axes.scatter(
                    part["x"],
                    part["y"],
                    c=part["flops_per_byte"],
                    norm=colours,
                    cmap="viridis",
                    marker=marker,
                    edgecolor="black",
                    linewidth=0.4,
                    label=runtime,
                    zorder=2,
                )
            axes.set(
                xscale="log", yscale="log", xlim=ends, ylim=ends, title=estimator, xlabel=f"metered {what}, {kinds}"
            )
            axes.grid(alpha=0.25, which="both")
        panels[0].set_ylabel(f"estimated {what}")
        panels[0].legend(fontsize=8)
        figure.colorbar(dots, ax=panels, label="FLOPs per byte moved")
        files = {}
        for kind in ("png", "pdf"):
            buffer = io.BytesIO()
            metadata = {"CreationDate": None} if kind == "pdf" else None
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files
