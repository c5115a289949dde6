"""`report.html` of a training run: its history, its page, and the page in a browser."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import engine_common as common
import pytest
import yaml
from browser import browser, faults, unreached

from paragon_archs.cli import basicsr
from paragon_archs.cli.__main__ import main
from paragon_archs.engine import pipeline
from paragon_archs.engine.history import History
from paragon_archs.evaluation.page.report import Training, render

RUN = Path("experiments/run")
CHANGES = {
    "train:total_iter": 8,
    "val:val_freq": 2,
    "logger:save_checkpoint_freq": 4,
    "val:metrics:ssim": {"type": "calculate_ssim", "crop_border": 2},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a run of eight steps has been stopped, resumed and ended."""
    here = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        common.write_images(here / "data", side=64)
        assert common.train(here, CHANGES | {"train:total_iter": 4}) == 0
        history = here / RUN / "report.jsonl"
        # What a killed run leaves: rows that its state does not know, half a line.
        late = {"iter": 6, "losses": {"l_l1": 9.0}, "rates": [1.0], "skipped": 0}
        history.write_text(f'{history.read_text()}{json.dumps(late)}\n{{"iter": 7, "lo')
        forced = ["--force_yml", "train:total_iter=8"]
        assert common.train(here, CHANGES, "--auto_resume", *forced) == 0
    return here


def data_of(file):
    text = file.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found[1])


def lines_of(file):
    """The command lines on a page."""
    codes = re.findall(r"<code>(.*?)</code>", file.read_text())
    return [shlex.split(html.unescape(code)) for code in codes]


def test_the_history_goes_on_where_the_state_was(trained):
    rows = [json.loads(x) for x in (trained / RUN / "report.jsonl").open()]
    assert [r["iter"] for r in rows if "losses" in r] == list(range(1, 9))
    assert [r["iter"] for r in rows if "metrics" in r] == [2, 4, 6, 8]


def test_the_page_holds_what_the_log_says(trained):
    charts = {
        c["title"]: c["series"]
        for c in data_of(trained / RUN / "report.html")["charts"]
    }
    assert list(charts) == ["Losses", "psnr", "ssim", "Learning rate"]
    logs = (trained / RUN).glob("train_*.log")
    logs = sorted(logs, key=lambda log: log.stat().st_mtime_ns)
    log = "".join(log.read_text() for log in logs)
    losses = common.losses_of(log)
    for at, value in zip(*(charts["Losses"][0][k] for k in "xy"), strict=True):
        assert float(losses[at].split()[-1]) == pytest.approx(value, rel=1e-3)
    psnr = [float(v) for v in re.findall(r"# psnr: ([\d.]+)", log)]
    assert charts["psnr"][0]["y"] == pytest.approx(psnr, rel=1e-4)


def test_samples_show_every_validation(trained):
    sets = data_of(trained / RUN / "report.html")["sets"]
    assert [s["name"] for s in sets] == ["few_0", "few_1"]
    names = [p["name"] for p in sets[0]["pictures"]]
    moments = [f"iteration {i}" for i in (2, 4, 6, 8)]
    assert names == ["input", *moments, "target"]
    assert sets[0]["shown"] == [0, 4]


def test_command_lines_work_as_they_stand(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    lines = lines_of(RUN / "report.html")
    newest = [x for x in lines if "net_g_8.safetensors" in " ".join(x)]
    assert [x[1] for x in newest] == ["upscale", "compare", "fuse", "export"]
    best = {x for line in lines for x in line if "net_g_best" in x}
    assert len(best) == 2 and all(Path(x).is_file() for x in best)
    for line in newest[:3]:  # the export has tests of its own
        given = [x.replace("photo.jpg", "data/lr/0.png") for x in line[1:]]
        assert main([*given, *(["--fast"] if line[1] == "compare" else [])]) == 0
    from paragon_archs.cli import export

    assert export.flags().parse_args(newest[3][2:]).output == "2x_run.onnx"


def test_the_options_are_those_of_the_run(trained):
    page = (trained / RUN / "report.html").read_text()
    shown = yaml.safe_load(re.search(r"<pre[^>]*>(.*?)</pre>", page, re.S)[1])
    assert (shown["name"], shown["manual_seed"]) == ("run", 3)
    assert shown["train"]["total_iter"] == 8
    assert shown["train"]["precision"] == "fp32"  # a default


def test_a_run_that_was_stopped_says_how_to_go_on(here, monkeypatch):
    forced = ["--force_yml", "train:ema_decay=0.5", "train:optim_g={type: Adam, lr: 1}"]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "any_process", lambda *_: 15)
        assert common.train(here, CHANGES, *forced) == 143
    page = here / RUN / "report.html"
    *_, line = lines_of(page)
    assert basicsr.main(line[1:]) == 0
    log = common.log_of(here)
    assert "Resuming after iteration 1" in log and "instead of" not in log
    assert "basicsr" not in {line[0] for line in lines_of(page)}


@pytest.mark.parametrize("name", ["report.html", "report.jsonl"])
def test_what_cannot_be_written_is_named_once(name, here):
    assert common.train(here, CHANGES | {"train:total_iter": 4}) == 0
    (here / RUN / name).unlink()
    (here / RUN / name).mkdir()
    assert common.train(here, CHANGES, "--auto_resume") == 0
    assert common.log_of(here).count("report cannot be written") == 1


def test_it_can_be_switched_off(here):
    assert common.train(here, {"logger:report": False}) == 0
    assert not list((here / RUN).glob("report*"))


@pytest.mark.parametrize(
    "text",
    [
        b'{"iter": 1}\n{"iter": 2',
        b'{"iter": 1}\n\xff\xfe\n',
        b'{"iter": 1}\n{"iter": 5}\n',
        b'{"iter": 1}\n[]\n{"iter": "x"}\n\n',
        b'{"iter": 1}',
    ],
    ids=["torn", "binary", "later", "foreign", "no end of line"],
)
def test_a_damaged_history_keeps_its_good_rows(text, tmp_path):
    file = tmp_path / "report.jsonl"
    file.write_bytes(text)
    history = History(file, last=3)
    history.add({"iter": 4, "losses": {"l": float("nan")}})
    history.add({"iter": 5})
    want = [{"iter": 1}, {"iter": 4, "losses": {"l": None}}, {"iter": 5}]
    assert history.rows == want
    assert History(file, last=9).rows == want


def long_run(steps: int, **more):
    """What a run of many steps and losses shows."""
    rows = [
        {
            "iter": i,
            "losses": {f"l_{n}": 1 / (i + n) for n in range(8)} | {"out_d": -1 / i},
            "rates": [1e-3 / i],
            "skipped": [0, 0, 2, 3][4 * i // steps if i < steps else 3],
        }
        for i in range(1, steps)
    ]
    rows += [
        {"iter": i, "set": "a", "metrics": {"psnr": i}} for i in range(1, steps, 9)
    ]
    shown = {"name": "<b>", "iteration": steps, "total": steps, "rows": rows}
    empty = {"better": {}, "samples": (), "checkpoints": (), "going_on": ""}
    return Training(**(shown | empty | {"options": "", "about": ""} | more))


def test_a_long_run_stays_a_small_page():
    text = render(long_run(20_000))
    assert len(text.encode()) < 300_000
    assert "<b>" not in text
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", text)
    # A new stage begins to count at 0: the number never falls otherwise.
    assert "3 steps were skipped" in text and "iteration 15,000" in text


def test_values_that_are_not_finite_are_gaps(tmp_path):
    empty = {"rates": [], "skipped": 0}
    rows = [
        {"iter": i, "losses": {"l_x": x}, **empty} for i, x in enumerate((1, None, 1))
    ]
    file = tmp_path / "page.html"
    file.write_text(render(long_run(9, rows=rows)))
    assert data_of(file)["charts"][0]["series"][0]["y"] == [1, None, 1]


# --- in the browser ------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(trained, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(trained, opened):
    """The page of the run, as if opened for the first time."""
    opened.open(trained / RUN / "report.html")
    yield opened
    assert opened.problems == []


def paths(tab):
    """Number of points of every curve."""
    script = """[...document.querySelectorAll('.plot .line')]
      .map((p) => p.getAttribute('d').split(/[ML]/).length - 1)"""
    return tab.run(script)


def test_curves_are_drawn(tab):
    assert paths(tab) == [8, 4, 4, 8]
    inside = """[...document.querySelectorAll('.plot')].every((plot) => {
      const room = plot.getBoundingClientRect(), svg = plot.querySelector('.line');
      const line = svg.getBoundingClientRect();
      return line.width > room.width / 2 && line.left >= room.left
        && line.right <= room.right && line.top >= room.top
        && line.bottom <= room.bottom;
    })"""
    assert tab.run(inside)


def test_the_mouse_and_the_keys_read_values(tab, trained):
    (losses, *_) = data_of(trained / RUN / "report.html")["charts"]
    left, top, width, height = tab.box("figure .plot")
    tab.mouse("mouseMoved", left + width - 13, top + height / 2)
    out = "document.querySelector('figure output').textContent"
    assert tab.run(out).startswith("iteration 8: l_l1 ")
    tab.run("document.querySelector('figure .plot').focus()")
    tab.key("Home", 36)
    tab.key("ArrowRight", 39)
    at, value = tab.run(out).split(": l_l1 ")
    assert at == "iteration 2"
    assert float(value) == pytest.approx(losses["series"][0]["y"][1], rel=1e-3)
    # All charts have the same line.
    assert tab.run("document.querySelectorAll('.cursor').length") == 4


def test_controls_change_the_curves(tab):
    before = tab.run("document.querySelector('.plot .line').getAttribute('d')")
    slide = "c.value = '{}'; c.dispatchEvent(new Event('input'))"
    acts = {"smoothing": slide.format(0), "log": "c.click()", "from": slide.format(0.5)}
    for control, act in acts.items():
        tab.run(f"(c => {{ {act} }})(document.getElementById('{control}'))")
        after = tab.run("document.querySelector('.plot .line').getAttribute('d')")
        assert after != before, control
        before = after
    assert paths(tab)[0] == 4


def test_samples_slide_and_go_through_time(tab):
    tab.run("document.getElementById('viewer').scrollIntoView()")
    assert tab.drag_handle() == "25"
    label = "document.querySelector('.pane.second span').textContent"
    assert tab.run(label) == "iteration 8"
    source = "document.querySelector('.pane.second img').src"
    last = tab.run(source)
    tab.run("document.getElementById('time').focus()")
    tab.key("ArrowLeft", 37)
    assert tab.run(label) == "iteration 6"
    assert tab.run(source) != last
    tab.run("document.querySelectorAll('#list button')[1].click()")
    assert tab.run(label) == "iteration 6"  # the same moment of the other scene
    assert tab.run("document.getElementById('timeout').value") == "iteration 6"


def test_the_command_lines_follow_the_checkpoint(tab):
    shown = "document.querySelector('[data-file]:not([hidden]) code').textContent"
    assert "net_g_8.safetensors" in tab.run(shown)
    tab.run(
        "(() => { const c = document.getElementById('checkpoint'); c.selectedIndex = 1;"
        "c.dispatchEvent(new Event('change')); })()"
    )
    assert "net_g_best_few_psnr" in tab.run(shown)
    tab.run("document.querySelector('[data-file]:not([hidden]) [data-copy]').click()")
    assert "net_g_best_few_psnr" in tab.run("getSelection().toString()")


def test_the_tab_key_reaches_everything(tab):
    assert unreached(tab.run, tab.key) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(tab, theme):
    tab.theme(theme)
    for one in range(2):
        tab.run(f"document.querySelectorAll('details')[{one}].open = true")
    assert faults(tab.run) == []
