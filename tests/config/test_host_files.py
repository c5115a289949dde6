"""The host's own option files pass the checker and train."""

from __future__ import annotations

from pathlib import Path

import engine_common as common
import pytest
import torch

from paragon_archs.cli import basicsr
from paragon_archs.config.check import check_options
from paragon_archs.config.loading import load_options

HOST_FILE = """
name: host_{kind}
model_type: {model}
scale: 4
num_gpu: 0
manual_seed: 0
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: data4/hr
    dataroot_lq: data4/lr
    filename_tmpl: '{{}}'
    io_backend:
      type: disk
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 10
    prefetch_mode: ~
    {extra}
  val_1:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: data4/hr
    dataroot_lq: data4/lr
    {extra}
    io_backend:
      type: disk
network_g:
  type: {network}
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~
train:
  ema_decay: {ema}
  optim_g:
    type: {optimizer}
    lr: !!float 2e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    {scheduler}
  total_iter: 3
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 2e0
  save_img: true
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 4
      test_y_channel: false
      better: higher
logger:
  print_freq: 1
  save_checkpoint_freq: !!float 3e0
  use_tb_logger: false
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""


COSINE = """type: CosineAnnealingRestartLR
    periods: [1, 1]
    restart_weights: [1, 1]
    eta_min: !!float 1e-7"""


MULTI = """type: MultiStepLR
    milestones: [2]
    gamma: 0.5"""


HOST_KINDS = {
    "msrresnet": {"network": "MSRResNet\n  num_feat: 4\n  num_block: 1\n  upscale: 4"},
    "edsr": {
        "network": "EDSR\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 4\n"
        "  num_block: 1\n  upscale: 4\n  res_scale: 1\n  img_range: 255.\n"
        "  rgb_mean: [0.4488, 0.4371, 0.4040]",
        "ema": 0,
        "scheduler": MULTI,
    },
    "rcan": {
        "network": "RCAN\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 8\n"
        "  num_group: 1\n  num_block: 1\n  squeeze_factor: 4\n  upscale: 4\n"
        "  res_scale: 1\n  img_range: 255.\n  rgb_mean: [0.4488, 0.4371, 0.4040]",
        "scheduler": MULTI,
    },
    "rrdb": {
        "network": "RRDBNet\n  num_in_ch: 3\n  num_out_ch: 3\n  num_feat: 4\n"
        "  num_block: 1\n  num_grow_ch: 4",
        "optimizer": "AdamW",
    },
    "ecbsr": {
        "network": "ECBSR\n  num_in_ch: 1\n  num_out_ch: 1\n  num_block: 1\n"
        "  num_channel: 4\n  with_idt: False\n  act_type: prelu\n  scale: 4",
        "extra": "color: y",
        "ema": 0,
        "scheduler": MULTI,
    },
    "swinir": {
        "model": "SwinIRModel",
        "network": "SwinIR\n  upscale: 4\n  in_chans: 3\n  img_size: 8\n"
        "  window_size: 8\n  img_range: 1.\n  depths: [2]\n  embed_dim: 8\n"
        "  num_heads: [2]\n  mlp_ratio: 2\n  upsampler: 'pixelshuffle'\n"
        "  resi_connection: '1conv'",
        "scheduler": MULTI,
    },
}


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_the_hosts_files_pass_and_train(kind: str, here: Path) -> None:
    """Files written like those that BasicSR publishes, one of every network."""
    common.write_images(here / "data4", scale=4, side=48)
    values = {
        "kind": kind,
        "model": "SRModel",
        "extra": "",
        "ema": 0.999,
        "optimizer": "Adam",
        "scheduler": COSINE,
        **HOST_KINDS[kind],
    }
    Path("o.yml").write_text(HOST_FILE.format(**values))
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    folder = here / "experiments" / f"host_{kind}"
    weights = torch.load(folder / "models" / "net_g_3.pth", weights_only=True)
    assert ("params_ema" in weights) == (values["ema"] != 0)
    assert (folder / "training_states" / "3.state").is_file()
    assert len(list((folder / "visualization").rglob("*.png"))) == 6


def test_keys_of_a_host_model_that_nobody_reads_are_wrong(tmp_path: Path) -> None:
    file = common.write_options(
        tmp_path / "o.yml",
        {"model_type": "SRGANModel", "train:losses": ..., "train:gan_optt": {}},
    )
    with pytest.raises(ValueError, match="Did you mean gan_opt"):
        check_options(load_options(file), is_train=True)
