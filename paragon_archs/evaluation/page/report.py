"""The page of a training run: curves, samples through time, options, what is next."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from . import Set, describe, fill, head, script_data

T = TypeVar("T")

_POINTS = 600  # of a curve; more are averaged in groups
_QUALITY = 92  # of the samples' JPEG


@dataclass(frozen=True)
class Commands:
    """What can be done with one checkpoint.

    Attributes:
        file: Its path as the commands write it.
        lines: Purpose and command line of each.
    """

    file: str
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Training:
    """What a page shows.

    Attributes:
        name: Of the run.
        iteration: Steps done.
        total: Steps to do.
        rows: The history, in order: `{"iter", "losses", "rates", "skipped"}` of a log
            line, `{"iter", "set", "metrics"}` of a validation.
        better: `higher` or `lower` by metric.
        samples: Scenes whose pictures are the input, results and the target.
        checkpoints: The newest first.
        going_on: Command line that goes on; empty when nothing is left to do.
        options: As YAML.
        about: The last line.
    """

    name: str
    iteration: int
    total: int
    rows: Sequence[Mapping[str, Any]]
    better: Mapping[str, str]
    samples: Sequence[Set]
    checkpoints: Sequence[Commands]
    going_on: str
    options: str
    about: str


def render(run: Training) -> str:
    """Returns the page as HTML."""
    skipped = list(_skipped(run.rows))
    charts = [c for c in _charts(run) if c["series"]]
    logs = [v for c in charts if c["log"] for s in c["series"] for v in s["y"]]
    numbers = [v for v in logs if v is not None]
    data = {
        "charts": charts,
        "skipped": skipped,
        # Where losses fall by more than a factor, a linear axis shows their fall alone.
        "log": bool(numbers) and min(numbers) > 0 and max(numbers) > 10 * min(numbers),
        "measures": [],
        "sets": [describe(one, _QUALITY) for one in run.samples],
    }
    title = html.escape(run.name)
    done = f"Iteration {run.iteration:,} of {run.total:,}"
    return fill(
        "report.html",
        head=head(f"{title}: {done}", "page.css", "report.css"),
        title=title,
        done=done,
        iteration=str(run.iteration),
        total=str(run.total),
        skipped=_skips(skipped),
        metrics=_table(run),
        samples=fill("samples.html") if run.samples else "",
        viewer=fill("viewer.js") if run.samples else "",
        next=_next(run),
        options=html.escape(run.options),
        about=html.escape(run.about),
        data=script_data(data),
    )


def _charts(run: Training) -> Iterable[dict[str, Any]]:
    """Yields the curves: losses, metrics, rates, other values."""
    losses: dict[str, list[tuple[int, float | None]]] = {}
    rates: dict[str, list[tuple[int, float | None]]] = {}
    metrics: dict[str, dict[str, list[tuple[int, float | None]]]] = {}
    for row in run.rows:
        at = row["iter"]
        for name, value in row.get("losses", {}).items():
            losses.setdefault(name, []).append((at, value))
        for number, value in enumerate(row.get("rates", ())):
            name = f"group {number + 1}" if len(row["rates"]) > 1 else "rate"
            rates.setdefault(name, []).append((at, value))
        for name, value in row.get("metrics", {}).items():
            metrics.setdefault(name, {}).setdefault(row["set"], []).append((at, value))
    own = {n: v for n, v in losses.items() if n.startswith("l_")}
    rest = {n: v for n, v in losses.items() if n not in own}
    yield _chart("Losses", own, log=True, smooth=True, skips=True)
    for name, sets in metrics.items():
        yield _chart(name, sets, better=run.better.get(name, "higher"))
    yield _chart("Learning rate", rates)
    yield _chart("Other values", rest, smooth=True)


def _chart(
    title: str,
    curves: Mapping[str, Sequence[tuple[int, float | None]]],
    log: bool = False,
    smooth: bool = False,
    skips: bool = False,
    better: str = "",
) -> dict[str, Any]:
    """Returns one chart as the script takes it; metrics are thinned, not averaged."""
    series = []
    for name, points in curves.items():
        shown = _averaged(points) if smooth else thinned(points, _POINTS)
        x, y = zip(*shown, strict=True)
        short = [v if v is None else float(f"{v:.5g}") for v in y]
        series.append({"name": name, "x": x, "y": short})
    kind = {"log": log, "smooth": smooth, "skips": skips, "better": better}
    return {"title": title, "series": series, **kind}


def _averaged(
    points: Sequence[tuple[int, float | None]],
) -> list[tuple[int, float | None]]:
    """Averages points in groups; one that is not finite makes its group so."""
    size = math.ceil(len(points) / _POINTS)
    found: list[tuple[int, float | None]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        values = [v for _, v in group if v is not None]
        whole = len(values) == len(group)
        found.append((group[-1][0], sum(values) / len(values) if whole else None))
    return found


def thinned(items: Sequence[T], count: int) -> list[T]:
    """Returns at most `count` items, evenly, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _skipped(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[int, int]]:
    """Yields iteration and number of the steps that were skipped up to it."""
    before = 0
    for row in rows:
        if "skipped" in row:
            # A new stage counts from 0.
            now = row["skipped"]
            if new := now - before if now >= before else now:
                yield row["iter"], new
            before = now


def _skips(skipped: Sequence[tuple[int, int]]) -> str:
    if not skipped:
        return "No step was skipped."
    number = sum(count for _, count in skipped)
    steps = "1 step was" if number == 1 else f"{number:,} steps were"
    return (
        f"{steps} skipped because a loss or a gradient was not finite, the last before "
        f"iteration {skipped[-1][0]:,}; triangles under the losses mark them."
    )


def _table(run: Training) -> str:
    """Returns the metrics' last and best values."""
    lines = []
    for row in run.rows:
        lines += [(row["set"], name) for name in row.get("metrics", ())]
    rows = []
    for name, metric in dict.fromkeys(lines):
        found = [
            (row["metrics"][metric], row["iter"])
            for row in run.rows
            if row.get("set") == name and row["metrics"].get(metric) is not None
        ]
        if not found:
            continue
        higher = run.better.get(metric, "higher") == "higher"
        best, at = (max if higher else min)(found, key=lambda pair: pair[0])
        cells = (f"{found[-1][0]:.4f}", f"{best:.4f}", f"{at:,}")
        head = html.escape(f"{metric}, {name}")
        rows.append(
            f'<tr><th scope="row">{head}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    if not rows:
        return ""
    heads = ("metric", "last", "best", "at iteration")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Metrics"><table>'
        "<thead><tr>"
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _next(run: Training) -> str:
    """Returns the command lines, those of one checkpoint at a time."""
    parts = []
    if run.checkpoints:
        names = "".join(
            f"<option>{html.escape(c.file)}</option>" for c in run.checkpoints
        )
        parts.append(
            f'<p><label>Checkpoint <select id="checkpoint">{names}</select></label></p>'
        )
    else:
        parts.append("<p>There is no checkpoint yet.</p>")
    for index, one in enumerate(run.checkpoints):
        hidden = " hidden" if index else ""
        lines = "".join(_command(*line) for line in one.lines)
        parts.append(f'<div data-file="{html.escape(one.file)}"{hidden}>{lines}</div>')
    if run.going_on:
        parts.append(
            _command("Go on with the training, when it has stopped", run.going_on)
        )
    return "\n".join(parts)


def _command(purpose: str, line: str) -> str:
    what = html.escape(purpose)
    return (
        f'<div>{what}</div><div class="command"><code>{html.escape(line)}</code>'
        f'<button type="button" data-copy aria-label="Copy: {what}">Copy</button></div>'
    )
