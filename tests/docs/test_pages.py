"""The documentation is true: its code runs, its commands parse, its links, files and names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doc_pages as pages
import pytest
import typer

from receivers.neural import registry

NOT_RUN: dict[str, int] = {}
"""Number of Python blocks per page that are marked ``no-run``."""

READS_DATASET = {"docs/sinr-and-ber.md"}
"""Pages whose code reads the dataset of ``configs/dataset.yaml``; it is written for them with a few slots."""

_FOLDERS = (*pages.PACKAGES, "configs", "docs", "examples", "scripts", "tests")
_USAGE_ERROR = typer.BadParameter.__bases__[0]
_DATA_SUFFIXES = {"parquet", "csv", "json", "jsonl", "yaml", "md", "onnx", "h5", "html", "py"}


def _id(page: Path) -> str:
    return pages.name(page)


def _write_dataset(root: Path) -> None:
    from channels.dataset import Dataset, write_dataset

    dataset = Dataset.load(pages.ROOT / "configs" / "dataset.yaml")
    for _ in write_dataset(dataset.model_copy(update={"block_slots": 2, "num_blocks": 1}), root):
        pass


@pytest.mark.parametrize("page", [p for p in pages.PAGES if pages.python_blocks(p)], ids=_id)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if _id(page) in READS_DATASET:
        _write_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    blocks = pages.python_blocks(page)
    assert sum(not block.runs for block in blocks) == NOT_RUN.get(_id(page), 0)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        if block.runs:
            exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)


def test_readme_states_what_its_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = pages.python_blocks(pages.ROOT / "README.md")
    exec(compile(block.code, "README.md", "exec"), {})
    printed = dict(re.findall(r"^(.*): BER (.*)$", capsys.readouterr().out, re.MULTILINE))
    stated = re.findall(r"about ([\d.]+) for the student and ([\d.]+) for LMMSE", pages.text(pages.ROOT / "README.md"))[
        0
    ]
    student = printed["tdl-6prb-hybrid-w5-d5-kd"]
    assert [float(student), float(printed["LMMSE"])] == pytest.approx([float(x) for x in stated], rel=0.02)


def test_page_on_commands_lists_all_commands() -> None:
    table = re.findall(r"^\| `leanrx ([a-z]+)` \|", pages.text(pages.ROOT / "docs" / "commands.md"), re.MULTILINE)
    assert sorted(table) == sorted(_commands())


def _commands() -> dict[str, Any]:
    from leanrx.cli.main import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _options(command: Any) -> set[str]:
    """Options of a command, and of the commands below it."""
    below = (_options(part) for part in getattr(command, "commands", {}).values())
    return {o for parameter in command.params for o in parameter.opts if o.startswith("-")}.union(*below)


def _leanrx_arguments(line: str) -> Iterator[list[str]]:
    """Arguments of ``leanrx`` in a line of shell code, without a comment behind them."""
    match = re.search(r"(?:^|\s|/|-m )leanrx (?=[a-z-])(.*)", line)
    if match:
        yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("page", pages.PAGES, ids=_id)
def test_commands_parse(page: Path) -> None:
    commands = _commands()
    for line in pages.shell_lines(page):
        for name, *arguments in _leanrx_arguments(line):
            if name.startswith("-"):
                continue
            assert name in commands, line
            try:
                commands[name].make_context(name, list(arguments))
            except _USAGE_ERROR as error:
                pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize("page", pages.PAGES, ids=_id)
def test_commands_in_sentences_exist(page: Path) -> None:
    commands = _commands()
    options = {"--help", "--version"}.union(*(_options(command) for command in commands.values()))
    scripts = "".join(path.read_text() for path in (pages.ROOT / "scripts").rglob("*.*y"))
    for code in pages.inline_code(page):
        if match := re.match(r"leanrx ([a-z]+)(.*)", code):
            assert match[1] in commands, code
            given = re.findall(r"(?<!\S)--[a-z0-9-]+", match[2])
            assert set(given) <= _options(commands[match[1]]) | {"--help"}, code
        elif match := re.match(r"(--[a-z][a-z0-9-]+)", code):
            assert match[1] in options or f'"{match[1]}"' in scripts, code


@pytest.mark.parametrize("page", pages.PAGES, ids=_id)
def test_links_exist(page: Path) -> None:
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", pages.text(linked), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", pages.PAGES, ids=_id)
def test_files_and_names_exist(page: Path) -> None:
    for code in pages.inline_code(page):
        word = code.split()[0].removesuffix(":")
        if re.fullmatch(rf"(?:{'|'.join(_FOLDERS)})/[\w./-]+", word):
            assert (pages.ROOT / word).exists(), code
        elif re.match(rf"(?:{'|'.join(pages.PACKAGES)})\.\w", word) and word.rpartition(".")[2] not in _DATA_SUFFIXES:
            assert pages.resolves(re.findall(r"[\w.]+", word)[0]), code
