"""Full frames out of interlaced ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from ..utils.optional import need

if TYPE_CHECKING:
    from av import VideoFrame


def deinterlaced(
    frames: Iterable[tuple[VideoFrame, int | None, int]], base: Fraction, mixed: bool
) -> Iterator[tuple[VideoFrame, int | None, int]]:
    """Makes full frames of fields, by FFmpeg's bwdif, one for one.

    Args:
        frames: With timestamps and durations.
        base: Their time base.
        mixed: Whether frames that are not marked as interlaced stay as they are.
    """
    av = need("av", "video", "av")
    times: deque[tuple[int | None, int]] = deque()
    graph, given = None, None

    def ready() -> Iterator[tuple[VideoFrame, int | None, int]]:
        while graph is not None:
            try:
                made = graph.vpull()
            except (BlockingIOError, EOFError):
                return
            yield made, *times.popleft()

    for count, (frame, stamp, duration) in enumerate(frames):
        if given != (frame.format.name, frame.width, frame.height):
            if graph is not None:
                graph.vpush(None)
                yield from ready()
            given = frame.format.name, frame.width, frame.height
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(
                    width=frame.width,
                    height=frame.height,
                    format=frame.format.name,
                    time_base=base,
                ),
                graph.add(
                    "bwdif",
                    mode="send_frame",
                    parity="auto",
                    deint="interlaced" if mixed else "all",
                ),
                graph.add("buffersink"),
            ).configure()
        times.append((stamp, duration))
        frame.pts = count
        assert graph is not None
        graph.vpush(frame)
        yield from ready()
    if graph is not None:
        graph.vpush(None)
        yield from ready()
