"""Option files for traiNNer-redux and neosr, generated from this pack's own.

`python -m paragon_archs.integrations.options` writes `options/trainner_redux/` and
`options/neosr/` of a checkout anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..archs import variants
from ..config.loading import load_options

OPTIONS = Path(__file__).resolve().parents[2] / "options"
SHARES = (0.5, 0.8, 0.9)  # of the run: where a cosine schedule becomes steps
UNKNOWN_LENGTH = 100_000  # iterations of a stage whose length is given in epochs
_YAML, _TOML = "  {}: {}\n", "{} = {}\n"
_LOSS = "    - type: {}\n      loss_weight: {}\n"


class Recipe:
    """What another host is given of one of our option files.

    Args:
        variant: Whose file it is.
        values: The file's content.
    """

    def __init__(self, variant: str, values: dict[str, Any]) -> None:
        self.variant, self.values = variant, values
        self.scale: int = values["scale"]
        stage: dict[str, Any] = (values.get("stages") or [{}])[0]
        self.stage: str | None = stage.get("name")
        self.network = {**values["network_g"], **stage.get("network_g", {})}
        self.train: dict[str, Any] = values["train"]
        self.optimizer: dict[str, Any] = dict(self.train["optim_g"])
        self.optimizer["lr"] = stage.get("lr", self.optimizer["lr"])
        self.data: dict[str, Any] = values["datasets"]["train"]
        self.crop: int = self.data.get("gt_size") or self.data["face_size"]
        self.iterations: int = self.train.get("total_iter") or UNKNOWN_LENGTH
        self.losses = {loss["type"]: loss for loss in self.train["losses"]}

    @property
    def name(self) -> str:
        """Name of a run."""
        return f"{self.variant}_x{self.scale}"

    @property
    def redux_weights(self) -> str:
        """Where traiNNer-redux leaves the last weights of a run."""
        label = "net_g_ema" if self.ema_decay else "net_g"
        file = f"{label}_{self.iterations}.safetensors"
        return f"experiments/{self.name}/models/{file}"

    @property
    def ema_decay(self) -> float:
        """Of the average of the weights; 0 is none."""
        return self.train.get("ema_decay", 0.999)

    @property
    def milestones(self) -> list[int]:
        """Iterations after which the rate halves."""
        scheduler = self.train.get("scheduler") or {}
        if "milestones" in scheduler:
            return scheduler["milestones"]
        if scheduler.get("type") == "StepEpochLR":  # the published run: 400 epochs
            step = self.iterations * scheduler["epochs"] // 400
            return list(range(step, self.iterations, step))
        return [round(self.iterations * share) for share in SHARES]

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`."""
        return self.train.get("precision", "fp32")

    def origin(self, comment: str) -> str:
        """Returns the comment that names the source of the recipe."""
        lines = [f"The recipe of options/{self.variant}.yml of paragon_archs."]
        if self.stage:
            lines.append(f"Its first stage, {self.stage}; others need `basicsr train`.")
        return "\n".join(f"{comment} {line}" for line in lines)


def _plain(value: object) -> str:
    """Writes a value as YAML and TOML both read it; floats without an exponent."""
    if isinstance(value, float):
        text = f"{value:.12f}".rstrip("0")
        return text + "0" if text.endswith(".") else text
    return json.dumps(value)


def _rows(values: dict[str, Any], line: str) -> str:
    return "".join(line.format(k, _plain(v)) for k, v in values.items())


def redux_train(recipe: Recipe) -> str:
    """Returns traiNNer-redux's training file."""
    metric, half = recipe.values["val"]["metrics"]["psnr"], recipe.precision != "fp32"
    return f"""# {recipe.variant} for traiNNer-redux.
#
#   paragon integrate trainner-redux CHECKOUT     (in your checkout's Python)
#   python train.py -opt options/train/paragon_archs/{recipe.variant}.yml
#   python train.py --auto_resume -opt options/train/paragon_archs/{recipe.variant}.yml
#
# The low-resolution side is made from dataroot_gt on the device, by bicubic.
{recipe.origin("#")}
name: {recipe.name}
scale: {recipe.scale}
use_amp: {_plain(half)}
amp_bf16: {_plain(half)}
use_channels_last: {_plain(bool(recipe.train.get("channels_last", False)))}
num_gpu: auto
manual_seed: 0

datasets:
  train:
    name: Train
    type: SingleGtDataset
    dataroot_gt: [datasets/train/hr]
    lq_resize_mode: bicubic
    gt_size: {recipe.crop}
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 4
    batch_size_per_gpu: {recipe.data["batch_size_per_gpu"]}
    accum_iter: {recipe.train.get("accum_iter", 1)}
  val:
    name: Val
    type: PairedImageDataset
    dataroot_gt: [datasets/val/hr]
    dataroot_lq: [datasets/val/lr]

network_g:
{_rows(recipe.network, _YAML)}
path:
  # pretrain_network_g: experiments/pretrained/{recipe.name}.safetensors
  strict_load_g: true

{_redux_steps(recipe)}
val:
  val_enabled: true
  val_freq: {recipe.values["val"]["val_freq"]}
  save_img: false
  metrics_enabled: true
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: {metric["crop_border"]}
      test_y_channel: {_plain(metric.get("test_y_channel", False))}

logger:
  print_freq: {recipe.values["logger"]["print_freq"]}
  save_checkpoint_freq: {recipe.values["logger"]["save_checkpoint_freq"]}
  save_checkpoint_format: safetensors
  use_tb_logger: true
"""


def _redux_steps(recipe: Recipe) -> str:
    """Returns the section `train` of traiNNer-redux's training file."""
    clip = float(recipe.train.get("grad_clip", 0))
    clipping = "grad_clip: false" if not clip else "grad_clip: true"
    if clip:
        clipping += f"\n  grad_clip_max_norm: {_plain(clip)}"
    losses = [("L1Loss", 1.0)]
    if "StableCharbonnierLoss" in recipe.losses:
        losses = [("CharbonnierLoss", 1.0)]
    if "MSSSIMLoss" in recipe.losses:
        losses.append(("MSSIMLoss", float(recipe.losses["MSSSIMLoss"]["weight"])))
    optimizer = recipe.optimizer
    return f"""train:
  total_iter: {recipe.iterations}
  warmup_iter: {recipe.train.get("warmup_iter", -1)}
  ema_decay: {_plain(recipe.ema_decay)}
  {clipping}
  optim_g:
    type: {optimizer["type"]}
    lr: !!float {_plain(float(optimizer["lr"]))}
    weight_decay: {_plain(optimizer.get("weight_decay", 0))}
    betas: {_plain(optimizer.get("betas", [0.9, 0.999]))}
  scheduler:
    type: MultiStepLR
    milestones: {recipe.milestones}
    gamma: 0.5
  losses:
{"".join(_LOSS.format(kind, _plain(weight)) for kind, weight in losses)}"""


def redux_test(recipe: Recipe) -> str:
    """Returns traiNNer-redux's file that runs a model over a folder."""
    return f"""# {recipe.variant} over a folder of images, for traiNNer-redux.
#
#   python test.py -opt options/test/paragon_archs/{recipe.variant}.yml
name: {recipe.name}
scale: {recipe.scale}
use_amp: false
num_gpu: auto

datasets:
  val:
    name: Val
    type: SingleImageDataset
    dataroot_lq: [datasets/val/lr]
    io_backend:
      type: disk

network_g:
{_rows(recipe.network, _YAML)}
path:
  pretrain_network_g: {recipe.redux_weights}

val:
  val_enabled: true
  save_img: true
  metrics_enabled: false
"""


def redux_onnx(recipe: Recipe) -> str:
    """Returns traiNNer-redux's file that converts a model to ONNX.

    Both exporters of torch convert every network; the host compares the graph with
    torch after the older one alone, which also is the faster.
    """
    return f"""# {recipe.variant} to ONNX, for traiNNer-redux.
#
#   python convert_to_onnx.py -opt options/onnx/paragon_archs/{recipe.variant}.yml
name: {recipe.name}
scale: {recipe.scale}
num_gpu: auto

network_g:
{_rows(recipe.network, _YAML)}
path:
  pretrain_network_g: {recipe.redux_weights}

onnx:
  dynamo: false
  dtype: fp32
  opset: 18
  shape: 1x3xHxW
  verify: true
  optimize: false
"""


def neosr_train(recipe: Recipe) -> str:
    """Returns neosr's training file."""
    return f"""# {recipe.variant} for neosr.
#
#   paragon integrate neosr CHECKOUT     (in your checkout's Python)
#   python train.py -opt options/paragon_archs/train_{recipe.variant}.toml
#   python train.py --auto_resume -opt options/paragon_archs/train_{recipe.variant}.toml
#
{recipe.origin("#")}
name = "{recipe.name}"
model_type = "image"
scale = {recipe.scale}
use_amp = {_plain(recipe.precision != "fp32")}
bfloat16 = {_plain(recipe.precision != "fp32")}
manual_seed = 1024

[datasets.train]
type = "paired"
dataroot_gt = "datasets/train/hr/"
dataroot_lq = "datasets/train/lr/"
patch_size = {recipe.crop // recipe.scale}
batch_size = {recipe.data["batch_size_per_gpu"]}
accumulate = {recipe.train.get("accum_iter", 1)}

[datasets.val]
name = "val"
type = "paired"
dataroot_gt = "datasets/val/hr/"
dataroot_lq = "datasets/val/lr/"

[val]
val_freq = {recipe.values["val"]["val_freq"]}

[val.metrics.psnr]
type = "calculate_psnr"

[path]

[network_g]
{_rows(recipe.network | {"scale": recipe.scale}, _TOML)}
{_neosr_steps(recipe)}
[logger]
total_iter = {recipe.iterations}
save_checkpoint_freq = {recipe.values["logger"]["save_checkpoint_freq"]}
use_tb_logger = true
print_freq = {recipe.values["logger"]["print_freq"]}
"""


def _neosr_steps(recipe: Recipe) -> str:
    """Returns the section `train` of neosr's training file."""
    optimizer = recipe.optimizer
    text = f"""[train]
ema = {_plain(recipe.ema_decay)}
grad_clip = {_plain(bool(recipe.train.get("grad_clip", 0)))}
warmup_iter = {recipe.train.get("warmup_iter", -1)}

[train.optim_g]
type = "{optimizer["type"].lower()}"
lr = {_plain(float(optimizer["lr"]))}
betas = {_plain(optimizer.get("betas", [0.9, 0.999]))}
weight_decay = {_plain(float(optimizer.get("weight_decay", 0)))}

[train.scheduler]
type = "multisteplr"
milestones = {recipe.milestones}
gamma = 0.5

[train.pixel_opt]
type = "L1Loss"
loss_weight = 1.0
"""
    if "MSSSIMLoss" in recipe.losses:
        weight = _plain(float(recipe.losses["MSSSIMLoss"]["weight"]))
        text += f"""
[train.mssim_opt]
type = "mssim_loss"
loss_weight = {weight}
"""
    return text


def neosr_test(recipe: Recipe) -> str:
    """Returns neosr's file that runs a model over a folder."""
    return f"""# {recipe.variant} over a folder of images, for neosr.
#
#   python test.py -opt options/paragon_archs/test_{recipe.variant}.toml
name = "test_{recipe.name}"
model_type = "image"
scale = {recipe.scale}

[datasets.test_1]
name = "test_1"
type = "single"
dataroot_lq = "datasets/val/lr/"

[val]

[network_g]
{_rows(recipe.network | {"scale": recipe.scale}, _TOML)}
[path]
pretrain_network_g = "experiments/{recipe.name}/models/net_g_{recipe.iterations}.pth"
"""


FILES: dict[str, Callable[[Recipe], str]] = {
    "trainner_redux/train/{}.yml": redux_train,
    "trainner_redux/test/{}.yml": redux_test,
    "trainner_redux/onnx/{}.yml": redux_onnx,
    "neosr/train_{}.toml": neosr_train,
    "neosr/test_{}.toml": neosr_test,
}
"""Path below `options/` with the variant left open -> what writes the file."""


def generate(folder: Path = OPTIONS) -> dict[str, str]:
    """Returns path below `options/` -> content, for every variant.

    Args:
        folder: Where the pack's own option files lie.
    """
    return {
        path.format(variant): write(recipe)
        for variant in variants()
        for recipe in [Recipe(variant, load_options(folder / f"{variant}.yml").values)]
        for path, write in FILES.items()
    }


def main() -> int:
    """Writes the files of this checkout."""
    for path, text in generate().items():
        (OPTIONS / path).parent.mkdir(parents=True, exist_ok=True)
        (OPTIONS / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
