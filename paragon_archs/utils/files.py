"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ADVICE = {
    **dict.fromkeys(_FULL, "Free some space or choose another."),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Allow it, or choose another."),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "Name a folder."),
    errno.EISDIR: "Name a file in it.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def sentence_of(error: BaseException) -> str:
    """Returns an error's message; what the system says of a file, as a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, OSError) or not error.errno or not error.filename:
        return text
    advice = _ADVICE.get(error.errno, "Choose another.")
    name = printable(Path(os.fsdecode(error.filename)))
    return f"Expected to read or write {name!r}, but got: {error.strerror}. {advice}"


def cache_folder() -> Path:
    """Returns the folder of what this pack keeps between runs; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "paragon_archs"


def config_folder() -> Path:
    """Returns the folder of what the user chose or learned; it may not exist yet."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "paragon_archs"


def make_folder(folder: str | Path) -> Path:
    """Makes a folder for results, finds out whether it takes files, and returns it.

    Raises:
        ValueError: when it is a file, cannot be made, or takes none.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"Expected a folder that results can go to, but got {str(folder)!r} "
            f"({error.strerror}). Choose another."
        ) from error
    return Path(folder)


def check_folder(target: Path) -> None:
    """Finds out, before any work, whether the folder of an output takes files.

    Raises:
        FileNotFoundError: when it does not exist.
        PermissionError: when nothing can be written there.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected the folder of the output to exist, but got {str(target)!r}. "
            f"Create {str(target.parent)!r} first."
        )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that becomes `path` on success.

    The temporary file keeps `path`'s extension (writers choose formats by it), is
    synced to disk and then renamed; on any error it is removed and what stood at
    `path` before stays as it was.

    Raises:
        FileNotFoundError: when the folder of `path` does not exist.
        OSError: when the disk is full or the folder cannot be written.
    """
    target = Path(path)
    check_folder(target)
    start, end = f".{target.stem[:40]}-", f".tmp{target.suffix}"
    try:
        handle, name = tempfile.mkstemp(prefix=start, suffix=end, dir=target.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result has the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        # A full disk names no file, or the source of a copy; errors of FFmpeg are of a
        # class of their own.
        named = error.filename and error.errno not in _FULL
        if type(error) is not OSError or not error.errno or named:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def printable(file: Path) -> str:
    """Returns a name that any console can print."""
    return str(file).encode("utf-8", "backslashreplace").decode()
