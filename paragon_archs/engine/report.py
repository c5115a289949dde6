"""`report.html` of a training run: written at validations and checkpoints."""

from __future__ import annotations

import contextlib
import copy
import datetime
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from torch import nn

from .. import __version__
from ..evaluation.page import write
from ..evaluation.page.report import Commands, Training, render
from ..fuse import is_fused
from .context import RunContext
from .history import History
from .samples import read_samples

logger = logging.getLogger("basicsr")

FILE, HISTORY = "report.html", "report.jsonl"


class Report:
    """A run's history, and the page that shows it.

    A report that cannot be written is named once, and stops nothing.

    Args:
        context: Of the run.
        network: The one that is trained, for the command lines.
        total: Steps to do.
        done: Steps done before.
    """

    def __init__(
        self, context: RunContext, network: nn.Module, total: int, done: int
    ) -> None:
        self.context, self.total = context, total
        self.options = context.options.values
        self.fusible = not is_fused(network)
        self.warned = False
        self.history: History | None = None
        with self.lenient():
            self.history = History(context.folders.root / HISTORY, done)

    @contextlib.contextmanager
    def lenient(self) -> Iterator[None]:
        """Turns the first failure to write into a warning, and passes over the rest."""
        try:
            yield
        except (OSError, ValueError) as error:
            if not self.warned:
                logger.warning(
                    "The run's report cannot be written: %s. Training goes on without.",
                    error,
                )
            self.warned = True

    def logged(
        self,
        iteration: int,
        losses: Mapping[str, float],
        rates: Sequence[float],
        skipped: int,
    ) -> None:
        """Takes the numbers of a log line."""
        values = {"losses": dict(losses), "rates": list(rates), "skipped": skipped}
        self._add({"iter": iteration, **values})

    def validated(
        self, iteration: int, name: str, metrics: Mapping[str, float]
    ) -> None:
        """Takes the metrics of one validation set."""
        self._add({"iter": iteration, "set": name, "metrics": dict(metrics)})

    def _add(self, row: dict[str, object]) -> None:
        with self.lenient():
            if self.history is not None:
                self.history.add(row)

    def write(self, iteration: int, done: bool) -> None:
        """Writes the page as it is after an iteration; `done` if that was the last."""
        if self.history is None:
            return
        with self.lenient():
            folders, options = self.context.folders, self.context.options
            metrics = (self.options.get("val") or {}).get("metrics") or {}
            now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
            shown = {
                "name": options.name,
                "manual_seed": self.context.seed,
                **copy.deepcopy(options.recorded),
            }
            page = render(
                Training(
                    name=options.name,
                    iteration=iteration,
                    total=self.total,
                    rows=self.history.rows,
                    better={n: m.get("better", "higher") for n, m in metrics.items()},
                    samples=read_samples(folders.visualization / "samples", iteration),
                    checkpoints=[
                        Commands(*self._commands(file))
                        for file in checkpoints(folders.models)
                    ],
                    going_on="" if done else self._going_on(),
                    options=yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
                    about=f"Written by paragon_archs {__version__}, {now}. Load the "
                    "page again for the newest state. Samples are JPEG here; without "
                    "loss they are in visualization/samples.",
                )
            )
            write(folders.root / FILE, page)

    def _commands(self, file: Path) -> tuple[str, list[tuple[str, str]]]:
        """Returns a checkpoint's path and its command lines, from the run's root."""
        root, name = self.context.options.root, self.context.options.name
        short = file.relative_to(root) if file.is_relative_to(root) else file
        path, stem = short.as_posix(), f"{self.options.get('scale', '')}x_{name}"
        lines = [
            ("Upscale a picture or a video", ["upscale", "photo.jpg", "--model", path]),
            (
                "Compare it with bicubic on one page",
                ["compare", "photo.jpg", "--models", path, "-o", f"{stem}.html"],
            ),
        ]
        if self.fusible:
            fused = ["fuse", path, "-o", f"{stem}.safetensors"]
            lines.append(("Fuse it: same picture, fewer tensors, to publish", fused))
        export = ["export", path, "-o", f"{stem}.onnx"]
        lines.append(("Export an ONNX graph, checked against torch", export))
        return path, [(what, shlex.join(["paragon", *line])) for what, line in lines]

    def _going_on(self) -> str:
        options = self.context.options
        line = ["basicsr", "train", "-opt", str(options.file), "--auto_resume"]
        mark = "--force_yml "
        given = [p.removeprefix(mark) for p in options.places.values() if mark in p]
        if forced := list(dict.fromkeys(given)):
            line += ["--force_yml", *forced]
        return shlex.join(line)


def checkpoints(folder: Path) -> list[Path]:
    """Returns the released weights worth a command line: the newest, then the best."""
    files = sorted(folder.glob("net_g_*.*"))
    number = "net_g_"
    steps = [f for f in files if f.stem.removeprefix(number).isdigit()]
    newest = sorted(steps, key=lambda f: int(f.stem.removeprefix(number)))[-1:]
    return newest + [f for f in files if f.stem.startswith(f"{number}best_")]
