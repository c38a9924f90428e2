"""The README's code runs, and its commands exist."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_python_blocks_run(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "LMMSE" in capsys.readouterr().out


def test_commands_exist() -> None:
    from leanrx.cli.main import app

    known = {c.callback.__name__ for c in app.registered_commands if c.callback}
    named = set(re.findall(r"^    leanrx ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= known


def test_pictures_and_pages_are_there() -> None:
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (root / target).exists(), target
