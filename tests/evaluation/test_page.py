"""`paragon compare` and its page, in a real browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from browser import browser, faults, unreached
from PIL import Image

from paragon_archs.cli.__main__ import main
from paragon_archs.evaluation import page
from paragon_archs.evaluation.comparison import compare, read_rgb, tensor
from paragon_archs.evaluation.measures import luma, psnr, ssim

HEIGHT, WIDTH = 60, 80


def scene(seed: int = 0, noise: int = 0) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    layers = [127 + 90 * np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(3)]
    rng = np.random.default_rng(seed)
    values = np.stack(layers, 2) + rng.integers(-noise, noise + 1, (HEIGHT, WIDTH, 3))
    return values.clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three pictures, and folders `old` and `new` with two of one name each."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene()).save("original.png")
    for name, noise in (("good.png", 4), ("bad.png", 24)):
        Image.fromarray(scene(1, noise)).save(name)
    for folder, noises in (("old", (2, 9)), ("new", (2, 40))):
        (tmp_path / folder).mkdir()
        for name, noise in zip(("a <b>.png", "c.png"), noises, strict=True):
            Image.fromarray(scene(ord(folder[0]), noise)).save(f"{folder}/{name}")
    return tmp_path


def data_of(file):
    text = file.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found[1])


def test_numbers_are_those_of_the_measures(pictures, capsys):
    call = ["compare", "good.png", "bad.png", "--reference", "original.png", "--fast"]
    assert main([*call, "-o", "page.html", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["against"] == "original"
    assert [p["name"] for p in one["pictures"]] == ["good", "bad", "original"]
    a, b = (luma(tensor(read_rgb(n))) for n in ("good.png", "original.png"))
    assert one["pictures"][0]["psnr_y"] == pytest.approx(psnr(a, b))
    assert one["pictures"][0]["ssim_y"] == pytest.approx(ssim(a, b))
    assert data_of(pictures / "page.html")["sets"][0]["name"] == "good and bad"
    # Nothing is replaced silently.
    assert main([*call, "-o", "page.html"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_folders_are_paired_and_the_largest_difference_is_known(pictures):
    assert main(["compare", "old", "new", "--fast"]) == 0
    sets = data_of(pictures / "compare.html")["sets"]
    assert [s["name"] for s in sets] == ["a <b>", "c"]
    assert sets[1]["difference"] > sets[0]["difference"] > 0


def test_pictures_that_cannot_be_measured_are_said_so(pictures, capsys):
    Image.fromarray(scene()[:30]).save("half.png")
    call = ["compare", "good.png", "bad.png", "--reference", "half.png", "--fast"]
    assert main(call) == 0
    assert "no picture has the size of 'original'" in capsys.readouterr().err


def test_models_run_on_the_spot(pictures, capsys):
    names = ["paragonsr2_realtime_x2", "paragonsr2_realtime_x4"]
    call = ["compare", "original.png", "--models", *names, "--device", "cpu", "--json"]
    assert main([*call, "--fast"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    shown = {p["name"]: p for p in one["pictures"]}
    assert list(shown) == ["bicubic x2", "bicubic x4", *names]
    for name in names:
        assert shown[name]["seconds"] > 0
        size = HEIGHT * WIDTH * int(name[-1]) ** 2 / 1e6
        want = size / shown[name]["seconds"]
        assert shown[name]["mp_per_s"] == pytest.approx(want)


def test_the_page_is_small_and_a_name_cannot_break_it():
    entries = [page.Entry("</script><b>", scene()), page.Entry("{{js}}", scene(1, 3))]
    text = page.render("<i>title</i>", [compare("x", entries)], page_measures())
    pictures = sum(len(m) for m in re.findall(r'"data:image[^"]*"', text))
    assert len(text.encode()) - pictures < 300_000
    assert text.count("</script>") == 2
    assert "<b>" not in text and "<i>title" not in text
    assert "http" not in text.replace("http-equiv", "")


def page_measures():
    return [page.Measure("psnr_y", "PSNR-Y, dB"), page.Measure("ssim_y", "SSIM")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["good.png"], "two pictures or more"),
        (["good.png", "none.png"], "no 'none.png'"),
        (["good.png", "old"], "got both"),
        (["good.png", "bad.png", "-o", "page.png"], "end in .html"),
        (["good.png", "bad.png", "--models", "paragonsr2_realtime_x2"], "got 2"),
        (["good.png", "--models", "paragonsr2_realtime_x9"], "Did you mean"),
    ],
    ids=str,
)
def test_wrong_use_is_one_line(arguments, words, pictures, capsys):
    assert main(["compare", *arguments, "--fast"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not list(pictures.glob("*.html"))


def test_upscale_writes_the_page_beside_its_output(pictures):
    call = ["upscale", "--device", "cpu", "--model", "paragonsr2_realtime_x2"]
    assert main([*call, "good.png", "--compare"]) == 0
    (one,) = data_of(pictures / "good_x2.html")["sets"]
    assert [p["name"] for p in one["pictures"]] == ["bicubic", "good_x2.png"]
    assert main([*call, "old", "--compare"]) == 0
    sets = data_of(pictures / "old_x2" / "compare.html")["sets"]
    assert [s["name"] for s in sets] == ["a <b>.png", "c.png"]


# --- in the browser ------------------------------------------------------------------


@pytest.fixture
def tab(pictures, tmp_path_factory):
    """A browser with the page of three pictures and two sets."""
    sets = [
        compare(
            name,
            [page.Entry("left", scene(2, 30)), page.Entry("right", scene(3, noise))],
            page.Entry("original", scene()),
        )
        for name, noise in (("quiet", 2), ("loud", 60))
    ]
    file = pictures / "page.html"
    page.write(file, page.render("Two scenes", sets, page_measures()))
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(file)
        yield opened
        assert opened.problems == []


def divider(tab):
    """Position of the divider, and the clip of the right picture, in pixels."""
    clip = tab.run("document.querySelector('.pane.second').style.clipPath")
    return int(tab.handle()), float(re.search(r"([\d.]+)px\)", clip)[1])


def zoom(tab):
    transform = tab.run("document.querySelector('.pane img').style.transform")
    x, y, scale = re.findall(r"-?[\d.]+(?:e-?\d+)?", transform)
    return float(x), float(y), float(scale)


def test_the_slider_is_dragged(tab):
    left, top, width, height = tab.box("#viewer")
    assert divider(tab)[0] == 50
    middle = top + height / 2
    tab.drag((left + width / 2, middle), (left + width / 4, middle))
    percent, clip = divider(tab)
    assert percent == 25
    assert clip == pytest.approx(width / 4, abs=3)


def test_zoom_keeps_what_is_under_the_mouse_and_shows_hard_pixels(tab):
    left, top, width, height = tab.box("#viewer")
    x, y, scale = zoom(tab)
    at = (width * 0.55, height * 0.4)
    before = ((at[0] - x) / scale, (at[1] - y) / scale)
    tab.mouse("mouseWheel", left + at[0], top + at[1], deltaX=0, deltaY=-480)
    x, y, larger = zoom(tab)
    assert larger == pytest.approx(4 * scale)
    # The border of the viewer is a pixel wide.
    after = ((at[0] - x) / larger, (at[1] - y) / larger)
    assert after == pytest.approx(before, abs=1.5 / scale)
    style = "getComputedStyle(document.querySelector('.pane img')).imageRendering"
    assert tab.run(style) == "pixelated"


def test_pictures_move_together(tab):
    left, top, width, height = tab.box("#viewer")
    for _ in range(3):
        tab.run("document.getElementById('in').click()")
    start = (left + width / 4, top + height / 2)
    before = zoom(tab)
    tab.drag(start, (start[0] + 30, start[1] - 20))
    after = zoom(tab)
    assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((30, -20))
    script = "[...document.querySelectorAll('.pane img')].map((i) => i.style.transform)"
    assert len(set(tab.run(script))) == 1


def test_the_keyboard_does_all_of_it(tab):
    tab.run("document.getElementById('viewer').focus()")
    for key in ",,,":
        tab.key(key)
    assert divider(tab)[0] == 44
    tab.key("1")
    assert zoom(tab)[2] == pytest.approx(1)
    tab.key("+")
    assert zoom(tab)[2] == pytest.approx(1.25)
    tab.run("document.getElementById('handle').focus()")
    tab.key("Home", 36)
    assert divider(tab)[0] == 0
    tab.key("ArrowRight", 39)
    assert divider(tab)[0] == 2
    tab.key("x")
    assert tab.run("document.getElementById('left').selectedOptions[0].text") == "right"
    tab.key("a")
    assert tab.run("document.querySelectorAll('.pane').length") == 3
    tab.key("n")
    current = "document.querySelector('#list [aria-current=true]').textContent"
    assert tab.run(current).startswith("quiet")


def test_the_list_starts_with_the_largest_difference(tab):
    names = "[...document.querySelectorAll('#list button')].map((b) => b.innerText)"
    assert [n.split("\n")[0] for n in tab.run(names)] == ["loud", "quiet"]
    tab.run("document.querySelectorAll('#list button')[1].click()")
    cells = "[...document.querySelectorAll('tbody tr')].map((r) => r.innerText)"
    rows = tab.run(cells)
    want = psnr(luma(tensor(scene(3, 2))), luma(tensor(scene())))
    assert f"{want:.2f}" in next(r for r in rows if r.startswith("right"))
    best = "document.querySelector('td.best').parentElement.innerText"
    assert tab.run(best).startswith("right")
    assert "original" in tab.run("document.querySelector('caption').textContent")


def test_the_difference_is_that_of_the_pixels(tab):
    tab.run("document.querySelector('[data-mode=difference]').click()")
    script = """new Promise((done) => {
      const look = () => {
        const canvas = document.querySelector('.pane canvas');
        if (!canvas.dataset.ready) return requestAnimationFrame(look);
        done([...canvas.getContext('2d').getImageData(5, 7, 1, 1).data]);
      };
      look();
    })"""
    a, b = (scene(s, n)[7, 5].astype(int) for s, n in ((2, 30), (3, 60)))
    want = (8 * np.abs(a - b)).clip(0, 255).tolist()
    assert tab.run(script) == [*want, 255]


def test_everything_has_a_name_for_screen_readers(tab):
    script = """[...document.querySelectorAll('button, input, select, [role=slider]')]
      .filter((e) => !(e.labels?.length || e.getAttribute('aria-label')
        || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert tab.run(script) == []
    assert tab.run("document.documentElement.lang") == "en"
    assert tab.run("[...document.images].every((i) => i.hasAttribute('alt'))")


def test_the_tab_key_reaches_everything(tab):
    assert unreached(tab.run, tab.key) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(tab, theme):
    tab.theme(theme)
    tab.run("document.querySelector('details').open = true")
    for mode in ("slider", "side", "difference"):
        tab.run(f"document.querySelector('[data-mode={mode}]').click()")
        assert faults(tab.run) == [], mode


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough_in_both_themes(tab, theme):
    tab.theme(theme)
    names = "['--back', '--panel', '--text', '--soft', '--accent', '--on', '--best']"
    script = f"""(() => {{
      const style = getComputedStyle(document.documentElement);
      return {names}.map((n) => style.getPropertyValue(n).trim());
    }})()"""
    back, panel, text, soft, accent, on, best = tab.run(script)

    def luminance(color):
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    # WCAG 2.2, level AA.
    for pair in ((text, back), (text, panel), (soft, back), (on, accent), (best, back)):
        assert contrast(*pair) >= 4.5, pair
    assert contrast(accent, back) >= 3  # the outline of what has the focus
