"""The error that leanrx raises for mistakes in its input, and the same error for failures of the file system."""

from __future__ import annotations

import errno
import os

from leanrx_core.messages import one_line


class UserError(Exception):
    r"""A mistake that the user can correct.

    The message is one line: it names the field, the value and what is allowed. The command line prints it and exits
    with code 2. A message that is longer than :data:`leanrx_core.messages.MAX_LENGTH` loses its middle, and control
    characters are escaped.

    Example:
        >>> str(UserError("label: 'a\nb' is not allowed; use letters"))
        "label: 'a\\nb' is not allowed; use letters"
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


_SYSTEM_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and run the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run the same command again",
    errno.EROFS: "give a path that can be written",
    errno.EIO: "check the disk and run the same command again",
    errno.ENOENT: "give a path that exists",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "give a path without circular links",
}
"""What helps, by the number of the operating system's error."""


def system_error(error: OSError, path: str | os.PathLike[str] | None = None) -> UserError:
    """The user's error for a failure of the operating system, such as a full disk.

    Args:
        error: the failure.
        path: the file, if the failure does not name it.

    Example:
        >>> str(system_error(OSError(errno.ENOSPC, "No space left on device"), "runs/x/ber.parquet"))
        'runs/x/ber.parquet: No space left on device; free some space and run the same command again'
    """
    place = error.filename if error.filename is not None else path
    name = os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else "files"
    remedy = _SYSTEM_REMEDIES.get(error.errno or 0, "give a path that can be written")
    return UserError(f"{name or 'path'}: {error.strerror or error}; {remedy}")
