"""Files that are replaced as a whole, append-only files, and locks on folders."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from leanrx_core.errors import UserError

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files and folders. A killed process can leave some."""

_LOCK = ".lock"


@contextlib.contextmanager
def _name_failures(path: Path) -> Iterator[None]:
    """Name the file in failures of the operating system. A write to a full disk fails without a name."""
    try:
        yield
    except OSError as error:
        if error.filename is None or TEMPORARY in str(error.filename):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new content, never a part.

    Args:
        path: the file. Its folder is created if it does not exist.
        data: the whole content; text is encoded as UTF-8.

    Raises:
        OSError: if it cannot be written; it names the file, which keeps its old content.

    Example:
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "run" / "result.txt"
        >>> write_atomic(path, "BER 0.01")
        >>> path.read_text()
        'BER 0.01'
        >>> folder.cleanup()
    """
    path = Path(path)
    with _name_failures(path):
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


@contextlib.contextmanager
def replaced_folder(folder: str | Path) -> Iterator[Path]:
    """Fill a new folder, which takes the place of ``folder`` when the context ends without an exception.

    Args:
        folder: may exist; its parents are created.

    Yields:
        An empty folder beside it. After an exception, it is removed and ``folder`` stays as it was.

    Example:
        >>> root = tempfile.TemporaryDirectory()
        >>> for text in ("first", "second"):
        ...     with replaced_folder(f"{root.name}/x") as new:
        ...         _ = (new / text).write_text("")
        >>> [path.name for path in Path(f"{root.name}/x").iterdir()]
        ['second']
        >>> root.cleanup()
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _name_failures(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY) as work:
        complete = Path(work) / "complete"
        complete.mkdir()
        yield complete
        if folder.exists():
            folder.rename(Path(work) / "old")
        complete.rename(folder)


def append_lines(path: str | Path, text: str) -> None:
    """Append whole lines to a text file; they are on disk when the call returns.

    A call that fails leaves the file as it was. A killed process can leave a part of the last line, which
    :func:`drop_unfinished_line` removes.

    Args:
        path: the file. Its folder is created if it does not exist.
        text: lines, each with its line break.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    path = Path(path)
    with _name_failures(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size, data = file.tell(), memoryview(text.encode())
            try:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
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

    It also removes the unfinished files (:data:`TEMPORARY`) of a process that was killed. Folders inside that another
    process has reserved are left alone, such as those of shards.

    Returns:
        the open lock file, which is a context manager: ``with lock(folder): ...``.

    Raises:
        UserError: if another process has reserved the folder.
        OSError: if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = _reserve(folder)
    if file is None:
        raise UserError(f"{folder}: in use by another process; wait for it or stop it")
    try:
        _remove_leftovers(folder)
    except BaseException:
        file.close()
        raise
    return file


def _reserve(folder: Path) -> IO[str] | None:
    """The open lock file of a folder; none if another process holds it."""
    file = (folder / _LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def _remove_leftovers(folder: Path) -> None:
    with os.scandir(folder) as entries:
        children = list(entries)
    for entry in children:
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith(TEMPORARY):
            shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
        elif is_folder and not (path / _LOCK).exists():
            _remove_leftovers(path)
        elif is_folder and (inner := _reserve(path)) is not None:
            with inner:
                _remove_leftovers(path)
