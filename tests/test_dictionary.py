"""Names are the field's: few private words, no banned names, and one name for one thing. See docs/glossary.md."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from scripts.checks import private_words

ROOT = Path(__file__).parent.parent
MAX_FRACTION = 0.001
BANNED = {
    *("told", "heard", "listens_to", "listener", "listeners", "learner", "learners", "learn", "taught", "learnt"),
    *("bill", "bills", "ledger", "footing", "crew", "hands", "diary", "diarist", "knock", "contest", "luck", "heirs"),
    *("cohort", "planned", "account", "spend", "settle", "repayment", "campaign", "finding", "findings", "witness"),
    *("carry_j", "interference_share", "told_var", "its_power", "twin", "twins", "ways"),
}
"""Names outside the dictionary: of classes, functions, variables, parameters and attributes, in lower case."""


def test_private_words_are_rare() -> None:
    places, total = private_words.private_names()
    assert len(places) <= MAX_FRACTION * total, places


def test_banned_names_are_gone() -> None:
    places = []
    for path in private_words.modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [*private_words.assigned_names(tree), *((n.name, n.lineno) for n in _definitions(tree))]
        places += [f"{path.relative_to(ROOT)}:{line}: {name}" for name, line in names if _is_banned(name)]
    assert not places, "\n".join(places)


def test_no_class_name_twice() -> None:
    classes = [
        node.name
        for path in private_words.modules()
        for node in _definitions(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert _repeated(classes) == []


def test_no_module_name_twice() -> None:
    modules = [path.stem for path in private_words.modules() if path.stem not in ("__init__", "__main__", "conftest")]
    packages = {path.parent for path in private_words.modules() if path.stem == "__init__"}
    assert _repeated([*modules, *(package.name for package in packages)]) == []


def _definitions(tree: ast.AST) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]


def _is_banned(name: str) -> bool:
    return name.strip("_").lower() in BANNED


def _repeated(names: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
