"""The data sets of an option file."""

from __future__ import annotations

from dataclasses import dataclass

from ..key import Name, Typed, key


@dataclass(frozen=True)
class DataSection(Typed):
    """A data set; `arguments` are what its own class reads."""

    name: Name = key("name in logs and folders")
    type: str = key("registered data set class")
    batch_size_per_gpu: int = key(
        "samples of one micro-batch, per process or GPU",
        phase="train",
        low=1,
        high=2**16,
    )
    num_worker_per_gpu: int = key(
        "reading processes; 0 reads in the training process",
        0,
        phase="train",
        low=0,
        high=512,
    )
    dataset_enlarge_ratio: int | float = key(
        "times that an epoch goes through the images",
        1,
        phase="train",
        low=1,
        high=1000000000.0,
    )
    prefetch_mode: str | None = key(
        "accepted for the host's sake: workers always prepare batches in advance",
        None,
        phase="train",
        choices=("cpu", "cuda", None),
    )
    num_prefetch_queue: int = key(
        "batches that each worker prepares in advance",
        2,
        phase="train",
        low=1,
        high=1024,
    )
    pin_memory: bool = key("page-locked memory, for GPUs", False)
    persistent_workers: bool = key(
        "accepted for the host's sake: workers always stay", True, phase="train"
    )
    on_bad_image: str = key(
        "an unreadable image stops the run, or is named and skipped",
        "error",
        choices=("error", "skip"),
    )
