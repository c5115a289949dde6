"""The run through a list of jobs: read, upscale, write; each file by itself."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch

from ..media.images import (
    Picture,
    WriteOptions,
    check_output,
    read_picture,
    write_picture,
)
from ..media.resizing import resized
from ..utils.optional import need
from ..utils.progress import Task, task
from .memory import free_memory
from .moving import run_moving
from .overlap import prefetch
from .planning import Job, beside, parse_shard, plan
from .upscaler import Upscaler
from .video import VideoOptions

__all__ = ["Job", "Sizing", "beside", "parse_shard", "plan", "run"]

logger = logging.getLogger(__name__)

_WRITERS = 2  # threads that write; more pictures than these do not wait in memory


@dataclass(frozen=True)
class Sizing:
    """What happens to a result's size.

    Attributes:
        to: Width and height that it is brought to.
        down: Factor that it is made smaller by.
    """

    to: tuple[int, int] | None = None
    down: float | None = None

    @staticmethod
    def parse(to: str | None, down: float | None) -> Sizing:
        """Reads `--scale-to WxH` and `--downscale F`.

        Raises:
            ValueError: for another form, a factor below 1, or both.
        """
        if to is not None and down is not None:
            raise ValueError(
                f"Expected one of --scale-to and --downscale, but got {to!r} and "
                f"{down!r}. Leave one out."
            )
        size = None
        if to is not None:
            found = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", to)
            if not found:
                raise ValueError(
                    f"Expected --scale-to to be like 1920x1080, but got {to!r}. "
                    "Correct the value."
                )
            size = int(found[1]), int(found[2])
        if down is not None and not down >= 1:
            raise ValueError(
                f"Expected --downscale to be at least 1, but got {down!r}. 2 halves."
            )
        return Sizing(size, down)

    @property
    def changes(self) -> bool:
        """Whether results get another size than the network's."""
        return self.to is not None or self.down is not None

    def size(self, upscaled: tuple[int, int]) -> tuple[int, int]:
        """Returns width and height of what is written."""
        if self.to is not None:
            return self.to
        width, height = (max(1, round(side / (self.down or 1))) for side in upscaled)
        return width, height

    def apply(self, picture: Picture) -> Picture:
        """Returns the picture in the size that was asked for."""
        if not self.changes:
            return picture
        size = self.size(picture.size)
        return picture.with_pixels(*resized(picture.pixels, picture.alpha, size))


def run(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    options: WriteOptions,
    sizing: Sizing | None = None,
    video: VideoOptions | None = None,
    resume: bool = False,
) -> list[tuple[Job, str]]:
    """Reads, upscales and writes every job; a failure does not stop the others.

    Pictures are read ahead in one thread and written in others while the next one is
    computed. On a CPU as many as there are threads are computed at once, where memory
    allows, each in a thread of its own.

    Returns:
        The jobs that failed, each with its reason in one sentence.
    """
    need("PIL.Image", "reading and writing images", "pillow")
    failed = [(job, job.refusal) for job in jobs if job.refusal]
    jobs = [job for job in jobs if not job.refusal]
    pictures = [job for job in jobs if not job.is_video]
    video = dataclasses.replace(
        video or VideoOptions(),
        scale_to=sizing.to if sizing else None,
        downscale=sizing.down if sizing else None,
    )
    with task("upscale", len(jobs), "file") as counted:
        count = min(upscaler.lanes, len(pictures))
        work = _PictureRun(upscaler, options, sizing or Sizing(), count, counted)
        failed += [(job, _sentence(job, error)) for job, error in work.run(pictures)]
        for job in jobs:
            if not job.is_video:
                continue
            try:
                logger.info("%s", job.source)
                damage = run_moving(
                    upscaler, job.source, job.output, options, video, resume
                )
            except Exception as error:  # of any decoder or encoder: the others go on
                failed.append((job, _sentence(job, error)))
            else:
                if damage:
                    failed.append((job, f"{damage}; {job.output} has the rest"))
            counted.advance()
    return failed


def _sentence(job: Job, error: BaseException) -> str:
    """Returns the reason for a failure in one sentence; the log has the traceback."""
    logger.info("%s", job.source, exc_info=error)
    return " ".join(str(error).split()) or type(error).__name__


class _PictureRun:
    """Pictures read ahead in one thread, computed in lanes, written in others.

    Args:
        upscaler: What upscales them.
        options: How they are written.
        sizing: What happens to their sizes.
        lanes: How many are computed at once, at most.
        counted: Counts those that are done.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        options: WriteOptions,
        sizing: Sizing,
        lanes: int,
        counted: Task,
    ) -> None:
        self._upscaler, self._options, self._sizing = upscaler, options, sizing
        self._lanes, self._counted = lanes, counted
        self._failed: list[tuple[Job, BaseException]] = []
        self._under_way: list[tuple[Job, Future[None]]] = []

    def run(self, jobs: Sequence[Job]) -> list[tuple[Job, BaseException]]:
        """Returns the jobs that failed."""
        threads = torch.get_num_threads()
        lanes = self._lanes
        writing = False  # whether what is under way is writing alone
        pool = ThreadPoolExecutor(
            max(lanes, _WRITERS), initializer=_take_threads, initargs=(threads, lanes)
        )
        try:
            for job, picture in prefetch(self._read(jobs), 2):
                if isinstance(picture, BaseException):
                    self._settled(job, picture)
                elif lanes > 1 and self._upscaler.fits(picture.size, lanes):
                    self._settle(lanes - 1)
                    future = pool.submit(self._work, job, picture)
                    self._under_way.append((job, future))
                    writing = False
                else:
                    self._settle(_WRITERS if writing else 0)
                    writing = True
                    try:
                        result = self._upscale(picture)
                    except Exception as error:  # one picture's; the others go on
                        self._settled(job, error)
                        continue
                    self._under_way.append((job, pool.submit(self._write, job, result)))
            self._settle(0)
        finally:
            pool.shutdown()
            torch.set_num_threads(threads)  # the lanes' number is every new thread's
        return self._failed

    def _read(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Picture | Exception]]:
        """Yields pictures whose results can be written; else the reason."""
        for job in jobs:
            try:
                most = self._upscaler.limit or int(free_memory())
                picture = read_picture(job.source, most)
                width, height = (side * self._upscaler.scale for side in picture.size)
                size = self._sizing.size((width, height))
                check_output(picture, job.output, self._options, size)
                yield job, picture
            except Exception as error:  # of any decoder: the others go on
                yield job, error

    def _upscale(self, picture: Picture) -> Picture:
        dtype = picture.pixels.dtype
        if self._sizing.changes:
            dtype = np.dtype(np.float32)  # rounded once, behind the resizing
        elif self._options.depth == 16:
            dtype = np.dtype(np.uint16)
        return self._upscaler.picture(picture, dtype)

    def _write(self, job: Job, picture: Picture) -> None:
        write_picture(self._sizing.apply(picture), job.output, self._options)

    def _work(self, job: Job, picture: Picture) -> None:
        self._write(job, self._upscale(picture))

    def _settle(self, most: int) -> None:
        """Waits until at most so many are under way."""
        while len(self._under_way) > most:
            futures = [future for _, future in self._under_way]
            wait(futures, return_when=FIRST_COMPLETED)
            for pair in [p for p in self._under_way if p[1].done()]:
                self._under_way.remove(pair)
                self._settled(pair[0], pair[1].exception())

    def _settled(self, job: Job, error: BaseException | None) -> None:
        self._counted.advance()
        if error is not None and not isinstance(error, Exception):
            raise error  # Ctrl-C is no failure of a picture
        if error is not None:
            self._failed.append((job, error))


def _take_threads(threads: int, lanes: int) -> None:
    """Gives a lane its share of torch's threads."""
    torch.set_num_threads(max(1, threads // max(1, lanes)))
