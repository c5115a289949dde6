"""The training data as one endless stream of samples, the same at every run.

Sample n of the stream depends on the seed and on n alone: which image (a permutation
per epoch) and which random numbers (a seed of its own). Batches are consecutive
samples, shared among processes. So a resumed run goes on with exactly the samples that
would have come, in any number of workers; two processes see what one with twice the
batch sees; and nothing is dropped at the end of an epoch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import math
import random
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from ..config.errors import OptionError
from ..config.sections.data import DataSection

logger = logging.getLogger("basicsr")

PREFETCHED = 2  # batches whose images are decoded while one is trained on

Sample = tuple[int, int]
"""Index of an image, seed of its random numbers."""


@runtime_checkable
class BatchDataset(Protocol):
    """A data set that makes whole batches, on the device, without a loader."""

    def __len__(self) -> int: ...

    def batch(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> dict[str, Any]:
        """Returns the samples of `indices`; all that is random comes from `seeds`."""
        ...


class SampleStream:
    """Decides which samples each batch holds.

    Args:
        size: Images of the data set.
        batch: Samples of one step of one process.
        seed: The run's seed.
        world: Number of processes.
        rank: Which of them this is.
        ratio: Times that an epoch goes through the images (the host's
            `dataset_enlarge_ratio`).

    Raises:
        ValueError: for an empty data set.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        seed: int,
        world: int = 1,
        rank: int = 0,
        ratio: float = 1,
    ) -> None:
        if size < 1:
            raise ValueError(
                f"Expected the training set to hold images, but got {size}. Check its "
                "folders."
            )
        self.size = size
        self.batch = batch
        self.seed = seed
        self.world = world
        self.rank = rank
        self.epoch_size = max(1, math.ceil(size * ratio))
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    @property
    def iterations_per_epoch(self) -> float:
        """Steps that go once through an epoch; seldom a whole number."""
        return self.epoch_size / (self.batch * self.world)

    def epoch_of(self, iteration: int) -> int:
        """Returns the epoch of the first sample of a step (counted from 0)."""
        return iteration * self.batch * self.world // self.epoch_size

    def sample(self, number: int) -> Sample:
        """Returns sample `number` of the stream."""
        epoch, place = divmod(number, self.epoch_size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch, "order"))
            self._order = torch.randperm(self.epoch_size, generator=generator)
            self._epoch = epoch
        return int(self._order[place]) % self.size, _mix(self.seed, number, "sample")

    def batch_of(self, iteration: int) -> list[Sample]:
        """Returns this process's samples of a step (counted from 0)."""
        first = (iteration * self.world + self.rank) * self.batch
        return [self.sample(n) for n in range(first, first + self.batch)]


def _mix(seed: int, number: int, what: str) -> int:
    """A 63-bit number that depends on all three."""
    digest = hashlib.blake2b(f"{seed}/{number}/{what}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1


class preserved_rng:  # noqa: N801 (used like a function)
    """Gives the random number generators of this process their state back.

    Args:
        device: A GPU whose generator is another one; asking for it waits for the GPU.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._gpu = device if device is not None and device.type == "cuda" else None

    def __enter__(self) -> None:
        self._states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        if self._gpu is not None:
            self._of_gpu = torch.cuda.get_rng_state(self._gpu)

    def __exit__(self, *_: object) -> None:
        own, numpy, torch_state = self._states
        random.setstate(own)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
        if self._gpu is not None:
            torch.cuda.set_rng_state(self._of_gpu, self._gpu)


class SeededDataset(Dataset[Any]):
    """Reads samples of a data set, each with random numbers of its own.

    It is also what a spawned worker unpickles first, so that importing this pack makes
    the host importable there.

    Args:
        dataset: Any data set of the host's kind.
        on_bad: `error` names an image that cannot be read and stops; `skip` names it
            and takes the next one.
        purpose: What the images are for, in messages; only training may skip one.
    """

    def __init__(
        self, dataset: Any, on_bad: str = "error", purpose: str = "training"
    ) -> None:
        self.dataset = dataset
        self.on_bad = on_bad
        self.purpose = purpose

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, sample: Sample) -> Any:
        index, seed = sample
        with preserved_rng():
            for offset in range(len(self)):
                random.seed(seed)
                np.random.seed(seed % 2**32)
                # Of the CPU alone: `torch.manual_seed` would seed the GPUs too.
                torch.default_generator.manual_seed(seed)
                try:
                    return self.dataset[(index + offset) % len(self)]
                except OptionError:  # of our own sets: names the file, knows `skip`
                    raise
                except READING as error:
                    problem = self._describe((index + offset) % len(self), error)
                    if self.on_bad == "error":
                        raise DataError(problem) from error
                    logger.warning("%s It is skipped.", problem)
        raise DataError("Expected a readable image in the training set; none is left.")

    def _describe(self, index: int, error: Exception) -> str:
        paths = getattr(self.dataset, "paths", None) or getattr(
            self.dataset, "keys", [index] * len(self)
        )
        name = paths[index]
        if isinstance(name, dict):
            name = " and ".join(map(str, name.values()))
        reason = " ".join(str(error).split()) or type(error).__name__
        way = ", or set on_bad_image: skip" if self.purpose == "training" else ""
        return (
            f"Expected {self.purpose} images that can be read, but got {name}: "
            f"{reason} Replace it{way}."
        )


class DataError(ValueError):
    """An image of the data set cannot be used; names it."""


def _reading_errors() -> tuple[type[Exception], ...]:
    """What the host's readers raise on a bad file (cv2.error is no ValueError)."""
    errors: list[type[Exception]] = [
        AttributeError,
        ValueError,
        TypeError,
        OSError,
        AssertionError,
        IndexError,
        RuntimeError,
    ]
    try:
        import cv2  # noqa: PLC0415 (without it only its own errors are missing)
    except ImportError:
        return tuple(errors)
    return (*errors, cv2.error)


READING = _reading_errors()


class _Batches:
    """Sampler of whole batches, from the first step that is still to come."""

    def __init__(self, stream: SampleStream, start: int, stop: int) -> None:
        self.stream, self.start, self.stop = stream, start, stop

    def __iter__(self) -> Iterator[list[Sample]]:
        return (self.stream.batch_of(i) for i in range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Keeps a worker alive through Ctrl-C and a group's SIGTERM.

    Both reach every process of the run; the parent still wants its last batch to save
    in order, and ends its workers itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def sort_paths(dataset: object) -> None:
    """Puts a data set's files in an order that no file system decides."""
    paths = getattr(dataset, "paths", None)
    if not isinstance(paths, list) or not paths:
        return
    if all(isinstance(p, str) for p in paths):
        paths.sort()
    elif all(isinstance(p, dict) for p in paths):
        paths.sort(key=lambda p: sorted((k, str(v)) for k, v in p.items()))


def lone_opencv() -> None:
    """Keeps OpenCV to one thread per process.

    A worker that is forked while OpenCV has threads of its own waits for them for
    ever; and the workers are what shares the cores.
    """
    if importlib.util.find_spec("cv2") is not None:
        importlib.import_module("cv2").setNumThreads(0)


def same_images(dataset: object, section: dict[str, object]) -> Any | None:
    """Returns a set of the same decoded images under another section, or None.

    Args:
        dataset: A set that may know `resized`, as those on an `ImageStore` do.
        section: The other section; where it differs in more than crops and batch,
            there is none.
    """
    resized = getattr(dataset, "resized", None)
    return resized(section) if resized is not None else None


def _made(
    dataset: BatchDataset, stream: SampleStream, steps: range, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yields batches of a set that makes them; it knows two more than it makes."""
    expect = getattr(dataset, "expect", None)
    batches = (stream.batch_of(step) for step in steps)
    window = deque(islice(batches, PREFETCHED))
    for _ in steps:
        window.extend(islice(batches, 1))
        if expect is not None:
            expect([index for samples in window for index, _ in samples])
        indices, seeds = zip(*window.popleft(), strict=True)
        yield dataset.batch(indices, seeds, device)


def batches(
    dataset: object,
    stream: SampleStream,
    start: int,
    stop: int,
    device: torch.device,
    section: DataSection,
) -> Generator[dict[str, Any], None, None]:
    """Yields the batches of the steps `start` to `stop` (counted from 0).

    Args:
        dataset: A `BatchDataset`, or one of the host's kind.
        stream: Decides which samples.
        start: First step.
        stop: Step after the last.
        device: Where a `BatchDataset` makes its batches.
        section: The data set's: workers, pinned memory, bad images.
    """
    if isinstance(dataset, BatchDataset):
        yield from _made(dataset, stream, range(start, stop), device)
        return
    workers = section.num_worker_per_gpu
    if workers:
        lone_opencv()
    loader = DataLoader(
        SeededDataset(dataset, section.on_bad_image),
        batch_sampler=_Batches(stream, start, stop),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=default_collate,
        pin_memory=section.pin_memory and device.type == "cuda",
        prefetch_factor=section.num_prefetch_queue if workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator().manual_seed(0),  # leaves the run's own alone
    )
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        # Workers that ignore signals must be stopped, also after an error, whose
        # traceback keeps the iterator: the interpreter would wait for them at exit.
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()  # type: ignore[attr-defined]
