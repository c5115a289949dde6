"""Real-ESRGAN's models of the host, whose data are degraded on the device, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import yaml

from paragon_archs.cli import basicsr

REAL = """
name: real
scale: 4
num_gpu: 0
manual_seed: 0
queue_size: 4
resize_prob: [0.2, 0.7, 0.1]
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
gt_size: 32
datasets:
  train:
    name: few
    type: RealESRGANDataset
    dataroot_gt: big/hr
    meta_info: meta.txt
    io_backend:
      type: disk
    blur_kernel_size: 21
    kernel_list: ['iso', 'aniso']
    kernel_prob: [0.5, 0.5]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]
    blur_kernel_size2: 21
    kernel_list2: ['iso', 'aniso']
    kernel_prob2: [0.5, 0.5]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]
    final_sinc_prob: 0.8
    gt_size: 32
    use_hflip: True
    use_rot: False
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
network_g:
  type: SRVGGNetCompact
  num_feat: 4
  num_conv: 1
  upscale: 4
train:
  ema_decay: 0.9
  optim_g:
    type: Adam
    lr: !!float 1e-4
  scheduler:
    type: MultiStepLR
    milestones: [100]
    gamma: 0.5
  total_iter: 3
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
logger:
  print_freq: 1
  save_checkpoint_freq: 100
"""
ADAM = {"type": "Adam", "lr": 1e-4}
# Model class -> what its published option files have beside that.
MODELS: dict[str, dict[str, Any]] = {
    "RealESRNetModel": {"gt_usm": True},
    "RealESRGANModel": {
        "l1_gt_usm": True,
        "percep_gt_usm": True,
        "gan_gt_usm": False,
        "network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
        "train": {
            "optim_d": ADAM,
            "ldl_opt": {"type": "L1Loss", "loss_weight": 1.0},
            "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
            "net_d_iters": 1,
            "net_d_init_iters": 0,
        },
    },
}


@pytest.mark.parametrize("name", list(MODELS))
def test_real_esrgan_trains_on_a_cpu(name: str, here: Path) -> None:
    """The host calls `.cuda()`."""
    common.write_images(here / "big", side=420, count=2)
    Path("meta.txt").write_text("0.png\n1.png\n")
    options = yaml.safe_load(REAL)
    train = options["train"] | MODELS[name].get("train", {})
    options |= {**MODELS[name], "model_type": name, "train": train}
    Path("o.yml").write_text(yaml.safe_dump(options, sort_keys=False))
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    losses = common.losses_of(common.log_of(here, "real"))
    assert len(losses) == 3
