"""How the shipped weights are made: one loop from folders of images to a file.

A loop of its own beside the BasicSR engine, because everything that repeats is done
once here, which a general engine cannot do: low-resolution images come from whole
images before the first step, the network's fixed base path is subtracted from the
target, and the head (convolution, pixel shuffle, convolution: no activation between
them) is merged into a single convolution at low resolution for each step, with exact
gradients. At scale 4 that makes a step on a CPU about three times as fast.
"""

from __future__ import annotations

import csv
import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs import create
from ..archs.paragonsr2_arch import StreamBlock
from ..checkpoint import read_state_dict, save_model
from ..evaluation.measures import luma, psnr, quantise, shave
from ..evaluation.protocols import read_image
from ..utils.files import atomic_write
from . import resolve
from .blocks import stream_block
from .crops import Pool, find_images, make_pair
from .recipes import Recipe
from .soap import SOAP

logger = logging.getLogger(__name__)

MARGIN = 2  # low-resolution pixels at a crop's border that the loss leaves out
DRAWINGS = 1024  # drawn pictures
DRAWN_SIDE = 40  # of a crop of them: its middle does not feel the border
LARGEST = 20.0  # feature that they may cause; photographs cause 2 to 5
FURTHEST = 2.0  # what they may add to the base path, white being 1
# Weight of that under L1, and under MSE, which is smaller. Its gradient is some hundred
# times that of photographs: as large as it is, SOAP would follow and remember it alone.
EARLY, LATE = 1e-3, 1e-4
RIDGE = 1e-3  # price of the fitted head's weights, of the features' mean square
RING = 4  # low-resolution pixels around one that a base path reads


def merged_head(
    up: nn.Module, out: nn.Module, channels: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Returns (weight, bias) of the 5 x 5 convolution that equals out(up(x)).

    `up` is a 3 x 3 convolution and a pixel shuffle, `out` a 3 x 3 convolution: their
    answer to one impulse per channel is the merged kernel, and their answer to zeros
    its bias. Gradients reach both. It goes before a pixel shuffle by `scale`, and
    differs from the two at the outermost output pixels only, where `out` pads.
    """
    weight = next(up.parameters())
    impulses = torch.zeros(
        channels + 1, channels, 5, 5, dtype=weight.dtype, device=weight.device
    )
    impulses[range(channels), range(channels), 2, 2] = 1
    answers = F.pixel_unshuffle(out(up(impulses)), scale)  # (C + 1, 3 s^2, 5, 5)
    weight = (answers[:-1] - answers[-1:]).transpose(0, 1).flip(-1, -2)
    return weight, answers[-1, :, 2, 2]


class TrainingForm(nn.Module):
    """A network as the loop trains it: without base path, the head merged."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        kind = type(model).__name__
        if kind not in ("ParagonSR", "ParagonSR2"):
            raise ValueError(
                "Expected a ParagonSR or a ParagonSR2 network, but got "
                f"{kind!r}. Train others with `basicsr train`."
            )
        self.model: Any = model
        self.has_base = kind == "ParagonSR2"
        for block in model.modules():
            if isinstance(block, StreamBlock):
                block.forward = partial(stream_block, block)
        self.seen: list[Tensor] = []  # features after each block
        for group in self.model.body:
            for block in group.blocks:
                block.register_forward_hook(lambda _, __, y: self.seen.append(y))

    @property
    def base(self) -> Callable[[Tensor], Tensor] | None:
        """What the network adds its residual to."""
        return self.model.base if self.has_base else None

    @property
    def up(self) -> nn.Module:
        """The convolution and the pixel shuffle of the head."""
        return self.model.up if self.has_base else self.model.upsampler

    def weights(self) -> Iterator[nn.Parameter]:
        """Yields what is trained."""
        return (p for p in self.model.parameters() if p.requires_grad)

    def unmerged(self, x: Tensor) -> Tensor:
        """Returns what `forward` does, equal to the network at the border as well."""
        detail = self.model.conv_out(self.up(self.features(x)))
        return detail * self.model.detail_gain if self.has_base else detail

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the network adds to its base path (or its whole output)."""
        m = self.model
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = merged_head(self.up, m.conv_out, features.shape[1], m.scale)
        if self.has_base:
            weight, bias = weight * m.detail_gain, bias * m.detail_gain
        return F.pixel_shuffle(F.conv2d(features, weight, bias, padding=2), m.scale)

    def features(self, x: Tensor) -> Tensor:
        """Returns what the head sees, (B, F, H, W)."""
        m = self.model
        self.seen.clear()
        shallow = m.conv_in(x)
        deep = m.body(shallow)
        return m.conv_mid(deep) if self.has_base else m.conv_fuse(deep) + shallow

    @torch.no_grad()
    def fit_head(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Gives the head the least-squares answer for the features as they are.

        `conv_out` then passes the first channels on, so that `up` alone is a linear
        regression of the target's pixels on 3 x 3 features; the other channels of `up`
        keep their random weights, which `conv_out` has to find a use for.

        Args:
            batches: (input, target) crops; some hundred thousand pixels altogether.
        """
        m = self.model
        gram = moment = torch.zeros(())
        for x, target in batches:
            # Without the border, where padding is not what a whole image has.
            f = shave(self.features(x), MARGIN - 1)
            wanted = shave(F.pixel_unshuffle(target, m.scale), MARGIN)
            columns = F.unfold(f, 3).transpose(1, 2).flatten(0, 1).double()
            columns = F.pad(columns, (0, 1), value=1.0)  # the bias
            goals = wanted.permute(0, 2, 3, 1).flatten(0, 2).double()
            gram = gram + columns.mT @ columns
            moment = moment + columns.mT @ goals
        # Fresh features say nearly the same: without a price on large weights they get
        # those, thirty times the usual, and a picture's border comes out as noise.
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        solution = torch.linalg.solve(gram + ridge, moment).mT  # (3 s^2, 9 F + 1)
        convolution: Any = next(iter(self.up.children()))
        rows = len(solution)
        if self.has_base:
            # The gain takes the scale, so that the weights are as large as fresh ones:
            # a step of the optimizer then means as much to them.
            fresh = convolution.weight.std()
            m.detail_gain.copy_(solution[:, :-1].std() / fresh)
            solution = solution / m.detail_gain
        convolution.weight[:rows] = solution[:, :-1].view_as(convolution.weight[:rows])
        convolution.bias[:rows] = solution[:, -1]
        m.conv_out.weight.zero_()
        m.conv_out.bias.zero_()
        for channel in range(m.conv_out.out_channels):
            m.conv_out.weight[channel, channel, 1, 1] = 1


def _loss(error: Tensor, squared: bool, luma_weight: float) -> Tensor:
    """Mean (squared or absolute) error of R, G, B, and weighted of Y."""
    weights = error.new_tensor([0.299, 0.587, 0.114])
    y = torch.einsum("c,bchw->bhw", weights, error)
    if squared:
        return error.square().mean() + luma_weight * y.square().mean()
    return error.abs().mean() + luma_weight * y.abs().mean()


def _explosion(features: Iterable[Tensor], detail: Tensor) -> Tensor:
    """What drawn pictures cost: values that photographs never have.

    Not their error: it would be all that training sees, since what products of
    features answer to full contrast moves so much with every weight. And block by
    block, where the growth begins: each block squares what the one before let pass.

    Args:
        features: (B, F, H, W) after each block, of drawn pictures.
        detail: (B, 3, H * s, W * s), what the network adds to its base path.

    Returns:
        (B,): for each picture the logarithm of its worst value, 0 within the limits.
    """

    def beyond(values: Tensor, limit: float) -> Tensor:
        worst = values.float().abs().amax((1, 2, 3))
        return (worst / limit).clamp(min=1).log()

    return sum((beyond(f, LARGEST) for f in features), beyond(detail, FURTHEST))


def rate(recipe: Recipe, step: int) -> float:
    """Returns the learning rate of a step (from 0): warm-up, level, linear fall."""
    late = recipe.iterations * (1 - recipe.decay)
    warm = min(1.0, (step + 1) / 200)
    fall = (recipe.iterations - step) / max(1.0, recipe.iterations - late)
    return recipe.lr * warm * min(1.0, fall)


@torch.inference_mode()
def validate(model: nn.Module, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Returns the mean PSNR-Y in dB over (low, high) pairs, crop = scale."""
    scale = pairs[0][1].shape[-1] // pairs[0][0].shape[-1]
    device = next(model.parameters()).device
    total = 0.0
    for low, high in pairs:
        out = quantise(model(low[None].float().to(device) / 255)[0].float())
        out = shave(luma(out), scale)
        total += psnr(out.cpu(), shave(luma(high.double()), scale))
    return total / len(pairs)


class Run:
    """One training, resumable to the bit: `state.pt`, `curve.csv` and the best file.

    Args:
        recipe: What to train.
        train: Folders of high-resolution images to train on.
        choose: Folders of images that the checkpoint is chosen on.
        folder: Where the run lives; it is resumed if it has a state.
        device: "cpu" or "cuda".
        choose_every: Keep every n-th image of `choose`.
        bfloat16: Whether the network computes in bfloat16 (weights, their average, base
            path and loss stay as they are): faster for ParagonSR2's stream tier on
            some CPUs, slower on others, no gain for ParagonSR. Like the device it is
            no part of the recipe; a run may change it between two sittings.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Sequence[str | Path],
        choose: Sequence[str | Path],
        folder: str | Path,
        device: str = "cpu",
        choose_every: int = 1,
        bfloat16: bool = False,
    ) -> None:
        self.recipe = recipe
        self.bfloat16 = bfloat16
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model = create(recipe.variant, recipe.scale, **recipe.overrides)
        for name, parameter in self.model.named_parameters():
            if name.endswith(".gamma"):
                nn.init.constant_(parameter, recipe.gamma)
        form = TrainingForm(self.model)
        smallest = max(recipe.patch + 2 * RING, recipe.late_patch)
        logger.info("preparing images")
        self.pool = Pool(
            find_images(train),
            recipe.scale,
            recipe.shrink,
            smallest,
            form.base,
            DRAWINGS if recipe.drawn else 0,
            DRAWN_SIDE,
        )
        self.pairs = [
            make_pair(read_image(p), recipe.scale)
            for p in find_images(choose)[::choose_every]
        ]
        self.form = form.to(self.device).to(memory_format=torch.channels_last)
        self.model.train()
        if recipe.start:
            self._start()
        if recipe.fit:
            rng = np.random.default_rng(recipe.seed)
            patch = recipe.patch
            self.form.fit_head(self._crops(rng, 16, patch) for _ in range(24))
        self.average = {k: v.detach().clone() for k, v in self._weights()}
        self.optimizer = SOAP(form.weights())
        self.rng = np.random.default_rng(recipe.seed)
        self.worst = self._placed(torch.empty(0, 3, DRAWN_SIDE, DRAWN_SIDE))
        self.step = 0
        self.seconds = 0.0
        self.best = -math.inf
        self.rows: list[list[float]] = []
        if (self.folder / "state.pt").is_file():
            self._load()

    def _start(self) -> None:
        """Takes over the weights of `recipe.start`, trained beside or shipped."""
        start = self.recipe.start
        beside = self.folder.parent / start / f"{start}.safetensors"
        told = read_state_dict(resolve(beside if beside.is_file() else start))
        with torch.no_grad():
            for name, weight in self._weights():
                if name in told and told[name].shape == weight.shape:
                    weight.copy_(told[name])

    def _crops(
        self, rng: np.random.Generator, batch: int, patch: int
    ) -> tuple[Tensor, Tensor]:
        x, target = self.pool.draw(rng, batch, patch)
        return self._placed(x), target.to(self.device)

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, memory_format=torch.channels_last)

    def _whole_crops(self) -> tuple[Tensor, Tensor]:
        """Returns (input, target) crops that stand for whole images."""
        # The pool holds what the base path of the whole image leaves; a ring around the
        # crop gives the base path all that it sees there.
        recipe = self.recipe
        x, target = self._crops(self.rng, recipe.batch, recipe.patch + 2 * RING)
        whole = shave(x, RING)
        base = self.form.base
        if base is None:
            return whole, shave(target, RING * recipe.scale)
        target = shave(target + base(x), RING * recipe.scale) - base(whole)
        return whole, target

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        return ((k, p) for k, p in self.model.named_parameters() if p.requires_grad)

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        own = self.recipe.as_dict()
        # A state of before a field was there has that field's default.
        fresh = Recipe(self.recipe.variant, self.recipe.scale, self.recipe.iterations)
        told = {**fresh.as_dict(), **state["recipe"]}
        wrong = sorted(k for k in own if told[k] != own[k])
        level = state["step"] <= told["iterations"] * (1 - told["decay"])
        if level and state["step"] <= own["iterations"] * (1 - own["decay"]):
            wrong = [k for k in wrong if k != "iterations"]
        if wrong:
            raise ValueError(
                f"Expected the recipe that {str(self.folder)!r} was begun with, but "
                f"got another {', '.join(wrong)}. Resume with the old one, or choose "
                "another folder."
            )
        self.model.load_state_dict(state["model"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.worst = self._placed(state.get("worst", self.worst))
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.rows = state["best"], state["rows"]
        logger.info("resumed %s at step %d", self.recipe.name, self.step)

    def save(self) -> None:
        """Writes the state and the curve; each file is whole or the one before."""
        state = {
            "recipe": self.recipe.as_dict(),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "worst": self.worst,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "rows": self.rows,
        }
        with atomic_write(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)
        with (
            atomic_write(self.folder / "curve.csv") as temporary,
            temporary.open("w", newline="") as opened,
        ):
            writer = csv.writer(opened)
            writer.writerow(["step", "seconds", "lr", "loss", "psnr_y"])
            writer.writerows(self.rows)

    def _wild(self) -> Tensor:
        """Returns what drawn pictures cost; the worst comes again in the next step."""
        fresh = self.pool.draw_drawn(self.rng, self.recipe.drawn, DRAWN_SIDE)
        x = torch.cat((self.worst, self._placed(fresh)))
        with self._autocast():
            detail = self.form(x)
        costs = _explosion(self.form.seen, detail)
        self.worst = x[costs.argmax()][None]
        return costs.mean()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def averaged(self) -> nn.Module:
        """Returns a copy of the network with the averaged weights, in eval form."""
        copy = create(
            self.recipe.variant, self.recipe.scale, **self.recipe.overrides
        ).to(self.device)
        copy.load_state_dict({**self.model.state_dict(), **self.average})
        return copy.to(memory_format=torch.channels_last).eval()

    def _step(self) -> float:
        recipe = self.recipe
        late = self.step >= recipe.iterations * (1 - recipe.decay)
        border = self.step >= recipe.iterations * (1 - recipe.border)
        if border:
            x, target = self._whole_crops()
        else:
            batch = recipe.late_batch if late else recipe.batch
            patch = recipe.late_patch if late else recipe.patch
            x, target = self._crops(self.rng, batch, patch)
        with self._autocast():
            detail = self.form.unmerged(x) if border else self.form(x)
        error = detail.float() - target
        if not border:
            error = shave(error, MARGIN * recipe.scale)
        loss = _loss(error, late, recipe.luma)
        if recipe.drawn:
            loss = loss + (LATE if late else EARLY) * self._wild()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5, error_if_nonfinite=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(recipe, self.step)
        self.optimizer.step()
        # A short average at first, so that the start does not linger in it.
        decay = min(recipe.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, weight in self._weights():
                self.average[name].lerp_(weight, 1 - decay)
        self.step += 1
        return loss.item()

    def measure(self, loss: float) -> float:
        """Measures the averaged weights; keeps the best, and those of the last step.

        The score leaves the border out, which is what the last steps teach: where a
        recipe has such steps, the end counts whatever its score.
        """
        model = self.averaged()
        score = validate(model, self.pairs)
        seconds, now = round(self.seconds, 1), rate(self.recipe, self.step - 1)
        self.rows.append([self.step, seconds, now, loss, round(score, 4)])
        last = self.step == self.recipe.iterations and self.recipe.border > 0
        if score > self.best or last:
            self.best = score
            save_model(
                model.to(memory_format=torch.contiguous_format),
                self.folder / f"{self.recipe.name}.safetensors",
                {"steps": str(self.step), "choose_psnr_y": f"{score:.4f}"},
            )
        logger.info(
            "%s step %d of %d, %.0f s: loss %.5f, %.4f dB (best %.4f)",
            self.recipe.name,
            self.step,
            self.recipe.iterations,
            self.seconds,
            loss,
            score,
            self.best,
        )
        return score

    def train(self, every: int = 1000, save_every: float = 120) -> float:
        """Trains to the end (or to SIGTERM or Ctrl-C); returns the best PSNR-Y in dB.

        Args:
            every: Steps between measurements.
            save_every: Seconds between states.
        """
        stop: list[int] = []
        before = {
            number: signal.signal(number, lambda n, _: stop.append(n))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        clock = saved = time.monotonic()
        losses: list[float] = []
        try:
            while self.step < self.recipe.iterations and not stop:
                losses.append(self._step())
                now = time.monotonic()
                self.seconds += now - clock
                clock = now
                if self.step % every == 0 or self.step == self.recipe.iterations:
                    self.measure(sum(losses) / len(losses))
                    losses.clear()
                    self.save()
                    clock = saved = time.monotonic()
                elif now - saved > save_every:
                    self.save()
                    clock = saved = time.monotonic()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.save()
        return self.best
