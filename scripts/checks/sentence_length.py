"""Print the mean number of words per sentence of the README and of every page in docs.

Headings, tables, code and links' addresses are not counted. A list item ends a sentence.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_NOT_PROSE = (
    re.compile(r"^---\n.*?\n---\n", re.DOTALL),  # front matter
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"^ *```.*?^ *```[^\n]*$", re.DOTALL | re.MULTILINE),
    re.compile(r"(?<=\n\n)(?:    [^\n]*\n)+(?=\n|\Z)"),  # indented code
    re.compile(r"^#.*$", re.MULTILINE),
    re.compile(r"^ *\|.*$", re.MULTILINE),
    re.compile(r"^:::[^\n]*\n(?:    [^\n]*(?:\n|\Z))*", re.MULTILINE),
    re.compile(r"!\[[^\]]*\]\([^)]*\)"),
)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`+[^`]*`+")
_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )")
_SENTENCE_END = re.compile(r"(?<=[.!?])[*_\"')]*\s+(?=[\"'(*_]*[A-Z0-9`])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|et al|Fig|vs|No|Sec|eq)\.")
_WORD = re.compile(r"[A-Za-z0-9][\w'’.,/+-]*")


def pages() -> list[Path]:
    """The README and the Markdown files below docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def sentences(markdown: str) -> list[str]:
    """The sentences of a page, without headings, tables and code."""
    for pattern in _NOT_PROSE:
        markdown = pattern.sub("", markdown)
    text = _CODE.sub("Code", _LINK.sub(r"\1", markdown))
    text = _ABBREVIATION.sub(lambda match: match[0][:-1], text)
    parts = (part for paragraph in _PARAGRAPH_END.split(text) for part in _SENTENCE_END.split(paragraph))
    return [" ".join(part.split()) for part in parts if len(_WORD.findall(part)) > 1]


def lengths(markdown: str) -> list[int]:
    """Words of each sentence of a page."""
    return [len(_WORD.findall(sentence)) for sentence in sentences(markdown)]


def mean_length(paths: list[Path]) -> float:
    """Mean number of words per sentence over all pages."""
    words = [n for path in paths for n in lengths(path.read_text(encoding="utf-8"))]
    return sum(words) / len(words)


def main() -> None:
    """Print a line per page; with ``--long``, every sentence of more than 30 words."""
    for path in pages():
        words = lengths(path.read_text(encoding="utf-8"))
        mean = sum(words) / len(words) if words else 0.0
        print(f"{path.relative_to(ROOT)!s:<36} {len(words):>5} sentences {mean:>6.1f} words per sentence")
        if "--long" in sys.argv[1:]:
            for sentence in sentences(path.read_text(encoding="utf-8")):
                if len(_WORD.findall(sentence)) > 30:
                    print(f"    {sentence}")
    print(f"all: {mean_length(pages()):.1f} words per sentence")


if __name__ == "__main__":
    main()
