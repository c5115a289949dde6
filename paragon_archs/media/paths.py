"""Files by name: what their endings mean, and the images of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """A format that images are written in.

    Attributes:
        name: Pillow's name of it.
        side: Largest width and height that it holds.
        deep: Whether it holds 16 bits a value.
        alpha: Whether transparency is written in it.
    """

    name: str
    side: int = 2**31 - 1
    deep: bool = False
    alpha: bool = True


_PNG = Format("PNG", deep=True)
_JPEG = Format("JPEG", 65_500, alpha=False)  # libjpeg's limit; the field holds 65535
_TIFF = Format("TIFF", deep=True)
_PPM = Format("PPM", deep=True, alpha=False)

# Suffix -> what is written under it.
FORMATS: dict[str, Format] = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format("WEBP", 16_383),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": Format("AVIF", 65_536),
    ".bmp": Format("BMP", alpha=False),
    ".ppm": _PPM,
    ".tga": Format("TGA", 65_535),
    ".gif": Format("GIF", 65_535),
    ".jfif": _JPEG,
    ".jpe": _JPEG,
    ".pnm": _PPM,
}
_READ_ONLY = (".apng", ".pgm", ".dib", ".jp2", ".ico", ".pcx", ".sgi")
IMAGE_SUFFIXES = frozenset([*FORMATS, *_READ_ONLY])

# Suffix -> the package that brings it; read where that is installed.
PLUGINS = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
# Images that are no pixels yet, or not in one layer.
UNSUPPORTED = frozenset(
    ".svg .psd .xcf .exr .hdr .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pdf".split()
)

# Images that may hold several frames -> Pillow's name of the format.
ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}

VIDEO_SUFFIXES = frozenset(
    """
    .mp4 .mkv .mov .webm .avi .m4v .ts .m2ts .mts .mpg .mpeg .m2v .vob .wmv .asf .flv
    .f4v .3gp .3g2 .ogv .mxf .dv .y4m
    """.split()
)
# What videos are written under -> FFmpeg's muxer; other sources' results become .mkv.
VIDEO_OUTPUTS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}


def check_format(suffix: str) -> Format:
    """Returns the format that is written under `suffix` (`.png`).

    Raises:
        ValueError: when it is not one that can be written.
    """
    found = FORMATS.get(suffix.lower())
    if found is None:
        raise ValueError(
            f"Expected the output's extension to be one of {', '.join(FORMATS)}, but "
            f"got {suffix!r}. Choose one of these."
        )
    return found


def check_container(suffix: str) -> None:
    """Raises ValueError unless videos are written under `suffix` (`.mp4`)."""
    if suffix.lower() not in VIDEO_OUTPUTS:
        raise ValueError(
            f"Expected the video's extension to be one of "
            f"{', '.join(sorted(VIDEO_OUTPUTS))}, but got {suffix!r}. Choose one of "
            "these."
        )


def is_hidden(path: Path) -> bool:
    """Whether a relative path or one of its folders is hidden (`.name`)."""
    return any(part.startswith(".") for part in path.parts)


def is_reachable(path: Path) -> bool:
    """Whether the system says what stands at a path: not in a folder without entry."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True  # a broken link, or gone since
    return True


def walk(folder: Path) -> Iterator[Path]:
    """Yields the files under `folder` at any depth, sorted, hidden ones too."""
    found = (path for path in folder.rglob("*") if is_reachable(path))
    yield from sorted(path for path in found if path.is_file())


def find_images(folder: str | Path, recursive: bool = True) -> list[Path]:
    """Returns the images under a folder, sorted; hidden ones are left out.

    Args:
        folder: Where to look.
        recursive: Whether sub-folders are searched; BasicSR's own data sets read none.

    Raises:
        FileNotFoundError: when the folder does not exist or holds no image.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(
            "Expected the folder of images to be an existing folder, but got "
            f"{str(place)!r}. Check the path."
        )
    files = walk(place) if recursive else sorted(place.iterdir())
    found = [
        file
        for file in files
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not is_hidden(file.relative_to(place))
    ]
    if not found:
        raise FileNotFoundError(
            f"Expected the folder of images to hold images, but got {str(place)!r}, "
            f"which holds none. Known are {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return found
