"""Files that are replaced as a whole, append-only files, and locks on folders."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from leanrx_core.errors import UserError

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files and folders. A killed process can leave some."""


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new content, never a part.

    Args:
        path: the file. Its folder is created if it does not exist.
        data: the whole content; text is encoded as UTF-8.

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "run" / "result.txt"
        >>> write_atomic(path, "BER 0.01")
        >>> path.read_text()
        'BER 0.01'
        >>> folder.cleanup()
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def drop_unfinished_line(path: str | Path) -> None:
    """Cut an append-only text file after its last complete line. A killed process can leave a part of a line.

    A file that does not exist is left alone. Only the process that writes the file may call this.
    """
    path = Path(path)
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            write_atomic(path, data[: data.rfind(b"\n") + 1])


def lock(folder: str | Path) -> IO[str]:
    """Reserve a folder for this process until the returned file is closed.

    It also removes the unfinished files (:data:`TEMPORARY`) of a process that was killed.

    Returns:
        the open lock file, which is a context manager: ``with lock(folder): ...``.

    Raises:
        UserError: if another process has reserved the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = (Path(folder) / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{folder}: in use by another process; wait for it or stop it") from None
    for leftover in Path(folder).rglob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    return file
