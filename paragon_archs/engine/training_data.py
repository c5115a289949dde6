"""The data of a training run: which samples each iteration sees."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from basicsr.data import build_dataloader

from ..config.errors import wrong
from ..config.sections.data import DataSection
from ..data.stream import SampleStream, same_images
from .context import RunContext
from .setup import build_set
from .stages import Stage, read_stages

logger = logging.getLogger("basicsr")


@dataclasses.dataclass(frozen=True)
class Part:
    """Iterations `start` to `stop` (from 0) and the data that they see."""

    start: int
    stop: int
    dataset: Any
    stream: SampleStream
    section: DataSection


class TrainingData:
    """Data sets, streams of samples and stages of a run.

    Args:
        context: Its options, processes and seed.

    Raises:
        OptionError: when a data set or a stage does not fit its section.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        options = context.options.sections
        self.val_loaders: list[Any] = []
        for name, section in context.options.values["datasets"].items():
            dataset = build_set(section)
            if section["phase"] == "train":
                self.train_set, self.train_section = dataset, options.datasets[name]
            elif section["phase"] == "val":
                loader = build_dataloader(dataset, section, sampler=None)
                self.val_loaders.append(loader)
        self.stream = self.stream_of(self.train_set, self.train_section, context.seed)
        self.stages: list[Stage] = []
        epoch = self.stream.iterations_per_epoch
        self.total_iter = options.train.total_iter
        if options.stages is not None:
            try:
                self.stages = read_stages(options.stages, epoch)
            except ValueError as error:
                raise wrong("stages", problem=error) from error
            self.total_iter = self.stages[-1].stop
        self.parts = self.build_parts()
        logger.info(
            "Training: %d images, batch %d x %d processes, %.2f iterations per epoch, "
            "%d iterations, seed %d.",
            len(self.train_set),
            self.stream.batch,
            context.world_size,
            self.stream.iterations_per_epoch,
            self.total_iter,
            context.seed,
        )

    def stream_of(self, dataset: Any, section: DataSection, seed: int) -> SampleStream:
        """Returns the stream of a training set's samples."""
        context = self.context
        options = context.options.sections
        gpus = 1 if context.distributed else max(1, int(options.num_gpu))
        return SampleStream(
            len(dataset),
            section.batch_size_per_gpu * options.train.accum_iter * gpus,
            seed,
            context.world_size,
            context.rank,
            section.dataset_enlarge_ratio,
        )

    def build_parts(self) -> list[Part]:
        """Returns which data the iterations see: those of stages may differ."""
        whole = Part(
            0, self.total_iter, self.train_set, self.stream, self.train_section
        )
        parts = []
        for index, stage in enumerate(self.stages):
            part = dataclasses.replace(whole, start=stage.start, stop=stage.stop)
            if stage.data is not None:
                scale = self.context.options.values.get("scale")
                values = {**stage.data, "phase": "train", "scale": scale}
                dataset = same_images(self.train_set, values) or build_set(values)
                section = DataSection.read(values)
                seed = self.context.seed + index
                stream = self.stream_of(dataset, section, seed)
                part = Part(stage.start, stage.stop, dataset, stream, section)
            parts.append(part)
        return parts or [whole]

    def position(self) -> dict[str, object]:
        """Returns what a state records of the place in the data."""
        return {
            "seed": self.context.seed,
            "global_batch": self.parts[0].stream.batch * self.context.world_size,
            "images": len(self.train_set),
        }

    def compare(self, position: Mapping[str, object]) -> None:
        """Reports what makes a resumed run see other samples."""
        for key, value in self.position().items():
            if value != position.get(key, value):
                logger.warning(
                    "Resuming with %s %s instead of %s: the samples differ from those "
                    "of an uninterrupted run.",
                    key,
                    value,
                    position[key],
                )
