"""spandrel architectures of the pack, and their registration."""

from __future__ import annotations

import sys
from collections.abc import Callable

from spandrel import MAIN_REGISTRY, ArchRegistry, ArchSupport

from .base import PackArchitecture, Reading
from .facesr import FaceSRArch
from .fusionsr import FusionSRArch
from .paragonsr import ParagonSRArch
from .paragonsr2 import ParagonSR2Arch
from .resshuffle import ResShuffleArch

ARCHITECTURES: tuple[Callable[[], PackArchitecture], ...] = (
    ParagonSRArch,
    ParagonSR2Arch,
    FusionSRArch,
    ResShuffleArch,
    FaceSRArch,
)

PARAGON_REGISTRY = ArchRegistry()
"""The architectures of this pack alone, for those who keep their own registry."""

PARAGON_REGISTRY.add(*(ArchSupport.from_architecture(a()) for a in ARCHITECTURES))


def install(ignore_duplicates: bool = True) -> None:
    """Adds every architecture of the pack to spandrel's `MAIN_REGISTRY`.

    Args:
        ignore_duplicates: Whether a second call is allowed; if not, spandrel raises
            its `DuplicateArchitectureError`.
    """
    for support in PARAGON_REGISTRY:
        if ignore_duplicates and support.architecture.id in MAIN_REGISTRY:
            continue
        MAIN_REGISTRY.add(support)


# The start-up hook could not register what was being imported.
if any(getattr(finder, "postponed", False) for finder in sys.meta_path):
    install()

__all__ = [
    "ARCHITECTURES",
    "PARAGON_REGISTRY",
    "PackArchitecture",
    "Reading",
    "install",
]
