"""Puts our repairs in place of the host's broken pieces, under our command only."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from basicsr.data import degradations
from basicsr.models import realesrgan_model, realesrnet_model
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from basicsr.utils import DiffJPEG, USMSharp
from torch import nn

from ..engine.degradation import dequeue_and_enqueue
from ..engine.validation import validate
from . import reading
from .repairs import Repaired


def install() -> None:
    """Repairs the host's model classes in this process; calling it twice is fine."""
    for name, method in vars(Repaired).items():
        if isinstance(method, FunctionType):
            setattr(BaseModel, name, method)
    SRModel.nondist_validation = validate  # type: ignore[assignment]
    SRModel.dist_validation = validate  # type: ignore[assignment]
    reading.install()
    _repair_degradations()
    _repair_real_esrgan()
    _repair_losses()
    _repair_wandb()


def _repair_degradations() -> None:
    """OpenCV 5 takes whole numbers for the JPEG quality only."""
    own = degradations.add_jpg_compression
    if not hasattr(own, "repaired"):

        def add_jpg_compression(img: Any, quality: float = 90) -> Any:
            return own(img, round(quality))

        add_jpg_compression.repaired = True  # type: ignore[attr-defined]
        degradations.add_jpg_compression = add_jpg_compression


def _where_it_is(kind: Callable[..., nn.Module]) -> type[nn.Module]:
    """The host calls `.cuda()` on these modules even where there is no GPU."""

    class OnItsDevice(kind):  # type: ignore[misc, valid-type]
        def cuda(self, device: Any = None) -> nn.Module:
            return super().cuda(device) if torch.cuda.is_available() else self

        def forward(self, *arguments: Any, **options: Any) -> Any:
            # JPEG's result is permuted; the host's blur wants it in a row.
            return super().forward(*arguments, **options).contiguous()

    return OnItsDevice


def _repair_real_esrgan() -> None:
    for module, model in (
        (realesrnet_model, realesrnet_model.RealESRNetModel),
        (realesrgan_model, realesrgan_model.RealESRGANModel),
    ):
        for kind in (DiffJPEG, USMSharp):
            setattr(module, kind.__name__, _where_it_is(kind))
        model._dequeue_and_enqueue = dequeue_and_enqueue


def _repair_losses() -> None:
    """`criterion: l2` of the perceptual loss names a class that torch never had."""
    nn.L2loss = nn.MSELoss  # type: ignore[attr-defined]


def _repair_wandb() -> None:
    """wandb moved `generate_id`."""
    if importlib.util.find_spec("wandb") is None:
        return
    util = importlib.import_module("wandb.util")
    if not hasattr(util, "generate_id"):
        runid = importlib.import_module("wandb.sdk.lib.runid")
        util.generate_id = runid.generate_id  # type: ignore[attr-defined]
