"""A lock on what one process writes, which ends with the process whatever happens."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from pathlib import Path

# Where systems without POSIX locks lock a byte, far behind the file's text.
_BYTE = 1 << 20
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class HeldError(RuntimeError):
    """Another process holds the lock; `holder` describes it."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"held by {holder}")


class Lock:
    """A file that one process at a time holds; its text names it, and since when.

    The operating system frees it when the process ends, however that happens. A worker
    that the process forks does not hold it.

    Args:
        path: The lock file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            HeldError: when another process has it.
            OSError: when the file cannot be written.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle)
        except OSError as error:
            if error.errno in _BUSY:
                holder = os.read(handle, 4096).decode()
                os.close(handle)
                raise HeldError(holder or "another process") from error
            # Some network drives know no locks; without one the work still goes on.
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        os.ftruncate(handle, 0)
        os.write(handle, text.encode())
        self._file = handle

    def check(self) -> None:
        """Raises HeldError when another process holds the lock; creates nothing."""
        if self._file is None and self.path.exists():
            probe = Lock(self.path)
            probe.acquire()
            probe.release()

    def release(self) -> None:
        """Gives the lock back and removes its file."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _take(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 (of that system alone)

        os.lseek(handle, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl  # noqa: PLC0415 (of those systems alone)

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
