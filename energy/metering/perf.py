"""Cycles and instructions of this process by Linux's ``perf``: what FLOPs per clock were achieved."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from leanrx_core.errors import UserError

_ATTACH_S = 0.2


@dataclass(frozen=True)
class Cycles:
    """Counted in user and kernel mode, over all threads that ran when the window was opened."""

    cycles: int
    instructions: int


class Perf:
    """``perf stat`` on this process.

    Raises:
        UserError: if there is no ``perf``, or the machine has no counters for it.
    """

    def __init__(self) -> None:
        if shutil.which("perf") is None:
            raise UserError("perf: not installed; install linux-tools for this kernel")
        result = subprocess.run(_command("true"), capture_output=True, text=True)
        parse(result.stderr)

    def begin(self) -> None:
        """Attach to all threads."""
        self._process = subprocess.Popen(_command("-p", str(os.getpid())), stderr=subprocess.PIPE, text=True)
        time.sleep(_ATTACH_S)

    def end(self) -> Cycles:
        """Detach."""
        self._process.send_signal(signal.SIGINT)
        return parse(self._process.communicate()[1])


def _command(*what: str) -> list[str]:
    return ["perf", "stat", "-x", ",", "-e", "cycles,instructions", *what]


def parse(text: str) -> Cycles:
    """Read ``perf stat -x ,``; cores of several kinds count for themselves (``cpu_core/cycles/``) and are added.

    Raises:
        UserError: if a counter is missing.
    """
    counts: dict[str, int] = {}
    for line in text.splitlines():
        parts = line.split(",")
        if len(parts) > 2 and parts[0].isdigit():
            event = parts[2].split(":")[0].split("/")
            name = event[1] if len(event) > 1 else event[0]
            counts[name] = counts.get(name, 0) + int(parts[0])
    if not {"cycles", "instructions"} <= counts.keys():
        reason = "not permitted" if "paranoid" in text or "permission" in text.lower() else "not supported here"
        raise UserError(
            f"perf: cycles are {reason}; virtual machines often hide them; "
            "else: sudo sysctl kernel.perf_event_paranoid=1"
        )
    return Cycles(counts["cycles"], counts["instructions"])
