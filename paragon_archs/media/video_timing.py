"""When each frame of a video is shown and decoded, whatever the containers' clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

_FINE = 10_000  # ticks a second that a clock has at least, as in MP4
_DEFAULT = Fraction(25)  # frames a second where a source names no rate


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


def nominal_rate(stream: Any) -> Fraction:
    """Returns frames a second as a source states them: its real rate where all frames
    keep to it, else the average."""
    average, real = stream.average_rate, stream.base_rate
    if average and real and abs(average / real - 1) < Fraction(1, 100):
        return real
    return average or real or _DEFAULT


def settle(stream: Any, times: Sequence[int], last: int, start: Fraction) -> Timing:
    """Works out a video's timing from its frames' timestamps.

    A constant rate is restored from the rounded timestamps of coarse clocks, like
    Matroska's milliseconds; any other timing is kept tick by tick.

    Args:
        stream: The source's video stream.
        times: Its frames' timestamps, strictly rising.
        last: How long its last frame stays, 0 where nothing says so.
        start: Seconds of the source's clock that become 0.
    """
    base = stream.time_base
    origin = times[0] - round(start / base)
    last = _last(stream, times, last)
    for rate in (nominal_rate(stream), stream.base_rate):
        if not rate or not (places := _grid(times, base, rate)):
            continue
        tick = 1 / Fraction(rate.numerator * _factor(rate.numerator))
        step = int(1 / rate / tick)
        zero = round(origin * base / tick)
        shown = [zero + step * place for place in places]
        own = step * max(1, round(last * base * rate))
        constant = places[-1] == len(places) - 1  # no step is left out
        return _timing(tick, rate if constant else stream.average_rate, shown, own)
    shown = [time - times[0] + origin for time in times]
    last = last or max(1, round(1 / (nominal_rate(stream) * base)))
    return _timing(base, stream.average_rate, shown, last)


def _last(stream: Any, times: Sequence[int], last: int) -> int:
    """Returns how long the last frame stays: until the stream's end, where a header
    gives that and counts no other frames, else what its packet says."""
    if stream.duration and stream.frames == len(times):
        rest = (stream.start_time or 0) + stream.duration - times[-1]
        return rest if rest > 0 else last
    return last


def _timing(
    base: Fraction, rate: Fraction | None, times: list[int], last: int
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
