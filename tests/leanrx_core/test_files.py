import errno
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from leanrx_core.errors import UserError, system_error
from leanrx_core.files import TEMPORARY, append_lines, drop_unfinished_line, lock, write_atomic


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


def test_a_lock_leaves_the_files_of_a_living_process_alone(tmp_path: Path) -> None:
    """A report locks the run while a process counts a shard of it, in a folder with a lock of its own."""
    shard, other = tmp_path / "shards" / "1-of-2", tmp_path / "shards" / "2-of-2"
    with lock(shard), lock(other):
        pass
    with multiprocessing.get_context("spawn").Pool(1) as pool, lock(shard):
        for folder in (shard, other):
            (folder / f"{TEMPORARY}table").touch()
        assert pool.apply(_lock_error, (tmp_path,)) == ""
        assert (shard / f"{TEMPORARY}table").exists()
        assert not (other / f"{TEMPORARY}table").exists()


def test_lock_removes_links_and_not_what_they_point_to(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "result.txt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{TEMPORARY}link").symlink_to(target)
    (tmp_path / "run" / "link").symlink_to(target)
    (target / f"{TEMPORARY}of-another-program").touch()
    with lock(tmp_path / "run"):
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "link"]
        assert len(list(target.iterdir())) == 2


@pytest.mark.parametrize("write", [write_atomic, append_lines])
def test_a_full_disk_is_named_and_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "journal.txt"
    write(path, "first\n")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, "second\n")
    assert caught.value.filename == str(path)
    assert str(system_error(caught.value)) == (f"{path}: No space left; free some space and run the same command again")
    assert path.read_text() == "first\n"
    assert [p.name for p in tmp_path.iterdir()] == ["journal.txt"]
