"""Text of errors: one line of bounded length, with input echoed so that it cannot break the line."""

from __future__ import annotations

import re
import reprlib
from typing import Any

MAX_LENGTH = 300
"""Characters in the message of an error."""

_OMISSION = " [...] "
_END = 120
"""Characters that are kept of the end of a long message, where the remedy stands."""


_LONG_WORD = re.compile(r"\S{180,}")
"""Text without a space that leaves no room for the rest of a message, such as a very long path."""


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60
        self.maxlong, self.maxlevel = 24, 3

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print integers of more than 4,300 digits."""
        if x.bit_length() > 1000:
            return f"an integer of about {round(x.bit_length() * 0.30103):,} digits"
        return super().repr_int(x, level)


_SHORT_REPR = _ShortRepr()


def echo(value: Any) -> str:
    r"""A value as a message shows it: its ``repr``, shortened, without control characters.

    Example:
        >>> echo("a\nb")
        "'a\\nb'"
        >>> echo(10**5000)
        'an integer of about 5,000 digits'
    """
    return escaped(_SHORT_REPR.repr(value))


def escaped(text: str) -> str:
    r"""The text with everything escaped that a terminal would not print, such as line breaks.

    Example:
        >>> escaped("run\n1")
        'run\\n1'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    r"""A message as one line of at most :data:`MAX_LENGTH` characters.

    The middle of very long words is left out, then that of the message.

    Example:
        >>> one_line("label: 'a\nb' is not allowed; use letters")
        "label: 'a\\nb' is not allowed; use letters"
        >>> len(one_line("x " * 1000)), len(one_line("x" * 1000))
        (300, 123)
    """
    line = _LONG_WORD.sub(lambda word: f"{word[0][:60]}...{word[0][-60:]}", escaped(text))
    if len(line) <= MAX_LENGTH:
        return line
    return line[: MAX_LENGTH - _END - len(_OMISSION)] + _OMISSION + line[-_END:]
