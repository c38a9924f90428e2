"""Tables of a documentation page between two marks, ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

import re
from pathlib import Path

from leanrx_core.errors import UserError

ROOT = Path(__file__).parents[2]
CARBON_PAGE = ROOT / "docs" / "carbon-case-studies.md"


def with_table(path: Path, text: str, name: str, table: str) -> str:
    """A page's text with a table between its marks.

    Args:
        path: of the page, for the message.
        text: of the page.
        name: of the marks.
        table: new text between them.

    Raises:
        UserError: if the page has no such marks.
    """
    marks = re.compile(rf"(<!-- {re.escape(name)}: begin -->\n).*?(\n<!-- {re.escape(name)}: end -->)", re.DOTALL)
    if not marks.search(text):
        raise UserError(f"{path}: has no marks around the table '{name}'; restore them")
    return marks.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text)


def markdown(heads: list[str], rows: list[list[str]], texts: int = 1) -> str:
    """A table in Markdown.

    Args:
        heads: of the columns.
        rows: cells.
        texts: number of columns with text, from the left; the others are right-aligned.
    """
    rule = ["---" if index < texts else "---:" for index in range(len(heads))]
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
