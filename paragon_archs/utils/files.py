"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path:
    """Returns the folder of what this pack keeps between runs; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "paragon_archs"


def config_folder() -> Path:
    """Returns the folder of what the user chose or learned; it may not exist yet."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "paragon_archs"


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
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected the folder of the output to exist, but got {str(target)!r}. "
            f"Create {str(target.parent)!r} first."
        )
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem[:40]}-", suffix=f".tmp{target.suffix}", dir=target.parent
    )
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
        # A full disk names no file; errors of FFmpeg are of a class of their own.
        if type(error) is not OSError or not error.errno or error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def printable(file: Path) -> str:
    """Returns a name that any console can print."""
    return str(file).encode("utf-8", "backslashreplace").decode()
