"""Videos and animated images, each the way that its result's format asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..media.animations import Animation, Frame, write_animation
from ..media.images import WriteOptions
from ..media.paths import ANIMATED
from ..media.resizing import resized
from .upscaler import Upscaler
from .video import VideoOptions, check_video, run_video

_OWN = ".webp"  # animations that FFmpeg's libraries do not read


def run_moving(
    upscaler: Upscaler,
    source: Path,
    output: Path,
    write: WriteOptions,
    video: VideoOptions,
    resume: bool = False,
) -> str | None:
    """Upscales a video or an animated image.

    Args:
        upscaler: With a network of any kind.
        source: What is read.
        output: A video or an animated image.
        write: How images are written.
        video: How videos are written, and the size of both.
        resume: Whether to go on with the parts of an earlier run of a video.

    Returns:
        What of the source could not be read, in words; None if all was.
    """
    if output.suffix.lower() not in ANIMATED:
        if source.suffix.lower() != _OWN:
            return run_video(upscaler, source, output, video, resume).damage
        with tempfile.TemporaryDirectory() as folder, Animation(source) as animation:
            exact = Path(folder) / f"{source.stem}.apng"
            write_animation(animation.frames(), exact)
            return run_video(upscaler, exact, output, video).damage
    with Animation(source) as animation:
        frames = _upscaled(upscaler, animation, video)
        write_animation(frames, output, animation.loop, write.quality, write.lossless)
    return None


def check_moving(source: Path, output: Path, scale: int, video: VideoOptions) -> None:
    """Finds out before any work whether a video's result can be written.

    Raises:
        As `run_moving`. Animated images are not looked at.
    """
    if output.suffix.lower() not in ANIMATED and source.suffix.lower() != _OWN:
        check_video(source, output, scale, video)


def _upscaled(
    upscaler: Upscaler, animation: Animation, options: VideoOptions
) -> Iterator[Frame]:
    for frame in animation.frames():
        picture = upscaler.picture(frame.picture)
        size = options.size(*picture.size)
        if size != picture.size:
            made = resized(picture.pixels, picture.alpha, size)
            picture = picture.with_pixels(*made)
        yield Frame(picture, frame.duration)
