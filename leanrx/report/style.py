"""How receivers look in figures: colour by net, dash and filling by role, marker by family."""

from __future__ import annotations

_CLASSICAL = {
    "LS": "#999999",
    "LMMSE": "#555555",
    "LMMSE-IRC": "#8c6d31",
    "perfect CSI": "#000000",
    "perfect CSI-IRC": "#404040",
}
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


def colours(names: list[str]) -> dict[str, str]:
    """A colour per receiver; all students of one net and their twins share theirs."""
    found = dict(_CLASSICAL)
    for is_wanted, palette in ((_is_teacher, _TEACHERS), (lambda name: not _is_teacher(name), _STUDENTS)):
        wanted = [n for n in names if n not in _CLASSICAL and is_wanted(n)]
        nets = list(dict.fromkeys(net(n) for n in wanted))
        found |= {n: palette[nets.index(net(n)) % len(palette)] for n in wanted}
    return found


def net(name: str) -> str:
    """The spec string of a student or twin."""
    return name.split("-kd")[0].split("-scratch")[0]


def style(name: str) -> tuple[str, str]:
    """Dash and marker of a receiver."""
    if name in _CLASSICAL:
        return "dot", "diamond"
    if _is_teacher(name):
        return "solid", "square"
    shape = "triangle-up" if name.startswith("hybrid") else "circle"
    return ("dash", f"{shape}-open") if "-scratch" in name else ("solid", shape)


def _is_teacher(name: str) -> bool:
    return name.startswith("teacher")
