"""Images of several frames: GIF, WebP and PNG that move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import atomic_write
from ..utils.optional import need
from .images import Picture
from .paths import ANIMATED

_DEFAULT = 100  # milliseconds of a frame whose file states none, as browsers show it
_NONE = 10  # up to so many, browsers take it for none


@dataclass(frozen=True)
class Frame:
    """A frame of an animation, complete, and how many milliseconds it stays."""

    picture: Picture
    duration: int


def is_animated(path: str | Path) -> bool:
    """Whether a file is an image of several frames, by its ending and its header."""
    if Path(path).suffix.lower() not in ANIMATED:
        return False
    try:
        with _open(path) as opened:
            return getattr(opened, "n_frames", 1) > 1
    except _errors():
        return False  # whoever reads it finds out what is wrong


class Animation:
    """An animated image that is read; a context manager.

    Args:
        path: Its file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._image = _open(path)
        self.loop: int | None = self._image.info.get("loop")

    def __enter__(self) -> Animation:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.close()

    def __len__(self) -> int:
        return self._image.n_frames

    def frames(self) -> Iterator[Frame]:
        """Yields the frames in order, each as it is shown.

        Raises:
            ValueError: when one is damaged.
        """
        for index in range(len(self)):
            try:
                self._image.seek(index)
                shown = self._image.convert("RGBA")
            except _errors() as error:
                raise ValueError(
                    f"Expected {str(self._path)!r} to be a whole animation, but its "
                    f"frame {index + 1} is damaged ({error}). Check the file."
                ) from error
            duration = round(self._image.info.get("duration", 0))
            array = np.asarray(shown)
            opaque = bool((array[..., 3] == 255).all())
            picture = Picture(array[..., :3].copy(), None if opaque else array[..., 3])
            yield Frame(picture, duration if duration > _NONE else _DEFAULT)


def write_animation(
    frames: Iterable[Frame],
    output: str | Path,
    loop: int | None = None,
    quality: int = 95,
    lossless: bool = False,
) -> int:
    """Writes frames as an animated image.

    Args:
        frames: At least one, all of one size.
        output: `.gif`, `.webp`, `.png` or `.apng`.
        loop: How often it is shown, 0 without end; None where it is unknown.
        quality: Of WebP, 1 to 100.
        lossless: Whether WebP keeps every pixel.

    Returns:
        How many frames were written.
    """
    suffix = Path(output).suffix.lower()
    durations: list[int] = []

    def images() -> Iterator[Any]:
        for frame in frames:
            durations.append(frame.duration)
            yield _image(frame.picture, hard=suffix == ".gif")

    made = images()
    first = next(made)
    settings: dict[str, object] = {} if loop is None else {"loop": loop}
    if suffix == ".webp":
        settings |= {"quality": quality, "lossless": lossless}
    if suffix == ".gif":
        settings["disposal"] = 2  # clear pixels show nothing of the frame before
    with atomic_write(output) as temporary:
        # Pillow takes each frame's duration after the frame, so that the list may grow.
        first.save(
            temporary,
            ANIMATED[suffix],
            save_all=True,
            append_images=list(made) if ANIMATED[suffix] == "PNG" else made,
            duration=durations,
            **settings,
        )
    return len(durations)


def _image(picture: Picture, hard: bool) -> Any:
    """Returns Pillow's image of a picture; `hard` where pixels are seen or not."""
    image = need("PIL.Image", "writing images", "pillow")
    pixels = picture.pixels
    if picture.alpha is None:
        return image.fromarray(pixels)
    alpha = picture.alpha
    if hard:
        alpha = np.where(alpha >= 128, 255, 0).astype(np.uint8)
    return image.fromarray(np.dstack([pixels, alpha]))


def _open(path: str | Path) -> Any:
    return need("PIL.Image", "reading images", "pillow").open(path)


def _errors() -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are damaged or too large for it."""
    image = need("PIL.Image", "reading images", "pillow")
    bomb = image.DecompressionBombError
    return OSError, SyntaxError, EOFError, ValueError, bomb
