"""Tables in Markdown pages, between two marks that name them.

A command that writes numbers into a page keeps the words around them: ``<!-- NAME: begin -->`` and
``<!-- NAME: end -->`` are the marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from leanrx_core.errors import UserError


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table as Markdown.

    Args:
        head: names of the columns.
        rows: cells, as many as ``head``.
        text_columns: columns with text, which come first; all others are aligned to the right.

    Example:
        >>> print(markdown_table(["receiver", "MACs"], [["LS", "26,784"]]))
        | receiver | MACs |
        | --- | ---: |
        | LS | 26,784 |
    """
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def with_marked_content(page: Path, name: str, content: str) -> str:
    """The text of a page with other content between the marks of a name.

    Args:
        page: a Markdown file.
        name: of the marks.
        content: Markdown without marks.

    Raises:
        UserError: if the page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    marks = rf"(<!-- {re.escape(name)}: begin -->\n).*?(\n<!-- {re.escape(name)}: end -->)"
    if not re.search(marks, text, re.DOTALL):
        raise UserError(f"{page}: has no marks '{name}: begin' and '{name}: end' around its table; restore them")
    return re.sub(marks, lambda match: f"{match[1]}\n{content}\n{match[2]}", text, flags=re.DOTALL)
