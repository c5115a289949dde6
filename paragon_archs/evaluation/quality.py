"""How close networks come to the original: protocols, contenders, resumable tables."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoint import find_architecture, load_model
from ..deploy import deploy_model
from ..media.paths import find_images
from ..utils.files import atomic_write
from ..utils.resize import imresize
from .measures import gray, luma, psnr, quantise, shave, ssim

KEYS = ("set", "scale", "model", "image")
Measure = Callable[[Tensor, Tensor], float]


def read_image(path: str | Path) -> Tensor:
    """Returns an image as RGB, (3, H, W), uint8.

    Raises:
        ValueError: when the file is no whole image.
    """
    try:
        with Image.open(path) as opened:
            array = np.array(opened.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"Expected a whole image, but got {str(path)!r}, which cannot be read "
            f"({error}). Replace it or take it out of the folder."
        ) from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def crop_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Returns `image` (C, H, W) without the rows and columns beyond a multiple."""
    height, width = (side - side % scale for side in image.shape[-2:])
    return image[..., :height, :width]


def shrink_like_matlab(high: Tensor, scale: int) -> Tensor:
    """Returns the 8-bit LR image of `high` (3, H, W), uint8, by MATLAB's imresize."""
    low = imresize(high[None].float() / 255, 1 / scale)[0]
    return quantise(low).to(torch.uint8)


def shrink_like_pillow(high: Tensor, scale: int) -> Tensor:
    """Returns the 8-bit LR image of `high` (3, H, W), uint8, by Pillow's bicubic."""
    picture = Image.fromarray(high.permute(1, 2, 0).numpy())
    size = (picture.width // scale, picture.height // scale)
    array = np.array(picture.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Protocol:
    """How LR images are made and what is measured.

    Attributes:
        name: What the command calls it.
        about: One line for `--help` and for the head of the tables.
        shrink: (HR, scale) -> LR, both (3, H, W), uint8.
        border: Whether `scale` pixels at each border are left out.
        measures: Column -> measure of two 8-bit RGB images (3, H, W) in [0, 255].
    """

    name: str
    about: str
    shrink: Callable[[Tensor, int], Tensor]
    border: bool
    measures: dict[str, Measure]


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "standard",
            "LR by MATLAB's bicubic, 8-bit rounding, crop = scale, Y of BT.601",
            shrink_like_matlab,
            True,
            {
                "psnr_y": lambda a, b: psnr(luma(a), luma(b)),
                "ssim_y": lambda a, b: ssim(luma(a), luma(b)),
                "psnr_rgb": psnr,
                "ssim_rgb": ssim,
            },
        ),
        Protocol(
            "resshuffle",
            "LR by Pillow's bicubic, 8-bit rounding, no crop, RGB PSNR, gray SSIM",
            shrink_like_pillow,
            False,
            {
                "psnr_rgb": psnr,
                "ssim_gray": lambda a, b: ssim(gray(a), gray(b)),
            },
        ),
    )
}


@dataclass
class Contender:
    """Something that upscales.

    Attributes:
        name: What the tables call it.
        scale: Its factor.
        parameters: Number of weights, 0 for a filter.
        upscale: LR (1, 3, H, W) in [0, 1] -> (1, 3, H * s, W * s).
        digest: What a resumed table checks, so that another file of the same name is
            not mixed in.
    """

    name: str
    scale: int
    parameters: int
    upscale: Callable[[Tensor], Tensor]
    digest: str = ""


def bicubic(scale: int) -> Contender:
    """MATLAB's bicubic on R, G and B."""
    return Contender("bicubic", scale, 0, lambda low: imresize(low, scale))


def from_file(path: str | Path, device: str = "cpu") -> Contender:
    """Opens a weight file of this pack or of spandrel; its scale comes from within."""
    descriptor = load_model(path, device)
    if descriptor.input_channels != 3 or descriptor.output_channels != 3:
        raise ValueError(
            f"Expected a network from RGB to RGB, but {str(path)!r} goes from "
            f"{descriptor.input_channels} to {descriptor.output_channels} channels. "
            "Leave it out."
        )
    model = descriptor.model

    # The deploy form computes the same and is what users run; a network that needs
    # certain sizes goes through its descriptor, which pads and crops.
    ours = find_architecture(model.state_dict()) is not None
    free = descriptor.size_requirements.none
    run = deploy_model(model) if ours and free else descriptor

    def upscale(low: Tensor) -> Tensor:
        return run(low.to(descriptor.device)).float().cpu()

    return Contender(
        name=Path(path).stem,
        scale=descriptor.scale,
        parameters=sum(p.numel() for p in model.parameters()),
        upscale=upscale,
        digest=hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
    )


def is_stored_gray(path: str | Path) -> bool:
    """Tells whether an image file holds one channel (three equal ones are colour)."""
    with Image.open(path) as opened:
        return opened.mode in ("1", "L", "LA", "I;16")


def bicubic_of_luma(high: Tensor, scale: int, gray_file: bool) -> dict[str, float]:
    """Measures the bicubic baseline as the papers' MATLAB scripts did.

    The Y channel alone, 8-bit, is shrunk, enlarged and rounded once; an image that is
    stored gray is its own Y, full range (1.3 dB on one of Set14's images). This gives
    the published 33.66 dB on Set5 x2; upsampling R, G and B of the 8-bit LR image, as
    networks do, gives up to 0.1 dB more.

    Args:
        high: (3, H, W), uint8, sides multiples of `scale`.
        scale: Upscaling factor.
        gray_file: Whether the image is stored with one channel.
    """
    wide = high.double()
    y = (wide[:1] if gray_file else luma(wide)).round()
    low = imresize(y[None], 1 / scale)
    out = imresize(low, scale)[0].round().clamp(0, 255)
    a, b = shave(out, scale), shave(y, scale)
    return {"psnr_y": psnr(a, b), "ssim_y": ssim(a, b)}


def _one_folder(folder: str) -> list[Path]:
    """Returns a set's images, which must lie in one folder.

    HR and LR often lie side by side below a test set's; mixing them spoils tables.
    """
    images = find_images(folder)
    places = sorted({str(p.parent) for p in images})
    if len(places) > 1:
        raise ValueError(
            "Expected the images of a test set to lie in one folder, but got "
            f"{folder!r} with images in {places[0]!r} and {places[1]!r}. Name one."
        )
    return images


@dataclass
class TestSet:
    """A named folder of HR images, and of LR images when they are given.

    Attributes:
        name: What the tables call it.
        images: HR files.
        lows: LR files of the same names, or None to make them.
    """

    __test__ = False  # not a test class, whatever pytest reads in its name

    name: str
    images: list[Path]
    lows: list[Path] | None = None

    @classmethod
    def open(cls, high: str, low: str | None = None) -> TestSet:
        """Reads `FOLDER` or `NAME=FOLDER`; LR files are paired by name.

        Raises:
            FileNotFoundError: when a folder is missing or empty.
            ValueError: when an image has no partner.
        """
        name, _, folder = high.rpartition("=")
        images = _one_folder(folder)
        if not name:
            place = Path(folder).resolve()
            generic = ("hr", "gt", "x2", "x3", "x4", "x8")
            while place.name.lower() in generic and place.parent != place:
                place = place.parent
            name = place.name
        if low is None:
            return cls(name, images)
        partners = {p.stem: p for p in _one_folder(low)}
        missing = [p.name for p in images if p.stem not in partners]
        if missing:
            raise ValueError(
                f"Expected an image of the same name in {low!r} for each of "
                f"{folder!r}, but got none for {missing[0]!r}. Name them alike."
            )
        return cls(name, images, [partners[p.stem] for p in images])

    def pair(self, index: int, scale: int, protocol: Protocol) -> tuple[Tensor, Tensor]:
        """Returns (LR, HR) of one image, uint8, HR cropped to LR times scale.

        Raises:
            ValueError: when a given LR image does not fit its HR image.
        """
        high = crop_to_multiple(read_image(self.images[index]), scale)
        if self.lows is None:
            return protocol.shrink(high, scale), high
        low = read_image(self.lows[index])
        want = tuple(side // scale for side in high.shape[-2:])
        if tuple(low.shape[-2:]) != want:
            raise ValueError(
                f"Expected {str(self.lows[index])!r} to be {want[1]} x {want[0]}, "
                f"1/{scale} of its HR image, but got {low.shape[2]} x {low.shape[1]}. "
                "Give the LR folder of this scale, or none."
            )
        return low, high


@dataclass
class Table:
    """Rows of a benchmark, kept in a folder and continued from there.

    Attributes:
        folder: Holds `images.csv` and `settings.json`.
        settings: What must be the same for rows to belong together.
        rows: One per set, scale, model and image.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def resume(self) -> None:
        """Takes over the rows that are there.

        Raises:
            ValueError: when they were made with other settings or other files.
        """
        file = self.folder / "settings.json"
        if not file.is_file():
            return
        told = json.loads(file.read_text())
        shared = {k: v for k, v in told.items() if k != "digests"}
        own = {k: v for k, v in self.settings.items() if k != "digests"}
        digests = {**told["digests"], **self.settings["digests"]}
        if shared != own or any(digests[k] != v for k, v in told["digests"].items()):
            raise ValueError(
                f"Expected the settings that {str(self.folder)!r} was begun with "
                f"({json.dumps(shared)}), but got {json.dumps(own)} or another file "
                "of the same name. Choose another --output."
            )
        self.settings["digests"] = digests
        with (self.folder / "images.csv").open(newline="") as opened:
            for row in csv.DictReader(opened):
                values = {k: float(v) for k, v in row.items() if k not in KEYS and v}
                keys = {k: row[k] for k in KEYS}
                self.rows.append({**keys, "scale": int(row["scale"]), **values})

    def has(self, name: str, scale: int, model: str, image: str) -> bool:
        """Tells whether a row is there already."""
        key = (name, scale, model, image)
        return any(tuple(row[k] for k in KEYS) == key for row in self.rows)

    def save(self) -> None:
        """Writes all rows; each file is whole or the one before."""
        columns = list(dict.fromkeys(k for row in self.rows for k in row))
        write_csv(self.folder / "images.csv", columns, self.rows)
        with atomic_write(self.folder / "settings.json") as temporary:
            temporary.write_text(json.dumps(self.settings, indent=1))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]
) -> None:
    """Writes rows as CSV; measured values keep six decimals."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, columns, restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()}
            )


def averages(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per set, scale and model: the mean of each column.

    A column is averaged only where every image has it: a mean over fewer images than
    its neighbours' would not be comparable.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in KEYS[:3]), []).append(row)
    means = []
    for key, members in groups.items():
        mean: dict[str, Any] = dict(zip(KEYS[:3], key, strict=True))
        mean["images"] = len(members)
        for column in (k for k in members[0] if k not in KEYS):
            values = [m.get(column, math.nan) for m in members]
            if not any(math.isnan(v) for v in values):
                mean[column] = sum(values) / len(values)
        means.append(mean)
    return means


def speeds(contenders: Sequence[Contender], side: int, rounds: int) -> dict[str, float]:
    """Returns output megapixels per second of each contender, the median of rounds.

    They take turns within a round, so that a busy machine slows all of them alike:
    the ratios hold better than the figures.

    Args:
        contenders: What to measure, all on one device.
        side: Side of the square LR image in pixels.
        rounds: Measurements of each, after one that does not count.
    """
    low = torch.rand(1, 3, side, side)
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for turn in range(rounds + 1):
        for c in contenders:
            begin = time.perf_counter()
            with torch.inference_mode():
                c.upscale(low)  # answers on the CPU, so the device has finished
            if turn:
                seconds[c.name].append(time.perf_counter() - begin)
    return {
        c.name: (side * c.scale) ** 2 / 1e6 / statistics.median(seconds[c.name])
        for c in contenders
    }


def markdown(means: Sequence[dict[str, Any]], parameters: dict[str, int]) -> str:
    """Returns the averages as a Markdown table."""
    columns = list(dict.fromkeys(k for row in means for k in row))
    columns = [c for c in columns if c not in (*KEYS, "images")]
    head = ["set", "scale", "model", "parameters", "images", *columns]
    lines = [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * 3 + " ---: |" * (len(head) - 3),
    ]
    for row in means:
        count = parameters.get(row["model"], 0)
        cells = [row["set"], f"x{row['scale']}", row["model"]]
        cells += [f"{count:,}" if count else "-", str(row["images"])]
        for column in columns:
            digits = 2 if "psnr" in column or column == "mp_per_s" else 4
            value = row.get(column)
            cells.append("-" if value is None else f"{value:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
