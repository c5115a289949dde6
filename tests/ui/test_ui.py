"""`paragon ui`: a picture in, the command's picture out, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import faults, unreached
from common import pattern
from PIL import Image

import paragon_archs
from paragon_archs.cli.__main__ import main
from paragon_archs.ui.runs import Progress, Run, Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODEL = "paragonsr2_realtime_x2"
# Nothing fades in or out any more; what turns for ever has no end.
STILL = """document.getAnimations().every((one) =>
  one.playState !== "running" || one.effect.getComputedTiming().endTime === Infinity)"""


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "in" / "a picture.png"
    file.parent.mkdir()
    Image.fromarray(pattern(40, 56, 3)).save(file)
    return file


def test_a_run_counts_and_writes_what_the_command_writes(picture, tmp_path):
    with Run([picture], tmp_path / "out", Settings(model=MODEL)) as run:
        counts = list(run.progress())
        assert run.code == 0, run.messages
    assert counts[-1].fraction == 1
    assert (
        main(["upscale", str(picture), "-o", str(tmp_path / "own"), "--model", MODEL])
        == 0
    )
    made, own = (
        [p.read_bytes() for p in (tmp_path / n).iterdir()] for n in ("out", "own")
    )
    assert made == own


def test_the_input_chooses_the_model_where_the_user_does_not(tmp_path):
    file = tmp_path / "a.jpg"
    Image.fromarray(pattern(40, 56, 3)).save(file, quality=60)
    with Run([file], tmp_path / "out", Settings(scale=2)) as run:
        list(run.progress())
    assert run.code == 0
    assert "paragonsr2_realtime_x2_jpeg" in run.messages[0]


def test_a_run_that_fails_says_why(picture, tmp_path):
    with Run([picture], tmp_path / "out", Settings(model="nonsense")) as run:
        list(run.progress())
        assert run.code == 2
    assert "'nonsense'" in run.messages[-1]
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_leaves_nothing_half_written(tmp_path):
    source = tmp_path / "large.png"
    Image.fromarray(pattern(1600, 2400, 3)).save(source)
    slow = Settings(model="paragonsr_nano_x4", device="cpu", memory="600M")
    with Run([source], tmp_path / "out", slow) as run:
        for _ in run.progress():  # the first line: it has begun
            run.stop()
        assert run.stopped
        assert run.code != 0
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("line", ["", "wrote x", "{", "{}", '{"done": 1}', "[1]"])
def test_lines_that_are_no_progress(line):
    assert Progress.parse(line) is None


@pytest.fixture(scope="module")
def address():
    """The page, served as a user serves it."""
    pytest.importorskip("gradio", reason="the extra `ui` is not installed")
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "paragon_archs", "ui", "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(paragon_archs.__file__).parents[1]),
        },
    )
    try:
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
    finally:
        server.terminate()  # a background job of a shell ignores SIGINT
        server.wait(30)


@pytest.fixture
def page(address):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(120_000)
        page.outside, page.errors = [], []
        page.on("request", lambda r: note(page, r.url, address))
        page.on("console", lambda m: m.type == "error" and page.errors.append(m.text))
        page.goto(address)
        page.get_by_role("button", name="Upscale", exact=True).wait_for()
        yield page
        browser.close()


def note(page, url, address):
    if not url.startswith((address, address.replace("http", "ws"), "data:", "blob:")):
        page.outside.append(url)


def choose(page, label, option):
    page.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_picture_goes_in_and_the_commands_picture_comes_out(page, picture, tmp_path):
    choose(page, "Model", MODEL)
    page.locator("input[type=file]").last.set_input_files(str(picture))
    page.get_by_text("a picture.png").first.wait_for()
    page.get_by_role("button", name="Upscale", exact=True).click()
    page.get_by_text("Done.").wait_for()
    with page.expect_download() as download:
        page.locator("a[download]").last.click()
    made = np.asarray(Image.open(download.value.path()))
    own = tmp_path / "own.png"
    assert main(["upscale", str(picture), "-o", str(own), "--model", MODEL]) == 0
    np.testing.assert_array_equal(made, np.asarray(Image.open(own)))
    assert not page.outside
    assert not page.errors
    # The page as it is then; its text has other colors in the dark.
    for dark in (False, True):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", dark)
        page.wait_for_function(STILL)
        assert faults(page.evaluate) == []


def test_the_page_names_the_model_that_suits_a_jpeg(page, tmp_path):
    file = tmp_path / "a.jpg"
    Image.fromarray(pattern(40, 56, 3)).save(file, quality=60)
    page.locator("input[type=file]").last.set_input_files(str(file))
    page.get_by_text("a.jpg").first.wait_for()
    page.get_by_role("button", name="Upscale", exact=True).click()
    page.get_by_text("paragonsr2_realtime_x4_jpeg (shipped").wait_for()


def test_wrong_input_is_one_sentence_on_the_page(page, tmp_path):
    page.get_by_role("button", name="Upscale", exact=True).click()
    page.get_by_text("Drop a picture or a video first.").wait_for()
    assert faults(page.evaluate) == []
    assert unreached(page.evaluate, page.keyboard.press) == []
    page.get_by_role("tab", name="Folder").click()
    page.get_by_label("Folder with pictures").fill(str(tmp_path / "nowhere"))
    page.get_by_label("Folder for the results").fill(str(tmp_path / "out"))
    page.get_by_label("Folder for the results").press("Tab")  # the page takes the text
    page.get_by_role("button", name="Upscale the folder").click()
    page.get_by_role("alert").filter(has_text="nowhere").last.wait_for()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("port", ["99999", "TAKEN"])
def test_a_port_that_cannot_be_had_is_one_sentence(port, address, capsys):
    taken = address.rpartition(":")[2]
    port = port.replace("TAKEN", taken)
    assert main(["ui", "--no-browser", "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: Expected a free port, but got {port}")
    assert error.count("\n") == 1
