"""Video files: every frame upscaled, everything else carried over untouched."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..media.paths import VIDEO_OUTPUTS
from ..media.video_color import Look, from_rgb, has_alpha, look_of, to_rgb
from ..media.video_timing import Timing, nominal_rate, settle
from ..utils.files import atomic_write
from ..utils.optional import need
from .overlap import ahead
from .segments import Segments, fingerprint
from .temporal import ALPHA, FrameUpscaler, has_feature_tap
from .upscaler import Upscaler

logger = logging.getLogger(__name__)

# Codec -> quality by default, in its own terms, and its other options.
_CODECS: dict[str, tuple[int | None, dict[str, str]]] = {
    "libx264": (16, {"preset": "medium"}),
    "libx265": (18, {"preset": "medium", "x265-params": "log-level=error"}),
    "libsvtav1": (22, {"preset": "6"}),
    "libvpx-vp9": (20, {"b:v": "0", "row-mt": "1"}),
    "ffv1": (None, {}),
    "prores_ks": (None, {"profile": "3"}),
}
# Tags of containers that the writer makes anew.
_OWN_TAGS = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "creation_time",
)
# Muxers whose packets last from one decoding time to the next.
_BY_DECODING = ("mp4", "mov", "ipod")
# Side data of frames that encoders are not given; colour tags are.
_HDR = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")


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
    """

    codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None
    preset: str | None = None
    temporal: float | None = None
    batch: int = 1
    segment: int = 240

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in _CODECS:
            raise ValueError(
                f"Expected codec to be one of {', '.join(_CODECS)}, but got "
                f"{self.codec!r}. Choose one of these."
            )
        for name in ("batch", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Expected {name} to be at least 1, but got "
                    f"{getattr(self, name)!r}. Choose a larger value."
                )


@dataclass
class _Frame:
    pixels: np.ndarray
    pts: int
    duration: int  # 0 where nothing says so
    done: bool = False  # in a part of an earlier run
    state: Tensor | None = None  # features after this frame


def upscale_video(
    upscaler: Upscaler,
    source: str | Path,
    output: str | Path,
    options: VideoOptions | None = None,
    resume: bool = False,
    progress: bool = True,
) -> int:
    """Upscales a video file.

    Audio, subtitles, attachments, chapters and tags are copied, timestamps are kept,
    rotation is applied; depth and colour tags carry through, transparency does not
    (the log says so). The output appears when it is whole; until then finished parts
    lie in a hidden folder beside it.

    Args:
        upscaler: With a network of any kind.
        source: A file that FFmpeg's libraries read.
        output: `.mkv`, `.mp4`, `.mov`, `.m4v` or `.webm`.
        options: How it is written.
        resume: Whether to go on with the parts of an earlier run.
        progress: Whether to show a bar with frames per second and what is left.

    Returns:
        The number of frames.

    Raises:
        FileNotFoundError: when the source or the output's folder does not exist.
        ValueError: when the source holds no video, or the output's container cannot
            hold one of its streams.
        ImportError: when PyAV is missing.
    """
    av = need("av", "video", "av")
    options = options or VideoOptions()
    source, output = Path(source), Path(output)
    if output.suffix.lower() not in VIDEO_OUTPUTS:
        raise ValueError(
            f"Expected the video's extension to be one of "
            f"{', '.join(sorted(VIDEO_OUTPUTS))}, but got {output.suffix!r}. Choose "
            "one of these."
        )
    alpha = options.temporal
    if alpha is None and has_feature_tap(upscaler):
        alpha = getattr(upscaler.descriptor, "alpha", None) or ALPHA
    worker = FrameUpscaler(upscaler, alpha or None)
    try:
        with av.open(str(source)) as container:
            stream = _video_stream(container, source)
            look = look_of(stream)
            if has_alpha(stream):
                logger.warning("%s: its transparency is left out", source)
            _check_container(av, container, stream, output)
            settings = {**asdict(options), **upscaler.identity()}
            parts = Segments(output, fingerprint(source, settings), resume)
            if parts.done:
                logger.warning("%s: going on after %d frames", output, parts.done)
                worker.state = parts.state()
                if worker.state is not None:
                    worker.state = worker.state.to(upscaler.device)
            frames = ahead(_decode(container, stream, look, parts.done), 4)
            results = ahead(_compute(worker, frames, options.batch), 4)
            # Their threads end before the container that they read is closed.
            with contextlib.closing(frames), contextlib.closing(results):
                shown = _bar(results, stream, parts.done, progress)
                count = _encode(av, shown, stream, look, output, options, parts)
        if not count:
            raise ValueError(
                f"Expected {str(source)!r} to hold frames, but none can be decoded. "
                "Check the file."
            )
        with atomic_write(output) as temporary:
            _mux(av, source, parts, temporary)
    except FileNotFoundError as error:
        if error.errno is None or Path(source).exists():
            raise
        raise FileNotFoundError(
            f"Expected a video, but there is no file {str(source)!r}. Check the path."
        ) from error
    except av.error.FFmpegError as error:
        raise ValueError(
            f"Expected {str(source)!r} to be a whole video, and its encoder to take "
            f"the settings, but got: {error}. Check the file and the flags."
        ) from error
    parts.remove()
    return count


def _video_stream(container: Any, source: Path) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic:
            stream.thread_type = "AUTO"
            return stream
    raise ValueError(
        f"Expected {str(source)!r} to hold a video stream, but it has none. Leave it "
        "out."
    )


def _check_container(av: Any, container: Any, video: Any, output: Path) -> None:
    """Finds out before any work whether the output can hold the other streams."""
    name = {".mkv": "matroska", ".m4v": "mp4"}.get(
        output.suffix.lower(), output.suffix.lower()[1:]
    )
    held = av.open("/dev/null" if name == "null" else _Nowhere(), "w", format=name)
    for stream in container.streams:
        if stream is video or stream.type in ("attachment", "data"):
            if stream.type == "attachment" and name != "matroska":
                raise _unfit(output, "an attachment")
            continue
        codec = stream.codec_context.codec.name if stream.codec_context else None
        if codec is None:
            continue
        canonical = stream.codec_context.codec.canonical_name
        if not {codec, canonical} & held.supported_codecs:
            raise _unfit(output, f"a stream of {canonical}")
    held.close()


class _Nowhere:
    """A file that takes everything and keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0


def _unfit(output: Path, what: str) -> ValueError:
    return ValueError(
        f"Expected a container that holds {what}, as the source does, but got "
        f"{output.suffix!r}. Write to .mkv."
    )


def _decode(container: Any, stream: Any, look: Look, done: int) -> Iterator[_Frame]:
    """Yields frames in order, timestamps strictly rising in the stream's time base."""
    last: int | None = None
    step = max(1, round(1 / (nominal_rate(stream) * stream.time_base)))
    for index, (frame, stamp) in enumerate(_stamped(container, stream)):
        if not index and any(side.type.name in _HDR for side in frame.side_data):
            logger.warning("HDR mastering display and light levels are left out")
        if last is None:
            last = stamp or 0
        else:  # raw streams carry no timestamps
            last = last + step if stamp is None else max(stamp, last + 1)
        yield _Frame(to_rgb(frame, look), last, frame.duration or 0, index < done)


def _stamped(container: Any, stream: Any) -> Iterator[tuple[Any, int | None]]:
    """Yields frames in the order shown, each with its timestamp if there is one."""
    # AVI stores times of decoding alone: the frames shown take them in turn.
    by_decoding = container.format.name == "avi"
    stamps: deque[int] = deque()
    for packet in container.demux(stream):
        if by_decoding and packet.size and packet.dts is not None:
            stamps.append(packet.dts)
        for frame in packet.decode():
            yield frame, stamps.popleft() if stamps else frame.pts


def _compute(
    worker: FrameUpscaler, frames: Iterable[_Frame], batch: int
) -> Iterator[_Frame]:
    waiting: list[_Frame] = []
    if worker.alpha is not None:
        batch = 1  # each frame needs the one before

    def flush() -> Iterator[_Frame]:
        results = worker.frames([frame.pixels for frame in waiting])
        for frame, pixels in zip(waiting, results, strict=True):
            yield _Frame(pixels, frame.pts, frame.duration, state=worker.state)
        waiting.clear()

    for frame in frames:
        if frame.done:
            worker.skip(frame.pixels)
            continue
        waiting.append(frame)
        if len(waiting) >= batch:
            yield from flush()
    if waiting:
        yield from flush()


def _bar(
    frames: Iterable[_Frame], stream: Any, done: int, progress: bool
) -> Iterable[_Frame]:
    if not progress:
        return frames
    tqdm = need("tqdm", "the progress bar", "tqdm").tqdm
    total = stream.frames or None  # a hint only: many containers do not tell
    if not total and stream.duration and stream.average_rate:
        total = round(stream.duration * stream.time_base * stream.average_rate)
    return tqdm(frames, total=total, initial=done, unit="frame", disable=None)


def _encode(
    av: Any,
    frames: Iterable[_Frame],
    source: Any,
    look: Look,
    output: Path,
    options: VideoOptions,
    parts: Segments,
) -> int:
    """Writes frames as parts; returns how many frames there are in all."""
    # Encoders count frames; the muxer gives each one its time. So a stream's own header
    # names the rate, and no source's timestamps can upset an encoder.
    rate = nominal_rate(source)
    iterator = iter(frames)
    frame = next(iterator, None)
    while frame is not None:
        times: list[int] = []
        state: Tensor | None = None
        last = 0
        with atomic_write(parts.next_path()) as temporary:
            with av.open(str(temporary), "w", format="nut") as container:
                stream = _open(container, frame, source, look, output, options)
                while frame is not None and len(times) < options.segment:
                    picture = from_rgb(frame.pixels, look, stream.pix_fmt)
                    picture.pts, picture.time_base = len(times), 1 / rate
                    container.mux(stream.encode(picture))
                    times.append(frame.pts)
                    state, last = frame.state, frame.duration
                    frame = next(iterator, None)
                container.mux(stream.encode(None))
        parts.finish(times, last, state)
    return parts.done


def _open(
    container: Any,
    frame: _Frame,
    source: Any,
    look: Look,
    output: Path,
    options: VideoOptions,
) -> Any:
    """Adds the encoder's stream to a part."""
    codec = options.codec
    if codec is None:
        codec = "libx264" if look.bits == 8 else "libx265"
        codec = "libvpx-vp9" if output.suffix.lower() == ".webm" else codec
    height, width = frame.pixels.shape[:2]
    rate = nominal_rate(source)
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height = width, height
    stream.pix_fmt = options.pixel_format or _pixel_format(codec, look, width, height)
    context = stream.codec_context
    context.time_base = 1 / rate
    aspect = source.codec_context.sample_aspect_ratio
    if aspect:
        turned = source.codec_context.width < source.codec_context.height
        turned = turned != (width < height) and width != height
        context.sample_aspect_ratio = 1 / aspect if turned else aspect
    for name, value in look.tags.items():
        if value:
            setattr(context, name, value)
    usual, extra = _CODECS[codec]
    quality = usual if options.quality is None else options.quality
    settings = dict(extra)
    if usual is not None:
        settings["crf"] = str(quality)
    if options.preset is not None and "preset" in settings:
        settings["preset"] = options.preset
    context.options = settings
    return stream


def _pixel_format(codec: str, look: Look, width: int, height: int) -> str:
    chroma = look.chroma
    if codec == "prores_ks":
        return "yuv422p10le"
    if width % 2 or (height % 2 and chroma == "420"):
        chroma = "444"  # halved chroma needs even sides
    if codec == "libsvtav1":
        chroma = "420"
    return f"yuv{chroma}p{'' if look.bits == 8 else '10le'}"


def _mux(av: Any, source: Path, parts: Segments, target: Path) -> None:
    """Puts the finished parts and everything else of the source into one file."""
    with (
        av.open(str(source)) as container,
        av.open(str(next(parts.paths()))) as first,
        av.open(str(target), "w") as out,
    ):
        video = _video_stream(container, source)
        start = Fraction(container.start_time or 0, av.time_base)
        shown = [time for part in parts.times for time in part]
        timing = settle(video, shown, parts.last, start)
        streams: dict[int, Any] = {}
        for stream in container.streams:
            if stream is video:
                made = out.add_stream_from_template(first.streams.video[0])
                made.time_base = timing.time_base
                made.codec_context.framerate = timing.rate
                streams[stream.index] = made
            elif stream.type == "attachment":
                out.add_attachment(stream.name, stream.mimetype, stream.data)
                continue
            elif stream.type == "data":
                logger.warning(
                    "%s: its data stream %d is left out", source, stream.index
                )
                continue
            else:
                made = out.add_stream_from_template(stream)
                streams[stream.index] = made
            made.metadata.update(_kept(stream.metadata))
            made.disposition = stream.disposition
        out.metadata.update(_kept(container.metadata))
        out.set_chapters(_moved(container.chapters(), start))
        others = [s for s in container.streams if s.index in streams and s is not video]
        copied = _copied(container, others, start) if others else iter(())
        by_decoding = out.format.name in _BY_DECODING
        for packet, index in _interleaved(
            _packets(av, parts, timing, video.index, by_decoding), copied
        ):
            packet.stream = streams[index]
            out.mux(packet)


def _moved(chapters: list[Any], start: Fraction) -> list[Any]:
    """Returns chapters of a clock on which `start` seconds become 0."""
    return [
        {
            **chapter,
            **{
                key: chapter[key] - round(start / chapter["time_base"])
                for key in ("start", "end")
            },
        }
        for chapter in chapters
    ]


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {
        k: v
        for k, v in metadata.items()
        if k.lower() not in _OWN_TAGS and not k.startswith("_STATISTICS")
    }


def _packets(
    av: Any, parts: Segments, timing: Timing, index: int, by_decoding: bool
) -> Iterator[tuple[Any, int]]:
    """Yields the parts' packets at a video's times, as many places early as the
    encoder moved a frame at the most.

    Args:
        av: PyAV.
        parts: The finished parts.
        timing: The video's.
        index: Of the source's stream, which goes with each packet.
        by_decoding: Whether the container keeps the time from one packet's decoding
            to the next's as its duration, as MP4 does: then the last one ends the
            whole.
    """
    order: list[int] = []  # of each packet: its frame's place in the video
    for path in parts.paths():
        with av.open(str(path)) as container:
            stamps = [p.pts for p in container.demux(video=0) if p.size]
        place = {pts: len(order) + i for i, pts in enumerate(sorted(stamps))}
        order += [place[pts] for pts in stamps]
    decoded = timing.decoding(max(at - place for at, place in enumerate(order)))
    at = 0
    for path in parts.paths():
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                place = order[at]
                packet.time_base = timing.time_base
                packet.pts, packet.dts = timing.times[place], decoded[at]
                packet.duration = timing.durations[place]
                at += 1
                if at == len(order) and by_decoding:
                    packet.duration = timing.durations[-1]
                yield packet, index


def _copied(
    container: Any, streams: list[Any], start: Fraction
) -> Iterator[tuple[Any, int]]:
    """Yields packets as they are, on a clock on which `start` seconds become 0."""
    last: dict[int, Any] = {}
    for packet in container.demux(streams):
        if not packet.size:  # the demuxer's end
            continue
        index = packet.stream.index
        if packet.dts is None:  # some containers keep none
            packet.dts = last.get(index, packet.pts or 0)
        last[index] = packet.dts
        if not packet.stream.disposition & type(packet.stream.disposition).attached_pic:
            shift = round(start / packet.time_base)
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
        yield packet, index


def _interleaved(
    first: Iterator[tuple[Any, int]], second: Iterator[tuple[Any, int]]
) -> Iterator[tuple[Any, int]]:
    """Merges packets by decoding time."""
    a, b = next(first, None), next(second, None)
    while a is not None or b is not None:
        if b is None or (a is not None and _seconds(a[0]) <= _seconds(b[0])):
            assert a is not None
            yield a
            a = next(first, None)
        else:
            yield b
            b = next(second, None)


def _seconds(packet: Any) -> Fraction:
    return packet.dts * packet.time_base
