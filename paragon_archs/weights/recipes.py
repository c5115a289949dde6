"""The recipes of the shipped weights, one row each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, apart from the images.

    Attributes:
        variant: A network of `paragon variants`.
        scale: Upscaling factor.
        iterations: Steps; the last `decay` share of them lowers the learning rate.
            Before that share nothing depends on it: a run may be continued with
            another number.
        decay: Share of the steps in the late phase: the learning rate falls linearly
            to zero, the loss is MSE instead of L1, crops are larger.
        border: Share of the steps, at the very end, that train the network as it is on
            crops as if they were whole images: it learns what zero padding does to an
            image's border. Crops are as before the late phase.
        batch: Crops in a step.
        patch: Side of a crop in low-resolution pixels.
        late_batch: Crops in a step of the late phase.
        late_patch: Side of a crop of the late phase.
        lr: Learning rate of SOAP after 200 steps of warm-up.
        ema: Decay of the average of the weights that is measured and kept.
        luma: Weight of the error of Y beside that of R, G and B.
        shrink: Factors at which every image takes part, 1 being the image itself.
        drawn: New crops of drawn pictures (`drawings.py`) in a step, beside the worst
            one so far: they bound the network and teach it nothing else.
        seed: Of weights, crops and flips.
        gamma: Where the layer scales start. The published 1e-5 is for deep networks;
            small ones lose their first thousands of steps to it.
        start: The model of this table whose weights a run begins with, wherever names
            and shapes agree. Empty for none.
        fit: Whether the head begins as the least-squares answer for the features that
            it starts with, rather than at random.
        overrides: Arguments of the network that differ from the variant's.
    """

    variant: str
    scale: int
    iterations: int
    decay: float = 0.3
    border: float = 0.1
    batch: int = 16
    patch: int = 48
    late_batch: int = 8
    late_patch: int = 72
    lr: float = 3e-3
    ema: float = 0.999
    luma: float = 1.0
    shrink: tuple[float, ...] = (1.0, 0.6)
    drawn: int = 0
    seed: int = 0
    gamma: float = 0.2
    start: str = ""
    fit: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name: variant and scale."""
        return f"{self.variant}_x{self.scale}"

    def as_dict(self) -> dict[str, Any]:
        """Returns the recipe in plain containers, for a state file or a card."""
        return {**asdict(self), "shrink": list(self.shrink)}


# The published base path softens and pads with zeros: a network that sees whole images
# has to undo a dark frame of two pixels, and 16 thousand weights do not manage to. The
# gain starts at 1, not at 0.05: a factor that small scales the gradients of everything
# before it.
_SHARP: dict[str, Any] = {"base_kernel": "mks2021", "detail_gain": 1.0}
_X4: dict[str, Any] = {"patch": 32, "late_batch": 16, "late_patch": 48}
# For networks that multiply features: photographs alone leave them unbounded.
_GATED: dict[str, Any] = {"drawn": 1}
_LARGE: dict[str, Any] = {"lr": 1e-3, "gamma": 0.1, "fit": True}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("paragonsr2_realtime", 2, 48_000, overrides=_SHARP),
        Recipe(
            "paragonsr2_realtime",
            4,
            14_000,
            decay=0.5,
            border=0.3,
            start="paragonsr2_realtime_x2",
            fit=True,
            overrides=_SHARP,
            **_X4,
        ),
        Recipe(
            "paragonsr2_stream",
            2,
            16_000,
            decay=0.4,
            border=0.2,
            batch=8,
            late_batch=4,
            fit=True,
            overrides=_SHARP,
            **_GATED,
        ),
        Recipe(
            "paragonsr2_stream",
            4,
            7_000,
            decay=0.6,
            border=0.3,
            batch=8,
            start="paragonsr2_stream_x2",
            fit=True,
            overrides=_SHARP,
            **_GATED,
            **{**_X4, "late_batch": 8},
        ),
        Recipe(
            "paragonsr_nano",
            4,
            6_000,
            decay=0.5,
            border=0.3,
            fit=True,
            **_GATED,
            **_X4,
        ),
        Recipe("paragonsr_tiny", 4, 100_000, fit=True, **_GATED, **_X4),
        # For a GPU; above a million weights a smaller rate and start.
        Recipe("paragonsr2_photo", 2, 300_000, overrides=_SHARP, **_LARGE),
        Recipe(
            "paragonsr2_photo",
            4,
            150_000,
            start="paragonsr2_photo_x2",
            overrides=_SHARP,
            **_LARGE,
            **_X4,
        ),
        Recipe("paragonsr_s", 4, 300_000, **_LARGE, **_GATED, **_X4),
    )
}
