"""How fast a network runs, form by form, on the same input in one run."""

from __future__ import annotations

import copy
import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from paragon_archs.deploy import deploy_model, onednn, ops
from paragon_archs.evaluation.plots import Series, chart
from paragon_archs.export import export_onnx
from paragon_archs.export.onnx import session_runner
from paragon_archs.fuse import fuse_model
from paragon_archs.inference.openvino_model import OpenVINOModel
from paragon_archs.utils.files import atomic_write
from paragon_archs.utils.optional import need

from .published import PublishedForm

FORMS = ("published", "fused", "deploy", "compiled", "openvino", "onnx")
FORMS += ("onnx-published",)

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
        error: Largest difference from the published form's answer, in units of its
            standard deviation.
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
    error: float
    multiply_adds: int | None
    share: float | None
    memory: int | None


def measure(
    model: nn.Module,
    x: Tensor,
    forms: Sequence[str] = ("published", "fused", "deploy"),
    warmup: int = 2,
    rounds: int = 9,
) -> list[Timing]:
    """Times the forms of a network, taking turns, so that a slow spell hits all.

    Args:
        model: The network.
        x: (B, C, H, W) in its dtype and on its device.
        forms: Out of `FORMS`; those that the network lacks are left out.
        warmup: Calls of each before it counts.
        rounds: Calls of each that count.
    """
    limit = matrix_rate(x)
    clock = clock_for(x)
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(model.to(x), x, forms, Path(folder))
        with torch.inference_mode():
            answers = {name: run(x).double().cpu() for name, (run, _) in runs.items()}
            times: dict[str, list[float]] = {name: [] for name in runs}
            for index in range(warmup + rounds):
                for name, (run, _) in runs.items():
                    _synchronise(x)
                    start = clock()
                    run(x)
                    _synchronise(x)
                    if index >= warmup:
                        times[name].append(clock() - start)
            # Other runtimes keep what they once took: a call shows nothing of it.
            memory = {
                name: None
                if name.startswith(("onnx", "openvino"))
                else peak_memory(run, x)
                for name, (run, _) in runs.items()
            }
    first = next(iter(answers.values()))
    medians = {name: statistics.median(values) for name, values in times.items()}
    timings = []
    for name, values in times.items():
        quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [0, 0, 0]
        pixels = first.shape[0] * first.shape[2] * first.shape[3]
        base = "onnx-published" if name.startswith("onnx") else "published"
        base = "fused" if base == "published" and base not in medians else base
        macs = _multiply_adds(runs[name][1], x)
        timings.append(
            Timing(
                form=name,
                seconds=medians[name],
                spread=(quarters[2] - quarters[0]) / 2,
                megapixels=pixels / medians[name] / 1e6,
                ratio=medians[base] / medians[name] if base in medians else None,
                error=float((answers[name] - first).abs().max() / first.std()),
                multiply_adds=macs,
                share=macs / medians[name] / limit if macs else None,
                memory=memory[name],
            )
        )
    return timings


def clock_for(x: Tensor) -> Callable[[], float]:
    """Returns the clock that times are taken with.

    For one CPU thread that is its processor time: the same as the wall's on an idle
    machine, and right on one that others use too.
    """
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


Run = Callable[[Tensor], Tensor]


def _runs(
    model: nn.Module, x: Tensor, forms: Sequence[str], folder: Path
) -> dict[str, tuple[Run, nn.Module | None]]:
    """Returns, in the order of `FORMS`, what to call and what to count."""
    fused = fuse_model(model).eval().requires_grad_(False)
    deployed = deploy_model(model)
    try:
        published: nn.Module | None = PublishedForm(model).to(x)
    except ValueError:
        published = None
    runs: dict[str, tuple[Run, nn.Module | None]] = {}
    for form in FORMS:
        if form not in forms:
            continue
        if form == "published" and published is not None:
            runs[form] = (published, published)
        elif form == "fused":
            runs[form] = (fused, fused)
        elif form == "deploy":
            runs[form] = (deployed, deployed)
        elif form == "compiled":
            runs[form] = (torch.compile(deployed), deployed)
        elif form == "openvino":
            export_onnx(model, folder / "openvino.onnx")
            runs[form] = (OpenVINOModel(folder / "openvino.onnx"), deployed)
        elif form == "onnx":
            export_onnx(model, folder / "deploy.onnx")
            runs[form] = (_session(folder / "deploy.onnx"), deployed)
        elif form == "onnx-published" and published is not None:
            export_onnx(published, folder / "published.onnx")
            runs[form] = (_session(folder / "published.onnx"), published)
    return runs


def _session(graph: Path) -> Run:
    onnxruntime = need("onnxruntime", "its graphs", "paragon-archs[onnx]")
    run = session_runner(onnxruntime, graph, threads=torch.get_num_threads())
    return lambda x: torch.from_numpy(run([x.float().cpu().numpy()])[0])


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


def faster_backends(timings: Sequence[Timing]) -> list[str]:
    """Returns the backends that take a tenth less than torch, the fastest first."""
    seconds = {t.form: t.seconds for t in timings}
    names = {"openvino": "openvino", "onnx": "onnxruntime"}
    quick = [f for f in names if seconds[f] < 0.9 * seconds["deploy"]]
    return [names[form] for form in sorted(quick, key=seconds.__getitem__)]


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
            "" if t.multiply_adds is None else f"{t.multiply_adds / 1e9:.2f}",
            "" if t.share is None else f"{t.share:.0%}",
            "" if t.memory is None else f"{t.memory / 2**20:.0f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


HEADER = (
    "| network | form | parameters | ms | output MP/s | times as fast | error | "
    "multiply-adds (G) | share of limit | peak MiB |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
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
