"""Files that are replaced as a whole, and locks on folders."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from leanrx_core.errors import UserError

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin; a kill can leave some."""


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part."""
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


def lock(folder: str | Path) -> IO[str]:
    """Hold a run folder for this process as long as the returned file is open; clear what a killed one left behind.

    Raises:
        UserError: if another process holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = (Path(folder) / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{folder}: in use by another process; wait for it or stop it") from None
    for left in Path(folder).rglob(f"{TEMPORARY}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return file
