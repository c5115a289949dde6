"""Parts of a video that are done, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
from torch import Tensor

from ..utils.files import atomic_write
from ..utils.locks import HeldError, Lock

_MANIFEST = "manifest.json"


def fingerprint(source: Path, settings: dict[str, object]) -> str:
    """Returns what a result depends on, in short: the source's name, size and time,
    and the settings."""
    status = source.stat()
    text = json.dumps(
        [str(source.resolve()), status.st_size, status.st_mtime_ns, settings],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()


class Segments:
    """The folder beside an output that holds its finished parts; a context manager,
    which one process at a time enters.

    Args:
        output: The video that is to be written.
        print_: What the parts belong to; others are thrown away.
        resume: Whether to keep parts that are there.

    Raises:
        ValueError: on entering, when another process writes the same output.
    """

    def __init__(self, output: Path, print_: str, resume: bool) -> None:
        self.folder = output.parent / f".{output.name}.parts"
        self.times: list[list[int]] = []  # of each finished part's frames
        self.last = 0  # how long the last of them is shown; 0 where it is unknown
        self._output = output
        self._print = print_
        self._resume = resume
        self._lock = Lock(output.parent / f".{output.name}.lock")

    def __enter__(self) -> Segments:
        try:
            self._lock.acquire()
        except HeldError as error:
            raise ValueError(
                f"Expected {str(self._output)!r} to be written by this run alone, but "
                f"{error.holder} writes it. Wait for it, or choose another output."
            ) from error
        manifest = self.folder / _MANIFEST
        if self._resume and manifest.is_file():
            manifest_data = json.loads(manifest.read_text())
            if manifest_data["fingerprint"] == self._print:
                self.times, self.last = manifest_data["times"], manifest_data["last"]
        if not self.times and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        for file in self.folder.glob(".*.tmp*"):  # of a run that was killed
            file.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.times:  # nothing to go on with
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    @property
    def done(self) -> int:
        """Frames in finished parts."""
        return sum(map(len, self.times))

    def paths(self) -> Iterator[Path]:
        """Yields the finished parts' files in order."""
        for index in range(len(self.times)):
            yield self._path(index)

    def state(self) -> dict[str, Tensor]:
        """Returns what was remembered after the last finished part."""
        file = self._state_path(len(self.times))
        if not self.times or not file.is_file():
            return {}
        return safetensors.torch.load_file(file)

    def next_path(self) -> Path:
        """Returns where the next part goes, through `atomic_write`."""
        return self._path(len(self.times))

    def finish(self, times: list[int], last: int, state: dict[str, Tensor]) -> None:
        """Notes that the next part is whole.

        Args:
            times: Its frames' timestamps.
            last: How long its last frame is shown.
            state: What the next frame needs of those before.
        """
        before = self._state_path(len(self.times))
        # The state first: the manifest never counts a part whose state is not there.
        if state:
            with atomic_write(self._state_path(len(self.times) + 1)) as temporary:
                kept = {name: x.cpu().contiguous() for name, x in state.items()}
                safetensors.torch.save_file(kept, temporary)
        self.times.append(times)
        self.last = last
        with atomic_write(self.folder / _MANIFEST) as temporary:
            manifest_data = {
                "fingerprint": self._print,
                "times": self.times,
                "last": last,
            }
            temporary.write_text(json.dumps(manifest_data))
        before.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"part_{index:05d}.nut"

    def _state_path(self, count: int) -> Path:
        return self.folder / f"state_{count:05d}.safetensors"
