"""From what a user names to a list of jobs, and the run through them."""

from __future__ import annotations

import dataclasses
import glob
import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch

from ..media.images import Picture, WriteOptions, read_picture, write_picture
from ..media.paths import (
    IMAGE_SUFFIXES,
    VIDEO_OUTPUTS,
    VIDEO_SUFFIXES,
    check_format,
)
from ..media.resizing import resized
from ..utils.optional import need
from .overlap import ahead
from .upscaler import Upscaler
from .video import VideoOptions, run_video

logger = logging.getLogger(__name__)

KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_WRITERS = 2  # threads that write; more pictures than these do not wait in memory
_FAILURES = (ValueError, OSError, RuntimeError, MemoryError)  # of one job


@dataclass(frozen=True)
class Job:
    """One file to read and the file that its result goes to."""

    source: Path
    output: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its extension."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES


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

    def apply(self, picture: Picture) -> Picture:
        """Returns the picture in the size that was asked for."""
        width, height = picture.size
        if self.to is not None:
            size = self.to
        elif self.down is not None:
            size = (
                max(1, round(width / self.down)),
                max(1, round(height / self.down)),
            )
        else:
            return picture
        return picture.with_pixels(*resized(picture.pixels, picture.alpha, size))


def plan(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    scale: int = 4,
    format_: str = "png",
    suffix: str = "",
    overwrite: bool = False,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
) -> list[Job]:
    """Works out what is read and where results go, before any work.

    Args:
        inputs: Images, videos, folders and patterns (`*.png`); folders are searched to
            any depth, hidden files left out, and their structure is kept under
            `output`.
        output: A file, when `inputs` is one file and the name has an extension of its
            kind; a folder otherwise, made when missing. None puts each result beside
            its input (`beside`).
        scale: Upscaling factor, for the names of results beside their inputs.
        format_: Extension of results in a folder, or `keep` for the source's.
        suffix: Added to the stems of results in a folder.
        overwrite: Whether existing results may be replaced.
        resume: Whether jobs whose results exist are left out.
        shard: K and N: every N-th job, from the K-th on (counted from 1).

    Returns:
        The jobs; none when all is done already.

    Raises:
        FileNotFoundError: when an input does not exist.
        ValueError: when nothing is to be done, when two results would have the same
            name, when a result exists or is its own source.
    """
    found = [pair for entry in inputs for pair in _expand(str(entry))]
    if not found:
        raise ValueError(
            "Expected at least one image or video, but got none in "
            f"{', '.join(map(str, inputs))}. Known are {', '.join(sorted(KNOWN))}."
        )
    target = Path(output or "")
    video = found[0][0].suffix.lower() in VIDEO_SUFFIXES
    suffixes = VIDEO_OUTPUTS if video else IMAGE_SUFFIXES
    if output is None:
        jobs = [
            job
            for entry in inputs
            for job in _beside(str(entry), scale, format_, suffix)
        ]
    elif target.suffix.lower() in KNOWN and not target.is_dir():
        if len(found) > 1 or Path(inputs[0]).is_dir():
            raise ValueError(
                f"Expected --output to be a folder for {len(found)} inputs, but got "
                f"{str(target)!r}. Name a folder."
            )
        if target.suffix.lower() not in suffixes:
            raise ValueError(
                f"Expected the output's extension to be one of "
                f"{', '.join(sorted(suffixes))}, but got {target.suffix!r}. Choose one "
                "of these."
            )
        if not video:
            check_format(target.suffix)
        jobs = [Job(found[0][0], target)]
    else:
        jobs = [
            Job(source, target / relative.parent / _name(relative, format_, suffix))
            for source, relative in found
        ]
    _check(jobs, overwrite or resume)
    if resume:
        jobs = [job for job in jobs if not job.output.exists()]
    jobs = jobs[shard[0] - 1 :: shard[1]]
    for folder in {job.output.parent for job in jobs}:
        _make(folder)
    return jobs


def beside(
    entry: str | Path, scale: int, format_: str = "png", suffix: str = ""
) -> Path:
    """Returns where the result of an input goes when no output is named.

    `photo.jpg` becomes `photo_x4.png`, a folder `photos` the folder `photos_x4`, a
    pattern the folder `upscaled_x4`.

    Args:
        entry: An image, a video, a folder or a pattern.
        scale: Upscaling factor, for the name.
        format_: As in `plan`.
        suffix: Instead of `_x4`.
    """
    path, ending = Path(entry), suffix or f"_x{scale}"
    if path.is_dir():
        return path.with_name(path.resolve().name + ending)
    if not path.exists() and glob.has_magic(str(path)):
        return Path(f"upscaled{ending}")
    return path.with_name(_name(Path(path.name), format_, ending))


def _beside(entry: str, scale: int, format_: str, suffix: str) -> list[Job]:
    target = beside(entry, scale, format_, suffix)
    if Path(entry).is_file():
        return [Job(Path(entry), target)]
    return [
        Job(source, target / relative.parent / _name(relative, format_, ""))
        for source, relative in _expand(entry)
    ]


def _make(folder: Path) -> None:
    """Makes a folder for results, and finds out whether it takes files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"Expected --output to be in a folder that can be written to, but got "
            f"{str(folder)!r} ({error.strerror}). Choose another."
        ) from error


def parse_shard(text: str) -> tuple[int, int]:
    """Reads `K/N`.

    Raises:
        ValueError: for another form, or K outside 1 to N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(
            f"Expected --shard to be K/N with K from 1 to N, but got {text!r}. "
            "Job 2 of 8 is 2/8."
        )
    return int(found[1]), int(found[2])


def _name(relative: Path, format_: str, suffix: str) -> str:
    own = relative.suffix.lower()
    if own in VIDEO_SUFFIXES:
        ending = own if own in VIDEO_OUTPUTS else ".mkv"
    else:
        ending = relative.suffix if format_ == "keep" else f".{format_.lstrip('.')}"
        check_format(ending)
    return f"{relative.stem}{suffix}{ending}"


def _expand(entry: str) -> list[tuple[Path, Path]]:
    """Returns the files that an argument means, each with its path inside it."""
    path = Path(entry)
    if path.is_dir():
        files = [(p, p.relative_to(path)) for p in path.rglob("*") if p.is_file()]
        # Hidden: leftovers of killed runs, what systems keep beside pictures (`._a`).
        files = sorted(f for f in files if not any(n[0] == "." for n in f[1].parts))
        known = [f for f in files if f[0].suffix.lower() in KNOWN]
        others = [f[0] for f in files if f[0].suffix.lower() not in KNOWN]
        if others:
            logger.warning(
                "skipped %d that are neither images nor videos, %s first",
                len(others),
                others[0],
            )
        return known
    if path.exists():
        return [(path, Path(path.name))]
    matches = [Path(m) for m in sorted(glob.glob(entry, recursive=True))]
    if not matches:
        raise FileNotFoundError(
            f"Expected INPUT to be an image, a video, a folder or a pattern, but there "
            f"is no {entry!r}. Check the path."
        )
    files = [m for m in matches if m.suffix.lower() in KNOWN and not m.is_dir()]
    return [(m, Path(m.name)) for m in files]


def _check(jobs: Sequence[Job], overwrite: bool) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        # Names that differ in case alone are one file on many disks.
        other = taken.setdefault(str(job.output).lower(), job)
        if other is not job:
            raise ValueError(
                f"Expected different names for all results, but got "
                f"{str(job.output)!r} for both {str(other.source)!r} and "
                f"{str(job.source)!r}. Use --format keep, or run them apart."
            )
        if job.output.exists():
            if job.output.samefile(job.source):
                raise ValueError(
                    f"Expected the result to be another file than its source, but got "
                    f"{str(job.output)!r} for both. Choose another --output."
                )
            if not overwrite:
                raise ValueError(
                    f"Expected a new output, but {str(job.output)!r} exists. Choose "
                    "another name or pass --overwrite."
                )


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
    tqdm = need("tqdm", "the progress bar", "tqdm").tqdm
    need("PIL.Image", "reading and writing images", "pillow")
    failed: list[tuple[Job, str]] = []
    images = [job for job in jobs if not job.is_video]
    sizing = sizing or Sizing()
    lanes = min(upscaler.lanes, len(images))
    threads = torch.get_num_threads()
    under_way: list[tuple[Job, Future[None]]] = []
    bar = tqdm(total=len(images), unit="image", disable=None if images else True)

    def write(job: Job, picture: Picture) -> None:
        write_picture(sizing.apply(picture), job.output, options)

    def work(job: Job, picture: Picture) -> None:
        write(job, upscaler.picture(picture))

    def note(job: Job, error: BaseException | None) -> None:
        bar.update()
        if error is not None:
            _note(failed, job, error)

    def settle(most: int) -> None:
        while len(under_way) > most:
            wait([future for _, future in under_way], return_when=FIRST_COMPLETED)
            for pair in [p for p in under_way if p[1].done()]:
                under_way.remove(pair)
                note(pair[0], pair[1].exception())

    alone = False  # whether what is under way is writing alone
    pool = ThreadPoolExecutor(
        max(lanes, _WRITERS), initializer=_take_threads, initargs=(threads, lanes)
    )
    try:
        for job, picture in ahead(_pictures(images), 2):
            if isinstance(picture, BaseException):
                note(job, picture)
            elif lanes > 1 and upscaler.fits(picture.size, lanes):
                settle(lanes - 1)
                under_way.append((job, pool.submit(work, job, picture)))
                alone = False
            else:
                settle(_WRITERS if alone else 0)
                alone = True
                try:
                    grown = upscaler.picture(picture)
                except _FAILURES as error:
                    note(job, error)
                    continue
                under_way.append((job, pool.submit(write, job, grown)))
        settle(0)
    finally:
        pool.shutdown()
        bar.close()
        torch.set_num_threads(threads)  # the lanes' number is every new thread's
    video = dataclasses.replace(
        video or VideoOptions(), scale_to=sizing.to, downscale=sizing.down
    )
    for job in jobs:
        if not job.is_video:
            continue
        try:
            logger.info("%s", job.source)
            report = run_video(upscaler, job.source, job.output, video, resume)
        except _FAILURES as error:
            _note(failed, job, error)
        else:
            if report.damage:
                failed.append((job, f"{report.damage}; {job.output} has the rest"))
    return failed


def _take_threads(threads: int, lanes: int) -> None:
    """Gives a lane its share of torch's threads."""
    torch.set_num_threads(max(1, threads // max(1, lanes)))


def _pictures(jobs: Sequence[Job]) -> Iterator[tuple[Job, Picture | Exception]]:
    for job in jobs:
        try:
            yield job, read_picture(job.source)
        except _FAILURES as error:
            yield job, error


def _note(failed: list[tuple[Job, str]], job: Job, error: BaseException) -> None:
    if not isinstance(error, _FAILURES):
        raise error
    failed.append((job, " ".join(str(error).split()) or type(error).__name__))
