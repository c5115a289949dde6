"""Video files that are read: their streams, their frames as arrays, their faults."""

from __future__ import annotations

import codecs
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import need
from .deinterlacing import deinterlaced
from .video_color import ToRGB, has_alpha, look_of, orientation
from .video_timing import Clock, nominal_rate

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream


logger = logging.getLogger(__name__)

# Side data of frames that no encoder is given, and what it is called.
_LEFT_OUT = {
    "MASTERING_DISPLAY_METADATA": "HDR mastering display and light levels",
    "CONTENT_LIGHT_LEVEL": "HDR mastering display and light levels",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "A53_CC": "closed captions in the pictures",
    "SPHERICAL": "its spherical projection",
    "ICC_PROFILE": "its ICC profile",
}
_HEADED = ("mov,", "matroska", "avi")  # whose headers state the true duration
_NO_VIDEO = ("image2", "tty")  # what FFmpeg takes any picture or text for
_INTERLACED = range(2, 6)  # of AVFieldOrder
_AS_LATIN = "paragon_archs.latin-1"  # tags of old files, whose bytes are no UTF-8
DECODERS = ("cpu", "cuda", "auto")
_FAILURES = 3  # reads in a row that may fail


@dataclass
class SourceFrame:
    """A decoded frame: (H, W, 3) uint8 or uint16, and its times in the stream's ticks.

    The duration is 0 where it is unknown how long the frame stays.
    """

    pixels: np.ndarray
    time: int
    duration: int


class VideoSource:
    """A video file that is read; a context manager.

    Args:
        path: A file that FFmpeg's libraries read.
        deinterlace: Whether two fields become one full frame.
        quiet: Whether nothing is logged of what is left out.
        decoder: One of `DECODERS`: on the CPU, by an NVIDIA card, or by the card where
            there is one.

    Raises:
        FileNotFoundError: when it does not exist.
        ValueError: when it is not a video, or when there is no card to decode it.
        ImportError: when PyAV is missing.
    """

    def __init__(
        self,
        path: str | Path,
        deinterlace: bool = False,
        quiet: bool = False,
        decoder: str = "cpu",
    ) -> None:
        self.path = Path(path)
        self.quiet = quiet
        self._warned: set[str] = set()
        self.container = open_container(self.path)
        self.video = self._main()
        self.look = look_of(self.video)
        self.rate = nominal_rate(self.video)
        self.deinterlace = deinterlace
        self.packets_read = 0
        self.packets_bad = 0
        self.turned = False  # whether the frames are shown turned by a quarter
        self.missing = Fraction(0)  # seconds at the end that the header promises
        if has_alpha(self.video):
            self.leave_out("its transparency")
        if decoder != "cpu":
            self._decode_by_card(decoder)

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def _decode_by_card(self, decoder: str) -> None:
        """Opens the file once more, now with the card's decoder.

        Such a stream says that its pixels are the card's, not what they mean.
        """
        av = need("av", "video", "av")
        try:
            container = av.open(
                local(self.path),
                metadata_errors=_AS_LATIN,
                hwaccel=av.codec.hwaccel.HWAccel("cuda", allow_software_fallback=True),
            )
        except (av.error.FFmpegError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            if decoder == "auto":
                self.note(
                    f"decoded on the CPU, as the card's does not start ({reason})"
                )
                return
            self.container.close()
            raise ValueError(
                "Expected an NVIDIA card and driver to decode by, but they do not "
                f"start ({reason}). Choose the decoder 'auto', which decodes on the "
                "CPU then."
            ) from error
        self.container.close()
        self.container = container
        self.video = self._main()

    def _main(self) -> Any:
        for stream in self.container.streams.video:
            context = stream.codec_context
            if not is_cover(stream) and context is not None and context.format:
                # Threads over whole frames lose those around one that is damaged.
                stream.thread_type = "SLICE"
                return stream
        self.container.close()
        raise ValueError(
            f"Expected {str(self.path)!r} to hold a video that can be decoded, but it "
            "holds none. Leave it out."
        )

    @property
    def aspect(self) -> Fraction | None:
        """Width of a pixel over its height, as the frames are stored."""
        return self.video.sample_aspect_ratio or None

    @property
    def total(self) -> int | None:
        """About how many frames there are, where the header has it."""
        stream = self.video
        if stream.frames:
            return stream.frames
        seconds = stream.duration and stream.duration * stream.time_base
        if not seconds and self.container.duration:
            seconds = Fraction(self.container.duration, 1_000_000)
        return round(seconds * self.rate) if seconds else None

    @property
    def damage(self) -> str | None:
        """What of the file could not be read, after `frames` has run; None if all."""
        notes = []
        if self.packets_bad:
            notes.append(
                f"{self.packets_bad} of {self.packets_read} packets cannot be decoded"
            )
        if self.missing:
            notes.append(f"its last {float(self.missing):.1f} s are missing")
        return " and ".join(notes) or None

    def frames(self) -> Iterator[SourceFrame]:
        """Yields the video's frames in the order shown, times strictly rising."""
        last: int | None = None
        base = self.video.time_base
        step = max(1, round(1 / (self.rate * base)))
        convert = ToRGB(self.look)
        stamped = self._decoded()
        if self.deinterlace:
            stamped = deinterlaced(stamped, base, self._is_interlaced())
        for frame, stamp, duration in stamped:
            self._look_at(frame)
            if last is None:
                last = stamp or 0
            else:  # raw streams carry no timestamps
                last = last + step if stamp is None else max(stamp, last + 1)
            signs = orientation(frame)
            self.turned = signs is not None and not signs[0]
            pixels = convert(frame)
            if convert.resized:
                self.note("frames of another size are brought to the first one's")
            yield SourceFrame(pixels, last, duration)

    def _decoded(self) -> Iterator[tuple[VideoFrame, int | None, int]]:
        """Yields frames in the order shown, each with its timestamp and duration."""
        # AVI stores times of decoding alone: the frames shown take them in turn.
        by_decoding = self.container.format.name == "avi"
        stamps: deque[int] = deque()
        started = False
        shown: int | None = None
        ends: list[Fraction] = []
        held: tuple[VideoFrame, int | None, int] | None = None  # whose end may change
        for packet in self.packets():
            if packet.stream is not self.video:
                if packet.dts is not None and not is_cover(packet.stream):
                    ends.append(_end(packet))
                    ends = [max(ends)]
                continue
            started = started or packet.is_keyframe
            self.packets_read += bool(packet.size)
            if by_decoding and packet.size and packet.dts is not None:
                stamps.append(packet.dts)
            for frame in self._frames_of(packet, started):
                stamp = stamps.popleft() if stamps else frame.pts
                shown = shown if stamp is None else stamp
                if held is not None:
                    yield held
                held = frame, stamp, frame.duration or 0
        if held is None:
            raise ValueError(
                f"Expected {str(self.path)!r} to hold frames, but none can be decoded. "
                "Check the file."
            )
        frame, stamp, duration = held
        duration = self._until_the_end(stamp, duration, ends)
        yield frame, stamp, duration

    def _frames_of(self, packet: Packet, started: bool) -> Iterable[VideoFrame]:
        if not packet.size and packet.dts is not None:
            return ()  # an empty packet, which decoders take for the end
        try:
            return packet.decode()
        except _errors() as error:
            # What precedes the first key frame of a recording can never be decoded.
            self.packets_bad += started
            logger.info("%s: packet at %s: %s", self.path, packet.pts, error)
            return ()

    def _until_the_end(
        self, stamp: int | None, duration: int, ends: list[Fraction]
    ) -> int:
        """Returns how long the last frame stays; notes what is missing after it."""
        stream, base = self.video, self.video.time_base
        if stamp is None or not self.container.format.name.startswith(_HEADED):
            return duration
        start = round(Clock(self.container).start / base)
        length = stream.duration
        if self.container.format.name == "avi":  # whose duration is the file's size
            length = max(length or 0, stream.frames)
        if length:
            rest = (stream.start_time or 0) - start + length - stamp
            usual = duration or round(1 / (self.rate * base))
            # Packets of MP4 last from one decoding to the next: the header knows more.
            if 0 < rest and (stream.frames == self.packets_read or rest < usual):
                return rest
            missing = (rest - usual) * base
        elif self.container.duration:
            whole = Fraction(self.container.duration, 1_000_000)
            missing = whole - max([(stamp + duration) * base, *ends])
        else:
            return duration
        if missing > max(2 / self.rate, Fraction(1, 5)):
            self.missing = missing
        return duration

    def packets(self) -> Iterator[Packet]:
        """Yields the packets of all streams on a clock that starts at 0; where a read
        fails, what can still be read after it."""
        clock = Clock(self.container)
        failures = 0
        while failures < _FAILURES:
            try:
                for packet in self.container.demux():
                    clock(packet)
                    failures = 0
                    yield packet
                return
            except _errors() as error:
                failures += 1
                self.packets_bad += failures == 1
                logger.info("%s: %s", self.path, error)

    def _is_interlaced(self) -> bool:
        return int(self.video.codec_context.field_order) in _INTERLACED

    def _look_at(self, frame: Any) -> None:
        """Logs what of a frame is not carried on, once for each kind."""
        if frame.interlaced_frame and not self.deinterlace:
            self.note("it is interlaced, and its combs are upscaled with it")
        for side in frame.side_data:
            kind = side.type.name
            if kind in _LEFT_OUT:
                self.leave_out(_LEFT_OUT[kind])
            elif kind == "STEREO3D" and "stereo_mode" not in self.video.metadata:
                self.leave_out("its stereo mode")
            elif kind == "DISPLAYMATRIX" and orientation(frame) is None:
                self.leave_out("its display matrix, which is no quarter turn or mirror")

    def leave_out(self, what: str) -> None:
        """Logs that something is left out, once."""
        self.note(f"{what} {'are' if what.endswith('s') else 'is'} left out")

    def note(self, what: str) -> None:
        """Logs what the result does not carry on, once."""
        if what not in self._warned:
            self._warned.add(what)
            if not self.quiet:
                logger.warning("%s: %s", self.path, what)


def _as_latin(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_AS_LATIN, _as_latin)


def open_container(path: str | Path) -> InputContainer:
    """Opens a file for reading.

    Raises:
        FileNotFoundError: when it does not exist.
        ValueError: when it is no container that FFmpeg's libraries know.
    """
    av = need("av", "video", "av")
    if not Path(path).exists():
        raise FileNotFoundError(
            f"Expected a video, but there is no file {str(path)!r}. Check the path."
        )
    try:
        return av.open(local(path), metadata_errors=_AS_LATIN)
    except av.error.FFmpegError as error:
        raise ValueError(
            f"Expected {str(path)!r} to be a whole video, but got: "
            f"{error.strerror}. Check the file."
        ) from error


def holds_video(path: str | Path) -> bool:
    """Whether a file of an unknown ending holds a video, by its content."""
    try:
        with VideoSource(path) as source:
            name = source.container.format.name
            return not name.endswith("_pipe") and name not in _NO_VIDEO
    except (OSError, ValueError, ImportError):
        return False


def local(path: str | Path) -> str:
    """Returns a name that FFmpeg takes for a file: `a: b.mkv` alone is a protocol."""
    return str(Path(path).absolute())


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is a picture of the whole, not what is shown."""
    return bool(int(stream.disposition) & type(stream.disposition).attached_pic)


def _errors() -> type[BaseException]:
    return need("av", "video", "av").error.FFmpegError


def _end(packet: Any) -> Fraction:
    time = packet.dts if packet.pts is None else packet.pts
    return (time + (packet.duration or 0)) * packet.time_base
