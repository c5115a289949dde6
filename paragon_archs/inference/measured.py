"""How other runtimes run each network beside torch: as shipped, as learned here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..loaders import ARCHITECTURES, Reading
from ..utils.files import atomic_write, config_folder

logger = logging.getLogger(__name__)

_QUICK = 0.95  # share of torch's time from which a backend counts as faster


@dataclass(frozen=True)
class Measured:
    """One network at one scale.

    Attributes:
        seconds: One thread's time in torch for a megapixel of input.
        shares: Of torch's time, which each other backend takes.
    """

    seconds: float
    shares: Mapping[str, float]

    def faster(self) -> list[str]:
        """Returns what takes a twentieth less than torch or better, fastest first."""
        quick = [name for name, share in self.shares.items() if share < _QUICK]
        return sorted(quick, key=self.shares.__getitem__)


SHIPPED = {
    "paragonsr2_realtime x2": Measured(0.27, {"openvino": 0.80, "onnxruntime": 0.96}),
    "paragonsr2_realtime x4": Measured(0.42, {"onnxruntime": 0.93}),
    "paragonsr2_stream x2": Measured(1.7, {"openvino": 0.75, "onnxruntime": 0.73}),
    "paragonsr2_stream x4": Measured(1.8, {"openvino": 0.74, "onnxruntime": 0.70}),
    "paragonsr2_stream x2 video": Measured(1.9, {"openvino": 0.64}),
    "paragonsr2_stream x4 video": Measured(2.0, {"openvino": 0.67}),
    "paragonsr_nano x4": Measured(1.4, {"onnxruntime": 0.86}),
    "paragonsr_tiny x4": Measured(2.2, {"onnxruntime": 0.87}),
    "paragonsr2_photo x4": Measured(27, {"openvino": 0.72}),
    "paragonsr2_pro x4": Measured(63, {"openvino": 0.74}),
    "resshuffle x4": Measured(25, {"openvino": 0.86, "onnxruntime": 0.84}),
}
"""By `network_name`, with " video" where features are carried on, if that was measured.

The shares are the means of the tables in docs/benchmarks.md, of one and of two threads.
What is not named was not measured, or not to be faster.
"""


def network_name(network: nn.Module) -> str | None:
    """Returns variant and scale of a network of this pack; None of others.

    The name has no variant where the hyperparameters are none's.
    """
    for architecture in (kind() for kind in ARCHITECTURES):
        if architecture.id == type(network).__name__:
            arguments = dict(getattr(network, "hyperparameters", {}))
            variant = architecture.variant(Reading(arguments)) or ""
            return f"{variant} x{arguments.get('scale')}"
    return None


def measured() -> dict[str, Measured]:
    """Returns what is known, by `network_name`: as learned, as shipped."""
    try:
        learned = json.loads(_file().read_text())
        return {**SHIPPED, **{str(name): _read(one) for name, one in learned.items()}}
    except FileNotFoundError:
        return dict(SHIPPED)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        logger.warning("%s is left out: %s", _file(), error)
        return dict(SHIPPED)


def _read(entry: Mapping[str, object]) -> Measured:
    seconds, shares = entry["seconds"], entry["shares"]
    if not isinstance(seconds, (int, float)) or not isinstance(shares, dict):
        raise TypeError("an entry without seconds and shares")
    return Measured(float(seconds), {str(k): float(v) for k, v in shares.items()})


def learn(name: str, found: Measured) -> Path:
    """Keeps what was measured of a network on this machine.

    Returns:
        The file, to which it was added.
    """
    file = _file()
    before: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        before = dict(json.loads(file.read_text()))
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        entry = {name: dataclasses.asdict(found)}
        temporary.write_text(json.dumps({**before, **entry}, indent=2) + "\n")
    return file


def _file() -> Path:
    return config_folder() / "backends.json"
