"""Styles of receivers in figures: colour by network, dash and open markers by role, marker by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from leanrx.experiment.plan import ReceiverRecord
from receivers.neural.registry import FAMILIES

_CLASSICAL_COLOURS = {
    "LS": "#999999",
    "LMMSE": "#555555",
    "LMMSE-IRC": "#8c6d31",
    "perfect CSI": "#000000",
    "perfect CSI-IRC": "#404040",
}
_OTHER_CLASSICAL = "#777777"
_TEACHERS = ("#d55e00", "#a63603", "#fd8d3c", "#7f2704")
_STUDENTS = (
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f5539",
    "#5e3c99",
    "#66a61e",
    "#e7298a",
    "#1b4965",
)


class Style(NamedTuple):
    """Colour, plotly dash and plotly marker."""

    colour: str
    dash: str
    marker: str


@dataclass(frozen=True)
class StyleSheet:
    """Styles of the receivers of a run, equal in all figures.

    Attributes:
        by_name: by receiver and by variant. All students of one network and its scratch baselines share a colour.
        by_spec: of the students, by spec string.
    """

    by_name: Mapping[str, Style]
    by_spec: Mapping[str, Style]


def style_sheet(records: Iterable[ReceiverRecord]) -> StyleSheet:
    """The styles of receivers.

    >>> student = ReceiverRecord("hybrid-w4-d1-kd", "student", "hybrid-w4-d1", variant="hybrid-w4-d1-kd")
    >>> style_sheet([student]).by_name["hybrid-w4-d1-kd"]
    Style(colour='#0072b2', dash='solid', marker='triangle-up')
    """
    records = list(records)
    teacher_colours = _by_spec([r.spec for r in records if r.role == "teacher"], _TEACHERS)
    student_colours = _by_spec([r.spec for r in records if r.role in ("student", "scratch")], _STUDENTS)
    by_name: dict[str, Style] = {}
    for record in records:
        if record.role == "classical":
            style = Style(_CLASSICAL_COLOURS.get(record.name, _OTHER_CLASSICAL), "dot", "diamond")
        elif record.role == "teacher":
            style = Style(teacher_colours[record.spec], "solid", "square")
        else:
            style = Style(student_colours[record.spec], *role_style(record.family, record.role))
        by_name |= {record.name: style, record.variant: style}
    by_spec = {
        r.spec: Style(student_colours[r.spec], *role_style(r.family, "student")) for r in records if r.role == "student"
    }
    return StyleSheet(by_name, by_spec)


def role_style(family: str, role: str) -> tuple[str, str]:
    """Dash and marker of a family's receivers in one role."""
    if role == "teacher":
        return "solid", "square"
    marker = FAMILIES[family].marker
    return ("dash", f"{marker}-open") if role == "scratch" else ("solid", marker)


def _by_spec(specs: Sequence[str], colours: Sequence[str]) -> dict[str, str]:
    return {spec: colours[i % len(colours)] for i, spec in enumerate(dict.fromkeys(specs))}
