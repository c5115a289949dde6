"""From what a user names to a list of jobs, and the run through them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .pictures import (
    IMAGE_SUFFIXES,
    WriteOptions,
    check_format,
    need,
    read_picture,
    write_picture,
)
from .upscaler import Upscaler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One file to read and the file that its result goes to."""

    source: Path
    output: Path


def plan(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    format_: str = "png",
    suffix: str = "",
    overwrite: bool = False,
) -> list[Job]:
    """Works out what is read and where results go, before any work.

    Args:
        inputs: Image files and folders; folders are searched to any depth, and their
            structure is kept under `output`.
        output: A file, when `inputs` is one image and the name has an image's
            extension; a folder otherwise, made when missing.
        format_: Extension of results in a folder, or `keep` for the source's.
        suffix: Added to the stems of results in a folder.
        overwrite: Whether existing results may be replaced.

    Raises:
        FileNotFoundError: when an input does not exist.
        ValueError: when nothing is to be done, when two results would have the same
            name, when a result exists or is its own source.
    """
    found = [pair for entry in inputs for pair in _expand(Path(entry))]
    if not found:
        raise ValueError(
            "Expected at least one image, but got none in "
            f"{', '.join(map(str, inputs))}. Images end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    target = Path(output)
    one_file = target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir()
    if one_file:
        if len(found) > 1 or Path(inputs[0]).is_dir():
            raise ValueError(
                f"Expected --output to be a folder for {len(found)} images, but got "
                f"{str(target)!r}. Name a folder."
            )
        check_format(target.suffix)
        jobs = [Job(found[0][0], target)]
    else:
        jobs = []
        for source, relative in found:
            ending = source.suffix if format_ == "keep" else f".{format_.lstrip('.')}"
            check_format(ending)
            name = f"{relative.stem}{suffix}{ending}"
            jobs.append(Job(source, target / relative.parent / name))
    _check(jobs, overwrite)
    for folder in {job.output.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    return jobs


def _expand(entry: Path) -> list[tuple[Path, Path]]:
    """Returns the images of a file or folder, each with its path inside it."""
    if entry.is_dir():
        files = sorted(p for p in entry.rglob("*") if p.is_file())
        images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
        for other in files:
            if other.suffix.lower() not in IMAGE_SUFFIXES:
                logger.warning("skipped %s: not an image", other)
        return [(p, p.relative_to(entry)) for p in images]
    if not entry.exists():
        raise FileNotFoundError(
            f"Expected INPUT to be an image or a folder, but there is no "
            f"{str(entry)!r}. Check the path."
        )
    return [(entry, Path(entry.name))]


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
    upscaler: Upscaler, jobs: Sequence[Job], options: WriteOptions
) -> list[tuple[Job, str]]:
    """Reads, upscales and writes every job; a failure does not stop the others.

    Returns:
        The jobs that failed, each with its reason in one sentence.
    """
    tqdm = need("tqdm", "the progress bar", "tqdm").tqdm
    failed = []
    for job in tqdm(jobs, unit="image", disable=None):
        try:
            picture = upscaler.picture(read_picture(job.source))
            write_picture(picture, job.output, options)
        except (ValueError, OSError, RuntimeError) as error:
            failed.append((job, " ".join(str(error).split())))
    return failed
