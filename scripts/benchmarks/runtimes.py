"""Runtimes on the same weights: tables, a chart, and what `--learn` keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paragon_archs.evaluation.plots import Series, chart
from paragon_archs.inference.measured import Measured, measured

from .forms import HALVES, RUNTIMES
from .speed import Timing

LABELS = {
    "deploy": "torch",
    "compiled": "torch.compile",
    "onnx": "onnxruntime",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
}

# Form -> the backend that `paragon upscale` may choose.
_BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}


SLOWER = 1.05  # times the fastest's time, from which a row says so


@dataclass(frozen=True)
class Row:
    """One network at one number of threads.

    Attributes:
        name: The network, with scale and size.
        network: Its `network_name`, by which `paragon upscale` decides.
        threads: CPU threads, of which the times are one's share.
        timings: By form.
    """

    name: str
    network: str | None
    threads: int
    timings: Mapping[str, Timing]


def table(rows: Sequence[Row], forms: Sequence[str]) -> list[str]:
    """Returns a Markdown table: torch in milliseconds, the others as multiples of it.

    In float32 the last column has what `paragon upscale` takes, and its time over that
    of the fastest.

    Args:
        rows: What was measured.
        forms: Its columns; the first is torch.
    """
    head = ["network, input", "threads", *map(label, forms)]
    if plain := "deploy" in forms:
        head.append("`paragon upscale`")
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in rows:
        cells = [row.name, str(row.threads)]
        for form in forms:
            timing = row.timings.get(form)
            cells.append("-" if timing is None else _cell(timing))
        if plain:
            cells.append(_taken(row, forms))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def label(form: str) -> str:
    """Returns what a form is called in tables and charts."""
    kind, _, half = form.partition("-")
    return f"{LABELS[kind]} {half}".strip()


def _taken(row: Row, forms: Sequence[str]) -> str:
    """Returns what `paragon upscale` takes, and its time over that of the fastest."""
    ratios = {f: row.timings[f].beside_torch or 1.0 for f in forms if f in row.timings}
    preferred = measured().get(row.network or "", Measured(0, {})).faster()
    takes = [form for name in preferred for form, n in _BACKENDS.items() if n == name]
    form = next((form for form in takes if form in ratios), "deploy")
    ratio = ratios[form] / min(ratios.values())
    return f"{label(form)}, {ratio:.2f}{' (slower)' if ratio > SLOWER else ''}"


def _cell(timing: Timing) -> str:
    if timing.form == "deploy":
        return f"{timing.seconds * 1e3:.1f} ± {timing.spread * 1e3:.1f} ms"
    assert timing.beside_torch is not None
    text = f"{timing.beside_torch:.2f}"
    text = f"**{text}**" if timing.beside_torch < 0.95 else text
    if timing.form in HALVES:
        return f"{text} ({timing.error:.0e}, {timing.lost:.2f} dB)"
    return text


def draw(rows: Sequence[Row]) -> str:
    """Returns a chart, as SVG, of each network's runtimes in float32 against torch.

    Of the rows, those of the first one's number of threads.
    """
    threads = rows[0].threads
    rows = [row for row in rows if row.threads == threads]
    series = [
        Series(
            label(form),
            [
                (1 / ratio, len(rows) - 1 - place)
                for place, row in enumerate(rows)
                if form in row.timings
                and (ratio := row.timings[form].beside_torch) is not None
            ],
        )
        for form in RUNTIMES
    ]
    return chart(
        [one for one in series if one.points],
        f"The same weights in float32, number of CPU threads: {threads}",
        "times as fast as torch's deploy form",
        "",
        y_names=[row.name for row in reversed(rows)],
    )


def share_of(threads: int) -> Callable[[], float]:
    """Returns a clock of one thread's share of the process's time.

    What others do on the machine at the same time is not in it, nor is the time in
    which threads wait for each other asleep.
    """
    return lambda: time.process_time() / threads


def lines(row: Row) -> list[str]:
    """Returns what was measured, a line for each form, while more is measured."""
    return [
        f"{row.name}, {row.threads} threads, {label(form)}: {t.seconds * 1e3:.2f} ± "
        f"{t.spread * 1e3:.2f} ms, {t.beside_torch:.2f} of torch, error {t.error:.0e}"
        for form, t in row.timings.items()
    ]


def found(timings: Sequence[Timing], x: Tensor) -> Measured:
    """Returns what `paragon upscale --backend auto` decides by.

    Args:
        timings: Of forms, `deploy` among them.
        x: The input (1, C, H, W).
    """
    seconds = {timing.form: timing.seconds for timing in timings}
    torchs = seconds["deploy"]
    return Measured(
        torchs * torch.get_num_threads() / (x.shape[2] * x.shape[3] / 1e6),
        {name: seconds[form] / torchs for form, name in _BACKENDS.items()},
    )
