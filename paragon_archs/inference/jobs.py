"""The run through a list of jobs: read, upscale, write; each file by itself."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch

from ..media.arrays import max_value
from ..media.images import (
    Picture,
    WriteOptions,
    check_output,
    read_picture,
    read_pixels,
    write_picture,
)
from ..media.opening import check_size, guarded, look
from ..media.paths import check_format
from ..media.resizing import resized, wanted_size
from ..media.writing import check_kind
from ..utils.files import sentence_of
from ..utils.optional import need
from ..utils.progress import Task, task
from .large import check_memory, goes_by_rows, write_by_rows
from .memory import free_memory
from .moving import check_moving, run_moving
from .overlap import prefetch
from .planning import Job, beside, parse_shard, plan
from .temporal import FrameUpscaler
from .upscaler import Upscaler
from .video import VideoOptions

__all__ = ["Job", "Sizing", "beside", "parse_shard", "plan", "refusal", "run"]

logger = logging.getLogger(__name__)

_Read = tuple[Job, Picture | Exception]
_LARGE = 2**28  # bytes of a picture that is not prefetched far
_BATCH_PIXELS = 2**18  # pixels of a batch of small pictures
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

    def of(self, video: VideoOptions) -> VideoOptions:
        """Returns a video's options with these sizes."""
        return dataclasses.replace(video, scale_to=self.to, downscale=self.down)

    def size(self, upscaled: tuple[int, int]) -> tuple[int, int]:
        """Returns width and height of what is written."""
        return wanted_size(upscaled, self.to, self.down)

    def apply(self, picture: Picture) -> Picture:
        """Returns the picture in the size that was asked for."""
        if not self.changes:
            return picture
        size = self.size(picture.size)
        return picture.with_pixels(*resized(picture.pixels, picture.alpha, size))


def refusal(
    upscaler: Upscaler,
    options: WriteOptions,
    sizing: Sizing,
    video: VideoOptions,
    job: Job,
) -> str:
    """Finds out by a file's header whether its result can be written.

    Returns:
        Why not, in one sentence; "" where nothing speaks against it.
    """
    try:
        if job.is_video:
            check_moving(job.source, job.output, upscaler.scale, sizing.of(video))
            return ""
        if (seen := look(job.source)) is None:
            return ""
        width, height = (side * upscaler.scale for side in seen.size)

        def clear() -> bool:
            return seen.alpha and not _is_opaque(read_pixels(job.source))

        most = upscaler.limit or int(free_memory())
        guarded(job.source, lambda: check_size(seen.size, seen.each, most))
        kind = check_kind(job.output, sizing.size((width, height)), options, clear)
        check_memory(upscaler, job.source, seen, kind, sizing.changes)
    except Exception as error:  # of any decoder: the others go on
        return _sentence(job, error)
    return ""


def run(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    options: WriteOptions,
    sizing: Sizing | None = None,
    video: VideoOptions | None = None,
    resume: bool = False,
) -> list[tuple[Job, str]]:
    """Reads, upscales and writes every job; a failure does not stop the others.

    Pictures are prefetched by one thread and written in others while the next one is
    computed. On a CPU as many as there are threads are computed at once, where memory
    allows, each in a thread of its own; on another device, consecutive small pictures
    of one size in batches.

    Returns:
        The jobs that failed, each with its reason in one sentence.
    """
    need("PIL.Image", "reading and writing images", "pillow")
    failed = [(job, job.refusal) for job in jobs if job.refusal]
    jobs = [job for job in jobs if not job.refusal]
    pictures = [job for job in jobs if not job.is_video]
    sizing = sizing or Sizing()
    video = sizing.of(video or VideoOptions())
    with task("upscale", len(jobs), "file") as counted:
        count = min(upscaler.lanes, len(pictures))
        work = _PictureRun(upscaler, options, sizing, count, counted)
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


def _is_opaque(pixels: np.ndarray) -> bool:
    return bool((pixels[..., -1] == max_value(pixels.dtype)).all())


def _sentence(job: Job, error: BaseException) -> str:
    """Returns the reason for a failure in one sentence; the log has the traceback."""
    logger.info("%s", job.source, exc_info=error)
    return sentence_of(error)


class _PictureRun:
    """Pictures prefetched by one thread, computed in lanes, written in others.

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
            for group in prefetch(self._groups(jobs), 2, alone=_are_large):
                job, picture = group[0]
                if isinstance(picture, BaseException):
                    self._settled(job, picture)
                elif (
                    lanes > 1
                    and self._upscaler.fits(picture.size, lanes)
                    and not self._goes_by_rows(job, picture)
                ):
                    self._settle(lanes - 1)
                    future = pool.submit(self._work, job, picture)
                    self._under_way.append((job, future))
                    writing = False
                else:
                    self._settle(_WRITERS if writing else 0)
                    writing = True
                    for job, result in self._upscaled(group):
                        future = pool.submit(self._write, job, result)
                        self._under_way.append((job, future))
            self._settle(0)
        finally:
            pool.shutdown()
            torch.set_num_threads(threads)  # the lanes' number is every new thread's
        return self._failed

    def _groups(self, jobs: Sequence[Job]) -> Iterator[list[_Read]]:
        """Yields batches of small pictures of one size, and other pictures alone."""
        group: list[_Read] = []
        for job, picture in self._read(jobs):
            if group and not self._joins(picture, group):
                yield group
                group = []
            group.append((job, picture))
            if not self._is_small(picture):
                yield group
                group = []
        if group:
            yield group

    def _read(self, jobs: Sequence[Job]) -> Iterator[_Read]:
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

    def _goes_by_rows(self, job: Job, picture: Picture) -> bool:
        kind = check_format(job.output.suffix)
        dtype = self._dtype(picture)
        changes = self._sizing.changes
        return goes_by_rows(self._upscaler, picture, dtype, kind, changes)

    def _write_by_rows(self, job: Job, picture: Picture) -> None:
        dtype = self._dtype(picture)
        write_by_rows(self._upscaler, picture, dtype, job.output, self._options)

    def _dtype(self, picture: Picture) -> np.dtype:
        """Returns what results are made as."""
        if self._sizing.changes:
            return np.dtype(np.float32)  # rounded once, behind the resizing
        wide = self._options.depth == 16
        return np.dtype(np.uint16) if wide else picture.pixels.dtype

    def _is_small(self, picture: Picture | Exception) -> bool:
        """Whether a picture leaves a device idle, so that others may join it."""
        if not self._upscaler.batches or isinstance(picture, Exception):
            return False
        pixels = picture.pixels
        plain = picture.alpha is None and pixels.dtype == self._dtype(picture)
        return plain and 2 * math.prod(picture.size) <= _BATCH_PIXELS

    def _joins(self, picture: Picture | Exception, group: Sequence[_Read]) -> bool:
        """Whether a picture belongs to the batch of those that wait."""
        first = group[0][1]
        if isinstance(picture, Exception) or isinstance(first, Exception):
            return False
        one, other = picture.pixels, first.pixels
        alike = one.shape == other.shape and one.dtype == other.dtype
        full = (len(group) + 1) * math.prod(picture.size) > _BATCH_PIXELS
        return self._is_small(picture) and alike and not full

    @functools.cached_property
    def _frames(self) -> FrameUpscaler:
        return FrameUpscaler(self._upscaler)

    def _upscaled(self, group: Sequence[_Read]) -> Iterator[tuple[Job, Picture]]:
        """Yields results that are to be written; takes note of failures."""
        pairs = [(j, p) for j, p in group if isinstance(p, Picture)]
        if len(pairs) > 1:
            try:
                made = self._frames.frames([picture.pixels for _, picture in pairs])
            except Exception:  # one picture's; each is tried by itself
                logger.info("a batch of %d pictures", len(pairs), exc_info=True)
            else:
                for (job, picture), pixels in zip(pairs, made, strict=True):
                    yield job, picture.with_pixels(pixels, None)
                return
        for job, picture in pairs:
            try:
                if self._goes_by_rows(job, picture):
                    self._write_by_rows(job, picture)
                    self._settled(job, None)
                    continue
                result = self._upscale(picture)
            except Exception as error:  # one picture's; the others go on
                self._settled(job, error)
            else:
                yield job, result

    def _upscale(self, picture: Picture) -> Picture:
        return self._upscaler.picture(picture, self._dtype(picture))

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


def _are_large(group: Sequence[_Read]) -> bool:
    """Whether memory should not hold more than two of such pictures."""
    pictures = [picture for _, picture in group if isinstance(picture, Picture)]
    return any(picture.pixels.nbytes > _LARGE for picture in pictures)


def _take_threads(threads: int, lanes: int) -> None:
    """Gives a lane its share of torch's threads."""
    torch.set_num_threads(max(1, threads // max(1, lanes)))
