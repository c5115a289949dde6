"""The loop that makes the shipped weights, its optimizer and its command."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from common import image, randomise
from PIL import Image
from torch import nn

from paragon_archs import create
from paragon_archs.checkpoint import read_metadata, read_state_dict
from paragon_archs.cli.train_weights import main as train_weights
from paragon_archs.evaluation.measures import shave
from paragon_archs.utils.resize import imresize
from paragon_archs.weights.crops import Pool
from paragon_archs.weights.drawings import drawing
from paragon_archs.weights.recipes import RECIPES, Recipe
from paragon_archs.weights.soap import SOAP
from paragon_archs.weights.training import (
    EARLY,
    LATE,
    Run,
    TrainingForm,
    _explosion,
    rate,
)

SHARP = {"base_kernel": "mks2021", "detail_gain": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of edges and waves, 96 x 80."""
    place = tmp_path / "images"
    place.mkdir()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:80, :96]
        array = 120 + 60 * np.sin(x / rng.uniform(1, 6)) * np.cos(y / rng.uniform(1, 6))
        array = array + 50 * ((x * rng.uniform(-1, 1) + y) % 23 > 11)
        rgb = np.stack([array, array * 0.9, 250 - array], -1)
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(place / f"{seed}.png")
    return place


def small(**changes) -> Recipe:
    recipe = Recipe(
        "paragonsr2_realtime",
        2,
        30,
        batch=2,
        patch=16,
        late_batch=2,
        late_patch=20,
        shrink=(1.0,),
        overrides={"upsampler_alpha": 0.0, "detail_gain": 1.0},
    )
    return dataclasses.replace(recipe, **changes)


@pytest.mark.parametrize(
    ("variant", "scale"),
    [("paragonsr2_realtime", 2), ("paragonsr2_stream", 3), ("paragonsr_nano", 4)],
)
def test_training_form_computes_the_network_and_its_gradients(variant, scale):
    model = randomise(create(variant, scale)).double()
    form = TrainingForm(copy.deepcopy(model))  # which changes how blocks compute
    x = image(1, 3, 11, 14, dtype=torch.float64)
    base = form.base(x) if form.base is not None else 0
    inside = (..., slice(1, -1), slice(1, -1))  # `conv_out` pads the outer ring
    wanted = (model(x) - base)[inside]
    weights = [p for p in model.parameters() if p.requires_grad]
    want = torch.autograd.grad(wanted.square().sum(), weights)
    merged = form(x)[inside]
    got = torch.autograd.grad(merged.square().sum(), list(form.weights()))
    torch.testing.assert_close(merged, wanted)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_bfloat16_steps_follow_the_same_direction():
    form = TrainingForm(randomise(create("paragonsr2_stream", 2)))
    x = image(2, 3, 24, 24)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = form(x)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        told = torch.autograd.grad(y.float().square().mean(), list(form.weights()))
        gradients.append(torch.cat([g.flatten() for g in told]))
        assert gradients[-1].dtype == torch.float32
    exact, rounded = gradients
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


def test_training_form_refuses_other_networks():
    with pytest.raises(ValueError, match="basicsr train"):
        TrainingForm(nn.Conv2d(3, 3, 3))


def test_pool_crops_match_their_pictures(folder):
    pool = Pool(sorted(folder.iterdir()), 2, (1.0, 0.6), 12, None)
    assert len(pool.pairs) == 12
    low, target = pool.draw(np.random.default_rng(0), 8, 12)
    assert low.shape == (8, 3, 12, 12) and target.shape == (8, 3, 24, 24)
    # Whatever its flip and turn, a crop is the LR of its own target, border apart.
    made = imresize(target, 0.5)
    assert (made - low)[..., 2:-2, 2:-2].abs().max() < 0.01
    with pytest.raises(ValueError, match="smaller crops"):
        Pool(sorted(folder.iterdir()), 2, (1.0,), 50, None)


def test_drawn_crops_have_full_contrast(folder):
    pool = Pool(sorted(folder.iterdir()), 2, (1.0,), 16, None, 8, drawn_side=20)
    assert len(pool.drawn) == 8 + 2  # and photographs turned black and white
    for low in pool.drawn[8:]:
        assert set(low.unique().tolist()) == {0, 255}
    crops = pool.draw_drawn(np.random.default_rng(0), 8, 20)
    assert crops.shape == (8, 3, 20, 20) and crops.min() == 0 and crops.max() == 1
    pool.drawn = pool.drawn[:1]
    low = pool.drawn[0].float() / 255
    whole = pool.draw_drawn(np.random.default_rng(0), 1, low.shape[-1])[0]
    turns = [low, low.flip(-1), low.flip(-2), low.flip(-1, -2)]
    turns += [turned.mT for turned in turns]
    assert any(torch.equal(whole, turned) for turned in turns)


def test_drawings_are_of_every_kind_and_follow_their_seed():
    def all_of(seed):
        rng = np.random.default_rng(seed)
        return [drawing(rng, 96, 2) for _ in range(12)]

    first = all_of(0)
    assert all(torch.equal(a, b) for a, b in zip(first, all_of(0), strict=True))
    assert not torch.equal(first[0], all_of(1)[0])
    assert all(d.shape == (3, 96, 96) and d.dtype == torch.uint8 for d in first)
    colours = [len(d.flatten(1).unique(dim=1).T) for d in first]
    assert min(colours) == 2 and max(colours) > 100  # stripes, and noise


def test_drawn_pictures_cost_only_what_photographs_never_have():
    calm = torch.linspace(-1, 1, 60).view(2, 3, 2, 5)
    drawn = calm.clone().requires_grad_()
    assert _explosion([drawn, drawn], drawn).tolist() == [0, 0]
    for place in (lambda f: ([calm, f], calm), lambda f: ([calm], f)):
        mild, wild = (_explosion(*place(f * drawn)) for f in (100, 100_000))
        assert (0 < mild).all() and (mild < wild).all()
        assert (wild < 10 * mild).all()  # not a thousand times
        (gradient,) = torch.autograd.grad(wild.sum(), drawn)
        assert (gradient * drawn >= 0).all()  # downhill is inwards
        assert (gradient.flatten(1) != 0).any(1).all()


def test_the_training_form_sees_the_features_of_every_block():
    for name, blocks in (("paragonsr2_stream", 6), ("paragonsr_nano", 6)):
        form = TrainingForm(create(name, 2))
        for _ in range(2):
            form(image(1, 3, 8, 9))
            assert [f.shape[-2:] for f in form.seen] == [(8, 9)] * blocks


@pytest.mark.parametrize(
    ("decay", "border", "weight"), [(0, 0, EARLY), (1, 0, LATE), (1, 1, LATE)]
)
def test_every_step_pays_for_what_drawn_pictures_cause(
    folder, tmp_path, decay, border, weight
):
    recipe = small(drawn=2, decay=decay, border=border)
    losses = []
    for value in (0.5, 1e6):
        run = Run(recipe, [folder], [folder], tmp_path / str(value), choose_every=6)
        run.pool.drawn = [torch.full((3, 40, 40), 255 * value)]
        losses.append(run._step())
    calm, wild = losses  # of the same photographs
    assert wild - calm > 5 * weight


def test_the_worst_drawn_picture_comes_again(folder, tmp_path):
    recipe = small(drawn=1, iterations=9)
    run = Run(recipe, [folder], [folder], tmp_path / "run", choose_every=6)
    calm, wild, worse = (torch.full((3, 40, 40), v) for v in (1.0, 1e6, 1e8))
    for drawn, worst in ((calm, calm), (wild, wild), (calm, wild), (worse, worse)):
        run.pool.drawn = [drawn]
        run._step()
        assert torch.equal(run.worst, worst[None] / 255)
    run.save()
    again = Run(recipe, [folder], [folder], tmp_path / "run", choose_every=6)
    assert torch.equal(again.worst, run.worst)


def test_rate_warms_up_stays_and_falls():
    recipe = small(iterations=1000, decay=0.25, lr=1.0)
    assert rate(recipe, 0) == pytest.approx(1 / 200)
    assert rate(recipe, 400) == rate(recipe, 750) == 1
    assert rate(recipe, 875) == pytest.approx(0.5)
    assert rate(recipe, 999) == pytest.approx(1 / 250)


def test_soap_is_adam_in_a_turned_space():
    torch.manual_seed(0)
    # A badly conditioned least-squares problem, turned away from the axes.
    turn = torch.linalg.qr(torch.randn(12, 12)).Q
    x = torch.randn(256, 12) * torch.logspace(0, -2, 12) @ turn
    y = x @ torch.randn(12, 6)

    def after(make) -> float:
        weight = nn.Parameter(torch.zeros(6, 12))
        optimizer = make([weight])
        loss = torch.tensor(0.0)
        for _ in range(300):
            optimizer.zero_grad()
            loss = (x @ weight.T - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    adam = after(lambda p: torch.optim.Adam(p, lr=0.03, betas=(0.95, 0.95)))
    assert after(lambda p: SOAP(p, lr=0.03)) < adam / 3

    # Vectors have no basis: plain Adam, step by step.
    start = torch.randn(5)
    ends = []
    for make in (SOAP, torch.optim.Adam):
        p = nn.Parameter(start.clone())
        optimizer = make([p], lr=0.01, betas=(0.9, 0.99))
        for _ in range(10):
            optimizer.zero_grad()
            (p**2 * torch.arange(5)).sum().backward()
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)


def test_a_run_learns_and_resumes_to_the_bit(folder, tmp_path):
    whole = Run(small(), [folder], [folder], tmp_path / "whole", choose_every=3)
    first = whole.measure(0.0)
    best = whole.train(every=15)
    assert best > first + 0.5
    kept = read_state_dict(tmp_path / "whole" / "paragonsr2_realtime_x2.safetensors")
    assert kept["settings"].tolist()[0] == 0  # the alpha that it was trained with
    assert any(torch.equal(kept["conv_in.weight"], v) for v in whole.average.values())

    cut = Run(small(), [folder], [folder], tmp_path / "cut", choose_every=3)
    cut.measure(0.0)
    for _ in range(11):
        cut._step()
    cut.save()
    again = Run(small(), [folder], [folder], tmp_path / "cut", choose_every=3)
    assert again.step == 11
    again.train(every=15)
    for (name, a), b in zip(whole.average.items(), again.average.values(), strict=True):
        assert torch.equal(a, b), name
    with (tmp_path / "cut" / "curve.csv").open() as opened:
        assert [row["step"] for row in csv.DictReader(opened)] == ["0", "15", "30"]

    # Before the late phase a run may get another length, nothing else.
    for change in ({"iterations": 60}, {"lr": 1.0}):
        with pytest.raises(ValueError, match=f"another {next(iter(change))}"):
            Run(small(**change), [folder], [folder], tmp_path / "cut", choose_every=3)


@pytest.mark.parametrize("variant", ["paragonsr2_realtime", "paragonsr_nano"])
def test_fitted_head_is_the_best_for_its_features(folder, variant):
    model = randomise(create(variant, 2))
    form = TrainingForm(model)
    pool = Pool(sorted(folder.iterdir()), 2, (1.0,), 20, form.base)
    crops = [pool.draw(np.random.default_rng(i), 4, 20) for i in range(6)]

    def error() -> float:
        with torch.no_grad():
            gaps = [shave(form(x) - y, 4).square().mean().item() for x, y in crops]
        return sum(gaps) / len(gaps)

    form.fit_head(crops)
    best = error()
    assert best < sum(y.square().mean().item() for _, y in crops) / len(crops)
    generator = torch.Generator().manual_seed(0)
    up = next(iter(form.up.children())).weight  # type: ignore[union-attr]
    assert isinstance(up, nn.Parameter)
    for _ in range(5):
        nudge = 1e-3 * torch.randn(up.shape, generator=generator)
        with torch.no_grad():
            up.add_(nudge)
        assert error() > best
        with torch.no_grad():
            up.sub_(nudge)


def test_a_head_fitted_to_fresh_features_keeps_whole_pictures(folder, tmp_path):
    """Fresh features are nearly the same: a free fit takes weights of any size."""
    recipe = small(variant="paragonsr2_stream", fit=True, overrides=SHARP)
    run = Run(recipe, [folder], [folder], tmp_path / "run")
    assert 0.1 < run.model.detail_gain < 5
    errors = torch.zeros(2)
    for low, high in run.pairs:
        x = low[None].float() / 255
        for index, upscale in enumerate((run.averaged(), run.form.base)):
            with torch.no_grad():
                errors[index] += (upscale(x)[0] - high / 255).square().mean()
    assert errors[0] < errors[1]


def test_the_last_steps_see_whole_images(folder, tmp_path):
    run = Run(small(), [folder], [folder], tmp_path / "run")
    x, target = run._whole_crops()
    assert x.shape == (2, 3, 16, 16) and target.shape == (2, 3, 32, 32)
    torch.testing.assert_close(
        run.form.unmerged(x) + run.form.model.base(x), run.model(x)
    )
    high = target + run.form.model.base(x)
    # `high` is 8-bit values of the pictures, border included (kept as half floats).
    assert ((high * 255).round() - high * 255).abs().max() < 0.2
    assert (imresize(high, 0.5) - x)[..., 2:-2, 2:-2].abs().max() < 0.01


@pytest.mark.parametrize("border", [0.0, 0.2])
def test_the_end_counts_where_the_last_steps_teach_the_border(folder, tmp_path, border):
    recipe = small(border=border, iterations=10)
    run = Run(recipe, [folder], [folder], tmp_path / "run", choose_every=6)
    run.best = math.inf  # whatever was measured before
    run.train(every=5)
    kept = tmp_path / "run" / f"{recipe.name}.safetensors"
    assert kept.exists() == (border > 0)
    assert not border or read_metadata(kept)["steps"] == "10"


def test_a_run_starts_from_another(folder, tmp_path):
    first = Run(small(iterations=4), [folder], [folder], tmp_path / small().name)
    first.measure(0.0)
    recipe = small(scale=4, patch=8, late_patch=8, start=small().name)
    second = Run(recipe, [folder], [folder], tmp_path / recipe.name)
    for name, weight in first.average.items():
        if name.startswith(("conv_in", "body", "conv_mid")):
            assert torch.equal(second.average[name], weight), name


def test_sigterm_saves_and_the_command_continues(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "paragonsr2_realtime_x2", small(iterations=100_000))
    call = ["paragonsr2_realtime_x2", "--train", str(folder), "--choose", str(folder)]
    call += ["-o", str(tmp_path / "runs"), "--every", "10", "--choose-every", "6"]
    state = tmp_path / "runs" / "paragonsr2_realtime_x2" / "state.pt"
    over = threading.Event()

    def stop_when_saved() -> None:
        while not state.exists() and not over.wait(0.01):
            pass
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_when_saved)
    watcher.start()
    try:
        assert train_weights(call) == 0
    finally:
        over.set()
        watcher.join()
    assert "the same command continues" in capsys.readouterr().out
    reached = torch.load(state, weights_only=True)["step"]
    assert 10 <= reached < 100_000
    assert train_weights([*call, "--iterations", str(reached + 100)]) == 0
    assert "dB" in capsys.readouterr().out
    assert state.with_name("curve.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("extra", "message"),
    [(["--every", "0"], "--every"), (["--train", "nowhere"], "nowhere")],
)
def test_wrong_use(folder, tmp_path, capsys, extra, message):
    call = ["paragonsr2_realtime_x2", "--train", str(folder), "--choose", str(folder)]
    assert train_weights([*call, "-o", str(tmp_path / "runs"), *extra]) == 2
    assert message in capsys.readouterr().err


def test_recipes_build_with_a_base_path_that_keeps_gray_gray():
    for name, recipe in RECIPES.items():
        model = create(recipe.variant, recipe.scale, **recipe.overrides)
        assert model.scale == recipe.scale and name == recipe.name
        TrainingForm(model)
        if recipe.variant.startswith("paragonsr2"):
            gray = torch.full((1, 3, 5, 7), 0.5)
            base = model.base
            assert isinstance(base, nn.Module)
            assert (base(gray) - 0.5).abs().max() < 1e-6
