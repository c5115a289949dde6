"""What a file is, by its ending and, where that is not enough, by its content."""

from __future__ import annotations

from pathlib import Path

from .animations import is_animated
from .paths import (
    ANIMATED,
    IMAGE_SUFFIXES,
    PLUGINS,
    UNSUPPORTED,
    VIDEO_OUTPUTS,
    VIDEO_SUFFIXES,
)
from .video import holds_video


def moves(source: Path, output: Path) -> bool:
    """Whether all frames of a source go into an output: a video, or an animated image
    whose result can hold several frames."""
    return is_video(source) or (holds_frames(output) and is_animated(source))


def is_video(source: Path) -> bool:
    """Whether a file is a video: by its ending, by its content where that says
    nothing."""
    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    known = suffix in IMAGE_SUFFIXES or suffix in PLUGINS or suffix in UNSUPPORTED
    return not known and source.is_file() and holds_video(source)


def holds_frames(output: Path) -> bool:
    """Whether several frames can be written under a name."""
    return output.suffix.lower() in (*ANIMATED, *VIDEO_OUTPUTS)
