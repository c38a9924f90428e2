"""Print the fraction of assigned names in the packages that are private words: words that name no thing of the field.

A name is counted where a program gives it a value: assignments, attributes, parameters, loop targets, ``with`` and
``except`` targets, and imports under another name.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("leanrx_core", "channels", "receivers", "energy", "distillation", "carbon", "leanrx")
PRIVATE_WORDS = {
    *("found", "told", "heard", "made", "there", "seen", "shown", "drawn", "chosen", "kept", "held", "wanted"),
    *("mine", "ours", "theirs", "beside", "words", "way", "ways", "apart", "alone"),
}


def modules(packages: tuple[str, ...] = PACKAGES) -> list[Path]:
    """All Python files of the packages."""
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def assigned_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that is assigned in a module, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name) if name not in ("self", "cls"):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname, node.lineno) for alias in aliases if alias.asname)


def private_names() -> tuple[list[tuple[Path, int, str]], int]:
    """Places of private words among the assigned names, and the number of all assigned names."""
    places, total = [], 0
    for path in modules():
        for name, line in assigned_names(ast.parse(path.read_text(encoding="utf-8"))):
            total += 1
            if name.strip("_") in PRIVATE_WORDS:
                places.append((path.relative_to(ROOT), line, name))
    return places, total


def main() -> None:
    """Print the places, the count of each word, and the fraction."""
    places, total = private_names()
    for path, line, name in places:
        print(f"{path}:{line}: {name}")
    print(", ".join(f"{word} {n}" for word, n in Counter(name.strip("_") for *_, name in places).most_common()))
    print(f"{len(places)} of {total} assigned names: {len(places) / total:.2%}")


if __name__ == "__main__":
    main()
