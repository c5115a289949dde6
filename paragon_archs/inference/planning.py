"""From what a user names to a list of jobs, before any work."""

from __future__ import annotations

import collections
import functools
import glob
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..media.animations import is_animated
from ..media.kinds import is_video, moves
from ..media.paths import (
    IMAGE_SUFFIXES,
    PLUGINS,
    UNSUPPORTED,
    VIDEO_OUTPUTS,
    VIDEO_SUFFIXES,
    check_container,
    check_format,
    is_hidden,
    is_reachable,
)
from ..utils.files import make_folder
from ..utils.nearest import did_you_mean

logger = logging.getLogger(__name__)

KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_NAMED = 3  # files of each kind that are skipped
_LIKE_A_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")


@dataclass(frozen=True)
class Job:
    """One file to read and the file that its result goes to.

    Attributes:
        source: What is read.
        output: What is written.
        refusal: Why nothing can be written, in one sentence; "" where it can.
    """

    source: Path
    output: Path
    refusal: str = ""

    @functools.cached_property
    def is_video(self) -> bool:
        """Whether all its frames are upscaled: a video or an animated image."""
        return moves(self.source, self.output)


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
    refuse: Callable[[Job], str] | None = None,
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
        refuse: Gives a job's `refusal`, by its file's header.

    Returns:
        The jobs; none when all is done already.

    Raises:
        FileNotFoundError: when an input does not exist.
        ValueError: when nothing is to be done, when two results would have the same
            name, when a result exists or is its own source.
    """
    target = Path(output or "")
    found = _distinct(pair for entry in inputs for pair in _expand(str(entry), output))
    if not found:
        raise ValueError(
            "Expected at least one image or video, but got none in "
            f"{', '.join(map(str, inputs))}. Known are {', '.join(sorted(KNOWN))}."
        )
    if output is None:
        pairs = [p for x in inputs for p in _beside(str(x), scale, format_, suffix)]
        kept = {source for source, _ in found}
        jobs = [job for job in pairs if job.source in kept]
    elif _is_file(output, found, inputs):
        jobs = [Job(found[0][0], target)]
    else:
        jobs = [_job(*pair, target, format_, suffix) for pair in found]
    jobs = _without_results(jobs)
    _check(jobs, overwrite or resume)
    if resume:
        jobs = [job for job in jobs if job.refusal or not job.output.exists()]
    jobs = jobs[shard[0] - 1 :: shard[1]]
    if refuse is not None:
        jobs = [replace(j, refusal=j.refusal or refuse(j)) for j in jobs]
    for folder in {job.output.parent for job in jobs if not job.refusal}:
        make_folder(folder)
    return jobs


def _is_file(
    output: str | Path, found: list[tuple[Path, Path]], inputs: Sequence[str | Path]
) -> bool:
    """Whether `output` names one file, not a folder.

    Raises:
        ValueError: when it looks like a file that cannot be what is asked for.
    """
    target, suffix = Path(output), Path(output).suffix.lower()
    if target.is_dir() or str(output).endswith(("/", os.sep)):
        return False
    single = len(found) == 1 and not Path(inputs[0]).is_dir()
    video = is_video(found[0][0])
    if not single and suffix in KNOWN | set(PLUGINS) | UNSUPPORTED:
        raise ValueError(
            f"Expected --output to be a folder for {len(found)} inputs, but got "
            f"{str(target)!r}. Name a folder."
        )
    if not single or not (suffix in KNOWN or _LIKE_A_FILE.fullmatch(suffix)):
        return False
    if not video:
        if not moves(found[0][0], target):
            check_format(target.suffix)
    else:
        check_container(target.suffix)
    return True


def beside(
    entry: str | Path, scale: int, format_: str = "png", suffix: str = ""
) -> Path:
    """Returns where the result of an input goes when no output is named.

    `photo.jpg` becomes `photo_x4.png`, a folder `photos` the folder `photos_x4` (`.` as
    well, where that is its name), a pattern the folder `upscaled_x4`.

    Args:
        entry: An image, a video, a folder or a pattern.
        scale: Upscaling factor, for the name.
        format_: As in `plan`.
        suffix: Instead of `_x4`.

    Raises:
        ValueError: for `/`, which has no name.
    """
    path, ending = Path(entry), suffix or f"_x{scale}"
    if path.is_dir():
        whole = path.resolve()
        if not whole.name:
            raise ValueError(
                f"Expected --output for {entry!r}, beside which nothing can lie, but "
                "got none. Name a folder."
            )
        target = path.parent / f"{whole.name}{ending}"
        if path.name in ("", ".."):
            target = Path(os.path.relpath(whole.with_name(target.name)))
        return target
    if not path.exists() and glob.has_magic(str(path)):
        return Path(f"upscaled{ending}")
    return path.with_name(f"{path.stem}{ending}{_ending(path, path, format_)}")


def _beside(entry: str, scale: int, format_: str, suffix: str) -> list[Job]:
    if Path(entry).is_file():
        path, ending = Path(entry), suffix or f"_x{scale}"
        return [_job(path, Path(path.name), path.parent, format_, ending)]
    target = beside(entry, scale, format_, suffix)
    return [_job(*pair, target, format_, "") for pair in _expand(entry, None)]


def _ending(source: Path, relative: Path, format_: str) -> str:
    """Returns the extension of a file's result."""
    own = relative.suffix.lower()
    if is_video(source):
        return own if own in VIDEO_OUTPUTS else ".mkv"
    if is_animated(source):
        return relative.suffix
    return relative.suffix if format_ == "keep" else f".{format_.lstrip('.')}"


def _job(source: Path, relative: Path, target: Path, format_: str, suffix: str) -> Job:
    """Returns the job of a file in a folder; what cannot be written is refused."""
    ending, refusal = _ending(source, relative, format_), ""
    if not moves(source, Path(f"result{ending}")):
        try:
            check_format(ending)
        except ValueError as error:
            if format_ != "keep":
                raise
            refusal = str(error)
    name = f"{relative.stem}{suffix}{ending}"
    return Job(source, target / relative.parent / name, refusal)


def _distinct(found: Iterator[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Returns files once each, however often they are named."""
    kept: dict[Path, tuple[Path, Path]] = {}
    for source, relative in found:
        other, _ = kept.setdefault(source.resolve(), (source, relative))
        if other is not source:
            logger.warning("%s is named twice; it is done once", source)
    return list(kept.values())


def _without_results(jobs: list[Job]) -> list[Job]:
    """Returns the jobs without those on results of an earlier run of the others."""
    outputs = {str(job.output.absolute()): job for job in jobs}
    kept = []
    for job in jobs:
        other = outputs.get(str(job.source.absolute()), job)
        if other is job:
            kept.append(job)
        else:
            logger.warning("skipped %s, the result of %s", job.source, other.source)
    return kept


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


def _expand(entry: str, output: str | Path | None) -> list[tuple[Path, Path]]:
    """Returns the files that an argument means, each with its path inside it."""
    path = Path(entry)
    if entry and path.is_dir():
        return _inside(path, output)
    if entry and path.exists():
        return [(path, Path(path.name))]
    matches = [Path(m) for m in sorted(glob.glob(entry, recursive=True))]
    if not matches:
        beside = os.listdir(path.parent) if path.parent.is_dir() else ()
        raise FileNotFoundError(
            f"Expected INPUT to be an image, a video, a folder or a pattern, but there "
            f"is no {entry!r}. {did_you_mean(path.name, beside, 'Check the path.')}"
        )
    files = [m for m in matches if m.suffix.lower() in KNOWN and not m.is_dir()]
    return [(m, Path(m.name)) for m in files]


def _inside(folder: Path, output: str | Path | None) -> list[tuple[Path, Path]]:
    """Returns the known files under a folder; reports in one line what is left out."""
    kept: list[tuple[Path, Path]] = []
    skipped: dict[str, list[Path]] = collections.defaultdict(list)
    place, results = folder.resolve(), Path(output or "").resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        reason = _reason(path, relative)
        if (
            output
            and place in results.parents
            and results in (place / relative).parents
        ):
            reason = "results of an earlier run" if path.is_file() else None
        if reason == "":
            kept.append((path, relative))
        elif reason:
            skipped[reason].append(relative)
    if skipped:
        parts = [
            f"{len(names)} {reason} ({', '.join(map(str, names[:_NAMED]))}"
            f"{', ...' if len(names) > _NAMED else ''})"
            for reason, names in skipped.items()
        ]
        total = sum(map(len, skipped.values()))
        logger.warning("skipped %d in %s: %s", total, folder, ", ".join(parts))
    return kept


def _reason(path: Path, relative: Path) -> str | None:
    """Returns why a folder's entry is skipped, "" for none, None for plain folders."""
    suffix = path.suffix.lower()
    if not is_reachable(path):
        return "in folders that cannot be entered"
    if path.is_dir():
        # Links to folders may lead back to where they stand.
        return "linked folders" if path.is_symlink() else None
    if is_hidden(relative):  # leftovers of killed runs, what systems keep beside files
        return "hidden"
    if not path.is_file():
        return "broken links" if path.is_symlink() else "devices"
    if suffix in PLUGINS:
        package = PLUGINS[suffix]
        there = importlib.util.find_spec(package.replace("-", "_"))
        return "" if there else f"that need {package}"
    return "" if suffix in KNOWN else "neither images nor videos"


def _check(jobs: Sequence[Job], overwrite: bool) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        if job.refusal:
            continue
        # Names that differ in case alone are one file on many disks.
        other = taken.setdefault(str(job.output).lower(), job)
        if other is not job:
            raise ValueError(
                f"Expected different names for all results, but got "
                f"{str(job.output)!r} for both {str(other.source)!r} and "
                f"{str(job.source)!r}. {_advice(job, other)}"
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


def _advice(job: Job, other: Job) -> str:
    """Returns how two results get names of their own."""
    if job.source.suffix.lower() != other.source.suffix.lower():
        return "Use --format keep, or run them apart."
    if job.source.stem != other.source.stem:
        return "On many disks names that differ in case alone are one: rename a file."
    return "Run the folders one by one, with an --output each."
