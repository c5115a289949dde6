"""The upscaler: a network, a device, and pictures that go through."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..checkpoint import load_model
from ..fuse import fuse_model
from .pictures import Picture, read_picture

logger = logging.getLogger(__name__)


class Upscaler:
    """Upscales pictures with one network.

    Args:
        model: A weight file (this pack's or any that spandrel opens), or a descriptor
            as `paragon_archs.checkpoint.load_model` returns it.
        device: `auto` (cuda, then mps, then cpu), or a torch device.

    Raises:
        FileNotFoundError: when the weight file does not exist.
        ValueError: when it holds no network from image to image.
    """

    def __init__(
        self,
        model: str | Path | ImageModelDescriptor[nn.Module],
        device: str | torch.device = "auto",
    ) -> None:
        self.device = pick_device(device)
        if not isinstance(model, ImageModelDescriptor):
            model = load_model(model, self.device)
        self.descriptor = model
        self.scale = model.scale
        self.network = fuse_model(model.model).to(self.device).eval()

    def image(self, array: np.ndarray) -> np.ndarray:
        """Upscales one picture.

        Args:
            array: (H, W) or (H, W, C), C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
                alpha; uint8, uint16, or float32 in [0, 1].

        Returns:
            The same layout and dtype, H and W times `scale`.

        Raises:
            ValueError: for another shape or dtype.
        """
        if array.ndim not in (2, 3) or (
            array.ndim == 3 and not 1 <= array.shape[2] <= 4
        ):
            raise ValueError(
                "Expected an image of shape (H, W) or (H, W, 1 to 4), but got "
                f"{array.shape!r}. Put the channels last."
            )
        layers = array.reshape(*array.shape[:2], -1)
        colours = 3 if layers.shape[2] >= 3 else 1
        alpha = None if layers.shape[2] == colours else layers[..., colours]
        pixels, alpha = self._upscale(layers[..., :colours], alpha)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
        return pixels[..., 0] if array.ndim == 2 else pixels

    def picture(self, picture: Picture) -> Picture:
        """Upscales a picture; profile, EXIF and resolution are kept."""
        return picture.with_pixels(*self._upscale(picture.pixels, picture.alpha))

    def images(self, paths: Iterable[str | Path]) -> Iterator[tuple[Path, Picture]]:
        """Reads and upscales image files one by one.

        Yields:
            Each path with its upscaled picture, for `write_picture`.
        """
        for path in paths:
            yield Path(path), self.picture(read_picture(path))

    def _upscale(
        self, pixels: np.ndarray, alpha: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Upscales (H, W, 1 or 3) values and their (H, W) opacity."""
        colour = to_tensor(pixels, self.device)
        if alpha is None:
            return to_array(self._colours(colour), pixels.dtype), None
        opacity = to_tensor(alpha[..., None], self.device)
        if bool((opacity == 1).all()):
            grown = self._colours(colour)
            full = np.full(grown.shape[2:], white(pixels.dtype), pixels.dtype)
            return to_array(grown, pixels.dtype), full
        # Premultiplied: what stands under clear pixels must not bleed into the rest.
        grown = self._colours(colour * opacity)
        cover = self._colours(opacity).clamp(0, 1)
        step = 1 / white(pixels.dtype)
        grown = torch.where(cover >= step / 2, grown / cover.clamp_min(step / 2), grown)
        return to_array(grown, pixels.dtype), to_array(cover, pixels.dtype)[..., 0]

    def _colours(self, x: Tensor) -> Tensor:
        """Runs (1, 1 or 3, H, W) through a network of any channel count."""
        wanted, given = self.descriptor.input_channels, x.shape[1]
        if wanted == given:
            return self.forward(x)
        if wanted == 1:  # each colour is a gray picture of its own
            return self.forward(x.transpose(0, 1)).transpose(0, 1)
        if wanted == 4:
            x = torch.cat((x.expand(-1, 3, -1, -1), torch.ones_like(x[:, :1])), 1)
        else:
            x = x.expand(-1, wanted, -1, -1)
        grown = self.forward(x)[:, :3]
        return grown.mean(1, keepdim=True) if given == 1 else grown

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        """Runs the network: (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        return self.network(x)


def pick_device(name: str | torch.device) -> torch.device:
    """Returns the device that `name` means; `auto` is the fastest there is.

    Raises:
        ValueError: for an unknown device or one that is not there.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = getattr(torch.backends, "mps", None)
        return torch.device("mps" if mps and mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"Expected the device to be auto, cpu, cuda, cuda:N or mps, and to be "
            f"there, but got {name!r} ({str(error).splitlines()[0]}). Use --device cpu."
        ) from error
    return device


def white(dtype: np.dtype) -> int:
    """Returns the value of full white: 255, 65535, or 1 for floats."""
    return 1 if np.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def to_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """Turns (H, W, C) values into a float32 tensor (1, C, H, W) in [0, 1].

    Raises:
        ValueError: when the dtype is not uint8, uint16 or a float.
    """
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(
        array.dtype, np.floating
    ):
        raise ValueError(
            f"Expected uint8, uint16 or float values, but got {array.dtype}. Convert "
            "the array first."
        )
    values = array.transpose(2, 0, 1)[None].astype(np.float32)
    return torch.from_numpy(values).to(device).div_(white(array.dtype))


def to_array(x: Tensor, dtype: np.dtype) -> np.ndarray:
    """Turns (1, C, H, W) in [0, 1] into (H, W, C) values, rounded to nearest."""
    x = x[0].float().clamp(0, 1).permute(1, 2, 0)
    if np.issubdtype(dtype, np.floating):
        return x.cpu().numpy().astype(dtype)
    scaled = x.mul(white(dtype)).add_(0.5)
    if dtype == np.uint8:
        return scaled.to(torch.uint8).cpu().numpy()
    return scaled.to(torch.int32).cpu().numpy().astype(dtype)
