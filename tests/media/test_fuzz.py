"""Three hundred damaged pictures in one folder: the good ones are always written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import fuzz_videos
import picture_fuzz
from common import randomise

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.media.video import VideoSource

COUNT = 300


def test_damaged_pictures_cost_no_good_one(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    bad = list(picture_fuzz.files(COUNT))
    for name, content in bad:
        (source / name).write_bytes(content)
    good = []
    for suffix, held in picture_fuzz.seeds().items():
        for number, content in enumerate(held):
            good.append(f"good_{suffix}{number}.png")
            (source / f"good_{suffix}{number}.{suffix}").write_bytes(content)
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    save_model(randomise(model), tmp_path / "nano.safetensors", {})
    call = [sys.executable, "-m", "paragon_archs.cli", "upscale", str(source)]
    call += ["-o", str(out), "--model", str(tmp_path / "nano.safetensors")]
    done = subprocess.run(
        [*call, "--device", "cpu"],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(paragon_archs.__file__).parents[1])},
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    written = {p.name for p in out.iterdir()}
    assert set(good) <= written
    # A sentence names its file in front, or itself.
    failed = re.findall(
        r"^error: (?:.*/(bad\d+\.\w+): )?Expected (?:'.*/(bad\d+\.\w+)')?",
        done.stderr,
        re.M,
    )
    names = {front or inside for front, inside in failed} - {""}
    # Every file is either written or has its one sentence.
    assert len(names) == len([pair for pair in failed if any(pair)])
    assert len(written) - len(good) + len(names) == len(bad)


def test_damaged_videos_end_with_a_sentence(tmp_path):
    count = 40  # more by hand: see `fuzz_videos`
    results = fuzz_videos.fuzz(tmp_path / "in", count, 16)
    assert len(results) == count
    assert [r for r in results if not fuzz_videos.right(r)] == []
    assert sum(r["code"] == 0 for r in results) > count / 4  # not all are dead


def test_tags_that_are_no_utf8_cost_no_video(tmp_path):
    """Old files hold Latin-1; the message was Python's, and the video was lost."""
    whole = dict(fuzz_videos.seeds())["made.avi"]
    file = tmp_path / "in.avi"
    file.write_bytes(whole.replace(b"a film", b"a f\xeflm"))
    with VideoSource(file) as source:
        assert source.container.metadata["title"] == "a f\u00eflm"
