"""What `paragon upscale` does beside the network: speed on a folder, and exactness."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..archs import create, variants
from ..deploy import deploy_model
from ..inference.jobs import plan, run
from ..inference.pictures import WriteOptions, need
from ..inference.strips import StripEngine
from ..inference.upscaler import Upscaler
from .published import PublishedForm


@dataclass(frozen=True)
class FolderSpeed:
    """Seconds over a folder of images, from the first read to the last write.

    Attributes:
        images: How many there are.
        plain: A loop of OpenCV's read, the published form, OpenCV's write.
        ours: `paragon upscale`'s run.
        network: Seconds of `ours` in which the network runs.
    """

    images: int
    plain: float
    ours: float
    network: float


def measure_folder(
    upscaler: Upscaler, folder: Path, model: nn.Module, rounds: int = 3
) -> FolderSpeed:
    """Times both ways over a folder's images in turn; medians of the rounds.

    Both write PNG at OpenCV's default compression; start-up and loading are outside.

    Args:
        upscaler: Ours.
        folder: PNG images.
        model: The same network, for the published form.
        rounds: How many times each is run.
    """
    cv2 = need("cv2", "the plain loop", "opencv-python")
    files = sorted(folder.glob("*.png"))
    published = PublishedForm(model)
    plain, ours, inside = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for index in range(rounds):
            out = Path(name) / f"plain{index}"
            out.mkdir()
            started = time.perf_counter()
            with torch.inference_mode():
                for file in files:
                    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
                    x = torch.from_numpy(image.transpose(2, 0, 1)[None] / 255).float()
                    y = (published(x)[0].clamp(0, 1) * 255).round().byte()
                    array = y.permute(1, 2, 0).numpy()
                    array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
                    cv2.imwrite(str(out / file.name), array)
            plain.append(time.perf_counter() - started)
            jobs = plan([folder], Path(name) / f"ours{index}")
            watch = _Watch(upscaler.network)
            engine = upscaler.engine  # built before the watch takes the network's place
            upscaler.network = upscaler.compiled = watch
            started = time.perf_counter()
            failed = run(upscaler, jobs, WriteOptions())
            ours.append(time.perf_counter() - started)
            upscaler.network = upscaler.compiled = watch.network
            inside.append(watch.seconds + (engine.seconds if engine else 0.0))
            if engine:
                engine.seconds = 0.0
            if failed:
                raise ValueError(
                    f"Expected every image of {str(folder)!r} to be upscaled, but "
                    f"{failed[0][0].source} was not: {failed[0][1]}"
                )
    middle = rounds // 2
    return FolderSpeed(
        len(files), sorted(plain)[middle], sorted(ours)[middle], sorted(inside)[middle]
    )


class _Watch(nn.Module):
    """A network that counts the seconds that it runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seconds = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        y = self.network(x)
        self.seconds += time.perf_counter() - started
        return y


@dataclass(frozen=True)
class Exactness:
    """Strips against the whole image, for one variant.

    Attributes:
        variant: Its name.
        sweeps: Over the image.
        rows: Of the narrowest strips.
        worst: Largest difference, as a share of the result's spread.
        median: Median difference, likewise.
    """

    variant: str
    sweeps: int
    rows: int
    worst: float
    median: float


def measure_exactness(
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (75, 52),
    scale: int = 2,
) -> list[Exactness]:
    """Compares deploy forms in the smallest strips with themselves in one piece.

    Weights are random, with scales that matter, so that nothing hides.

    Args:
        names: Variants; all by default.
        size: Height and width of the noise image.
        scale: Upscaling factor.
    """
    found = []
    for name in names or list(variants()):
        torch.manual_seed(0)
        model = create(name, scale).eval()
        for key, parameter in model.named_parameters():
            if key.rsplit(".", 1)[-1] == "gamma":
                nn.init.uniform_(parameter, 0.3, 0.6)
        network = deploy_model(model)
        x = torch.rand(1, 3, *size)
        with torch.inference_mode():
            whole = network(x)
        got = torch.full_like(whole, torch.nan)
        narrowest = [size[0]]

        def keep(
            low: int, high: int, rows: torch.Tensor, into: torch.Tensor = got
        ) -> None:
            into[:, :, low * scale : high * scale] = rows
            narrowest[0] = min(narrowest[0], high - low)  # noqa: B023 (used at once)

        engine = StripEngine(network)
        engine.run([lambda a, b, x=x: x[:, :, a:b]], size, [keep], 0)
        error = (got - whole).abs() / float(whole.max() - whole.min())
        found.append(
            Exactness(
                name,
                engine.sweeps(size),
                narrowest[0],
                float(error.max()),
                float(np.median(error.numpy())),
            )
        )
    return found
