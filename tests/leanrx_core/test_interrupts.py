"""Ctrl-C reaches a parent, and not the processes that it starts while interrupts are blocked."""

import signal
import subprocess
import sys
import threading

import pytest

from leanrx_core.interrupts import interrupts_blocked


def test_a_process_that_starts_while_interrupts_are_blocked_does_not_get_them() -> None:
    with interrupts_blocked():
        process = subprocess.Popen([sys.executable, "-c", "input(); print('alive')"], stdin=-1, stdout=-1, text=True)
    process.send_signal(signal.SIGINT)
    assert process.communicate("go on\n") == ("alive\n", None)


def test_an_interrupt_is_delivered_when_the_context_ends() -> None:
    steps = []

    def interrupt() -> None:
        with interrupts_blocked():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # not to another thread of the tests
            steps.append("in the context")

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores interrupts
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert steps == ["in the context"]
