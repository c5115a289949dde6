"""What a run writes down."""

from __future__ import annotations

from dataclasses import dataclass

from ..key import Section, key
from .models import OURS


@dataclass(frozen=True)
class WandbSection(Section):
    """Weights & Biases."""

    project: str | None = key("project; off when absent", None)
    resume_id: str | None = key("run to continue", None)


@dataclass(frozen=True)
class LoggerSection(Section):
    """The section `logger`."""

    print_freq: int = key("steps between log lines", 100, low=1)
    save_checkpoint_freq: int = key("steps between checkpoints", 5000, low=1)
    keep_checkpoints: int = key("newest checkpoints that stay; 0 keeps all", 0, low=0)
    report: bool = key(
        "`report.html` in the run's folder: curves, samples, options, what to do next; "
        "written at validations and checkpoints",
        True,
    )
    use_tb_logger: bool = key("TensorBoard", False)
    wandb: WandbSection | None = key("Weights & Biases; needs TensorBoard", None)
    licence: str | None = key("licence written into released weights", None, model=OURS)
