"""The keys of an option file: what each takes, its default and what it does.

`docs/config.md` is generated from this table, and a test holds them together. Arguments
of a section with a `type` (networks, losses, optimizers, schedulers, metrics) are not
listed: they are those of the class or function that `type` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()
SAME: Any = object()


@dataclass(frozen=True)
class Key:
    """One key.

    `kind` is int, float, bool, str, name, template, list, map or any, several joined by
    `|`; None is allowed where the default is None. A name becomes a part of a path, a
    template holds `{}` for one. `low` and `high` bound a number, or every number of a
    list, which has `length` entries where that is given. `model` is the model class
    that the key needs; every model takes it where that is empty. `host_default` is the
    default under a host's model, where it differs.
    """

    kind: str
    default: Any
    text: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    length: int | None = None
    model: str = ""
    host_default: Any = SAME
    example: str = ""

    def default_for(self, ours: bool) -> Any:
        """Returns the default under a model of the pack (`ours`) or of the host."""
        if ours or self.host_default is SAME:
            return self.default
        return self.host_default


# Keys that the host's published files hold although nothing reads them: accepted under
# the host's models, so that every one of those files passes.
UNREAD: dict[str, tuple[str, ...]] = {
    "": ("suffix", "crop_border", "save_img"),
    "datasets:*": ("gt_size", "interval_list", "use_hflip", "use_rot", "color"),
    "train": ("net_d_iters", "net_d_init_iters"),
}

# Path, `:` between the keys and `*` for any name -> key.
KEYS: dict[str, Key] = {
    "name": Key("name", REQUIRED, "name of the run; its folder is `experiments/NAME`"),
    "model_type": Key("str", REQUIRED, "`ParagonModel`, or any registered model class"),
    "scale": Key("int", REQUIRED, "upscaling factor", low=1, high=64),
    "num_gpu": Key(
        "int|str",
        "auto",
        "GPUs of one process; `auto` takes one where there is one, 0 none",
        low=0,
        high=1024,
    ),
    "manual_seed": Key(
        "int",
        None,
        "seed of everything; drawn and logged when absent",
        low=0,
        high=2**63 - 1025,
    ),
    "datasets": Key("map", REQUIRED, "`train`, `val`, `val_*`, `test`, `test_*`"),
    "network_g": Key("map", REQUIRED, "the network: `type` and its arguments"),
    "network_d*": Key(
        "map",
        None,
        "discriminators: `network_d`, `network_d2`, ...",
        model="ParagonGANModel",
    ),
    "degradation": Key(
        "map",
        None,
        "Real-ESRGAN's degradations of `DegradedImageDataset`'s crops",
        model="ParagonGANModel",
    ),
    "stages": Key(
        "list",
        REQUIRED,
        "what trains when; `train:total_iter` is then the sum of their lengths",
        model="ParagonStagedModel",
        example="- {name: all, iterations: 1000, lr: 1e-4, train: ['*']}",
    ),
    "stages:*:name": Key("name", REQUIRED, "name in logs and files"),
    "stages:*:iterations": Key("int", None, "length in steps, or", low=1),
    "stages:*:epochs": Key("float", None, "length in epochs", low=0, high=1000000000.0),
    "stages:*:lr": Key(
        "float", None, "rate; that of `optim_g` when absent", low=0, high=1000000000.0
    ),
    "stages:*:train": Key(
        "list", None, "patterns of the parameters that train; all when absent"
    ),
    "stages:*:load": Key(
        "str", None, "weight file to begin with; the stage before when absent"
    ),
    "stages:*:may_be_missing": Key(
        "list", None, "patterns of what these weights may lack; it starts fresh"
    ),
    "stages:*:start_values": Key(
        "map", None, "patterns of parameters that start at a number: `*.gamma: 0.2`"
    ),
    "stages:*:start_values:*": Key("float", 0.0, ""),
    "stages:*:network_g": Key(
        "map", None, "arguments of the network that differ in this stage"
    ),
    "stages:*:network_g:*": Key("any", None, ""),
    "stages:*:data": Key(
        "map",
        None,
        "keys of `datasets:train` that differ: crops, batch, folder, or another `type` "
        "with all of its keys",
    ),
    "stages:*:data:*": Key("any", None, ""),
    "stages:*:losses": Key("list", None, "in place of `train:losses`"),
    "stages:*:scheduler": Key(
        "map", None, "in place of `train:scheduler`; as long as the stage"
    ),
    "stages:*:warmup_iter": Key("int", None, "in place of `train:warmup_iter`"),
    "stages:*:ema_decay": Key("float", None, "in place of `train:ema_decay`", low=0),
    "stages:*:merge_head": Key("bool", None, "in place of `train:merge_head`"),
    "stages:*:loss_margin": Key("int", None, "in place of `train:loss_margin`", low=0),
    "stages:*:keep_optimizer": Key(
        "bool",
        False,
        "go on with the weights, average and optimizer of the stage before",
    ),
    "path": Key("map", {}, "weights and states to start from"),
    "train": Key("map", {}, "how to train"),
    "val": Key("map", None, "how to validate; without it there is no validation"),
    "logger": Key("map", {}, "what to write down, and how often"),
    "dist_params": Key("map", {}, "several processes"),
    "find_unused_parameters": Key(
        "bool", False, "several processes: for networks that skip parameters"
    ),
    # data sets
    "datasets:*:name": Key("name", REQUIRED, "name in logs and folders"),
    "datasets:*:type": Key("str", REQUIRED, "registered data set class"),
    "datasets:train:batch_size_per_gpu": Key(
        "int",
        REQUIRED,
        "samples of one micro-batch, per process or GPU",
        low=1,
        high=2**16,
    ),
    "datasets:train:num_worker_per_gpu": Key(
        "int", 0, "reading processes; 0 reads in the training process", low=0, high=512
    ),
    "datasets:train:dataset_enlarge_ratio": Key(
        "int|float",
        1,
        "times that an epoch goes through the images",
        low=1,
        high=1000000000.0,
    ),
    "datasets:train:prefetch_mode": Key(
        "str",
        None,
        "accepted for the host's sake: workers always prepare batches in advance",
        choices=("cpu", "cuda", None),
    ),
    "datasets:train:num_prefetch_queue": Key(
        "int", 2, "batches that each worker prepares in advance", low=1, high=1024
    ),
    "datasets:*:pin_memory": Key("bool", False, "page-locked memory, for GPUs"),
    "datasets:train:persistent_workers": Key(
        "bool", True, "accepted for the host's sake: workers always stay"
    ),
    "datasets:*:on_bad_image": Key(
        "str",
        "error",
        "an unreadable image stops the run, or is named and skipped",
        choices=("error", "skip"),
    ),
    # start
    "path:pretrain_network_*": Key(
        "str", None, "weight file that the network starts from"
    ),
    "path:param_key_*": Key(
        "str", None, "which weights of a `.pth`; found by itself when absent"
    ),
    "path:strict_load_*": Key("bool", True, "every tensor must fit"),
    "path:pretrain_scale": Key(
        "str",
        "same",
        "scale of the weights to start from; `any` loads all but the head",
        choices=("same", "any"),
    ),
    "path:resume_state": Key("str", None, "training state to go on from"),
    "path:ignore_resume_networks": Key(
        "str|list", None, "networks that a resumed run does not load"
    ),
    # training
    "train:total_iter": Key("int", REQUIRED, "optimizer steps", low=1),
    "train:warmup_iter": Key(
        "int", -1, "steps of linear warm-up of the rate; -1 none", low=-1
    ),
    "train:optim_g": Key(
        "map",
        REQUIRED,
        "`type` (any of torch, pytorch-optimizer's or `SOAP`) and its arguments",
    ),
    "train:scheduler": Key(
        "map", None, "`type` (any of torch, the host's, `StepEpochLR`) and arguments"
    ),
    "train:pixel_opt": Key("map", None, "a loss, as in the host's files"),
    "train:perceptual_opt": Key("map", None, "a loss, as in the host's files"),
    "train:ema_decay": Key(
        "float",
        0.999,
        "average of weights and buffers; 0 none",
        low=0,
        host_default=0,
        high=1,
    ),
    "train:ema_warmup": Key(
        "bool", True, "decay rises as (1 + n) / (10 + n)", model="ParagonModel"
    ),
    "train:losses": Key(
        "list",
        None,
        "losses: `type`, its arguments, and the keys below",
        model="ParagonModel",
    ),
    "train:losses:*:weight": Key(
        "float", 1.0, "factor of this loss", model="ParagonModel"
    ),
    "train:losses:*:name": Key("name", None, "name in logs", model="ParagonModel"),
    "train:losses:*:start_iter": Key(
        "int", 0, "steps after which this loss begins", low=0, model="ParagonModel"
    ),
    "train:losses:*:ramp_iter": Key(
        "int",
        0,
        "steps over which its weight grows from 0",
        low=0,
        model="ParagonModel",
    ),
    "train:loss_margin": Key(
        "int",
        None,
        "low-resolution pixels at a crop's border that `losses` leave out; 0, or 2 "
        "with `merge_head`",
        low=0,
        model="ParagonModel",
    ),
    "train:merge_head": Key(
        "bool",
        False,
        "ParagonSR, ParagonSR2: compute the head as one convolution, with the same "
        "gradients; files do not change",
        model="ParagonModel",
    ),
    "train:fit_head": Key(
        "bool",
        False,
        "ParagonSR, ParagonSR2: begin with the head that fits the first batches by "
        "least squares",
        model="ParagonModel",
    ),
    "train:net_d_iters": Key(
        "int",
        1,
        "steps of the discriminators for one of the generator",
        low=1,
        model="ParagonGANModel",
    ),
    "train:net_d_init_iters": Key(
        "int",
        0,
        "steps that only the discriminators do first",
        low=0,
        model="ParagonGANModel",
    ),
    "train:optim_d": Key(
        "map",
        REQUIRED,
        "the discriminators': `type` (any of torch) and its arguments",
        model="ParagonGANModel",
        example="optim_d: {type: Adam, lr: 1e-4}",
    ),
    "train:gan_opt": Key(
        "map",
        REQUIRED,
        "the GAN loss: `GANLoss` or `MultiScaleGANLoss` and its arguments",
        model="ParagonGANModel",
        example="gan_opt: {type: GANLoss, gan_type: vanilla, loss_weight: 0.1}",
    ),
    "train:ldl_opt": Key(
        "map",
        None,
        "loss against artifacts (LDL), by the averaged network; needs `ema_decay`",
        model="ParagonGANModel",
    ),
    "train:gan_weights": Key(
        "map",
        {},
        "weight of each discriminator's opinion: `d: 1.0`, `d2: 0.5`",
        model="ParagonGANModel",
    ),
    "train:gan_weights:*": Key("float", 1.0, "", model="ParagonGANModel"),
    "train:precision": Key(
        "str",
        "fp32",
        "mixed precision; fp16 with loss scaling",
        choices=("fp32", "bf16", "fp16"),
        model="ParagonModel",
    ),
    "train:grad_clip": Key(
        "float",
        0.0,
        "largest norm of the gradient; 0 none",
        low=0,
        model="ParagonModel",
    ),
    "train:accum_iter": Key(
        "int", 1, "micro-batches of one step", low=1, model="ParagonModel", high=2**16
    ),
    "train:channels_last": Key(
        "bool",
        True,
        "memory layout that is faster for convolutions",
        model="ParagonModel",
    ),
    "train:compile": Key(
        "bool|str|map",
        False,
        "torch.compile: yes, a mode, or its arguments",
        model="ParagonModel",
    ),
    "train:compile:*": Key(
        "any", None, "arguments of torch.compile", model="ParagonModel"
    ),
    "train:grad_checkpointing": Key(
        "bool",
        False,
        "recompute activations: less memory, more time",
        model="ParagonModel",
    ),
    "train:nonfinite:restore_after": Key(
        "int",
        10,
        "non-finite steps in a row before the last good weights return",
        low=1,
    ),
    "train:nonfinite:stop_after": Key(
        "int", 50, "non-finite steps in a row before the run stops", low=1
    ),
    "train:nonfinite": Key("map", {}, "guard against NaN and infinity"),
    # degradation: names and defaults are those of BasicSR's Real-ESRGAN options
    "degradation:gt_size": Key(
        "int",
        None,
        "side of the crops that are trained on; the data set's `gt_size` when absent",
        model="ParagonGANModel",
        low=1,
        high=2**15,
    ),
    "degradation:queue_size": Key(
        "int",
        180,
        "pairs that a batch is mixed with; a multiple of it",
        model="ParagonGANModel",
        low=1,
        high=2**20,
    ),
    "degradation:resize_prob": Key(
        "list",
        [0.2, 0.7, 0.1],
        "how often the first resize goes up, down, keeps",
        model="ParagonGANModel",
        low=0,
        high=1,
        length=3,
    ),
    "degradation:resize_range": Key(
        "list",
        [0.15, 1.5],
        "range of the first resize",
        model="ParagonGANModel",
        low=0.01,
        high=100,
        length=2,
    ),
    "degradation:gaussian_noise_prob": Key(
        "float",
        0.5,
        "share of Gaussian noise; the rest is Poisson",
        model="ParagonGANModel",
        low=0,
        high=1,
    ),
    "degradation:noise_range": Key(
        "list",
        [1, 30],
        "Gaussian noise, of 255",
        model="ParagonGANModel",
        low=0,
        high=255,
        length=2,
    ),
    "degradation:poisson_scale_range": Key(
        "list",
        [0.05, 3],
        "Poisson noise",
        model="ParagonGANModel",
        low=0,
        high=255,
        length=2,
    ),
    "degradation:gray_noise_prob": Key(
        "float", 0.4, "share of gray noise", model="ParagonGANModel", low=0, high=1
    ),
    "degradation:jpeg_range": Key(
        "list",
        [30, 95],
        "JPEG quality",
        model="ParagonGANModel",
        low=1,
        high=100,
        length=2,
    ),
    "degradation:second_blur_prob": Key(
        "float", 0.8, "share of a second blur", model="ParagonGANModel", low=0, high=1
    ),
    "degradation:resize_prob2": Key(
        "list",
        [0.3, 0.4, 0.3],
        "how often the second resize goes up, down, keeps",
        model="ParagonGANModel",
        low=0,
        high=1,
        length=3,
    ),
    "degradation:resize_range2": Key(
        "list",
        [0.3, 1.2],
        "range of the second resize",
        model="ParagonGANModel",
        low=0.01,
        high=100,
        length=2,
    ),
    "degradation:gaussian_noise_prob2": Key(
        "float",
        0.5,
        "share of Gaussian noise; the rest is Poisson, second time",
        model="ParagonGANModel",
        low=0,
        high=1,
    ),
    "degradation:noise_range2": Key(
        "list",
        [1, 25],
        "Gaussian noise, of 255, second time",
        model="ParagonGANModel",
        low=0,
        high=255,
        length=2,
    ),
    "degradation:poisson_scale_range2": Key(
        "list",
        [0.05, 2.5],
        "Poisson noise, second time",
        model="ParagonGANModel",
        low=0,
        high=255,
        length=2,
    ),
    "degradation:gray_noise_prob2": Key(
        "float",
        0.4,
        "share of gray noise, second time",
        model="ParagonGANModel",
        low=0,
        high=1,
    ),
    "degradation:jpeg_range2": Key(
        "list",
        [30, 95],
        "JPEG quality, second time",
        model="ParagonGANModel",
        low=1,
        high=100,
        length=2,
    ),
    "degradation:loss_gt_usm": Key(
        "bool", True, "sharpen the targets of the losses", model="ParagonGANModel"
    ),
    "degradation:gan_gt_usm": Key(
        "bool",
        False,
        "sharpen what the discriminators see as real",
        model="ParagonGANModel",
    ),
    # validation
    "val:val_freq": Key("int", REQUIRED, "steps between validations", low=1),
    "val:save_img": Key("bool", False, "write the validation images"),
    "val:samples": Key(
        "int",
        2,
        "images of each set shown beside input and target, in `visualization/samples` "
        "and in `report.html`",
        low=0,
        host_default=0,
    ),
    "val:max_memory": Key(
        "str",
        None,
        "memory of a validation image, as 4G; beyond it strips give the same result",
        model="ParagonModel",
    ),
    "val:suffix": Key("name", None, "suffix of the images of `basicsr test`"),
    "val:pbar": Key("bool", False, "progress bar of a validation"),
    "val:metrics": Key("map", None, "name: `type` (a registered metric), arguments"),
    "val:metrics:*:better": Key(
        "str", "higher", "which values are better", choices=("higher", "lower")
    ),
    "val:save_best": Key(
        "bool", True, "keep the best weights of every metric", host_default=False
    ),
    "val:early_stopping": Key("map", None, "stop when a metric no longer improves"),
    "val:early_stopping:metric": Key("str", REQUIRED, "name out of `val:metrics`"),
    "val:early_stopping:dataset": Key("str", None, "its set; the first when absent"),
    "val:early_stopping:patience": Key(
        "int", REQUIRED, "validations without improvement before the stop", low=1
    ),
    "val:early_stopping:min_delta": Key(
        "float", 0.0, "smallest change that counts as improvement", low=0
    ),
    # logs
    "logger:print_freq": Key("int", 100, "steps between log lines", low=1),
    "logger:save_checkpoint_freq": Key("int", 5000, "steps between checkpoints", low=1),
    "logger:keep_checkpoints": Key(
        "int", 0, "newest checkpoints that stay; 0 keeps all", low=0
    ),
    "logger:report": Key(
        "bool",
        True,
        "`report.html` in the run's folder: curves, samples, options, what to do next; "
        "written at validations and checkpoints",
    ),
    "logger:use_tb_logger": Key("bool", False, "TensorBoard"),
    "logger:wandb": Key("map", None, "Weights & Biases; needs TensorBoard"),
    "logger:wandb:project": Key("str", None, "project; off when absent"),
    "logger:wandb:resume_id": Key("str", None, "run to continue"),
    "logger:licence": Key(
        "str", None, "licence written into released weights", model="ParagonModel"
    ),
    # several processes
    "dist_params:backend": Key(
        "str",
        None,
        "`nccl` on GPUs, `gloo` on CPUs when absent",
    ),
    "dist_params:port": Key(
        "int", None, "port of the slurm launcher", low=0, high=65535
    ),
    "dist_params:timeout_minutes": Key(
        "int", 120, "how long a process waits for another", low=1, high=1000000
    ),
}
