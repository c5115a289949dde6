"""Video files that are written: what of a source they hold, and the muxing."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.optional import need
from .paths import VIDEO_OUTPUTS
from .video import VideoSource, is_cover, local, open_container
from .video_timing import Clock, Timing

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream


_BY_DECODING = ("mp4", "mov")  # whose packets last from one decoding to the next
# Muxer -> the subtitles of text that it holds; others become the first of these.
_TEXTS = {
    "mp4": ("mov_text",),
    "mov": ("mov_text",),
    "matroska": ("subrip", "ass", "ssa", "webvtt", "text"),
    "webm": ("webvtt",),
}
_TEXT = frozenset(name for names in _TEXTS.values() for name in names)
# Tags of containers that the writer makes anew.
_OWN_TAGS = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "creation_time",
)
# Muxers that are given no aspect of pixels, and codecs that state none themselves.
_NO_ASPECT = ("matroska", "webm"), ("vp9", "av1")
_PROGRESSIVE = 1  # of AVFieldOrder
# Tags that describe the source's own encoding.
_OF_VIDEO = re.compile(
    "(alpha_mode|bps|number_of_|duration|_statistics)", re.IGNORECASE
)
_COPY, _ATTACH = "copy", "attach"
_COVERS = {"matroska": _ATTACH, "mp4": _COPY}
_STEP = Fraction(1, 1000)  # seconds between packets that came at one time
_TRIED = 64  # packets of the other streams that a trial writes


@dataclass(frozen=True)
class Streams:
    """What of a source goes into a file.

    Attributes:
        muxer: FFmpeg's name of the container.
        ways: Index of a stream beside the video -> `copy`, `attach`, or the name of
            the codec that its text is written in.
        timecode: Whether the start's timecode is kept.
    """

    muxer: str
    ways: Mapping[int, str]
    timecode: bool = True


@dataclass
class Encoded:
    """Encoded video: files or buffers in order, each of whole scenes.

    Attributes:
        parts: What PyAV opens.
        aspect: Width of a pixel over its height.
    """

    parts: Sequence[Any]
    aspect: Fraction | None
    _order: list[int] = field(default_factory=list)

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        with _opened(self.parts[0]) as container:
            return container.streams.video[0].codec_context.codec.canonical_name

    def order(self) -> list[int]:
        """Returns the place, among all frames as shown, of each packet's frame."""
        for part in self.parts if not self._order else ():
            stamps = [packet.pts for packet in _video_packets(part)]
            first = len(self._order)
            place = {pts: first + i for i, pts in enumerate(sorted(stamps))}
            self._order += [place[pts] for pts in stamps]
        return self._order

    def packets(self, timing: Timing, by_decoding: bool) -> Iterator[Packet]:
        """Yields the packets at a video's times, as many places early as the encoder
        moved a frame at the most.

        Args:
            timing: The video's.
            by_decoding: Whether the container keeps the time from one packet's decoding
                to the next's as its duration: then the last one ends the whole.
        """
        order = self.order()
        decoded = timing.decoding(max(at - place for at, place in enumerate(order)))
        packets = (packet for part in self.parts for packet in _video_packets(part))
        for at, packet in enumerate(packets):
            place = order[at]
            packet.time_base = timing.time_base
            packet.pts, packet.dts = timing.times[place], decoded[at]
            packet.duration = timing.durations[place]
            if by_decoding and at == len(order) - 1:
                packet.duration = timing.durations[-1]
            yield packet


def choose(source: VideoSource, suffix: str, trial: Encoded) -> Streams:
    """Finds out before any work what of a source a container holds, by writing one.

    Args:
        source: The source.
        suffix: Of the output, one of `VIDEO_OUTPUTS`.
        trial: A few frames as the encoder writes them.

    Raises:
        ValueError: when the container cannot hold the video or another stream that
            some container holds.
    """
    wanted = _streams(source, suffix)
    aspect = trial.aspect or Fraction(1)
    silent = wanted.muxer in _NO_ASPECT[0] and trial.codec in _NO_ASPECT[1]
    if silent and aspect != 1:
        ratio = f"{aspect.numerator}:{aspect.denominator}"
        source.leave_out(f"its pixels' aspect of {ratio}")
    if "stereo_mode" in source.video.metadata and wanted.muxer in _BY_DECODING:
        source.leave_out("its stereo mode")
    if _fits(source, wanted, trial) is None:
        return wanted
    plain = Streams(wanted.muxer, wanted.ways, timecode=False)
    if _fits(source, plain, trial) is None:
        source.leave_out("its timecode")
        return plain
    reason = _fits(source, Streams(wanted.muxer, {}, timecode=False), trial)
    if reason is not None:
        raise ValueError(
            f"Expected a container that holds the encoded video, but got {suffix!r} "
            f"({reason}). {_advice(source, suffix, trial)}"
        )
    kept = dict(wanted.ways)
    for index, way in wanted.ways.items():
        one = Streams(wanted.muxer, {index: way}, timecode=False)
        if _fits(source, one, trial) is None:
            continue
        what = _name(source.container.streams[index], way)
        if advice := _advice(source, suffix, trial, index):
            raise ValueError(
                f"Expected a container that holds {what}, as the source does, but got "
                f"{suffix!r}. {advice}"
            )
        source.leave_out(f"{what}, which no container holds,")
        del kept[index]
    return Streams(wanted.muxer, kept, timecode=False)


def _advice(
    source: VideoSource, refused: str, trial: Encoded, index: int | None = None
) -> str:
    """Names a container that holds a stream and, if there is one, all others too."""
    holders: list[str] = []
    for suffix in (".mkv", ".mp4", ".mov", ".webm"):
        if VIDEO_OUTPUTS[suffix] == VIDEO_OUTPUTS[refused]:
            continue
        streams = _streams(source, suffix)
        if _fits(source, streams, trial) is None:
            return f"Write to {suffix}."
        some = {i: way for i, way in streams.ways.items() if i == index}
        if _fits(source, Streams(streams.muxer, some, timecode=False), trial) is None:
            holders.append(suffix)
    return f"Write to {holders[0]}." if holders else ""


def _streams(source: VideoSource, suffix: str) -> Streams:
    """Returns what of a source should go into a container."""
    muxer = VIDEO_OUTPUTS[suffix]
    ways: dict[int, str] = {}
    for stream in source.container.streams:
        if stream is source.video:
            continue
        if stream.type == "attachment":
            ways[stream.index] = _ATTACH
        elif stream.type == "data" or stream.codec_context is None:
            if "timecode" not in stream.metadata:  # that track is written from the tag
                source.leave_out(f"its {stream.type} stream {stream.index}")
        elif is_cover(stream):
            if muxer in _COVERS:
                ways[stream.index] = _COVERS[muxer]
            else:
                source.leave_out("its cover")
        else:
            codec = stream.codec_context.codec.canonical_name
            texts = _TEXTS[muxer]
            convert = codec in _TEXT and codec not in texts
            ways[stream.index] = texts[0] if convert else _COPY
    return Streams(muxer, ways)


def _name(stream: Stream, way: str) -> str:
    if stream.type == "attachment":
        return "an attachment"
    kind = "a cover" if is_cover(stream) else "a stream"
    return f"{kind} of {stream.codec_context.codec.canonical_name}"


def _fits(source: VideoSource, streams: Streams, trial: Encoded) -> str | None:
    """Returns why a container does not take streams; None when it does."""
    av = need("av", "video", "av")
    rate = source.rate
    count = len(trial.order())
    timing = Timing(1 / rate, rate, range(count), [1] * count)
    try:
        mux(source, streams, trial, timing, _Nowhere(), _TRIED)
    except (av.error.FFmpegError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None


class _Nowhere:
    """A file that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self._at = self._size = 0

    def write(self, data: bytes) -> int:
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def mux(
    source: VideoSource,
    streams: Streams,
    encoded: Encoded,
    timing: Timing,
    target: object,
    most: int | None = None,
) -> None:
    """Puts encoded video and the other streams of its source into one file.

    Args:
        source: Where the other streams come from.
        streams: Which of them, and how.
        encoded: The video.
        timing: Its times.
        target: A path or a binary file.
        most: Packets of the other streams that are written, all by default.
    """
    av = need("av", "video", "av")
    target = local(target) if isinstance(target, (str, Path)) else target
    with (
        open_container(source.path) as container,
        _opened(encoded.parts[0]) as first,
        av.open(target, "w", format=streams.muxer) as out,
    ):
        made = out.add_stream_from_template(first.streams.video[0])
        made.time_base = timing.time_base
        context = made.codec_context
        context.framerate = timing.rate
        if encoded.aspect:
            context.sample_aspect_ratio = encoded.aspect
        for tag, value in source.look.tags.items():
            setattr(context, tag, value)
        context.field_order = _PROGRESSIVE
        if context.codec.canonical_name == "hevc" and streams.muxer in _BY_DECODING:
            context.codec_tag = "hvc1"  # the one that Apple's players open
        video = container.streams[source.video.index]
        _describe(made, video, streams.timecode)
        for key in [key for key in made.metadata if _OF_VIDEO.match(key)]:
            del made.metadata[key]
        sinks: dict[int, Stream] = {}
        for stream in container.streams:
            way = streams.ways.get(stream.index)
            if way == _ATTACH:
                out.add_attachment(*_attachment(source, stream))
            elif way is not None:
                sinks[stream.index] = _sink(out, stream, way)
        clock = Clock(container)
        out.metadata.update(_kept(container.metadata, streams.timecode))
        out.set_chapters(_moved(container.chapters(), clock.start))
        out.start_encoding()  # the header, even where no packet follows
        copied = islice(_copied(container, clock, sinks), most)
        by_decoding = streams.muxer in _BY_DECODING
        own = ((packet, made) for packet in encoded.packets(timing, by_decoding))
        for packet, sink in heapq.merge(own, copied, key=_decoding_time):
            packet.stream = sink
            out.mux(packet)


def _sink(out: OutputContainer, stream: Any, way: str) -> Stream:
    """Adds a stream like one of the source to a file."""
    if way == _COPY:
        made = out.add_stream_from_template(stream)
    else:
        made: Any = out.add_stream(way)
        made.time_base = stream.time_base
        # Decoding one gives the header that encoders want; it opens the decoder.
        stream.codec_context.open(strict=False)
        made.codec_context.subtitle_header = stream.codec_context.subtitle_header
    _describe(made, stream)
    return made


def _describe(made: Stream, stream: Stream, timecode: bool = True) -> None:
    made.metadata.update(_kept(stream.metadata, timecode))
    made.disposition = stream.disposition


def _attachment(source: VideoSource, stream: Any) -> tuple[str, str, bytes]:
    """Returns an attachment's name, type and content."""
    if stream.type == "attachment":
        return stream.name or "attachment", stream.mimetype or "", stream.data
    codec = stream.codec_context.codec.canonical_name
    ending, kind = {"mjpeg": ("jpg", "jpeg")}.get(codec, (codec, codec))
    with open_container(source.path) as container:
        packets = container.demux(container.streams[stream.index])
        data = next((bytes(packet) for packet in packets if packet.size), b"")
    name = stream.metadata.get("filename", f"cover.{ending}")
    return name, stream.metadata.get("mimetype", f"image/{kind}"), data


def _kept(metadata: dict[str, str], timecode: bool) -> dict[str, str]:
    return {
        k: v
        for k, v in metadata.items()
        if k.lower() not in _OWN_TAGS
        and not k.startswith("_STATISTICS")
        and (timecode or k.lower() != "timecode")
        and k.lower() not in ("filename", "mimetype")
    }


def _moved(chapters: list[Any], start: Fraction) -> list[Any]:
    """Returns chapters of a clock on which `start` seconds become 0."""
    moved = []
    for chapter in chapters:
        shift = round(start / chapter["time_base"])
        span = {key: chapter[key] - shift for key in ("start", "end")}
        moved.append({**chapter, **span})
    return moved


def _copied(
    container: InputContainer, clock: Clock, sinks: dict[int, Stream]
) -> Iterator[tuple[Packet, Stream]]:
    """Yields packets as they are, or their text in another codec, with their sinks."""
    last: dict[int, int] = {}
    for packet in container.demux() if sinks else ():
        if not packet.size:  # the demuxer's end
            continue
        clock(packet)
        index = packet.stream.index
        if index not in sinks:
            continue
        if packet.dts is None:  # some containers keep none
            packet.dts = last.get(index, packet.pts or 0)
        if packet.dts < last.get(index, packet.dts):  # muxers take no steps back
            packet.dts = last[index] + max(1, round(_STEP / packet.time_base))
            packet.pts = max(packet.pts or packet.dts, packet.dts)
        last[index] = packet.dts
        sink = sinks[index]
        if sink.type == "subtitle" and sink.name != packet.stream.name:
            yield from ((made, sink) for made in _converted(packet, sink))
        else:
            yield packet, sink


def _converted(packet: Packet, sink: Any) -> Iterable[Packet]:
    """Writes a subtitle's text in another codec; an empty one is what MP4 has between
    texts."""
    subtitles = packet.stream.codec_context.decode2(packet)
    if subtitles is None or not len(subtitles):
        return ()
    made = sink.codec_context.encode_subtitle(subtitles)
    made.time_base = packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    return (made,)


def _decoding_time(pair: tuple[Any, Stream]) -> Fraction:
    return pair[0].dts * pair[0].time_base


def _opened(part: Any) -> InputContainer:
    av = need("av", "video", "av")
    if isinstance(part, (str, Path)):
        return av.open(local(part))
    part.seek(0)
    return av.open(part)


def _video_packets(part: object) -> Iterator[Any]:
    with _opened(part) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)
