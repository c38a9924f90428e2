"""The pages of the documentation, and what they hold: code blocks, commands, links, names."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("leanrx_core", "channels", "receivers", "energy", "distillation", "carbon", "leanrx")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_PYTHON = re.compile(r"(?P<comment><!-- no-run: [^\n]*-->\n+)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.DOTALL | re.MULTILINE)
_SHELL = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"^    (\S[^\n]*)$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A Python code block, and whether a test runs it."""

    code: str
    line: int
    runs: bool


def script(name: str) -> ModuleType:
    """A script of ``scripts/reproduce`` as a module; scripts import each other from their folder."""
    folder = str(ROOT / "scripts" / "reproduce")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def name(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def text(page: Path) -> str:
    """A page's Markdown."""
    return page.read_text(encoding="utf-8")


def python_blocks(page: Path) -> list[Block]:
    """The Python code blocks of a page in order."""
    content = text(page)
    return [
        Block(match["code"], content.count("\n", 0, match.start("code")), match["comment"] is None)
        for match in _PYTHON.finditer(content)
    ]


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return _FENCE.sub("", text(page))


def shell_lines(page: Path) -> list[str]:
    """Lines of indented and of shell code; a line that ends in a backslash is joined to the next."""
    content = text(page).replace("\\\n", " ")
    fenced = [line for block in _SHELL.findall(content) for line in block.splitlines()]
    return [*_INDENTED.findall(_FENCE.sub("", content)), *fenced]


def inline_code(page: Path) -> list[str]:
    """The code spans of a page."""
    return _INLINE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Targets of links and images that lie in the repository."""
    return [t for t in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", t)]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an object that a module or a class holds."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            target: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            fields = {*getattr(target, "model_fields", ()), *getattr(target, "__annotations__", ())}
            if attribute in fields:
                return True
            if not hasattr(target, attribute):
                return False
            target = getattr(target, attribute)
        return True
    return False
