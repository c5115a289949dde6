"""Validation shared among processes: the metric is the same number as with one."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite, tensor2img
from tqdm import tqdm

from ..config.sections.validation import ValSection
from ..data.stream import SeededDataset
from .model import ImageModel
from .naming import input_paths, result_names
from .samples import write_sample

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

logger = logging.getLogger("basicsr")


def validate(
    model: ImageModel,
    dataloader: Any,
    current_iter: int,
    tb_logger: SummaryWriter | None,
    save_img: bool,
) -> None:
    """Runs one validation set through a model of the host or of this pack.

    Image i is validated by process i % count; every process gets the values of all and
    averages them in the order of the images, so the number does not depend on how many
    there are. Leaves `model.metric_results` and updates `model.best_metric_results`.

    Args:
        model: Has `feed_data`, `test`, `get_current_visuals` and `opt`.
        dataloader: The host's loader of a validation set (batch 1).
        current_iter: For names and logs.
        tb_logger: TensorBoard's writer, or None.
        save_img: Whether to write the results.
    """
    opt = model.opt
    rank, world = opt["rank"], opt["world_size"]
    # Names what it cannot read.
    dataset = SeededDataset(dataloader.dataset, purpose="validation")
    name = dataloader.dataset.opt["name"]
    val = ValSection.read(opt["val"])
    metrics = opt["val"].get("metrics") or {}
    indices = range(rank, len(dataloader.dataset), world)
    own: dict[int, dict[str, float]] = {}
    stems = result_names(input_paths(dataloader.dataset))
    progress = tqdm(
        indices,
        unit="image",
        desc=f"validation {name}",
        leave=False,
        disable=None if val.pbar and rank == 0 else True,
    )
    for index in progress:
        data = torch.utils.data.default_collate([dataset[index, 0]])
        model.feed_data(data)
        model.test()
        visuals = model.get_current_visuals()
        if "gt" not in data:  # what the model still has is of a training batch
            visuals.pop("gt", None)
        images = {"img": tensor2img([visuals["result"]])}
        if "gt" in visuals:
            images["img2"] = tensor2img([visuals["gt"]])
        path = data["lq_path"][0]
        image = stems.get(path) or Path(path).stem
        if index < val.samples:
            folder = Path(opt["path"]["visualization"], "samples")
            write_sample(folder, visuals, f"{name}_{image}", current_iter, tb_logger)
        if save_img:
            imwrite(images["img"], str(_image_path(opt, name, image, current_iter)))
        own[index] = {
            metric: float(calculate_metric(images, arguments))
            for metric, arguments in metrics.items()
        }
    if metrics:
        _finish(model, name, _gather(own, world), current_iter, tb_logger)


def _gather(own: dict[int, dict[str, float]], world: int) -> list[dict[str, float]]:
    """Returns the values of every image, of every process, in the images' order."""
    parts = [own] * world
    if world > 1:
        dist.all_gather_object(parts, own)
    merged = {index: values for part in parts for index, values in part.items()}
    return [merged[index] for index in sorted(merged)]


def _mean(what: str, values: list[float]) -> float:
    """Returns the mean of what is a number: some images are too small for a metric."""
    numbers = [value for value in values if not math.isnan(value)]
    if numbers and len(numbers) < len(values):
        logger.warning(
            "%s is no number for %d of %d images, which are too small or too plain; "
            "the mean is that of the others.",
            what,
            len(values) - len(numbers),
            len(values),
        )
    return sum(numbers) / len(numbers) if numbers else math.nan


def _finish(
    model: ImageModel,
    name: str,
    values: list[dict[str, float]],
    current_iter: int,
    tb_logger: SummaryWriter | None,
) -> None:
    model.metric_results = {
        metric: _mean(f"{metric} of {name}", [v[metric] for v in values])
        for metric in values[0]
    }
    model._initialize_best_metric_results(name)
    for metric, value in model.metric_results.items():
        model._update_best_metric_result(name, metric, value, current_iter)
    text = [f"Validation {name}"]
    for metric, value in model.metric_results.items():
        best = model.best_metric_results[name][metric]
        text.append(
            f"\t # {metric}: {value:.4f}\tBest: {best['val']:.4f} @ {best['iter']} iter"
        )
        if tb_logger:
            tb_logger.add_scalar(f"metrics/{name}/{metric}", value, current_iter)
    logger.info("\n".join(text))


def _image_path(
    opt: Mapping[str, Any], name: str, image: str, current_iter: int
) -> Path:
    """Where the host writes it; with several sets, each in a folder of its own."""
    folder = Path(opt["path"]["visualization"])
    if not opt["is_train"]:
        return folder / name / f"{image}_{opt['val'].get('suffix') or opt['name']}.png"
    if sum(k.split("_")[0] == "val" for k in opt["datasets"]) > 1:
        folder /= name
    return folder / image / f"{image}_{current_iter}.png"
