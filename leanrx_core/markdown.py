"""Tables in Markdown pages, between two marks that name them.

A command that writes numbers into a page keeps the words around them: ``<!-- NAME: begin -->`` and
``<!-- NAME: end -->`` are the marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def with_marked_content(page: Path, contents: Mapping[str, str]) -> str:
    """The text of a page with other content between its marks.

    Args:
        page: a Markdown file.
        contents: Markdown without marks, by the name of the marks around it.

    Raises:
        UserError: if the page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in contents.items():
        begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
        before, begin_mark, rest = text.partition(f"{begin}\n")
        _, end_mark, after = rest.partition(f"\n{end}")
        if not begin_mark or not end_mark:
            raise UserError(f"{page}: has no marks '{name}: begin' and '{name}: end' around its table; restore them")
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text
