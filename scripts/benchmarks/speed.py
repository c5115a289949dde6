"""How fast a network runs, form by form, on the same input in one run."""

from __future__ import annotations

import copy
import ctypes
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from paragon_archs.deploy import onednn, ops
from paragon_archs.evaluation.plots import Series, chart
from paragon_archs.utils.files import atomic_write

from .forms import Run, build

OTHER_RUNTIMES = ("onnx", "openvino", "ncnn")

SIDES = (32, 48, 64, 96)
MOST_WORK = 3e10  # multiply-adds


@dataclass(frozen=True)
class Timing:
    """One form of one network.

    Attributes:
        form: One of `FORMS`.
        seconds: Median of the rounds.
        spread: Half the distance of the quartiles, in seconds.
        megapixels: Of output, per second.
        ratio: Times as fast as the published form (the network itself where there is
            none); an ONNX graph of the deploy form against that of the published one.
        beside_torch: Its time over the deploy form's, the median of the rounds; None
            where that form was not timed.
        error: Largest difference from the first form's answer, in units of that one's
            standard deviation.
        lost: What the error takes from a PSNR of 40 dB, in dB, for a picture whose
            standard deviation is a quarter of the white level.
        multiply_adds: Of the form, or None where they cannot be counted.
        share: Multiply-adds per second over the machine's matrix-product rate.
        memory: Peak beyond what stood before the call in bytes, or None where it
            cannot be read.
    """

    form: str
    seconds: float
    spread: float
    megapixels: float
    ratio: float | None
    beside_torch: float | None
    error: float
    lost: float
    multiply_adds: int | None
    share: float | None
    memory: int | None


def measure(
    model: nn.Module,
    x: Tensor,
    forms: Sequence[str] = ("published", "fused", "deploy"),
    warmup: int = 2,
    rounds: int = 9,
    graphs: Path | None = None,
    clock: Callable[[], float] | None = None,
) -> list[Timing]:
    """Times the forms of a network, taking turns, so that a slow spell hits all.

    Args:
        model: The network.
        x: (B, C, H, W) in its dtype and on its device.
        forms: Out of `FORMS`; those that the network lacks are left out.
        warmup: Calls of each before it counts.
        rounds: Calls of each that count.
        graphs: A folder that keeps the graphs for the next measurement.
        clock: In seconds; `clock_for`'s by default.
    """
    limit = matrix_rate(x)
    clock = clock or clock_for(x)
    with tempfile.TemporaryDirectory() as folder:
        built = build(model.to(x), x, forms, graphs or Path(folder))
        with torch.inference_mode():
            answers = {name: form.run(x).double().cpu() for name, form in built.items()}
            times: dict[str, list[float]] = {name: [] for name in built}
            for index in range(warmup + rounds):
                for name, form in built.items():
                    _synchronise(x)
                    start = clock()
                    form.run(x)
                    _synchronise(x)
                    if index >= warmup:
                        times[name].append(clock() - start)
            # Other runtimes keep what they once took: a call shows nothing of it.
            memory = {
                name: None
                if name.startswith(OTHER_RUNTIMES)
                else peak_memory(form.run, x)
                for name, form in built.items()
            }
    first = next(iter(answers.values()))
    medians = {name: statistics.median(values) for name, values in times.items()}
    timings = []
    for name, values in times.items():
        quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [0, 0, 0]
        pixels = first.shape[0] * first.shape[2] * first.shape[3]
        base = "onnx-published" if name.startswith("onnx") else "published"
        base = "fused" if base == "published" and base not in medians else base
        macs = _multiply_adds(built[name].module, x)
        error = (answers[name] - first) / first.std()
        timings.append(
            Timing(
                form=name,
                seconds=medians[name],
                spread=(quarters[2] - quarters[0]) / 2,
                megapixels=pixels / medians[name] / 1e6,
                ratio=medians[base] / medians[name] if base in medians else None,
                beside_torch=_beside(values, times.get("deploy")),
                error=float(error.abs().max()),
                lost=_lost(float(error.square().mean())),
                multiply_adds=macs,
                share=macs / medians[name] / limit if macs else None,
                memory=memory[name],
            )
        )
    return timings


def _beside(values: Sequence[float], others: Sequence[float] | None) -> float | None:
    """Returns one form's time over another's, round by round."""
    if others is None:
        return None
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def _lost(error: float) -> float:
    """Returns the dB that a mean squared error takes from a PSNR of 40 dB.

    Args:
        error: In units of the picture's variance, which is that of a quarter of the
            white level.
    """
    return 10 * math.log10(1 + error / 4**2 / 1e-4)


def clock_for(x: Tensor) -> Callable[[], float]:
    """Returns the clock that times are taken with.

    For one CPU thread that is its processor time: the same as the wall's on an idle
    machine, and right on one that others use too.
    """
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def _synchronise(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def _multiply_adds(model: nn.Module | None, x: Tensor) -> int | None:
    """Counts multiply-adds on shapes alone, without computing."""
    if model is None:
        return None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).requires_grad_(False).to("meta")(x.to("meta"))
    return counter.get_total_flops() // 2


def side_for(model: nn.Module) -> int:
    """Returns a side of the input at which a network takes a second or so."""
    each = (_multiply_adds(model, torch.empty(1, 3, 16, 16)) or 0) / 16**2
    fits = [side for side in SIDES if each * side**2 <= MOST_WORK]
    return fits[-1] if fits else SIDES[0]


def matrix_rate(x: Tensor, size: int = 1024, rounds: int = 7) -> float:
    """Returns multiply-adds per second of a square matrix product, as the forms do it.

    Args:
        x: For dtype and device.
        size: Side of the matrices.
        rounds: Products; the fastest counts, it is a limit.
    """
    a = torch.randn(size, size).to(x)
    product: Callable[[], Tensor] = (
        (lambda: onednn.linear(a, a, None)) if ops.fast(x) else (lambda: a @ a)
    )
    best, clock = float("inf"), clock_for(x)
    with torch.inference_mode():
        for _ in range(rounds):
            _synchronise(x)
            start = clock()
            product()
            _synchronise(x)
            best = min(best, clock() - start)
    return size**3 / best


def peak_memory(run: Run, x: Tensor) -> int | None:
    """Returns the bytes that a call takes at its peak beyond what stood before.

    On a CPU this is Linux's high-water mark of the process, which the kernel resets on
    request, from a start where the C library has given back what it keeps of freed
    memory: without that a second call finds room and shows nothing. Elsewhere None.
    """
    if x.is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(x)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run(x)
        return max(0, _status("VmHWM") - before)
    except (OSError, KeyError, AttributeError, TypeError):
        return None  # another system, or another C library


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found[key].split()[0]) * 1024


def table(name: str, model: nn.Module, timings: Sequence[Timing]) -> list[str]:
    """Returns a Markdown table's rows for one network."""
    parameters = sum(p.numel() for p in model.parameters())
    rows = []
    for t in timings:
        cells = (
            name,
            t.form,
            f"{parameters:,}",
            f"{t.seconds * 1e3:.2f} ± {t.spread * 1e3:.2f}",
            f"{t.megapixels:.2f}",
            "" if t.ratio is None else f"{t.ratio:.2f}",
            f"{t.error:.0e}",
            f"{t.lost:.2f}",
            "" if t.multiply_adds is None else f"{t.multiply_adds / 1e9:.2f}",
            "" if t.share is None else f"{t.share:.0%}",
            "" if t.memory is None else f"{t.memory / 2**20:.0f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


HEADER = (
    "| network | form | parameters | ms | output MP/s | times as fast | error | "
    "dB lost | multiply-adds (G) | share of limit | peak MiB |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def draw(points: Sequence[tuple[str, int, float]], path: str | Path) -> None:
    """Writes a picture of parameters against speed.

    Args:
        points: Label, parameters and megapixels of output per second.
        path: The picture, .svg.

    Raises:
        ValueError: for another suffix.
    """
    check_picture(path)
    picture = chart(
        [Series("", [(mp, n / 1e6)], [label]) for label, n, mp in points],
        "Fastest form of each network",
        "output megapixels per second",
        "parameters in millions",
        logarithmic_x=True,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(picture)


def check_picture(path: str | Path) -> None:
    """Raises ValueError where `draw` cannot write such a file."""
    if Path(path).suffix.lower() != ".svg":
        raise ValueError(
            f"Expected the picture to be an .svg file, but got {str(path)!r}. "
            "Name it speed.svg."
        )
