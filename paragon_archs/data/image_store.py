"""Images that are decoded once: in memory, or in a memory-mapped file.

A training run looks at every image thousands of times; decoding it each time is what
keeps a graphics card waiting. What does not fit the limit is decoded when needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..config.errors import OptionError
from ..utils.files import atomic_write, cache_folder
from .reading import UnreadableImageError, image_size, read_image

logger = logging.getLogger("basicsr")  # the host's: its file is the run's log

GB = 1024**3
_PREFETCHED = GB  # bytes of images that are decoded before they are asked for
_THREADS = min(8, os.cpu_count() or 1)
CACHES = ("ram", "mmap", "none")
BAD_IMAGE = ("error", "skip")

Place = tuple[int, tuple[int, ...], str]
"""Of an image in a mapped file: its first byte, its shape, the name of its type."""


def _decode_all(
    files: Sequence[Path], channels: int
) -> Iterator[tuple[Path, np.ndarray | UnreadableImageError]]:
    """Decodes in threads, in order; prefetches a few images, not the whole set."""

    def decode(file: Path) -> np.ndarray | UnreadableImageError:
        try:
            return read_image(file, channels)
        except UnreadableImageError as error:
            return error

    window = 4 * _THREADS
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(files), window):
            part = files[start : start + window]
            yield from zip(part, pool.map(decode, part), strict=True)


class ImageStore:
    """A list of decoded images, each (C, H, W) in uint8 or uint16.

    Args:
        files: The images.
        channels: 1, 3 or 4; see `read_image`.
        cache: "ram", "mmap" (one file on disk that later runs and all processes
            share), or "none" (decode whenever asked).
        limit_gb: Most memory or disk, in GiB, that the cache may take; images beyond
            it are decoded whenever asked.
        cache_dir: Folder of the memory-mapped file.
        on_bad_image: "error", or "skip": name it in the log and go on without it.
        least: Smallest height and width.
        least_key: The option that asks for it, for messages.

    Raises:
        OptionError: for an unreadable or too small image, unless they are skipped,
            and when no image is left.
        ValueError: for a value that is not allowed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        channels: int = 3,
        cache: str = "ram",
        limit_gb: float = 8.0,
        cache_dir: str | Path | None = None,
        on_bad_image: str = "error",
        least: int = 1,
        least_key: str = "gt_size",
    ) -> None:
        for name, value, allowed in (
            ("channels", channels, (1, 3, 4)),
            ("cache", cache, CACHES),
            ("on_bad_image", on_bad_image, BAD_IMAGE),
        ):
            if value not in allowed:
                raise ValueError(
                    f"Expected {name} to be one of {', '.join(map(str, allowed))}, but "
                    f"got {value!r}. Correct it in the option file."
                )
        self.channels = channels
        self.least, self.least_key = least, least_key
        self.skip = on_bad_image == "skip"
        self.limit = int(limit_gb * GB)
        self.files: list[Path] = []
        self._held: list[np.ndarray | None] = []  # None: decode when asked
        self._map_file: Path | None = None
        self._places: list[Place | None] = []
        self._coming: dict[int, Future[np.ndarray]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._largest = 1  # bytes of an image that was decoded when asked for
        if cache == "mmap":
            folder = Path(cache_dir) if cache_dir else cache_folder()
            self._open_map(list(files), folder)
        else:
            self._fill(list(files), 0 if cache == "none" else self.limit)
        if not self.files:
            raise OptionError(
                f"Expected at least one usable image, but got {len(files)} unusable "
                "ones. The log names them."
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns image `index`; treat it as read-only.

        Raises:
            UnreadableImageError: when it is not cached and no longer readable.
        """
        held = self._held[index]
        if held is not None:
            return held
        coming = self._coming.get(index)
        return self._decode(index) if coming is None else coming.result()

    def expect(self, indices: Sequence[int]) -> None:
        """Begins to decode images that will be asked for, the next ones first.

        What was expected before and is no longer is dropped. Threads decode, so a
        training step need not; which images come, and in what order, stays as it is.
        """
        self._pool = self._pool or ThreadPoolExecutor(_THREADS, "decode")
        wanted = dict.fromkeys(i for i in indices if self._held[i] is None)
        next_ones = list(wanted)[: max(1, _PREFETCHED // self._largest)]
        for index in [i for i in self._coming if i not in wanted]:
            self._coming.pop(index).cancel()
        for index in next_ones:
            if index not in self._coming:
                self._coming[index] = self._pool.submit(self._decode, index)

    def _decode(self, index: int) -> np.ndarray:
        image = read_image(self.files[index], self.channels)
        self._largest = max(self._largest, image.nbytes)
        return image

    def sides(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of image `index`, from its header if not cached."""
        held = self._held[index]
        if held is not None:
            return held.shape[1], held.shape[2]
        return image_size(self.files[index])

    @property
    def cached(self) -> int:
        """How many of the images are held decoded."""
        return sum(held is not None for held in self._held)

    def _refuse(self, error: OptionError) -> None:
        if not self.skip:
            raise error
        logger.warning("Skipped: %s", error)

    def _fits(self, file: Path, height: int, width: int) -> bool:
        if min(height, width) >= self.least:
            return True
        self._refuse(
            OptionError(
                f"Expected the images to be at least {self.least_key} "
                f"({self.least}) wide and high, but got {str(file)!r} with "
                f"{width}x{height}. Lower {self.least_key} or remove it."
            )
        )
        return False

    def _fill(self, files: list[Path], limit: int) -> None:
        """Decodes into memory until the limit; of the rest it reads the headers."""
        taken, decoded = 0, 0
        if limit > 0:
            for file, image in _decode_all(files, self.channels):
                decoded += 1
                if isinstance(image, UnreadableImageError):
                    self._refuse(image)
                elif self._fits(file, *image.shape[1:]):
                    over = taken + image.nbytes > limit
                    taken += 0 if over else image.nbytes
                    self.files.append(file)
                    self._held.append(None if over else image)
                    if over:
                        break
        for file in files[decoded:]:
            try:
                height, width = image_size(file)
            except UnreadableImageError as error:
                self._refuse(error)
                continue
            if self._fits(file, height, width):
                self.files.append(file)
                self._held.append(None)
        if limit > 0 and self.cached < len(self.files):
            logger.warning(
                "%d of %d images fit cache_limit_gb; the others are decoded whenever "
                "they are needed. Raise it, or set cache: mmap.",
                self.cached,
                len(self.files),
            )

    def _fingerprint(self, files: list[Path]) -> str:
        """Names a cache: another file, size, date, form or limit is another one."""
        digest = hashlib.sha256(f"1 {self.channels} {self.limit}".encode())
        for file in files:
            about = file.stat()
            digest.update(
                f"{file.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode()
            )
        return digest.hexdigest()[:24]

    def _open_map(self, files: list[Path], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = self._fingerprint(files)
        index = folder / f"{name}.json"
        pixels = folder / f"{name}.bin"
        if not (index.is_file() and pixels.is_file()):
            self._write_map(files, index, pixels)
        about = json.loads(index.read_text(encoding="utf-8"))
        self._map_file = pixels
        for problem in about["bad"]:
            self._refuse(UnreadableImageError(problem))
        for file, place in about["images"]:
            shape = image_size(Path(file)) if place is None else place[1][1:]
            if self._fits(Path(file), *shape):
                self.files.append(Path(file))
                self._places.append(place)
        self._map()
        if self.cached < len(self.files):
            logger.warning(
                "%d of %d images fit cache_limit_gb; the others are decoded whenever "
                "they are needed. Raise it.",
                self.cached,
                len(self.files),
            )

    def _write_map(self, files: list[Path], index: Path, pixels: Path) -> None:
        limit = min(self.limit, shutil.disk_usage(index.parent).free * 9 // 10)
        images: list[tuple[str, Place | None]] = []
        bad: list[str] = []
        offset = 0
        with atomic_write(pixels) as temporary, temporary.open("wb") as out:
            for file, image in _decode_all(files, self.channels):
                if isinstance(image, UnreadableImageError):
                    bad.append(str(image))
                elif offset + image.nbytes > limit:
                    images.append((str(file), None))
                else:
                    images.append((str(file), (offset, image.shape, image.dtype.name)))
                    out.write(image.tobytes())
                    offset += image.nbytes
            out.flush()
        with atomic_write(index) as temporary:
            about = {"images": images, "bad": bad}
            temporary.write_text(json.dumps(about), encoding="utf-8")

    def _map(self) -> None:
        assert self._map_file is not None
        empty = self._map_file.stat().st_size == 0  # which cannot be mapped
        whole = None if empty else np.memmap(self._map_file, np.uint8, "r")
        self._held = []
        for place in self._places:
            if place is None or whole is None:
                self._held.append(None)
                continue
            offset, shape, dtype = place
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            part = whole[offset : offset + size].view(np.dtype(dtype))
            self._held.append(part.reshape(shape))

    def __getstate__(self) -> dict[str, object]:
        """A mapped store travels to worker processes as a path, not as pixels."""
        state = {**self.__dict__, "_coming": {}, "_pool": None}
        if self._map_file is not None:
            state["_held"] = []
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if self._map_file is not None:
            self._map()
