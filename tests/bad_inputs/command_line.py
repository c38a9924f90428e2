"""The command line in this process, and what every refusal must be like."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

from leanrx.cli import sessions
from leanrx.cli.main import main
from leanrx_core.messages import MAX_LENGTH

REMEDY = re.compile(
    r"; |give |write |use |run: |delete |see: |choose from|at most|did you mean|renamed to|Input|add it|outside"
)
"""How messages say what helps."""


def answer(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    previous, sys.argv = sys.argv, ["leanrx", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = previous
        sessions.release_locks()
    return code, output.getvalue(), errors.getvalue()


def refusal(*arguments: object) -> str:
    """The message of a command that refuses its input: one line, exit code 2, with a remedy."""
    code, _, errors = answer(*arguments)
    assert code == 2, (code, errors)
    assert errors.startswith("leanrx: "), errors
    assert errors.endswith("\n"), errors
    message = errors.removeprefix("leanrx: ")[:-1]
    assert message.isprintable(), message
    assert len(message) <= MAX_LENGTH, message
    assert ": " in message, message
    assert REMEDY.search(message), message
    return message


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files and folders but locks, which every command takes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }
