"""What is measured with: networks, images, clocks and peaks of one device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...archs import create, variants

SCALE = 2
# Where a small run stops: one of everything.
_SHORT = {"num_groups": 1, "num_blocks": 2, "depth": 2, "num_residuals": 1}
_ROUNDS, _ENOUGH = 10, 0.7  # calls of each at the most, and their seconds


@dataclass(frozen=True)
class Bench:
    """A device, and how large everything on it is.

    Attributes:
        device: Where networks run.
        small: Whether small sizes and few blocks do, as on a CPU.
    """

    device: torch.device
    small: bool

    @property
    def variants(self) -> list[str]:
        """Names of the networks: all, or in a small run one of each kind."""
        names = list(variants())
        if self.small:  # the wider ones of ParagonSR repeat its smallest
            wide = [n for n in names if n.startswith("paragonsr_")][1:]
            names = [n for n in names if n not in wide]
        return names

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return (24, 40) if self.small else (720, 1280)

    @property
    def frame(self) -> str:
        """A frame's size, in words."""
        return f"{self.size[1]}x{self.size[0]}"

    def network(self, variant: str) -> nn.Module:
        """Returns a variant on the CPU, with weights by which every part matters."""
        arguments = variants()[variant]
        short = {k: n for k, n in _SHORT.items() if k in arguments and self.small}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = create(variant, SCALE, **short).eval()
            for name, parameter in network.named_parameters():
                if name.endswith("gamma"):  # fresh ones hide all that they scale
                    nn.init.uniform_(parameter, 0.05, 0.15)
                elif name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.1)
        return network.requires_grad_(False)

    def image(self, height: int, width: int, batch: int = 1) -> Tensor:
        """Returns noise (B, 3, H, W) on the CPU."""
        generator = torch.Generator().manual_seed(1)
        return torch.rand(batch, 3, height, width, generator=generator)

    def wait(self) -> None:
        """Waits until the device has done what it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Returns the median time of a call, after two that do not count."""
        run()
        run()
        self.wait()
        taken: list[float] = []
        most = 1 if self.small else _ROUNDS
        while len(taken) < most and sum(taken) < _ENOUGH:
            start = time.perf_counter()
            run()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def peak(self, run: Callable[[], object]) -> int | None:
        """Returns the bytes that a call takes beyond what stands; None off CUDA."""
        if self.device.type != "cuda":
            return None
        self.wait()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) - before


def milliseconds(seconds: float) -> str:
    """Returns a duration as a cell."""
    return f"{seconds * 1e3:.2f}"


def gigabytes(count: float | None) -> str:
    """Returns bytes as a cell."""
    return "-" if count is None else f"{count / 2**30:.3g}"
