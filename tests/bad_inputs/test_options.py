"""Every option and argument of every command, with values that do not fit its type."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
import typer
import yaml
from command_line import answer, contents, refusal
from complete_runs import CONFIG

from leanrx.cli.main import app
from leanrx.experiment.run import Run

COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands if command.callback}
BAD_NUMBERS = {
    "text": "x",
    "nothing": "",
    "not-a-number": "nan",
    "infinite": "inf",
    "overflow": "1e400",
    "large": "1" + "0" * 30,
    "negative": "-1" + "0" * 30,
    "digits": "9" * 5000,
}
BAD_PATHS = {
    "missing": "no/such/place",
    "line-break": "a\nb",
    "escape": "a\x1b[31mb",
    "long": "x" * 5000,
    "device": "/dev/null",
    "folder": "/",
}


def numeric_options() -> list[tuple[str, str]]:
    """Command and option, for every option that takes numbers."""
    options = []
    for command, function in COMMANDS.items():
        for name, hint in typing.get_type_hints(function, include_extras=True).items():
            kind, *details = typing.get_args(hint) or (hint,)
            numbers = re.search(r"\b(int|float)\b", str(kind))
            if numbers and details and isinstance(details[0], typer.models.OptionInfo):
                declared = details[0].param_decls
                options.append((command, declared[0] if declared else "--" + name.replace("_", "-")))
    return options


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def required(command: str, run: Run, configuration: Path) -> list[object]:
    """Valid values of the required arguments."""
    if command in ("data", "check"):
        return [configuration]
    if command in ("train", "sweep", "tune"):
        return [configuration, "--runs", configuration.parent / "runs"]
    if command in ("evaluate", "merge", "energy", "report", "verify", "ecal"):
        return [run.folder]
    return {"count": ["deeprx-w0.0625-d3"], "export": [run.folder, "smallest"], "record": [run.folder, "smallest"]}.get(
        command, []
    )


def test_the_numeric_options_are_known() -> None:
    assert len(numeric_options()) >= 10


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize(("command", "option"), numeric_options())
def test_numbers_that_do_not_fit_are_refused(
    command: str, option: str, value: str, finished: Run, configuration: Path
) -> None:
    before = contents(configuration.parent), contents(finished.folder)
    message = refusal(command, *required(command, finished, configuration), f"{option}={BAD_NUMBERS[value]}")
    assert option.strip("-").replace("-", "_").split("_")[0] in message.replace("-", "_")
    assert (contents(configuration.parent), contents(finished.folder)) == before


ROOTS = {"train": "--runs", "sweep": "--runs", "tune": "--runs", "data": "--data"}


@pytest.mark.parametrize("value", BAD_PATHS)
@pytest.mark.parametrize("command", [*ROOTS, "evaluate", "merge", "energy", "report", "verify", "ecal"])
def test_paths_that_are_no_run_or_configuration_are_refused(command: str, value: str, tmp_path: Path) -> None:
    root = [ROOTS[command], tmp_path] if command in ROOTS else []
    refusal(command, BAD_PATHS[value], *root)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_and_missing_arguments_are_refused(command: str) -> None:
    assert "No such option: --nonsense" in refusal(command, "--nonsense")
    if required(command, Run(Path("run"), None), Path("config")):  # type: ignore[arg-type]
        assert "Missing argument" in refusal(command)


@pytest.mark.parametrize("text", ["nonsense", "a\nb", "x" * 5000, "9" * 5000, "", "../.."])
@pytest.mark.parametrize(
    "arguments",
    [
        ("count", "{}"),
        ("count", "deeprx-w{}"),
        ("count", "hybrid-w8-d{}"),
        ("count", "deeprx-w0.0625-d3", "--precision", "{}"),
        ("count", "deeprx-w0.0625-d3", "--device", "{}"),
        ("ecal", "{}"),
        ("ecal", "published-mlp", "--sweep", "{}"),
        ("ecal", "published-mlp", "--sweep", "inferences=1..{}"),
        ("ecal", "{run}", "--teacher-allocation", "{}"),
        ("ecal", "{run}", "--reference", "{}"),
        ("evaluate", "{run}", "--shard", "{}"),
        ("evaluate", "{run}", "--shard", "1/{}"),
        ("report", "{run}", "--unit", "{}"),
        ("export", "{run}", "{}"),
        ("export", "{run}", "smallest", "--format", "{}"),
        ("energy", "{run}", "--wattmeter", "{}"),
    ],
    ids=" ".join,
)
def test_texts_that_name_nothing_are_refused(arguments: tuple[str, ...], text: str, finished: Run) -> None:
    if text == "" and arguments in (("ecal", "{}"), ("count", "hybrid-w8-d{}")):
        text = "none"
    before = contents(finished.folder)
    refusal(*(a.replace("{run}", str(finished.folder)).replace("{}", text) for a in arguments))
    assert contents(finished.folder) == before


def test_a_command_that_does_not_exist_is_refused() -> None:
    assert "No such command 'nonsense'" in refusal("nonsense")
    assert answer("--help")[0] == 0
