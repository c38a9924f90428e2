"""Griffe extension: Sphinx roles in docstrings, such as ``:func:`channels.scenario```, become links of the site."""

from __future__ import annotations

import re

import griffe

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`[~.]?([\w.]+)`")


class Roles(griffe.Extension):
    """Replaces roles in every docstring; names without a page stay plain code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)


def _link(role: re.Match[str]) -> str:
    name = role[1]
    return f'<autoref optional identifier="{name}"><code>{name.rpartition(".")[2]}</code></autoref>'
