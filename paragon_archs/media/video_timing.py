"""When each frame of a video is shown and decoded, whatever the containers' clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream


_FINE = 10_000  # ticks a second that a clock has at least, as in MP4
_DEFAULT = Fraction(25)  # frames a second where a source names no rate
_PAUSE = 10  # seconds; a longer one is a new clock, to FFmpeg as well
_DISCONTINUOUS = 0x0200  # AVFMT_TS_DISCONT: broadcast formats, joined from pieces


@dataclass(frozen=True)
class Timing:
    """The times of a video's frames in the order in which they are shown.

    Attributes:
        time_base: Seconds of a tick.
        rate: Frames a second, on average.
        times: When each frame appears, in ticks.
        durations: How long each one stays, in ticks; all positive.
    """

    time_base: Fraction
    rate: Fraction
    times: Sequence[int]
    durations: Sequence[int]

    def decoding(self, moved: int) -> list[int]:
        """Returns when frames are decoded, `moved` places before they are shown.

        The lead before the first frame equals what the last frames take, so that the
        decoding times span as long as the video itself.
        """
        times = self.times
        lead = [times[0] - times[-1] + times[-1 - i] for i in range(moved, 0, -1)]
        return [*lead, *times[: len(times) - moved]]


class Clock:
    """Moves a container's packets, in the order they are read, to a clock that starts
    at 0 and does not jump, as FFmpeg's own commands do.

    Args:
        container: Its start becomes 0; jumps are closed in formats that may have some.
    """

    def __init__(self, container: InputContainer) -> None:
        self.start = Fraction(container.start_time or 0, 1_000_000)
        self._jumps = bool(int(container.format.flags) & _DISCONTINUOUS)
        self._offset = -self.start
        self._before: dict[int, tuple[Fraction, Fraction]] = {}  # start, end in seconds
        self._last: Fraction | None = None

    def __call__(self, packet: Packet) -> None:
        """Changes a packet's timestamps."""
        stream = packet.stream
        if int(stream.disposition) & type(stream.disposition).attached_pic:
            return
        if self._jumps and packet.dts is not None:
            self._close(packet)
        shift = round(self._offset / packet.time_base)
        if packet.dts is not None:
            packet.dts += shift
        if packet.pts is not None:
            packet.pts += shift

    def _close(self, packet: Any) -> None:
        if packet.stream.type not in ("video", "audio"):
            return
        index = packet.stream.index
        now = packet.dts * packet.time_base + self._offset
        start, end = self._before.get(index, (self._last, self._last))
        if start is not None and end is not None:
            jump = now - end
            if abs(jump) > _PAUSE or (index in self._before and now < start):
                self._offset -= jump
                now = end
        self._last = now
        length = (packet.duration or 0) * packet.time_base
        self._before[index] = now, now + length


def nominal_rate(stream: VideoStream) -> Fraction:
    """Returns frames a second as a source states them: its real rate where all frames
    keep to it, else the average."""
    average, real = stream.average_rate, stream.base_rate
    if average and real and abs(average / real - 1) < Fraction(1, 100):
        return real
    return average or real or _DEFAULT


def settle(stream: Any, times: Sequence[int], last: int) -> Timing:
    """Works out a video's timing from its frames' timestamps.

    A constant rate is restored from the rounded timestamps of coarse clocks, like
    Matroska's milliseconds; any other timing is kept tick by tick.

    Args:
        stream: The source's video stream.
        times: Its frames' timestamps, strictly rising.
        last: How long its last frame stays, 0 where it is unknown.
    """
    base = stream.time_base
    for rate in (nominal_rate(stream), stream.base_rate):
        if not rate or not (places := _grid(times, base, rate)):
            continue
        tick = 1 / Fraction(rate.numerator * _factor(rate.numerator))
        step = int(1 / rate / tick)
        zero = round(times[0] * base / tick)
        shown = [zero + step * place for place in places]
        own = step * max(1, round(last * base * rate))
        constant = places[-1] == len(places) - 1  # no step is left out
        return _timing(tick, rate if constant else stream.average_rate, shown, own)
    last = last or max(1, round(1 / (nominal_rate(stream) * base)))
    return _timing(base, stream.average_rate, times, last)


def _timing(
    base: Fraction, rate: Fraction | None, times: Sequence[int], last: int
) -> Timing:
    gaps = [after - now for now, after in pairwise(times)]
    seconds = (times[-1] + last - times[0]) * base
    rate = rate or (len(times) / seconds).limit_denominator(1001)
    return Timing(base, rate, times, [*gaps, last])


def _factor(numerator: int) -> int:
    factor = 1
    while numerator * factor < _FINE:
        factor *= 2
    return factor


def _grid(times: Sequence[int], base: Fraction, rate: Fraction) -> list[int]:
    """Returns each time's place among equal steps; none when one lies off them by
    more than a tick, or two at one place."""
    up, down = (base * rate).as_integer_ratio()
    places: list[int] = []
    for time in times:
        passed = (time - times[0]) * up
        place = (2 * passed + down) // (2 * down)
        if abs(place * down - passed) > up or (places and place <= places[-1]):
            return []
        places.append(place)
    return places
