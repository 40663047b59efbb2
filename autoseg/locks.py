"""A lock that a process holds on a file, and that the system lets go when the process ends, however it ends.

It depends on no clock, no process number, and no file that somebody has to remove.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: What file systems say that know no locks.
_NO_LOCKS = (errno.ENOLCK, getattr(errno, "ENOTSUP", errno.ENOLCK), errno.ENOSYS)


class HeldByAnother(Exception):
    """Another process holds the lock."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner  # its process number, as it wrote it there; empty where it did not come to it


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for the time of a `with` block; the file is removed at its end.

    Raises HeldByAnother at once where a living process holds it. On a file system without locks nobody is kept out.
    """
    file = _taken(path)
    try:
        os.truncate(file, 0)
        os.write(file, str(os.getpid()).encode("ascii"))
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file: then the next one takes it over
            path.unlink(missing_ok=True)
        os.close(file)  # lets go of the lock


def _taken(path: Path) -> int:
    """The open file, locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file):
                with suppress(OSError):
                    raise HeldByAnother(path.read_text(encoding="ascii", errors="replace").strip())
                raise HeldByAnother("")
            # whoever held it may have removed it in between: then another file has its name
            if _same_file(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    """Whether this process has the lock now."""
    try:
        if os.name == "nt":
            import msvcrt

            # far beyond the end, so that the number in the file can be read while it is locked
            os.lseek(file, 1 << 30, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
            return False
        raise
    return True
