"""Sections of option files as typed objects."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from engine_common import GAN, STAGED, changed

from paragon_archs.config.key import Name, Section, key
from paragon_archs.config.keys import KEYS
from paragon_archs.config.loading import load_options
from paragon_archs.config.sections.run import RunSection
from paragon_archs.config.signatures import known_types

FILES = sorted((Path(__file__).parents[2] / "options").glob("*.yml"))


def plain(section):
    """Returns the fields of a section that hold no section, by name."""
    values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
    return {n: v for n, v in values.items() if isinstance(v, (str, int, float))}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_file_gives_is_what_the_sections_hold(file):
    values = load_options(file).values
    run = RunSection.read(values)
    for section, given in (
        (run, values),
        (run.train, values["train"]),
        (run.logger, values["logger"]),
        (run.datasets["train"], values["datasets"]["train"]),
    ):
        held = plain(section)
        wanted = {k: v for k, v in given.items() if isinstance(v, (str, int, float))}
        assert wanted.items() <= {**getattr(section, "arguments", {}), **held}.items()
    assert run.network_g.type == values["network_g"]["type"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.train.total_iter = 1


def test_sections_nest_and_keep_the_defaults():
    run = RunSection.read(changed(GAN))
    assert list(run.discriminators) == ["network_d", "network_d2"]
    assert run.discriminators["network_d"].arguments == {"num_in_ch": 3, "num_feat": 4}
    assert run.train.losses[0].type == "L1Loss" and run.train.losses[0].weight == 1.0
    assert run.train.nonfinite.stop_after == 50
    assert run.val.metrics["psnr"].arguments == {"crop_border": 2}
    assert run.val.metrics["psnr"].better == "higher" and run.stages is None
    assert run.train.gan_opt.arguments["gan_type"] == "vanilla"
    stages = RunSection.read(changed(STAGED)).stages
    assert [stage.iterations for stage in stages] == [3, 3, 2, 2]


def test_annotations_give_the_kinds():
    @dataclasses.dataclass(frozen=True)
    class Some(Section):
        file: Name = key("a part of a path")
        size: int | str | None = key("a number or a word", None)

    assert {path: one.kind for path, one in Some.keys("x")} == {
        "x:file": "name",
        "x:size": "int|str",
    }
    assert KEYS["path:strict_load_*"].kind == "bool"
    assert KEYS["datasets:train:batch_size_per_gpu"].kind == "int"


def test_no_share_may_be_above_one():
    keys = dict(KEYS)
    for name, target in known_types("data set").items():
        keys |= {f"{name}:{k}": v for k, v in getattr(target, "KEYS", {}).items()}
    is_share = re.compile(r"(_prob\d?|_share|ema_decay)$")
    shares = {path: key for path, key in keys.items() if is_share.search(path)}
    assert len(shares) > 15
    assert {(share.low, share.high) for share in shares.values()} == {(0, 1)}, shares
