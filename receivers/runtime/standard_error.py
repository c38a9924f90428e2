"""Lines that compiled libraries write to the standard error, past Python."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def without_lines(pattern: str) -> Iterator[None]:
    """Leave out lines that compiled libraries write to the standard error. All others are written afterwards.

    It is for libraries that have no setting for this, and for short calls: the process has one standard error.

    Args:
        pattern: regular expression for the beginning of the lines that are left out.

    Example:
        >>> with without_lines("INFO: "):
        ...     _ = os.write(2, b"INFO: a library is loaded.")
    """
    with contextlib.ExitStack() as stack:
        try:
            lines = stack.enter_context(tempfile.TemporaryFile())
            standard_error = os.dup(2)
        except OSError:  # closed, or no folder for temporary files
            yield
            return
        stack.callback(os.close, standard_error)
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(lines.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            lines.seek(0)
            os.write(2, b"".join(line for line in lines if not re.match(pattern.encode(), line)))
