"""How many pixels jobs will send through a network, by their headers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ..media.opening import look
from ..media.video import VideoSource
from .planning import Job


def pixels_of(jobs: Sequence[Job]) -> tuple[float, float]:
    """Returns the pixels of pictures, and those of videos' frames.

    What only reading a whole file can tell counts nothing.
    """
    pictures = videos = 0.0
    for job in jobs:
        if job.refusal:
            continue
        # Whatever a file lacks is reported when it is read.
        with contextlib.suppress(Exception):
            if not job.is_video:
                seen = look(job.source)
                pictures += seen.size[0] * seen.size[1] if seen else 0
                continue
            with VideoSource(job.source, quiet=True) as video:
                width, height = video.video.width, video.video.height
                videos += width * height * (video.total or 0)
    return pictures, videos
