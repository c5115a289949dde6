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
from torch import Tensor

from ..media.containers import Encoded, Streams, choose, mux
from ..media.encoders import CODECS, Encoding, encoding
from ..media.paths import VIDEO_OUTPUTS
from ..media.resizing import resized
from ..media.video import SourceFrame, VideoSource, local
from ..media.video_timing import settle
from ..utils.files import atomic_write
from ..utils.optional import need
from ..utils.progress import task
from .overlap import prefetch
from .segments import Segments, fingerprint
from .temporal import ALPHA, FrameUpscaler, has_feature_tap
from .upscaler import Upscaler

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSE = 0.005  # relative change of the aspect that rounding to pixels makes


@dataclass(frozen=True)
class VideoOptions:
    """How videos are written.

    Attributes:
        codec: Encoder; by default x264, x265 for more than 8 bits, VP9 in WebM.
        quality: The encoder's constant quality (crf), lower is better.
        pixel_format: Like `yuv420p`; by default the source's chroma and 8 or 10 bits.
        preset: The encoder's preset.
        temporal: Share of the features of the frame before; None for its default
            (0.2 for networks with a feature tap, none for others), 0 for none.
        batch: Frames that are computed side by side where memory allows.
        segment: Frames of a part; a killed run loses at most one part.
        deinterlace: Whether the two fields of a frame become one full frame first.
        scale_to: Width and height that results are brought to.
        downscale: Factor that results are made smaller by.
    """

    codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None
    preset: str | None = None
    temporal: float | None = None
    batch: int = 1
    segment: int = 240
    deinterlace: bool = False
    scale_to: tuple[int, int] | None = None
    downscale: float | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            raise ValueError(
                f"Expected codec to be one of {', '.join(CODECS)}, but got "
                f"{self.codec!r}. Choose one of these."
            )
        for name in ("batch", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Expected {name} to be at least 1, but got "
                    f"{getattr(self, name)!r}. Choose a larger value."
                )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the size that results of a width and height are brought to."""
        if self.scale_to is not None:
            return self.scale_to
        if self.downscale is not None:
            return (
                max(1, round(width / self.downscale)),
                max(1, round(height / self.downscale)),
            )
        return width, height


@dataclass(frozen=True)
class VideoReport:
    """What came of a video.

    Attributes:
        frames: How many were written.
        damage: What of the source could not be read, in words; None if all was.
    """

    frames: int
    damage: str | None


@dataclass
class _Frame:
    pixels: np.ndarray
    time: int
    duration: int  # 0 where nothing says so
    state: dict[str, Tensor]  # what the worker remembers after this frame


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
    suffix = _suffix(output)
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"Expected the folder of the output to exist, but got {str(output)!r}. "
            f"Create {str(output.parent)!r} first."
        )
    alpha = options.temporal
    if alpha is None and has_feature_tap(upscaler):
        alpha = getattr(upscaler.descriptor, "alpha", None) or ALPHA
    worker = FrameUpscaler(upscaler, alpha or None)
    with VideoSource(source, options.deinterlace) as opened, _writing(output):
        frames = opened.frames()
        first = next(frames)
        wanted, streams = _planned(opened, first, upscaler.scale, suffix, options)
        settings = {**asdict(options), **upscaler.identity()}
        with Segments(output, fingerprint(opened.path, settings), resume) as parts:
            if parts.done:
                logger.warning("%s: going on after %d frames", output, parts.done)
                worker.restore(parts.state())
            decoded = prefetch(_chained(first, frames), 4)
            results = prefetch(_compute(worker, decoded, options, parts.done), 4)
            # Their threads end before the file that they read is closed.
            with contextlib.closing(decoded), contextlib.closing(results):
                shown: Iterable[_Frame] = results
                if progress:
                    shown = _counted(results, opened.total, parts.done)
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
    suffix = _suffix(output)
    with (
        VideoSource(source, options.deinterlace, quiet=True) as opened,
        _writing(output),
    ):
        _planned(opened, next(opened.frames()), scale, suffix, options)


def _suffix(output: Path) -> str:
    suffix = output.suffix.lower()
    if suffix not in VIDEO_OUTPUTS:
        raise ValueError(
            f"Expected the video's extension to be one of "
            f"{', '.join(sorted(VIDEO_OUTPUTS))}, but got {output.suffix!r}. Choose "
            "one of these."
        )
    return suffix


def _planned(
    source: VideoSource,
    first: SourceFrame,
    scale: int,
    suffix: str,
    options: VideoOptions,
) -> tuple[Encoding, Streams]:
    """Returns how a source is encoded, and what else of it goes into the output."""
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


def _compute(
    worker: FrameUpscaler,
    frames: Iterable[SourceFrame],
    options: VideoOptions,
    done: int,
) -> Iterator[_Frame]:
    waiting: list[SourceFrame] = []
    batch = 1 if worker.alpha is not None else options.batch  # each needs the last one

    def flush() -> Iterator[_Frame]:
        results = worker.frames([frame.pixels for frame in waiting])
        for frame, result in zip(waiting, results, strict=True):
            pixels = _brought(result, options)
            yield _Frame(pixels, frame.time, frame.duration, worker.memory())
        waiting.clear()

    for index, frame in enumerate(frames):
        if index < done:  # in a part of an earlier run
            worker.skip(frame.pixels)
            continue
        waiting.append(frame)
        if len(waiting) >= batch:
            yield from flush()
    if waiting:
        yield from flush()


def _brought(pixels: np.ndarray, options: VideoOptions) -> np.ndarray:
    """Returns a result in the size that was asked for."""
    size = options.size(pixels.shape[1], pixels.shape[0])
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return resized(pixels, None, size)[0]


def _counted(
    frames: Iterable[_Frame], total: int | None, done: int
) -> Iterator[_Frame]:
    """Yields frames and counts them; `done` of them were there before."""
    with task("video", total, "frame") as counted:
        counted.advance(done)
        for frame in frames:
            yield frame
            counted.advance()


def _encode(
    frames: Iterable[_Frame], wanted: Encoding, parts: Segments, most: int
) -> int:
    """Writes frames as parts; returns how many there are in all."""
    av: Any = need("av", "video", "av")
    convert = wanted.converter()
    iterator = iter(frames)
    frame = next(iterator, None)
    while frame is not None:
        times: list[int] = []
        last = frame
        with atomic_write(parts.next_path()) as temporary:
            with av.open(local(temporary), "w", format="nut") as container:
                stream = wanted.open(container)
                while frame is not None and len(times) < most:
                    picture = convert(frame.pixels)
                    picture.pts, picture.time_base = len(times), 1 / wanted.rate
                    container.mux(stream.encode(picture))
                    times.append(frame.time)
                    last = frame
                    frame = next(iterator, None)
                container.mux(stream.encode(None))
        parts.finish(times, last.duration, last.state)
    return parts.done
