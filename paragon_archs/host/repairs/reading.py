"""Files that the host's data sets read: all of their bits, and whole or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from basicsr.utils import img_util

from ...config.meta_info import listed_names
from ...data.reading import to_channels
from ...media.images import read_pixels

_host = img_util.imfrombytes


def imfrombytes(content: bytes, flag: str = "color", float32: bool = False) -> Any:
    """Reads an image as the host does, but 16 bits as 16, and no cut-off JPEG.

    Args:
        content: A file's bytes.
        flag: `color`; what else the host knows is the host's.
        float32: Whether to scale to [0, 1]; without it the host wants its own 8 bits.

    Returns:
        (H, W, 3) in BGR; gray is expanded, alpha left out.

    Raises:
        ValueError: when it is no whole image. Whoever knows the file adds its name.
    """
    if flag != "color" or not float32:
        return _host(content, flag, float32)
    planes = to_channels(read_pixels(content), 3)
    max_value = np.float32(np.iinfo(planes.dtype).max)
    return (
        np.ascontiguousarray(planes[::-1].transpose(1, 2, 0)).astype("f4") / max_value
    )


def paired_paths(
    folders: Sequence[str], keys: Sequence[str], meta_info_file: str, template: str
) -> list[dict[str, str]]:
    """Returns the pairs that a meta-info file names, as the host's function does.

    Args:
        folders: Of the input and of the target.
        keys: Their names, `lq` and `gt`.
        meta_info_file: It names the targets, one a line.
        template: File name of the input, made of the target's stem.
    """
    pairs = []
    for name in listed_names(meta_info_file):
        target = Path(name)
        source = f"{template.format(target.stem)}{target.suffix}"
        pairs.append(
            {
                f"{keys[0]}_path": str(Path(folders[0], source)),
                f"{keys[1]}_path": str(Path(folders[1], name)),
            }
        )
    return pairs


def with_listed_gt(own: Callable[..., None]) -> Callable[..., None]:
    """Wraps `RealESRGANDataset.__init__`: whole names of the meta-info file."""
    return _with_listed(own, "gt_folder", "meta_info")


def with_listed_lq(own: Callable[..., None]) -> Callable[..., None]:
    """Wraps `SingleImageDataset.__init__`: whole names of the meta-info file."""
    return _with_listed(own, "lq_folder", "meta_info_file")


def _with_listed(
    own: Callable[..., None], folder: str, key: str
) -> Callable[..., None]:
    @functools.wraps(own)
    def init(self: Any, opt: Any) -> None:
        own(self, opt)
        if opt["io_backend"]["type"] == "disk" and opt.get(key):
            root = getattr(self, folder)
            self.paths = [str(Path(root, name)) for name in listed_names(opt[key])]

    return init
