"""The program ``leanrx`` itself: its version, its module, and options that it does not know."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import leanrx
from leanrx.cli.main import main

ROOT = Path(__file__).parents[2]


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["leanrx", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"leanrx {leanrx.__version__}\n"
    assert leanrx.__version__ == version("leanrx")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "leanrx", "--version"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (process.returncode, process.stdout) == (0, f"leanrx {leanrx.__version__}\n"), process.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["doctor", "--again"], "--again"),
        (["energy", "runs/x", "--modelled"], "--modelled"),
        (["ecal", "runs/x", "--teacher", "shared"], "--teacher"),
    ],
)
def test_options_of_earlier_versions_are_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], option: str
) -> None:
    assert run_main(monkeypatch, *arguments) == 2
    assert f"No such option: {option}" in capsys.readouterr().err
