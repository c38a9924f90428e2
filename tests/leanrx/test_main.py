"""The program ``leanrx`` itself: its version, its module, and options that it does not know."""

import os
import subprocess
import sys
import tempfile
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


@pytest.mark.parametrize("group", ["carbon", "zoo"])
def test_a_group_without_a_command_prints_its_help(monkeypatch: pytest.MonkeyPatch, capsys, group: str) -> None:
    assert run_main(monkeypatch, group) == 2
    output, line = capsys.readouterr()
    assert "Commands" in output
    assert line.startswith("leanrx: give a command; see: ")
    assert line.endswith(f" {group} --help\n")


def test_verify_needs_a_path_that_exists(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    for name in ("nothing", "nothing.onnx"):
        assert run_main(monkeypatch, "verify", str(tmp_path / name)) == 2
        assert "no such file or folder; give a run folder, an ONNX file" in capsys.readouterr().err


def test_an_ascii_terminal_gets_ascii(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['leanrx', '--version']\n"
        "from leanrx.cli import main\n"
        "main._replace_unprintable_characters()\n"
        "print('1e-3 \u00b15% \u4e2d')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (process.returncode, process.stdout) == (0, "1e-3 +-5% \\u4e2d\n"), process.stderr


def test_output_to_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "leanrx", "--version"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    message = "leanrx: output: No space left on device; free some space and run the same command again\n"
    assert (process.returncode, process.stderr) == (2, message)


def test_a_user_without_a_home_directory_gets_a_temporary_one(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert run_main(monkeypatch, "--version") == 0
    assert Path.home() == Path(tempfile.gettempdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys, error: Exception) -> None:
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr("leanrx.cli.main.app", fail)
    assert run_main(monkeypatch, "count") == 2
    assert capsys.readouterr().err.startswith("leanrx: memory: too little for this command; lower batch_slots")


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
