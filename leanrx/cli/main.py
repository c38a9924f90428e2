"""The console command ``leanrx``: it parses options, calls one function of the packages, and prints."""

from __future__ import annotations

import codecs
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, TextIO

import typer

from leanrx import __version__
from leanrx.cli.carbon_commands import carbon
from leanrx.cli.carbon_planning_commands import horizon, life_cycle
from leanrx.cli.check_commands import check
from leanrx.cli.count_commands import count
from leanrx.cli.data_commands import data
from leanrx.cli.ecal_commands import ecal
from leanrx.cli.energy_commands import energy
from leanrx.cli.evaluate_commands import evaluate, merge
from leanrx.cli.export_commands import export
from leanrx.cli.machine_commands import doctor
from leanrx.cli.record_commands import record
from leanrx.cli.report_commands import report
from leanrx.cli.train_commands import sweep, train, tune
from leanrx.cli.verify_commands import verify
from leanrx.cli.zoo_commands import zoo

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_ASCII = {"±": "+-", "–": "-", "…": "...", "→": "->", "×": "x", "µ": "u"}

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
"""Parts of the messages with which torch refuses an allocation."""

_COMMANDS = (
    doctor,
    check,
    data,
    train,
    sweep,
    tune,
    evaluate,
    merge,
    count,
    energy,
    ecal,
    report,
    export,
    record,
    verify,
)
for command in (*_COMMANDS, verify):
    app.command()(command)
carbon.command()(life_cycle)
carbon.command()(horizon)
app.add_typer(carbon, name="carbon")
app.add_typer(zoo, name="zoo")


def _print_version(requested: bool) -> None:
    if requested:
        print(f"leanrx {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the smallest neural OFDM receiver that still does its job, and what it costs in joules."""


def main() -> None:
    """Entry point. A user's mistake is one line on standard error and exit code 2; Ctrl-C gives exit code 130."""
    _replace_unprintable_characters()
    _set_home()
    _let_idle_threads_sleep()
    try:
        code = app(standalone_mode=not sys.argv[1:]) or 0  # without arguments, typer prints the help
        _flush_output()
    except BrokenPipeError:  # the reader of the output has ended, as 'head' does
        _discard_output(sys.stdout)
        code = 1
    except Exception as error:
        line = _error_line(error)
        if line is None:
            raise
        _discard_output(sys.stdout)
        print(f"leanrx: {line}", file=sys.stderr)
        code = 2
    if code == 130:
        print("interrupted; run the same command again to resume", file=sys.stderr)
    sys.exit(code)


def _let_idle_threads_sleep() -> None:
    """Threads of OpenMP wait asleep, not in a loop that takes the core from other programs. torch is not loaded yet."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # of LLVM's and Intel's OpenMP


def _replace_unprintable_characters() -> None:
    """Print plus-minus signs and the like in ASCII where a terminal has no other characters."""
    codecs.register_error("leanrx", _to_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="leanrx")


def _set_home() -> None:
    """Give a user without a home directory that of temporary files. Several libraries end without one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def _to_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    plain = "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text)
    return plain, error.end


def _error_line(error: Exception) -> str | None:
    """The message for a user's mistake or a failure of the system; none for a defect of the program."""
    from leanrx_core.errors import UserError, system_error

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return str(system_error(error, "output"))
    if isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY):
        return "memory: too little for this command; lower batch_slots or block_slots, or the number of workers"
    format_message = getattr(error, "format_message", None)  # of typer's own errors, whose class is private
    if format_message is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "leanrx"
    message = format_message().rstrip(".") or "give a command"  # typer has printed the help, and has no message
    return str(UserError(f"{message}; see: {command} --help"))


def _flush_output() -> None:
    """Show a full disk now, and not while the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "output") from None  # EPIPE: BrokenPipeError


def _discard_output(stream: TextIO) -> None:
    """Send what a stream still holds nowhere, so that the interpreter does not fail on it when it ends."""
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


if __name__ == "__main__":
    main()
