"""Wrong and hostile option files, made from a seed, checked in a child process.

`python tests/fuzz_options.py 2000 FOLDER [SEED]` makes and checks so many and counts.
"""

from __future__ import annotations

import argparse
import copy
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_common
import fuzz_common
import yaml

GAN: dict[str, Any] = {
    "model_type": "ParagonGANModel",
    "network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8},
    "train:optim_d": {"type": "AdamW", "lr": 1e-4, "betas": [0.9, 0.99]},
    "train:gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "train:scheduler": {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5},
}
STAGED: dict[str, Any] = {
    "model_type": "ParagonStagedModel",
    "stages": [
        {"name": "first", "iterations": 2, "lr": 1e-3, "train": ["*"]},
        {"name": "second", "epochs": 0.5, "start_values": {"conv_out.bias": 0.5}},
    ],
    "train:total_iter": ...,
}
HOST: dict[str, Any] = {
    "model_type": "SRModel",
    "network_g": {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2},
    "train:losses": ...,
    "train:pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    "train:scheduler": {"type": "CosineAnnealingLR", "eta_min": 1e-6},
    "datasets:train:filename_tmpl": "{}",
    "val:metrics": {"ssim": {"type": "calculate_ssim", "crop_border": 2}},
}
KINDS: list[dict[str, Any]] = [{}, {}, GAN, STAGED, HOST]

VALUES: list[Any] = [
    *(None, True, False, [], {}, "", "x", " ", "1e-4", "0", [1], ["x"], [[]], [None]),
    *(0, 1, 2, -1, 7, 10**4, 10**9, 2**31, 2**63, 2**64, 10**30, -(10**30), 10**200),
    *(0.0, 0.5, -0.5, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 2.0),
    *("../up", "/elsewhere", "a/b", "..", ".", "a\\b", "n\0l", "~", "\ud800", "\u00e9"),
    *(
        "{:>1000000000}",
        "{0.__class__}",
        "{",
        "{}{}",
        "{x}",
        "%s",
        "a" * 101,
        "b" * 300,
    ),
    *({"type": "Adam"}, {"type": "L1Loss"}, {"x": 1}, {"type": None}, {"type": []}),
    *([0.9, 0.99], [0.9], [2.0, -1.0], [1, 2, 3], ["a", 1], [float("nan")] * 2),
]
ADDED: list[tuple[str, Any]] = [
    *((f"train:optim_g:{flag}", True) for flag in ("fused", "foreach", "amsgrad")),
    *((f"train:optim_g:{flag}", True) for flag in ("differentiable", "capturable")),
    ("train:optim_g:maximize", True),
    *(("train:optim_g:type", name) for name in ("SGD", "SparseAdam", "LBFGS", "Rprop")),
    ("train:scheduler", {"type": "StepLR", "step_size": 0}),
    ("train:scheduler", {"type": "CosineAnnealingLR", "T_max": 0}),
    ("train:scheduler", {"type": "OneCycleLR", "max_lr": []}),
    ("train:scheduler", {"type": "CyclicLR", "base_lr": 1, "max_lr": 0.5}),
    ("train:scheduler", {"type": "PolynomialLR", "power": -1.5}),
    ("train:scheduler", {"type": "CosineAnnealingWarmRestarts", "T_0": 0}),
    ("network_g:num_blocks", 10**4),
    ("network_g:num_groups", 10**4),
    ("network_g:num_feat", 10**4),
    ("network_g:num_feat", 0),
    ("network_g:scale", 10**6),
    ("manual_seed", 2**64),
    ("datasets:val:name", "/tmp/elsewhere"),
    ("datasets:val:filename_tmpl", "{:>1000000000}"),
    ("datasets:train:num_worker_per_gpu", 10**6),
    ("datasets:train:type", "DegradedImageDataset"),
    ("datasets:train:type", "HRImageDataset"),
    ("val:metrics:psnr:crop_border", None),
    ("val:metrics:psnr:input_order", "WHC"),
    ("val:metrics:a/b", {"type": "calculate_psnr", "crop_border": 2}),
    ("network_d/../../x", {"type": "UNetDiscriminatorSN"}),
    ("train:losses", [{"type": "L1Loss", "name": "../../x"}]),
    ("degradation", {"resize_prob": [1]}),
    ("stages", []),
    ("stages", [{"name": "a/b", "iterations": 1}]),
    ("dist_params:timeout_minutes", 10**18),
    ("path:pretrain_network_g", "paragonsr_nano_x4"),
    ("path:resume_state", "/dev/zero"),
    ("logger:wandb", {"project": []}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value within."""
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [p for k, v in value.items() for p in places(v, (*path, k))]
    if isinstance(value, list):
        entries = enumerate(value)
        return found + [p for i, v in entries for p in places(v, (*path, i))]
    return found


def wrong_values(rng: random.Random, options: dict[str, Any]) -> str:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        path = rng.choice(places(options))
        target = options
        for key in path[:-1]:
            target = target[key]
        match rng.randrange(8):
            case 0:
                del target[path[-1]]
            case 1 if isinstance(target, dict):
                names: list[Any] = ["type", "name", f"{path[-1]}s", "", 3, None, "a/b"]
                target[rng.choice(names)] = rng.choice(VALUES)
            case _:
                target[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return yaml.safe_dump(options, sort_keys=False)


def known_traps(rng: random.Random, options: dict[str, Any]) -> str:
    for name, value in rng.sample(ADDED, rng.choice((1, 1, 2))):
        *above, leaf = name.split(":")
        target = options
        for key in above:
            found = target.setdefault(key, {})
            target = found if isinstance(found, dict) else target
        target[leaf] = copy.deepcopy(value)
    return yaml.safe_dump(options, sort_keys=False)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(20)
)
MERGED = "m0: &m0 {x: 1}\n" + "".join(
    f"m{i + 1}: &m{i + 1} {{<<: [{', '.join([f'*m{i}'] * 9)}]}}\n" for i in range(9)
)
TEXTS: list[str] = [
    LAUGHS,
    MERGED,
    "a: " + "[" * 900,
    "a: " + "[" * 900 + "]" * 900,
    "\n".join(" " * i + "a:" for i in range(900)),
    "a: &a [*a]",
    "a: &a {b: *a}",
    "<<: 3\n",
    "<<: [{x: 1}, 3]\n",
    "? [1, 2]\n: 3\n",
    "? {a: 1}\n: 3\n",
    "a: !!python/object/apply:os.system ['true']\n",
    "a: !!binary '!'\n",
    "a: !!set {x, y}\n",
    "a: !!omap [x: 1]\n",
    "a: !!int x\n",
    "a: !!float x\n",
    "a: !!int ''\n",
    "a: !!bool x\n",
    "a: !!timestamp 2026-13-45\n",
    "a: " + "9" * 5000 + "\n",
    "a: 0x" + "f" * 5000 + "\n",
    "a: 1:99:99:99:99\n",
    "a: 1e999\n",
    'a: "\\ud800"\n',
    'a: "\\0"\n',
    "a: \x07\n",
    "a: *b\n",
    "%YAML 9.9\n---\na: 1\n",
    "a: 1\n---\nb: 2\n",
    "a:\tb\n\tc: d\n",
    "- 1\n",
    "text",
    "",
    "\ufeff",
    "x: 1\n" * 40_000,
    "#" * (1 << 21),
]


def wrong_text(rng: random.Random, options: dict[str, Any]) -> str:
    text = yaml.safe_dump(options, sort_keys=False)
    place = rng.randrange(len(text))
    match rng.randrange(5):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + rng.choice("&*!|>%@`{}[]:,-?#'\"\t\n ") + text[place:]
        case 2:
            return text + rng.choice(TEXTS)
        case _:
            return rng.choice(TEXTS)


def write_files(folder: Path, count: int, seed: int) -> None:
    """Writes `count` option files; some may still be right."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random, dict[str, Any]], str]] = [
        wrong_values,
        wrong_values,
        known_traps,
        wrong_text,
    ]
    folder.mkdir(parents=True)
    for number in range(count):
        maker = makers[number % len(makers)]
        text = maker(rng, engine_common.changed(rng.choice(KINDS)))
        file = folder / f"{number:04}-{maker.__name__}.yml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))


def check(file: Path) -> int:
    """Checks an option file and builds what it describes, as `basicsr train` does.

    Nothing is trained, and nothing may be created.
    """
    from paragon_archs.cli.session import arguments_of, exit_code, prepare
    from paragon_archs.engine.context import run_context
    from paragon_archs.engine.setup import build, build_set

    arguments = arguments_of("train", ["-opt", str(file)])

    def run(arguments: argparse.Namespace) -> int:
        options = prepare(arguments, True, Path.cwd())
        with run_context(arguments, options) as context:
            for section in options.values["datasets"].values():
                build_set(section)
            build(options, context.host_options(iterations_per_epoch=1))
        return 0

    return exit_code(run, arguments)


def open_all(folder: Path) -> None:
    from paragon_archs.host import patches

    logging.disable(logging.INFO)  # the log of a run; errors are what counts here

    patches.install()
    right = folder.parent / "right.yml"
    assert check(engine_common.write_options(right)) == 0  # everything is imported
    fuzz_common.run_each(sorted(folder.iterdir()), check)


def fuzz(folder: Path, count: int, seed: int) -> list[fuzz_common.Result]:
    """Makes option files beside three images, and checks them in a child process."""
    engine_common.write_images(folder / "data")
    write_files(folder / "files", count, seed)
    return fuzz_common.in_child(__file__, folder / "files")


if __name__ == "__main__":
    if sys.argv[1] == "open":
        import os

        os.chdir(Path(sys.argv[2]).parent)
        open_all(Path(sys.argv[2]))
    else:
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
        fuzz_common.report(
            fuzz(Path(sys.argv[2]), int(sys.argv[1]), seed), int(sys.argv[1])
        )
