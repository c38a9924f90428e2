"""The glossary has one row for each term, and its names are those of the code."""

from __future__ import annotations

import re

import doc_pages as pages

GLOSSARY = pages.ROOT / "docs" / "glossary.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in pages.text(GLOSSARY).splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]


def test_terms_are_defined_once() -> None:
    terms = [term for row in ROWS for term in row[0].lower().split(", ")]
    assert len(set(terms)) == len(terms) >= 100
    assert all(len(row) == 4 and row[2] for row in ROWS)


def test_names_are_those_of_the_code() -> None:
    files = (path for package in pages.PACKAGES for path in (pages.ROOT / package).rglob("*"))
    sources = [path for path in files if path.suffix in (".py", ".yaml")]
    sources += (pages.ROOT / "configs").glob("*.yaml")
    names = set(re.findall(r"[\w.-]+", "\n".join(path.read_text(encoding="utf-8") for path in sources)))
    names |= {part for name in names for part in re.split(r"[.-]", name)}
    missing = [
        f"{row[0]}: {name}"
        for row in ROWS
        for code in re.findall(r"`([^`]+)`", row[1])
        for name in re.findall(r"[A-Za-z_][\w]*", code)
        if name not in names and not code.startswith("leanrx ")
    ]
    assert not missing, missing
