"""Video files: every frame upscaled, everything else carried over untouched."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..media.containers import Encoded, Streams, choose, mux
from ..media.encoders import Encoding, encoding
from ..media.paths import check_container
from ..media.video import SourceFrame, VideoSource, local
from ..media.video_timing import settle
from ..utils.files import atomic_write
from ..utils.optional import need
from ..utils.progress import task
from .pipeline import MadeFrame, pipeline
from .segments import Segments, fingerprint
from .temporal import FrameUpscaler, carried
from .upscaler import Upscaler
from .video_options import VideoOptions

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSE = 0.005  # relative change of the aspect that rounding to pixels makes


@dataclass(frozen=True)
class VideoReport:
    """What came of a video.

    Attributes:
        frames: How many were written.
        damage: What of the source could not be read, in words; None if all was.
    """

    frames: int
    damage: str | None


def upscale_video(
    upscaler: Upscaler,
    source: str | Path,
    output: str | Path,
    options: VideoOptions | None = None,
    resume: bool = False,
    progress: bool = True,
) -> int:
    """Upscales a video file; see `run_video`.

    Returns:
        The number of frames.
    """
    return run_video(upscaler, source, output, options, resume, progress).frames


def run_video(
    upscaler: Upscaler,
    source: str | Path,
    output: str | Path,
    options: VideoOptions | None = None,
    resume: bool = False,
    progress: bool = True,
) -> VideoReport:
    """Upscales a video file.

    Audio, subtitles, attachments, chapters and tags are copied (text subtitles in the
    output's own codec), times and rate are kept, rotation and mirrors are applied;
    depth and color carry through. What does not is logged, once each. Packets that
    cannot be decoded are skipped and counted. The output appears when it is whole;
    until then finished parts lie in a hidden folder beside it.

    Args:
        upscaler: With a network of any kind.
        source: A file that FFmpeg's libraries read.
        output: `.mkv`, `.mp4`, `.mov`, `.m4v` or `.webm`.
        options: How it is written.
        resume: Whether to go on with the parts of an earlier run.
        progress: Whether frames are counted for whoever shows progress.

    Raises:
        FileNotFoundError: when the source or the output's folder does not exist.
        ValueError: when the source holds no video, when the output's container cannot
            hold one of its streams, when another run writes this output.
        OSError: when the output cannot be written.
        ImportError: when PyAV is missing.
    """
    options = options or VideoOptions()
    output = Path(output)
    check_container(output.suffix)
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"Expected the folder of the output to exist, but got {str(output)!r}. "
            f"Create {str(output.parent)!r} first."
        )
    alpha = carried(upscaler, options.temporal)
    worker = FrameUpscaler(upscaler, alpha, options.cuda_graph)
    with _opened(source, options) as opened, _writing(output):
        frames = opened.frames()
        first = next(frames)
        wanted, streams = _planned(opened, first, upscaler.scale, output, options)
        chosen = {"codec": wanted.codec}  # of another machine it may be another
        settings = {**asdict(options), **chosen, **upscaler.identity()}
        with Segments(output, fingerprint(opened.path, settings), resume) as parts:
            if parts.done:
                logger.warning("%s: going on after %d frames", output, parts.done)
                worker.restore(parts.state())
            with contextlib.ExitStack() as threads:
                shown = pipeline(
                    threads,
                    _chained(first, frames),
                    worker,
                    wanted.converter(),
                    options,
                    parts.done,
                )
                if progress:
                    shown = _counted(shown, opened.total, parts.done)
                count = _encode(shown, wanted, parts, options.segment)
            times = [time for part in parts.times for time in part]
            encoded = Encoded(list(parts.paths()), wanted.aspect)
            with atomic_write(output) as temporary:
                timing = settle(opened.video, times, parts.last)
                mux(opened, streams, encoded, timing, temporary)
            parts.remove()
        if opened.damage:
            logger.warning("%s: %s", opened.path, opened.damage)
        return VideoReport(count, opened.damage)


def check_video(
    source: str | Path, output: str | Path, scale: int, options: VideoOptions
) -> None:
    """Finds out before any work whether a video can be read and its result written.

    Raises:
        As `run_video`.
    """
    output = Path(output)
    check_container(output.suffix)
    with _opened(source, options, quiet=True) as opened, _writing(output):
        _planned(opened, next(opened.frames()), scale, output, options)


def _opened(
    source: str | Path, options: VideoOptions, quiet: bool = False
) -> VideoSource:
    return VideoSource(source, options.deinterlace, quiet, options.decoder)


def _planned(
    source: VideoSource,
    first: SourceFrame,
    scale: int,
    output: Path,
    options: VideoOptions,
) -> tuple[Encoding, Streams]:
    """Returns how a source is encoded, and what else of it goes into the output."""
    suffix = output.suffix.lower()
    wanted = _encoding(source, first, scale, suffix, options)
    return wanted, choose(source, suffix, _trial(wanted, source))


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Words errors of writing; those of reading have been met where they arise."""
    av = need("av", "video", "av")
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise OSError(error.errno, _no_room(output, error)) from error
        raise ValueError(
            f"Expected the encoder to take the settings and to write {str(output)!r}, "
            f"but got: {error.strerror}. Check the settings."
        ) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(error.errno, _no_room(output, error)) from error


def _no_room(output: Path, error: OSError) -> str:
    return (
        f"Expected room for {str(output)!r} and its parts, but got: {error.strerror}. "
        "Free some and pass --resume, or choose another folder."
    )


def _encoding(
    source: VideoSource,
    first: SourceFrame,
    scale: int,
    suffix: str,
    options: VideoOptions,
) -> Encoding:
    height, width = (side * scale for side in first.pixels.shape[:2])
    size = options.size(width, height)
    aspect = source.aspect
    if aspect and source.turned:
        aspect = 1 / aspect
    stretch = Fraction(width * size[1], height * size[0])
    if abs(stretch - 1) > _CLOSE:  # the picture is shown as before
        aspect = (aspect or 1) * stretch
    return encoding(
        source,
        size,
        aspect and aspect.limit_denominator(255),
        suffix,
        options.codec,
        options.quality,
        options.pixel_format,
        options.preset,
    )


def _trial(wanted: Encoding, source: VideoSource) -> Encoded:
    """Returns a video of one black frame, encoded as the real ones will be."""
    kind = np.uint8 if source.look.bits == 8 else np.uint16
    black = np.zeros((wanted.size[1], wanted.size[0], 3), kind)
    file = io.BytesIO()
    av = need("av", "video", "av")
    with av.open(file, "w", format="nut") as container:
        stream = wanted.open(container)
        frame = wanted.converter()(black)
        frame.pts, frame.time_base = 0, 1 / wanted.rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Encoded([io.BytesIO(file.getvalue())], wanted.aspect)


def _chained(first: SourceFrame, rest: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
    yield first
    yield from rest


def _counted(
    frames: Iterable[MadeFrame], total: int | None, done: int
) -> Iterator[MadeFrame]:
    """Yields frames and counts them; `done` of them were there before."""
    with task("video", total, "frame") as counted:
        counted.advance(done)
        for frame in frames:
            yield frame
            counted.advance()


def _encode(
    frames: Iterable[MadeFrame], wanted: Encoding, parts: Segments, most: int
) -> int:
    """Writes frames as parts; returns how many there are in all."""
    av: Any = need("av", "video", "av")
    iterator = iter(frames)
    frame = next(iterator, None)
    while frame is not None:
        times: list[int] = []
        last = frame
        with atomic_write(parts.next_path()) as temporary:
            with av.open(local(temporary), "w", format="nut") as container:
                stream = wanted.open(container)
                while frame is not None and len(times) < most:
                    picture = frame.picture
                    picture.pts, picture.time_base = len(times), 1 / wanted.rate
                    container.mux(stream.encode(picture))
                    times.append(frame.time)
                    last = frame
                    frame = next(iterator, None)
                container.mux(stream.encode(None))
        parts.finish(times, last.duration, last.state)
    return parts.done
