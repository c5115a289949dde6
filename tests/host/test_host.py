"""What breaks in the host and must not under our command.

The names of the tests say what must be; their first lines what the host does.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import sys
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from basicsr.losses import build_loss
from basicsr.models.base_model import BaseModel
from basicsr.utils import DiffJPEG
from PIL import Image
from torch import nn

from benchmarks.engine_speed import measure_engine
from paragon_archs.cli import basicsr
from paragon_archs.cli.session import arguments_of
from paragon_archs.data.stream import SeededDataset
from paragon_archs.host import patches as host
from paragon_archs.host.table import PATCHES

SR: dict[str, Any] = {
    "model_type": "SRModel",
    "train:losses": ...,
    "train:pixel_opt": {"type": "L1Loss"},
}


# Rates, schedules, losses ----------------------------------------------------------


def learning_rates(here: Path) -> list[float]:
    text = common.log_of(here)
    return [float(rate) for rate in re.findall(r"lr:\(([\d.e+-]+),\)", text)]


@pytest.mark.parametrize("kind", [{}, SR], ids=["ours", "SRModel"])
def test_warm_up_reaches_the_rate(here: Path, kind: dict[str, Any]) -> None:
    """The host stays at (w - 1) / w of it for ever."""
    scheduler = {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5}
    changes = {"train:warmup_iter": 4, "train:total_iter": 6, "val": ...}
    assert common.train(here, {**kind, **changes, "train:scheduler": scheduler}) == 0
    expected = [2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 5e-4]
    assert learning_rates(here) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [{}, SR], ids=["ours", "SRModel"])
def test_the_cosine_goes_on_after_its_last_period(
    here: Path, kind: dict[str, Any]
) -> None:
    """The host crashes there."""
    scheduler = {"type": "CosineAnnealingRestartLR", "periods": [2]}
    scheduler["restart_weights"] = [1]
    assert common.train(here, {**kind, "train:scheduler": scheduler, "val": ...}) == 0
    assert learning_rates(here)[-1] == 0


def test_a_host_model_takes_any_optimizer_and_scheduler(here: Path) -> None:
    """The host knows Adam and two schedules."""
    changes = {
        "train:optim_g": {"type": "AdamW", "lr": 1e-3},
        "train:scheduler": {"type": "CosineAnnealingLR"},
        "val": ...,
    }
    assert common.train(here, {**SR, **changes}) == 0


def test_nan_stops_a_host_model(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The host trains on to the end and calls a black image the best."""
    changes = {"train:optim_g:lr": 1e30, "logger:save_checkpoint_freq": 1}
    assert common.train(here, {**SR, **changes}) == 1
    assert "error: Expected finite" in capfd.readouterr().err
    for file in Path("experiments/run/training_states").iterdir():
        networks = torch.load(file, weights_only=True)["networks"]
        assert all(v.isfinite().all() for n in networks.values() for v in n.values())


def test_batch_norm_reaches_the_average_of_a_host_model() -> None:
    """The host never copies buffers."""
    host.install()

    class Holder(BaseModel):
        def __init__(self) -> None:
            self.net_g = nn.BatchNorm2d(2)
            self.net_g_ema = nn.BatchNorm2d(2)

    holder = Holder()
    holder.net_g(torch.rand(4, 2, 3, 3))
    holder.model_ema(0.9)
    followed, trained = holder.net_g_ema.state_dict(), holder.net_g.state_dict()
    assert torch.equal(followed["running_mean"], trained["running_mean"])


def test_the_perceptual_loss_takes_l2() -> None:
    """The host names a class that torch never had."""
    host.install()
    assert nn.L2loss is nn.MSELoss  # type: ignore[attr-defined]


def test_charbonnier_under_fp16_has_a_gradient(here: Path) -> None:
    """Its eps vanishes in fp16; losses are computed in float32."""
    changes = {
        "train:precision": "fp16",
        "train:losses": [{"type": "CharbonnierLoss"}],
        "val": ...,
    }
    assert common.train(here, changes) == 0
    assert "step skipped" not in common.log_of(here)
    x = torch.zeros(2, requires_grad=True)
    build_loss({"type": "CharbonnierLoss"})(x, torch.zeros(2)).backward()
    assert x.grad is not None and x.grad.isfinite().all()


# Weights and states ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, SR], ids=["ours", "SRModel"])
def test_auto_resume_on_a_cpu_under_another_root(
    here: Path, kind: dict[str, Any]
) -> None:
    """The host asks for a GPU, or archives the run that it cannot find."""
    changes = {**kind, "val": ..., "logger:save_checkpoint_freq": 2}
    for last in (2, 4):
        flags = ["--auto_resume", "--force_yml", f"train:total_iter={last}"]
        assert common.train(here, changes, *flags) == 0
    assert [p.name for p in Path("experiments").iterdir()] == ["run"]
    assert list(common.losses_of(common.log_of(here))) == [3, 4]


def test_a_host_model_resumes_exactly(here: Path) -> None:
    """The host starts the epoch anew, with the first crops."""
    changes = {**SR, "logger:save_checkpoint_freq": 3, "train:total_iter": 7}
    assert common.train(here, {**changes, "name": "whole"}) == 0
    for last in (4, 7):
        flags = ["--auto_resume", "--force_yml", f"train:total_iter={last}"]
        assert common.train(here, {**changes, "name": "parts"}, *flags) == 0
    whole = common.losses_of(common.log_of(here, "whole"))
    parts = common.losses_of(common.log_of(here, "parts"))
    assert {i: whole[i] for i in parts} == parts and min(parts) == 5
    states = [
        torch.load(f"experiments/{n}/training_states/7.state", weights_only=True)
        for n in ("whole", "parts")
    ]
    for name, value in states[0]["networks"]["net_g"].items():
        assert torch.equal(value, states[1]["networks"]["net_g"][name])


def test_a_state_that_the_host_wrote_resumes(here: Path) -> None:
    """It holds no weights: they lie beside it."""
    assert common.train(here, {**SR, "val": ...}) == 0
    file = Path("experiments/run/training_states/4.state")
    state = torch.load(file, weights_only=True)
    kept = ("epoch", "iter", "optimizers", "schedulers")
    torch.save({k: state[k] for k in kept}, file)
    flags = ["--auto_resume", "--force_yml", "train:total_iter=5"]
    assert common.train(here, {**SR, "val": ...}, *flags) == 0
    assert list(common.losses_of(common.log_of(here))) == [5]


def test_a_host_model_starts_from_a_bare_or_a_safetensors_file(here: Path) -> None:
    """The host wants its own wrapping and no safetensors."""
    assert common.train(here, {"val": ..., "name": "first"}) == 0
    weights = "experiments/first/models/net_g_latest.safetensors"
    changes = {**SR, "val": ..., "train:optim_g:lr": 0.0, "train:ema_decay": 0.5}
    changes |= {"path": {"pretrain_network_g": weights}}
    assert common.train(here, changes) == 0
    after = torch.load("experiments/run/models/net_g_latest.pth", weights_only=True)
    torch.save(after["params"], "bare.pth")
    assert (
        common.train(here, {**changes, "path": {"pretrain_network_g": "bare.pth"}}) == 0
    )
    again = torch.load("experiments/run/models/net_g_latest.pth", weights_only=True)
    for name, value in after["params"].items():
        assert torch.equal(again["params"][name], value)
        assert torch.equal(again["params_ema"][name], value)


def test_the_last_validation_bears_the_last_iteration(here: Path) -> None:
    """The host adds one for every epoch that is left."""
    assert common.train(here, {"train:total_iter": 5}) == 0
    assert re.findall(r"Best: .* @ (\d+) iter", common.log_of(here)) == ["4", "5"]


def test_a_dataset_name_that_holds_debug_changes_nothing(here: Path) -> None:
    """The host takes it for its debug mode; the flag does that here."""
    changes = {"name": "undebugged", "logger:print_freq": 2, "val": ...}
    assert common.train(here, changes) == 0
    assert list(common.losses_of(common.log_of(here, "undebugged"))) == [2, 4]
    assert common.train(here, changes, "--debug") == 0
    assert len(common.losses_of(common.log_of(here, "debug_undebugged"))) == 4


def test_a_run_leaves_one_log_and_its_options(here: Path) -> None:
    """A second run in one process went into the first one's log."""
    for name in ("one", "two"):
        assert common.train(here, {"name": name, "val": ...}) == 0
        assert len(common.losses_of(common.log_of(here, name))) == 4
        assert (here / "experiments" / name / "o.yml").is_file()


def test_tensorboard_holds_every_step_once(here: Path) -> None:
    """After a resume the host's holds some twice."""
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    changes = {"logger:use_tb_logger": True, "logger:save_checkpoint_freq": 3}
    changes |= {"train:total_iter": 4, "val": ...}
    assert common.train(here, changes) == 0
    Path("experiments/run/training_states/4.state").unlink()
    assert common.train(here, changes, "--auto_resume") == 0
    events = event_accumulator.EventAccumulator("experiments/run/tb_logger").Reload()
    assert [e.step for e in events.Scalars("losses/l_l1")] == [1, 2, 3, 4]
    assert not Path("tb_logger").exists()


def test_test_writes_images_and_metrics(here: Path) -> None:
    assert common.train(here, {"val": ...}) == 0
    changes = {
        "datasets:train": ...,
        "datasets:test_1": common.OPTIONS["datasets"]["val"],
        "datasets:val": ...,
        "path": {"pretrain_network_g": "experiments/run/models/net_g_4.safetensors"},
        "val": {"save_img": True, "metrics": common.OPTIONS["val"]["metrics"]},
        "train": ...,
    }
    common.write_options(here / "t.yml", changes)
    assert basicsr.main(["test", "-opt", "t.yml"]) == 0
    with Image.open("results/run/visualization/few/0_run.png") as picture:
        assert picture.size == (32, 32)
    log = next(Path("results/run").glob("test_*.log")).read_text()
    assert re.search(r"# psnr: \d+\.\d+", log)


def test_a_spawned_worker_imports_this_pack_before_the_host() -> None:
    """The host's modules cannot be imported there without our alias."""
    names = [
        argument
        for opcode, argument, _ in pickletools.genops(
            pickle.dumps(SeededDataset(DiffJPEG))
        )
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE")
    ]
    assert names[0] == "paragon_archs.data.stream"
    assert any(str(name).startswith("basicsr.") for name in names)


def test_wandb_that_moved_its_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host asks `wandb.util` for them; a package of today's shape."""
    for name in ("", "sdk", "sdk/lib"):
        (tmp_path / "wandb" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "wandb" / name / "__init__.py").touch()
    (tmp_path / "wandb/util.py").touch()
    (tmp_path / "wandb/sdk/lib/runid.py").write_text(
        "def generate_id(length): return 'x'"
    )
    for name in [n for n in sys.modules if n.split(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = next(patch for patch in PATCHES if patch.package == "wandb")
    target = row.targets[0]
    assert host.is_needed(row, target)
    host.apply(row, target)
    host._originals.pop(target)
    assert sys.modules["wandb.util"].generate_id() == "x"
    assert not host.is_needed(row, target)
    for name in [n for n in sys.modules if n.split(".")[0] == "wandb"]:
        del sys.modules[name]  # for good: the patch would bring it back


def test_launchers_may_write_a_hyphen() -> None:
    """torch's launcher does, and the host stumbles over it."""
    for flag in ("--local_rank=1", "--local-rank=1"):
        assert arguments_of("train", ["-opt", "o.yml", flag]).local_rank == 1


def test_both_model_classes_train_the_same_when_they_are_compared() -> None:
    speed = measure_engine("paragonsr_nano", 2, 1, 8, rounds=2, steps=2)
    assert speed.loss_difference < 1e-5
    assert speed.host > 0 and speed.ours > 0 and speed.ratio > 0


def test_wrong_commands(capfd: pytest.CaptureFixture[str]) -> None:
    assert basicsr.main([]) == 2
    assert basicsr.main(["tran"]) == 2
    assert basicsr.main(["--help"]) == 0
    with pytest.raises(SystemExit) as stopped:
        basicsr.main(["train"])
    assert stopped.value.code == 2
    assert os.linesep in capfd.readouterr().err
