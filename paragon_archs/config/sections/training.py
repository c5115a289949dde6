"""How to train: steps, optimizers, losses, precision, the guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..key import Key, Name, Section, Typed, key
from .models import GAN, OURS


@dataclass(frozen=True)
class LossSection(Typed):
    """One entry of `train:losses`."""

    weight: float = key("factor of this loss", 1.0, model=OURS)
    name: Name | None = key("name in logs", None, model=OURS)
    start_iter: int = key("steps after which this loss begins", 0, low=0, model=OURS)
    ramp_iter: int = key(
        "steps over which its weight grows from 0", 0, low=0, model=OURS
    )


@dataclass(frozen=True)
class NonFiniteSection(Section):
    """The guard against NaN and infinity."""

    restore_after: int = key(
        "non-finite steps in a row before the last good weights return", 10, low=1
    )
    stop_after: int = key("non-finite steps in a row before the run stops", 50, low=1)


@dataclass(frozen=True)
class TrainSection(Section):
    """The section `train`; `optim_d` and `gan_opt` are None but for a GAN."""

    total_iter: int = key("optimizer steps", low=1)
    warmup_iter: int = key("steps of linear warm-up of the rate; -1 none", -1, low=-1)
    optim_g: Typed = key(
        "`type` (any of torch, pytorch-optimizer's or `SOAP`) and its arguments"
    )
    scheduler: Typed | None = key(
        "`type` (any of torch, the host's, `StepEpochLR`) and arguments", None
    )
    pixel_opt: Typed | None = key("a loss, as in the host's files", None)
    perceptual_opt: Typed | None = key("a loss, as in the host's files", None)
    ema_decay: float = key(
        "average of weights and buffers; 0 none",
        0.999,
        low=0,
        high=1,
        host_default=0,
    )
    ema_warmup: bool = key("decay rises as (1 + n) / (10 + n)", True, model=OURS)
    losses: Sequence[LossSection] | None = key(
        "losses: `type`, its arguments, and the keys below", None, model=OURS
    )
    loss_margin: int | None = key(
        "low-resolution pixels at a crop's border that `losses` leave out; 0, or 2 "
        "with `merge_head`",
        None,
        low=0,
        model=OURS,
    )
    merge_head: bool = key(
        "ParagonSR, ParagonSR2: compute the head as one convolution, with the same "
        "gradients; files do not change",
        False,
        model=OURS,
    )
    fit_head: bool = key(
        "ParagonSR, ParagonSR2: begin with the head that fits the first batches by "
        "least squares",
        False,
        model=OURS,
    )
    net_d_iters: int = key(
        "steps of the discriminators for one of the generator", 1, low=1, model=GAN
    )
    net_d_init_iters: int = key(
        "steps that only the discriminators do first", 0, low=0, model=GAN
    )
    optim_d: Typed = key(
        "the discriminators': `type` (any of torch) and its arguments",
        model=GAN,
        example="optim_d: {type: Adam, lr: 1e-4}",
    )
    gan_opt: Typed = key(
        "the GAN loss: `GANLoss` or `MultiScaleGANLoss` and its arguments",
        model=GAN,
        example="gan_opt: {type: GANLoss, gan_type: vanilla, loss_weight: 0.1}",
    )
    ldl_opt: Typed | None = key(
        "loss against artifacts (LDL), by the averaged network; needs `ema_decay`",
        None,
        model=GAN,
    )
    gan_weights: Mapping[str, float] = key(
        "weight of each discriminator's opinion: `d: 1.0`, `d2: 0.5`",
        {},
        model=GAN,
        entries=Key("float", 1.0, "", model=GAN),
    )
    precision: str = key(
        "mixed precision; fp16 with loss scaling",
        "fp32",
        choices=("fp32", "bf16", "fp16"),
        model=OURS,
    )
    matmul_precision: str = key(
        "float32 products on a GPU: highest, high (TF32), medium (bfloat16); the LR "
        "side is always made in float32",
        "high",
        choices=("highest", "high", "medium"),
        model=OURS,
    )
    grad_clip: float = key(
        "largest norm of the gradient; 0 none", 0.0, low=0, model=OURS
    )
    accum_iter: int = key("micro-batches of one step", 1, low=1, high=2**16, model=OURS)
    channels_last: bool = key(
        "memory layout that is faster for convolutions", True, model=OURS
    )
    compile: bool | str | Mapping[str, object] = key(
        "torch.compile: yes, a mode, or its arguments",
        False,
        model=OURS,
        entries=Key("any", None, "arguments of torch.compile", model=OURS),
    )
    grad_checkpointing: bool = key(
        "recompute activations: less memory, more time", False, model=OURS
    )
    nonfinite: NonFiniteSection = key("guard against NaN and infinity", {})
