"""Looks at the devices, scales and weights that an option file names."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import torch

from ..optim.optimizers import build_optimizer
from ..weights import resolve
from .errors import OptionError, sentence
from .key import Typed
from .loading import Options
from .sections.data import DataSection
from .sets_check import check_set
from .signatures import known_types, parameters

# What classes raise on impossible arguments; hardly any looks at its own.
IMPOSSIBLE = (
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    NameError,
)

SCALES = ("scale", "upscale", "upscale_factor", "sf")
"""How networks call their factor."""

CHANNELS = ("in_chans", "num_in_ch", "in_channels", "in_ch", "in_nc")
"""How networks call the channels of their input."""


def check_data(options: Options, is_train: bool) -> None:
    """Checks what the options point at, before anything is created.

    Raises:
        OptionError: with one sentence for each mistake.
    """
    wrong = [
        *_devices(options),
        *_scales(options),
        *_channels(options),
        *_weights(options),
        *_loggers(options),
        *_metrics(options, is_train),
        *(_trials(options) if is_train else ()),
    ]
    for name, section in options.values["datasets"].items():
        if str(name).split("_")[0] == "train" and not is_train:
            continue
        wrong += check_set(options, str(name), DataSection.read(section))
    for stage in (options.values.get("stages") or []) if is_train else []:
        if stage.get("data"):
            wrong += check_set(options, "train", DataSection.read(stage["data"]))
    if wrong:
        raise OptionError(*wrong)


# Devices, scales, weights ----------------------------------------------------------


def _devices(options: Options) -> Iterator[str]:
    value = options.values["num_gpu"]
    count = torch.cuda.device_count()
    place = options.place(("num_gpu",))
    if isinstance(value, str) and value != "auto":
        yield sentence(
            "wrong_choice",
            key="num_gpu",
            choices="auto, 0, 1, ...",
            value=value,
            place=place,
            hint="",
        )
    elif isinstance(value, int) and value > count:
        yield sentence("no_gpu", count=count, value=value, place=place)


def _scales(options: Options) -> Iterator[str]:
    scale = options.values.get("scale")
    if scale is None:
        return
    for name, section in options.values.items():
        if not (str(name) == "network_g" and isinstance(section, dict)):
            continue
        for key in SCALES:
            if isinstance(section.get(key), int) and section[key] != scale:
                yield sentence(
                    "scale_differs",
                    key=f"{name}:{key}",
                    scale=scale,
                    value=section[key],
                    place=options.place((name, key)),
                )


def _channels(options: Options) -> Iterator[str]:
    network = options.values.get("network_g") or {}
    target = known_types("network").get(str(network.get("type")))
    accepted = parameters("network", target) if target else {}
    key = next((k for k in CHANNELS if k in accepted), None)
    if key is None:
        return
    wanted = network.get(key, accepted[key].default)
    for name, section in options.values["datasets"].items():
        # The host's sets read RGB, or only Y with `color: y`.
        value = section.get("channels", 1 if section.get("color") == "y" else 3)
        if isinstance(wanted, int) and value != wanted:
            yield sentence(
                "channels_differ",
                key=f"datasets:{name}:channels",
                network=f"network_g:{key}",
                wanted=wanted,
                value=value,
                place=options.place(("datasets", name, "channels")),
            )


def _weights(options: Options) -> Iterator[str]:
    for key, value in options.values["path"].items():
        if key == "resume_state" and value and not Path(value).is_file():
            yield sentence(
                "no_state",
                key="path:resume_state",
                value=value,
                problem="does not exist",
                place=options.place(("path", key)),
            )
        if str(key).startswith("pretrain_network") and value:
            try:
                resolve(value)
            except (FileNotFoundError, ValueError):
                yield sentence(
                    "no_weights",
                    key=f"path:{key}",
                    value=value,
                    place=options.place(("path", key)),
                )


def _loggers(options: Options) -> Iterator[str]:
    log = options.values["logger"]
    project = (log.get("wandb") or {}).get("project")
    if project and not log["use_tb_logger"]:
        place = options.place(("logger", "wandb", "project"))
        yield sentence("wandb_alone", value=project, place=place)
    for wanted, package, path in (
        (log.get("use_tb_logger"), "tensorboard", ("logger", "use_tb_logger")),
        (project, "wandb", ("logger", "wandb", "project")),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            yield sentence(
                "no_package",
                key=":".join(path),
                package=package,
                place=options.place(path),
            )


def _metrics(options: Options, is_train: bool) -> Iterator[str]:
    """Validation sets have names of their own, and HR images where metrics ask."""
    phases = ("val",) if is_train else ("val", "test")
    known = known_types("metric")
    comparing = [
        name
        for name, metric in (
            (options.values.get("val") or {}).get("metrics") or {}
        ).items()
        if "img2" in (own := inspect.signature(known[metric["type"]]).parameters)
        and own["img2"].default is inspect.Parameter.empty
    ]
    names: list[str] = []
    for key, section in options.values["datasets"].items():
        if str(key).split("_")[0] not in phases:
            continue
        place = options.place(("datasets", key, "name"))
        if section["name"] in names:
            yield sentence(
                "same_name",
                key=f"datasets:{key}:name",
                value=section["name"],
                place=place,
            )
        names.append(section["name"])
        if comparing and section["type"] == "SingleImageDataset":
            yield sentence(
                "no_target", key=f"datasets:{key}", metric=comparing[0], place=place
            )


def _trials(options: Options) -> Iterator[str]:
    """Takes steps with each optimizer and schedule on one number: flags may clash."""
    train = options.values["train"]
    device = "cuda" if options.values["num_gpu"] != 0 else "cpu"
    device = device if torch.cuda.is_available() else "cpu"
    for key, section in train.items():
        if not str(key).startswith("optim_") or not isinstance(section, dict):
            continue
        tried = ("train", key)
        try:
            optimizer = _optimizer(Typed.read(section), device)
            if train.get("scheduler"):
                tried = ("train", "scheduler")
                _step(
                    optimizer, Typed.read(train["scheduler"]), train.get("total_iter")
                )
        except IMPOSSIBLE as error:
            yield sentence(
                "no_step",
                key=":".join(map(str, tried)),
                problem=" ".join(str(error).split()) or type(error).__name__,
                place=options.place(tried),
            )


def _optimizer(section: Typed, device: str) -> torch.optim.Optimizer:
    """Builds an optimizer of one matrix, and takes a step with it."""
    weight = torch.nn.Parameter(torch.ones(2, 2, device=device))
    weight.grad = torch.ones_like(weight)
    optimizer = build_optimizer(section.type, [weight], **section.arguments)
    optimizer.step()
    return optimizer


def _step(optimizer: torch.optim.Optimizer, section: Typed, length: int | None) -> None:
    """Builds a schedule, and takes the steps that lead into its formula."""
    from ..optim.schedulers import build_scheduler  # noqa: PLC0415 (imports the host)

    scheduler = build_scheduler(
        section.type, optimizer, length or 100, **section.arguments
    )
    for _ in range(min(3, (length or 100) - 1)):
        optimizer.step()
        scheduler.step()
