"""Perceptual losses: VGG19 features, and LPIPS and DISTS through pyiqa.

Each loads its weights when it is built, which is before the first iteration; what is
missing is one clear error, not a failure in the night.
"""

from __future__ import annotations

import contextlib
import sys
import types
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.registry import LOSS_REGISTRY
from .common import check_choice, check_pair, in_float32, three_channels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
VGG19_LAYERS = 37  # torchvision's vgg19().features


def vgg19_features(layers: int, weights: str | Path | None) -> nn.Sequential:
    """Builds torchvision's VGG19 up to a layer, frozen, with trained weights.

    Args:
        layers: How many entries of `features` to keep, 1 to 37.
        weights: A local file (`.pth` or `.safetensors`) with torchvision's names, the
            whole network or its `features` alone. None takes torchvision's
            ImageNet weights: from its cache, or by download.

    Raises:
        FileNotFoundError: when `weights` does not exist.
        ValueError: when it holds another network, or nothing is cached and the
            download fails.
    """
    from torchvision.models import vgg  # noqa: PLC0415 (an optional dependency)

    if not 1 <= layers <= VGG19_LAYERS:
        raise ValueError(
            f"Expected layers to be from 1 to {VGG19_LAYERS}, but got {layers!r}. Use "
            "36, the features before the last pooling."
        )
    features = vgg.make_layers(vgg.cfgs["E"])[:layers]
    if weights is not None:
        source, state = str(weights), _read(weights)
    else:
        published = vgg.VGG19_Weights.IMAGENET1K_V1
        source = published.url
        try:
            state = dict(published.get_state_dict(progress=False, check_hash=True))
        except (urllib.error.URLError, OSError) as error:
            cache = Path(torch.hub.get_dir()) / "checkpoints"
            raise ValueError(
                f"Expected VGG19's weights to be in {str(cache)!r} or to be downloaded "
                f"from {source}, but got {error}. Give a local file as `weights` of "
                "the perceptual loss, or put that file there."
            ) from error
    wanted = features.state_dict()
    state = {k.removeprefix("features."): v for k, v in state.items()}
    bad = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
    if bad:
        raise ValueError(
            f"Expected {source!r} to hold torchvision's VGG19, but 'features.{bad[0]}' "
            "is missing or of another shape. Use vgg19-dcbb9e9d.pth."
        )
    features.load_state_dict({k: state[k].float() for k in wanted})
    return features.requires_grad_(False).eval()


def _read(weights: str | Path) -> dict[str, Tensor]:
    """Reads a local weight file; no name of a shipped model is meant here."""
    from ..checkpoint import read_state_dict  # noqa: PLC0415 (loads spandrel)

    file = Path(weights).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected the loss's weights, but there is no file {str(weights)!r}. "
            "Check the path."
        )
    return read_state_dict(file)


class _Frozen(nn.Module):
    """A loss whose network never trains and never enters a state dict of ours."""

    def train(self, mode: bool = True) -> _Frozen:
        """Keeps evaluation mode: dropout in a measure would be noise."""
        del mode
        return super().train(False)


@LOSS_REGISTRY.register()
class VGGPerceptualLoss(_Frozen):
    """Distance of VGG19's features of two images in [0, 1].

    BasicSR's `PerceptualLoss` (several layers, style) stays as it is; this one is the
    published single-layer form and names the source of its weights.

    Args:
        loss_weight: Factor on the loss.
        layers: Entries of torchvision's `vgg19().features`; 36 ends with relu5_4.
        weights: Local weight file; None takes torchvision's, cached or downloaded.
        input_norm: Whether to normalize by ImageNet's mean and deviation first.
        criterion: "l1" or "l2".
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        layers: int = 36,
        weights: str | None = None,
        input_norm: bool = True,
        criterion: str = "l1",
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        check_choice("criterion", criterion, ("l1", "l2"))
        self.distance = nn.L1Loss() if criterion == "l1" else nn.MSELoss()
        self.input_norm = input_norm
        self.features = vgg19_features(layers, weights)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.eval()

    def _extract(self, x: Tensor) -> Tensor:
        x = three_channels(x)
        if self.input_norm:
            x = (x - self.mean) / self.std
        return self.features(x)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two images (B, C, H, W) in [0, 1]."""
        check_pair(pred, target)
        # Autocast stays on: these are plain convolutions, and the slow part.
        with torch.no_grad():
            wanted = self._extract(target)
        got = self._extract(pred)
        with torch.autocast(pred.device.type, enabled=False):
            distance = self.distance(in_float32(got), in_float32(wanted))
            return self.loss_weight * distance


@contextlib.contextmanager
def _empty_trunks(module: Any) -> Iterator[None]:
    """Lets a module of pyiqa build torchvision's networks without their weights.

    They stay on the meta device: a file that holds the whole network follows, and
    pyiqa has no switch that keeps it from downloading the trunk first.
    """

    def empty(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def without_weights(*_: object, **__: object) -> nn.Module:
            with torch.device("meta"):
                return build(weights=None)

        return without_weights

    original = module.models
    module.models = types.SimpleNamespace(
        alexnet=empty(original.alexnet), vgg16=empty(original.vgg16)
    )
    try:
        yield
    finally:
        module.models = original


class _PyiqaLoss(_Frozen):
    """A full-reference measure of pyiqa whose gradient trains.

    Args:
        loss_weight: Factor on the loss.
        name: pyiqa's name of the measure.
        weights: Local file with pyiqa's whole network; None takes pyiqa's weights.
    """

    def __init__(self, loss_weight: float, name: str, weights: str | None) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        try:
            import pyiqa  # noqa: PLC0415 (an optional dependency)
            from pyiqa.default_model_configs import DEFAULT_CONFIGS  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "pyiqa":
                raise
            raise ValueError(
                f"Expected pyiqa to be installed for {type(self).__name__}, but it is "
                "not. Run `pip install 'paragon-archs[metrics]'`."
            ) from error
        if weights:
            self.net = self._from_file(
                name, DEFAULT_CONFIGS[name]["metric_opts"], weights
            )
        else:
            # On the CPU first: the training engine moves losses to its device.
            cpu = torch.device("cpu")
            try:
                self.net = pyiqa.create_metric(name, as_loss=True, device=cpu).net
            except (urllib.error.URLError, OSError) as error:
                raise ValueError(
                    f"Expected the weights of {name} to be cached in "
                    f"{torch.hub.get_dir()!r} or to be downloaded, but got {error}. "
                    "Run once with a connection, or give a local file as `weights`."
                ) from error
        self.net.requires_grad_(False)
        self.eval()

    @staticmethod
    def _from_file(name: str, options: dict[str, object], weights: str) -> nn.Module:
        from pyiqa.archs import build_network  # noqa: PLC0415
        from pyiqa.utils.registry import ARCH_REGISTRY  # noqa: PLC0415

        state = _read(weights)
        module = sys.modules[ARCH_REGISTRY.get(options["type"]).__module__]
        with _empty_trunks(module):
            net = build_network({**options, "pretrained": False})
        try:
            net.load_state_dict(state, assign=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise ValueError(
                f"Expected {weights!r} to hold pyiqa's {name} network whole, but it "
                f"does not fit ({detail}). Save it with `torch.save("
                f"pyiqa.create_metric({name!r}).net.state_dict(), FILE)`."
            ) from error
        return net

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two images (B, C, H, W) in [0, 1]."""
        check_pair(pred, target)
        with torch.autocast(pred.device.type, enabled=False):
            pred, target = in_float32(pred), in_float32(target)
            score = self.net(three_channels(pred), three_channels(target))
            return self.loss_weight * score.mean()


@LOSS_REGISTRY.register()
class LPIPSLoss(_PyiqaLoss):
    """LPIPS 0.1 (Zhang et al., CVPR 2018) by pyiqa, lower is nearer.

    Args:
        loss_weight: Factor on the loss.
        net: "alex", or "vgg", which its authors advise for training.
        weights: Local file with pyiqa's whole LPIPS network; None takes pyiqa's,
            cached or downloaded.
    """

    def __init__(
        self, loss_weight: float = 1.0, net: str = "vgg", weights: str | None = None
    ) -> None:
        check_choice("net", net, ("alex", "vgg"))
        name = "lpips" if net == "alex" else "lpips-vgg"
        super().__init__(loss_weight, name, weights)


@LOSS_REGISTRY.register()
class DISTSLoss(_PyiqaLoss):
    """DISTS (Ding et al., TPAMI 2020) by pyiqa, lower is nearer.

    Args:
        loss_weight: Factor on the loss.
        weights: Local file with pyiqa's whole DISTS network; None takes pyiqa's,
            cached or downloaded.
    """

    def __init__(self, loss_weight: float = 1.0, weights: str | None = None) -> None:
        super().__init__(loss_weight, "dists", weights)
