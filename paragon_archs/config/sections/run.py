"""The options on top of an option file, and all sections below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..key import Name, Section, Typed, key
from .data import DataSection
from .degradation import DegradationSection
from .logs import LoggerSection
from .models import GAN, STAGED
from .stages import StageSection
from .training import TrainSection
from .validation import ValSection


@dataclass(frozen=True)
class PathSection(Section):
    """Weights and states that a run starts from."""

    pretrained: Mapping[str, str] = key(
        "weight file that the network starts from", None, pattern="pretrain_network_*"
    )
    param_keys: Mapping[str, str] = key(
        "which weights of a `.pth`; found by itself when absent",
        None,
        pattern="param_key_*",
    )
    strict: Mapping[str, bool] = key(
        "every tensor must fit", True, pattern="strict_load_*"
    )
    pretrain_scale: str = key(
        "scale of the weights to start from; `any` loads all but the head",
        "same",
        choices=("same", "any"),
    )
    resume_state: str | None = key("training state to go on from", None)
    ignore_resume_networks: str | Sequence[str] | None = key(
        "networks that a resumed run does not load", None
    )


@dataclass(frozen=True)
class ProcessesSection(Section):
    """Several processes."""

    backend: str | None = key("`nccl` on GPUs, `gloo` on CPUs when absent", None)
    port: int | None = key("port of the slurm launcher", None, low=0, high=65535)
    timeout_minutes: int = key(
        "how long a process waits for another", 120, low=1, high=1000000
    )


@dataclass(frozen=True)
class RunSection(Section):
    """A whole option file."""

    name: Name = key("name of the run; its folder is `experiments/NAME`")
    model_type: str = key("`ParagonModel`, or any registered model class")
    scale: int = key("upscaling factor", low=1, high=64)
    num_gpu: int | str = key(
        "GPUs of one process; `auto` takes one where there is one, 0 none",
        "auto",
        low=0,
        high=1024,
    )
    manual_seed: int | None = key(
        "seed of everything; drawn and logged when absent",
        None,
        low=0,
        high=2**63 - 1025,
    )
    datasets: Mapping[str, DataSection] = key(
        "`train`, `val`, `val_*`, `test`, `test_*`"
    )
    network_g: Typed = key("the network: `type` and its arguments")
    discriminators: Mapping[str, Typed] = key(
        "discriminators: `network_d`, `network_d2`, ...",
        None,
        pattern="network_d*",
        model=GAN,
    )
    degradation: DegradationSection | None = key(
        "Real-ESRGAN's degradations of `DegradedImageDataset`'s crops", None, model=GAN
    )
    stages: Sequence[StageSection] | None = key(
        "what trains when; `train:total_iter` is then the sum of their lengths",
        model=STAGED,
        example="- {name: all, iterations: 1000, lr: 1e-4, train: ['*']}",
    )
    path: PathSection = key("weights and states to start from", {})
    train: TrainSection = key("how to train", {})
    val: ValSection | None = key(
        "how to validate; without it there is no validation", None
    )
    logger: LoggerSection = key("what to write down, and how often", {})
    dist_params: ProcessesSection = key("several processes", {})
    find_unused_parameters: bool = key(
        "several processes: for networks that skip parameters", False
    )
