"""Pairs from high-resolution images alone: the low-resolution side is made on the fly.

Images are decoded once; crops, flips, turns and bicubic downscaling happen in batches
on the training device (or on the CPU), so there is nothing for worker processes to do.
What is random in a sample follows from its seed: position in the data is a number.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..config.errors import OptionError
from ..config.key import REQUIRED, Key
from ..utils.drawings import drawing, page
from ..utils.draws import uniform
from ..utils.registry import DATASET_REGISTRY
from .image_store import CACHES, ImageStore
from .pairs import (
    augment,
    augmentation_codes,
    downscale,
    stack_crops,
    to_unit,
    upload,
)
from .reading import (
    UnreadableImageError,
    find_images,
    listed_images,
    to_channels,
)
from .whole_images import WHOLE_KEYS, WholeImages

logger = logging.getLogger("basicsr")

Sample = dict[str, Any]

STORE_KEYS: dict[str, Key] = {
    "dataroot_gt": Key("str", REQUIRED, "folder of the HR images"),
    "meta_info": Key("str", None, "file that names the images, one a line"),
    "channels": Key(
        "int", 3, "1 gray, 3 RGB, 4 RGB and alpha; files are converted", (1, 3, 4)
    ),
    "cache": Key(
        "str",
        "ram",
        "decoded images stay in memory, in a mapped file, or nowhere",
        CACHES,
    ),
    "cache_limit_gb": Key(
        "float",
        8.0,
        "GiB that the cache may take; the rest is decoded each time",
        low=0,
        high=1000000.0,
    ),
    "cache_dir": Key("str", None, "folder of mapped caches; the user's cache folder"),
    "quantise_lq": Key("bool", True, "round the LR side to 8 bits, as files would be"),
    "use_hflip": Key("bool", True, "flip left and right at random"),
}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute in one thread.

    Work on small crops gains little from more, loses much where others use the cores
    too, and this way its last bits do not depend on how many there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class StoredImages(Dataset[Sample]):
    """What the data sets on a store share: options, batches, bad files at night."""

    KEYS: dict[str, Key] = STORE_KEYS
    least = 1  # smallest side of an image
    least_key = "gt_size"

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.options = self.filled(opt)
        self.scale = int(opt["scale"])
        self.training = opt["phase"] == "train"
        root = self.options["dataroot_gt"]
        listed = self.options["meta_info"]
        files = listed_images(root, listed) if listed else find_images(root)
        self.store = ImageStore(
            files,
            channels=self.options["channels"],
            cache=self.options["cache"] if self.training else "none",
            limit_gb=self.options["cache_limit_gb"],
            cache_dir=self.options["cache_dir"],
            on_bad_image=opt.get("on_bad_image") or "error",
            least=self.least,
            least_key=self.least_key,
        )

    def filled(self, opt: Mapping[str, object]) -> dict[str, Any]:
        """Returns the set's own keys of a section, defaults filled in."""
        return {
            name: opt.get(name, None if key.default is REQUIRED else key.default)
            for name, key in self.KEYS.items()
        }

    def __len__(self) -> int:
        return len(self.store)

    def expect(self, indices: Sequence[int]) -> None:
        """Begins to decode the images of batches that are to come, in their order."""
        self.store.expect(indices)

    def read(self, index: int) -> tuple[int, np.ndarray]:
        """Returns image `index`, or the next readable one, and which it is.

        A file can go bad while a run is under way (a network drive does); it is named
        in the log, and skipped when bad images may be.
        """
        for step in range(len(self)):
            chosen = (int(index) + step) % len(self)
            try:
                return chosen, self.store[chosen]
            except UnreadableImageError as error:
                if not self.store.skip:
                    raise
                logger.warning("Skipped: %s", error)
        raise UnreadableImageError(
            "Expected at least one readable image, but none is left. The log names "
            "them."
        )

    def pairs(
        self, images: list[np.ndarray], seeds: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Makes `(gt, lq)`, each (B, C, H, W) in [0, 1], of one image per seed."""
        raise NotImplementedError

    def whole(self, image: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Makes `(gt, lq)` of a whole image, (1, C, H, W) in [0, 1]; for validation."""
        raise NotImplementedError

    def batch(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> Sample:
        """Makes a whole training batch on a device.

        Args:
            indices: Which images.
            seeds: One for each; all that is random in a sample follows from its own.
            device: Where the pairs are made and stay.

        Returns:
            `lq` (B, C, h, w) and `gt` (B, C, H, W), float32 in [0, 1], and the paths.
        """
        chosen, images = zip(*map(self.read, indices), strict=True)
        with one_thread() if device.type == "cpu" else contextlib.nullcontext():
            gt, lq = self.pairs(list(images), seeds, device)
        paths = [str(self.store.files[i]) for i in chosen]
        return {"lq": lq, "gt": gt, "lq_path": paths, "gt_path": paths}

    def __getitem__(self, index: int) -> Sample:
        """Makes one sample on the CPU: a random one in training, else a whole image."""
        cpu = torch.device("cpu")
        if self.training:
            # Whoever reads samples one by one seeds `random`, as the host does.
            made = self.batch([index], [random.getrandbits(63)], cpu)
            return {name: value[0] for name, value in made.items()}
        chosen, image = self.read(index)
        gt, lq = self.whole(image, cpu)
        path = str(self.store.files[chosen])
        return {"lq": lq[0], "gt": gt[0], "lq_path": path, "gt_path": path}


@DATASET_REGISTRY.register()
class HRImageDataset(StoredImages):
    """Random crops of HR images, and their bicubic LR side.

    In training, each sample is a crop of `gt_size`, flipped and turned; where it lies
    follows from the seed that its index carries, so position in the data is a number.
    In validation and test, each is a whole image cut to a multiple of the scale.

    Args:
        opt: The data set's section; see `KEYS`. `scale` and `phase` come from above.

    Raises:
        ValueError: for a missing or empty folder, unreadable images (unless skipped),
            images smaller than the crop, or a crop that scale does not divide.
    """

    KEYS = {  # noqa: RUF012 (read only)
        **STORE_KEYS,
        "gt_size": Key(
            "int",
            None,
            "side of the HR crop in pixels; training needs it",
            low=1,
            high=2**15,
        ),
        "use_rot": Key("bool", True, "flip up and down and transpose at random"),
        **WHOLE_KEYS,
        "drawn_share": Key(
            "float",
            0.0,
            "share of samples that are drawn pictures (letters, lines, shapes, "
            "patterns, black and white) instead of photographs",
            low=0,
            high=1,
        ),
    }
    CROPS = ("gt_size", "drawn_share")
    """Keys that another section may have of its own and still share the images."""

    def __init__(self, opt: dict[str, Any]) -> None:
        self.least = int(opt["scale"])
        self.size: int | None = None
        if opt["phase"] == "train":
            self.least = self.size = self._check_crop(opt)
        super().__init__(opt)
        self.wholes: WholeImages | None = None
        if self.training and any(self.options.get(key) for key in WHOLE_KEYS):
            self.wholes = WholeImages(
                self.store,
                self.scale,
                self.least,
                self.options["gt_scales"] or [1.0],
                bool(self.options.get("cache_lq")),
                self.options["quantise_lq"],
                self.options["cache_limit_gb"],
            )

    def _check_crop(self, opt: dict[str, Any]) -> int:
        """Returns the side of the HR crops; images may not be smaller."""
        size, scale = opt.get("gt_size"), int(opt["scale"])
        if not isinstance(size, int) or size < 1 or size % scale:
            raise ValueError(
                f"Expected gt_size to be a multiple of scale ({scale}), but got "
                f"{size!r}. Take a multiple, such as {48 * scale}."
            )
        return size

    def __len__(self) -> int:
        return len(self.store) if self.wholes is None else len(self.wholes)

    def resized(self, opt: dict[str, object]) -> HRImageDataset | None:
        """Returns a set of the same images with other crops, or None.

        Args:
            opt: A section; where it differs in more than crops and batch, there is
                none.

        Raises:
            OptionError: when the images are smaller than the crops.
        """
        names = [key for key in ("type", *self.KEYS) if key not in self.CROPS]
        if any(opt.get(key) != self.opt.get(key) for key in names):
            return None
        least = self._check_crop(opt)
        for index in range(len(self.store)):
            height, width = self.store.sides(index)
            if min(height, width) < least:
                raise OptionError(
                    f"Expected the images to be at least {least} wide and high in "
                    f"every stage, but got {str(self.store.files[index])!r} with "
                    f"{width}x{height}. Lower gt_size or remove it."
                )
        other = copy.copy(self)
        other.opt, other.size, other.least = opt, least, least
        other.options = self.filled(opt)
        if self.wholes is not None:
            other.wholes = self.wholes.at_least(least)
        return other

    def batch(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> Sample:
        """Makes a batch as `StoredImages` does, with its share of drawn pictures."""
        made = self.photographs(indices, seeds, device)
        drawn = np.flatnonzero(uniform(seeds, 7)[:, 6] < self.options["drawn_share"])
        for index in drawn.tolist():
            gt = self.drawn(seeds[index], device)
            made["gt"][index] = gt
            made["lq"][index] = downscale(gt, self.scale, self.options["quantise_lq"])[
                0
            ]
        return made

    def expect(self, indices: Sequence[int]) -> None:
        """Does so unless whole images are held anyway."""
        if self.wholes is None:
            super().expect(indices)

    def drawn(self, seed: int, device: torch.device) -> Tensor:
        """Returns a drawn picture (1, C, gt_size, gt_size) in [0, 1]."""
        assert self.size is not None
        rng = np.random.default_rng(seed)
        draw = drawing if rng.random() < 0.6 else page
        picture = draw(rng, self.size, self.scale).numpy()
        pixels = to_channels(picture.transpose(1, 2, 0), self.options["channels"])
        return to_unit(upload(pixels[None], device))

    def photographs(
        self, indices: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> Sample:
        """Makes a batch of crops; of whole pairs where there are some."""
        if self.wholes is None:
            return super().batch(indices, seeds, device)
        if self.options["by_area"]:
            indices = self.wholes.by_area(uniform(seeds, 6)[:, 5])
        with one_thread() if device.type == "cpu" else contextlib.nullcontext():
            gt, lq = self.whole_pairs(self.wholes, indices, seeds, device)
        paths = [str(self.store.files[self.wholes.origins[i]]) for i in indices]
        return {"lq": lq, "gt": gt, "lq_path": paths, "gt_path": paths}

    def whole_pairs(
        self,
        wholes: WholeImages,
        indices: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """Makes `(gt, lq)` crops of images, and of their LR side where it is kept."""
        images = [wholes.high[i] for i in indices]
        if not wholes.low:
            return self.pairs(images, seeds, device)
        assert self.size is not None
        numbers, scale = uniform(seeds, 5), self.scale
        lows = [wholes.low[i] for i in indices]
        low_corners = corners(lows, numbers, self.size // scale)
        codes = self._codes(numbers)
        made = []
        for kind, factor in ((images, scale), (lows, 1)):
            tops, lefts = low_corners.T * factor
            crops = stack_crops(kind, tops, lefts, self.size // scale * factor)
            made.append(to_unit(augment(upload(crops, device), codes)))
        return made[0], made[1]

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        return augmentation_codes(
            numbers[:, 2:5], self.options["use_hflip"], self.options["use_rot"]
        )

    def pairs(
        self, images: list[np.ndarray], seeds: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        assert self.size is not None
        numbers = uniform(seeds, 5)
        tops, lefts = corners(images, numbers, self.size).T
        crops = stack_crops(images, tops, lefts, self.size)
        # Bytes are turned before they become floats: a quarter of the traffic.
        gt = to_unit(augment(upload(crops, device), self._codes(numbers)))
        return gt, downscale(gt, self.scale, self.options["quantise_lq"])

    def whole(self, image: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        height, width = (side // self.scale * self.scale for side in image.shape[1:])
        pixels = np.ascontiguousarray(image[None, :, :height, :width])
        gt = to_unit(upload(pixels, device))
        return gt, downscale(gt, self.scale, self.options["quantise_lq"])


def corners(images: Sequence[np.ndarray], numbers: np.ndarray, size: int) -> np.ndarray:
    """Returns (B, 2): row and column where crops of images (C, H, W) begin."""
    free = np.asarray([[side - size + 1 for side in i.shape[1:]] for i in images])
    return (numbers[:, :2] * free).astype(np.int64)
