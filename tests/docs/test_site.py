"""The documentation site builds without warnings and without network, and docstrings refer to objects that exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import doc_pages as pages
import pytest

PACKAGES = pages.PACKAGES
_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`~?([\w.]+)`")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=pages.ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


def test_site_holds_the_public_names(site: Path) -> None:
    for name in ("channels.SlotStream", "receivers.load"):
        package = name.partition(".")[0]
        assert f'id="{name}"' in (site / "api" / f"{package}.html").read_text(encoding="utf-8")


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    loads = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\"\s>]+)")
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text(encoding="utf-8")) == [], page.name


def _docstrings(path: Path) -> list[str]:
    """Docstrings of a module and of all in it, those of attributes included."""
    return [
        node.value.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_refer_to_objects_that_exist(package: str) -> None:
    missing = []
    for path in sorted((pages.ROOT / package).rglob("*.py")):
        references = {name for docstring in _docstrings(path) for name in _ROLE.findall(docstring)}
        for name in sorted(references):
            if name.partition(".")[0] in PACKAGES and not pages.resolves(name):
                missing.append(f"{path.relative_to(pages.ROOT)}: {name}")
    assert not missing, missing
