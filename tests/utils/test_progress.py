"""Progress: what is counted, from any thread, and how the commands show it."""

from __future__ import annotations

import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from common import small_model

from paragon_archs.cli.progress import Bar, JsonLines, Lines, line
from paragon_archs.deploy import deploy_model
from paragon_archs.strips import StripEngine
from paragon_archs.utils.progress import Task, each, shown_by, task


class Record:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float, float | None]] = []
        self.closed: list[str] = []

    def update(self, whole: Task) -> None:
        self.seen.append((whole.name, whole.done, whole.fraction))

    def close(self, whole: Task) -> None:
        self.closed.append(whole.name)


def test_parts_refine_the_whole_and_it_never_falls():
    shown = Record()
    with shown_by(shown), task("whole", 2, "file") as whole:
        for _ in range(2):
            with task("part", 4, "row") as part:
                for _ in range(4):
                    part.advance()
            whole.advance()
    assert {name for name, *_ in shown.seen} == {"whole"}
    fractions = [f for *_, f in shown.seen if f is not None]
    assert all(a <= b for a, b in itertools.pairwise(fractions))
    assert {0, 0.125, 0.5, 0.625, 1} <= set(fractions)
    assert shown.closed == ["whole"]


def test_threads_count_together():
    def work(_):
        with task("part", 10, "row") as part:
            for _ in range(10):
                part.advance()

    shown = Record()
    with shown_by(shown), task("whole", 40, "file"), ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    fractions = [f for *_, f in shown.seen if f is not None]
    assert all(a <= b for a, b in itertools.pairwise(fractions))


def test_the_time_left_runs_down_between_counts():
    with task("whole", 4, "file") as whole:
        whole.advance()
        whole._started -= 10
        assert whole.eta == pytest.approx(30, abs=1)  # 10 seconds for a quarter
        whole._started -= 20
        assert whole.eta == pytest.approx(10, abs=1)
        whole._started -= 20
        assert whole.eta is None  # longer than was foreseen: nobody knows


def test_an_error_closes_what_is_open():
    shown = Record()
    with pytest.raises(ValueError, match="broken"), shown_by(shown):
        for _ in each([1, 2], "whole", "file"):
            raise ValueError("broken")
    with shown_by(shown), task("next", 1, "file"):
        pass
    assert shown.seen[-1][0] == "next"


def test_nothing_is_shown_unless_asked(capsys):
    assert list(each([1, 2], "quiet", "file")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_strips_of_one_picture_are_counted():
    engine = StripEngine(deploy_model(small_model("paragonsr")))
    x = torch.rand(1, 3, 40, 12)
    shown = Record()
    with shown_by(shown):
        for _ in engine.parts([lambda a, b: x[:, :, a:b]], (40, 12), 0):
            pass
    assert shown.seen[-1][:2] == ("strips", 40 * engine.sweeps((40, 12)))
    assert shown.seen[-1][2] == 1
    assert len({done for _, done, _ in shown.seen}) > 4


@pytest.mark.parametrize("count", [1, 24])
def test_a_line_says_how_far_it_is(count):
    with task("upscale", count, "file") as whole:
        whole.advance(count / 2 if count > 1 else 0)
        with task("strips", 8, "row") as part:
            part.advance(4)
            printed = line(whole)
    # Of a single file its rows say more.
    assert printed.startswith(
        "upscale 50%, 4 of 8 rows, " if count == 1 else "upscale 52%, 12 of 24 files, "
    )
    assert printed.endswith(" left")


def test_displays_write_what_they_are_for():
    with task("upscale", 4, "file") as whole:
        whole.advance()
        out = io.StringIO()
        JsonLines(out).update(whole)
        found = json.loads(out.getvalue())
        assert (found["done"], found["total"], found["fraction"]) == (1, 4, 0.25)
        out = io.StringIO()
        lines = Lines(out, every=0)
        lines.update(whole)
        lines.update(whole)
        assert out.getvalue().count("\n") == 2
        out = io.StringIO()
        Lines(out).update(whole)
        Bar(out).update(whole)  # what takes less than two seconds shows nothing
        assert out.getvalue() == ""
        whole._started -= 5
        bar = Bar(out)
        bar.update(whole)
        assert "25%" in out.getvalue() and "\n" not in out.getvalue()
        bar.close(whole)
        assert out.getvalue().endswith("\r\033[K")
