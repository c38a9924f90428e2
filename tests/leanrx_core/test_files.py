import multiprocessing
from pathlib import Path

import pytest

from leanrx_core.errors import UserError
from leanrx_core.files import TEMPORARY, drop_unfinished_line, lock, write_atomic


def test_write_atomic_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "first")
    write_atomic(path, b"second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "first")

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("content", "expected"), [("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", ""), ("", ""), (None, None)]
)
def test_unfinished_lines_are_dropped(tmp_path: Path, content: str | None, expected: str | None) -> None:
    path = tmp_path / "journal.txt"
    if content is not None:
        path.write_text(content)
    drop_unfinished_line(path)
    assert (path.read_text() if path.exists() else None) == expected


def _lock_error(folder: Path) -> str:
    """Error of an attempt to lock a folder, or no text if it succeeds."""
    try:
        with lock(folder):
            return ""
    except UserError as error:
        return str(error)


def test_lock_excludes_other_processes_until_it_is_closed(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with lock(tmp_path):
            message = pool.apply(_lock_error, (tmp_path,))
            assert message == f"{tmp_path}: in use by another process; wait for it or stop it"
        assert pool.apply(_lock_error, (tmp_path,)) == ""


def test_lock_removes_unfinished_files(tmp_path: Path) -> None:
    (tmp_path / "sub" / f"{TEMPORARY}folder").mkdir(parents=True)
    (tmp_path / "sub" / f"{TEMPORARY}file").touch()
    (tmp_path / "sub" / "result.txt").touch()
    with lock(tmp_path):
        assert [p.name for p in (tmp_path / "sub").iterdir()] == ["result.txt"]
