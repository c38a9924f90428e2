"""Griffe extension that fits docstrings to the site.

Sphinx roles, such as ``:func:`channels.scenario```, become links; names without a page stay plain code. The section
``Example:`` becomes ``Examples:``, under which griffe shows doctests as code.
"""

from __future__ import annotations

import re

import griffe

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`[~.]?([\w.]+)`")
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(r"\1Examples:", _ROLE.sub(_link, obj.docstring.value))


def _link(role: re.Match[str]) -> str:
    name = role[1]
    return f'<autoref optional identifier="{name}"><code>{name.rpartition(".")[2]}</code></autoref>'
