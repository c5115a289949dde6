"""A run that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from paragon_archs.cli import basicsr
from paragon_archs.engine import validation
from paragon_archs.engine.folders import _own
from paragon_archs.engine.state import list_states, newest_state


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a small data set."""
    monkeypatch.chdir(tmp_path)
    common.write_images(tmp_path / "data", count=5)
    return tmp_path


def start(here: Path, *flags: str, before: str = "") -> subprocess.Popen[str]:
    """Starts `basicsr train` in a process of its own, after some Python of the test."""
    root = Path(__file__).resolve().parents[2]
    code = f"import sys, torch\ntorch.set_num_threads(1)\n{before}\n"
    code += "from paragon_archs.cli.basicsr import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", "-opt", "o.yml", *flags],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads the log until it holds `text`."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


def same(one: Any, other: Any) -> bool:
    """True when two nested values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_same_runs(here: Path, iteration: int, start_at: int) -> None:
    """Holds `killed` to `straight`: losses, released weights, the whole state."""
    straight = common.losses_of(common.log_of(here, "straight"))
    resumed = common.losses_of(common.log_of(here, "killed"))
    assert min(resumed) == start_at + 1
    assert max(resumed) == iteration
    assert {i: straight[i] for i in resumed} == resumed
    folders = [here / "experiments" / name for name in ("straight", "killed")]
    weights = [load_file(f / "models" / "net_g_latest.safetensors") for f in folders]
    assert same(*weights)
    states = [
        torch.load(f / f"training_states/{iteration}.state", weights_only=True)
        for f in folders
    ]
    assert same(*states)


PLAIN: dict[str, Any] = {
    "train:total_iter": 60,
    "logger:save_checkpoint_freq": 10,
    "val:val_freq": 20,
}
# Random numbers in the forward, workers, accumulation, average, warm-up, schedule,
# early stopping that counts, and epochs that no checkpoint meets.
EVERYTHING: dict[str, Any] = {
    **PLAIN,
    "datasets:train:num_worker_per_gpu": 2,
    "datasets:train:batch_size_per_gpu": 1,
    "train:accum_iter": 2,
    "train:ema_decay": 0.99,
    "train:warmup_iter": 40,
    "train:grad_clip": 0.5,
    "train:optim_g": {"type": "AdamW", "lr": 2e-3, "betas": [0.8, 0.9]},
    "train:scheduler": {"type": "MultiStepLR", "milestones": [20, 50], "gamma": 0.5},
    "val:early_stopping": {"metric": "psnr", "patience": 9},
    "network_g": {
        "type": "SwinIR",
        "upscale": 2,
        "img_size": 8,
        "window_size": 4,
        "depths": [2],
        "embed_dim": 8,
        "num_heads": [2],
        "mlp_ratio": 2,
        "upsampler": "pixelshuffle",
        "drop_rate": 0.1,
        "drop_path_rate": 0.5,
    },
}


@pytest.mark.parametrize("changes", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_killed_and_resumed_equals_uninterrupted(
    changes: dict[str, Any], here: Path
) -> None:
    common.write_options(here / "o.yml", {**changes, "name": "killed"})
    killed = start(here)
    wait_for(killed, "iter:      34")
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    states = list_states(here / "experiments/killed/training_states")
    assert [p.stem for p in states] == ["30", "20", "10"]

    assert basicsr.main(["train", "-opt", "o.yml", "--auto_resume"]) == 0
    common.write_options(here / "o.yml", {**changes, "name": "straight"})
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    assert_same_runs(here, 60, 30)


CUT = """
import os, signal, pathlib, io
save = torch.save
def cut(value, path):
    if path.name.startswith(".6-"):
        buffer = io.BytesIO()
        save(value, buffer)
        pathlib.Path(path).write_bytes(buffer.getvalue()[: buffer.tell() // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    save(value, path)
torch.save = cut
"""


def test_killed_while_writing_a_state_resumes_from_the_last_whole_one(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"train:total_iter": 8, "logger:save_checkpoint_freq": 3, "val": ...}
    common.write_options(here / "o.yml", {**changes, "name": "killed"})
    killed = start(here, before=CUT)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    folder = here / "experiments/killed/training_states"
    assert [p.stem for p in list_states(folder)] == ["3"]
    # An older writer, or a full disk, may have left these.
    (folder / "5.state").write_bytes((folder / "3.state").read_bytes()[:1000])
    (folder / "6.state").write_bytes(b"")
    (folder / "best.state").write_bytes(b"")

    assert basicsr.main(["train", "-opt", "o.yml", "--auto_resume"]) == 0
    assert capfd.readouterr().err.count("cut off or damaged") == 2
    common.write_options(here / "o.yml", {**changes, "name": "straight"})
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    assert_same_runs(here, 8, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_first(number: signal.Signals, here: Path) -> None:
    changes = {"train:total_iter": 100000, "val": ..., "name": "killed"}
    common.write_options(here / "o.yml", changes)
    process = start(here)
    wait_for(process, "iter:       3")
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    found = newest_state(here / "experiments/killed/training_states")
    assert found is not None
    stopped = found.iteration
    assert stopped >= 3
    more = [f"train:total_iter={stopped + 2}", "logger:save_checkpoint_freq=1"]
    command = ["train", "-opt", "o.yml", "--auto_resume", "--force_yml", *more]
    assert basicsr.main(command) == 0
    assert list(common.losses_of(common.log_of(here, "killed"))) == [
        stopped + 1,
        stopped + 2,
    ]


@pytest.mark.parametrize("model", ["ParagonModel", "SRModel"])
@pytest.mark.parametrize("room", [9000, 30000])
def test_full_disk_is_an_error(
    model: str, room: int, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for a disk without room."""
    changes = {
        "val": ...,
        "name": "killed",
        "model_type": model,
        "train:losses": ...,
        "train:pixel_opt": {"type": "L1Loss"},
    }
    common.write_options(here / "o.yml", changes)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, former[1]))
    try:
        assert basicsr.main(["train", "-opt", "o.yml"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    err = capfd.readouterr().err
    assert "error: Expected room for the checkpoint of iteration 4" in err
    assert not list((here / "experiments/killed/training_states").iterdir())


def test_a_full_disk_at_the_end_and_a_file_in_the_way(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last weights and a stage's are written outside of any checkpoint."""
    staged = {
        "model_type": "ParagonStagedModel",
        "train:total_iter": ...,
        "stages": [{"name": n, "iterations": 2} for n in ("one", "two")],
    }
    save = safetensors.torch.save_file

    def without_room(tensors: Any, path: Any, *rest: Any) -> None:
        if any(label in str(path) for label in ("latest", "stage_one")):
            raise OSError(28, "No space left on device")
        save(tensors, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", without_room)
        for changes in ({}, staged):
            assert common.train(here, {"val": ..., **changes}) == 1
            error = capfd.readouterr().err.splitlines()[-1]
            assert error.startswith("error: Expected files to be read and written")
    (here / "experiments").rename(here / "first")
    (here / "experiments").touch()
    assert common.train(here, {"val": ...}) == 1
    assert "Not a directory" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("count", [1, 2])
def test_interrupted_while_it_validates_it_saves(
    count: int,
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure, signals = validation.calculate_metric, [signal.SIGINT] * count

    def interrupted(*arguments: Any) -> Any:
        while signals:
            signal.raise_signal(signals.pop())
        return measure(*arguments)

    monkeypatch.setattr(validation, "calculate_metric", interrupted)
    changes = {"train:total_iter": 9, "val:val_freq": 2}
    assert common.train(here, changes) == 128 + signal.SIGINT
    log = capfd.readouterr().err
    assert ("Stopped at once" in log) == (count == 2)
    assert ("# psnr" in log) == (count == 1)  # asked once, it ends the validation
    states = list_states(here / "experiments/run/training_states")
    assert [p.stem for p in states] == ["2"]


def test_two_starts_in_one_second_have_logs_of_their_own(tmp_path: Path) -> None:
    made = [_own(tmp_path / "a.log", lambda p: p.touch(exist_ok=False)) for _ in "123"]
    assert [p.name for p in made] == ["a.log", "a-2.log", "a-3.log"]
    with pytest.raises(FileNotFoundError):  # of another cause: not tried for ever
        _own(tmp_path / "no/a.log", lambda p: p.touch(exist_ok=False))


@pytest.mark.parametrize("flags", [[], ["--auto_resume"]], ids=["anew", "resumed"])
def test_a_second_run_of_the_name_is_refused_until_the_first_ends(
    flags: list[str], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"train:total_iter": 100000, "val": ..., "name": "killed"}
    changes |= {"logger:save_checkpoint_freq": 2, "logger:keep_checkpoints": 1}
    changes["datasets:train:num_worker_per_gpu"] = 1
    common.write_options(here / "o.yml", changes)
    first = start(here)
    wait_for(first, "iter:       3")
    assert basicsr.main(["train", "-opt", "o.yml", *flags]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: Expected 'name' to be that of no running process")
    assert re.search(rf"held by process {first.pid} on \S+ since 20\d\d-", error)
    assert first.poll() is None
    assert [p.name for p in (here / "experiments").iterdir()] == ["killed"]
    first.send_signal(signal.SIGKILL)  # it removes nothing
    first.communicate()
    assert (here / "experiments/killed/run.lock").exists()
    few = ["--force_yml", "train:total_iter=4"]
    assert basicsr.main(["train", "-opt", "o.yml", *flags, *few]) == 0
    assert not (here / "experiments/killed/run.lock").exists()


def test_auto_resume_without_a_state_starts_and_keeps_the_folder(here: Path) -> None:
    changes = {"train:total_iter": 2, "val": ..., "logger:save_checkpoint_freq": 1}
    common.write_options(here / "o.yml", {**changes, "name": "killed"})
    for _ in range(2):
        assert basicsr.main(["train", "-opt", "o.yml", "--auto_resume"]) == 0
    assert [p.name for p in (here / "experiments").iterdir()] == ["killed"]
    # Without the flag a finished run is kept under another name, as the host does it.
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    names = sorted(
        p.name.split("_archived_")[0] for p in (here / "experiments").iterdir()
    )
    assert names == ["killed", "killed"]


def test_resume_state_of_another_run_by_its_path(here: Path) -> None:
    changes = {"train:total_iter": 4, "val": ..., "logger:save_checkpoint_freq": 2}
    common.write_options(here / "o.yml", {**changes, "name": "straight"})
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    state = "experiments/straight/training_states/2.state"
    common.write_options(
        here / "o.yml", {**changes, "name": "killed", "path": {"resume_state": state}}
    )
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    assert_same_runs(here, 4, 2)


def test_keep_checkpoints_removes_the_oldest(here: Path) -> None:
    changes = {"val": ..., "logger:save_checkpoint_freq": 1, "name": "killed"}
    common.write_options(here / "o.yml", {**changes, "logger:keep_checkpoints": 2})
    assert basicsr.main(["train", "-opt", "o.yml"]) == 0
    folder = here / "experiments/killed"
    states = sorted(p.name for p in (folder / "training_states").iterdir())
    assert states == ["3.state", "4.state"]
    names = sorted(p.stem for p in (folder / "models").iterdir())
    assert names == ["net_g_3", "net_g_4", "net_g_latest"]


def test_a_state_of_other_options_is_refused_in_one_sentence(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert common.train(here, {"val": ..., "train:total_iter": 1}) == 0
    state = "experiments/run/training_states/1.state"
    content = torch.load(state, weights_only=True)
    torch.save({k: v for k, v in content.items() if k != "optimizers"}, "less.state")
    cases: dict[str, dict[str, Any]] = {
        "its net_g is another network, 'conv_in.weight'": {"network_g:num_feat": 16},
        "its optimizer is no SGD, which needs": {
            "train:optim_g": {"type": "SGD", "lr": 1e-3}
        },
        "names no network of this run: 'network_x'": {
            "path:ignore_resume_networks": ["network_x"]
        },
        "it lacks 'optimizers'": {"path:resume_state": "less.state"},
    }
    capfd.readouterr()
    for text, changes in cases.items():
        path = {"path:resume_state": state, "name": "other", "val": ...}
        assert common.train(here, path | changes) == 2, text
        err = capfd.readouterr().err
        assert text in err and "Resume with the options" in err
    assert not (here / "experiments/other").exists()
    # With --auto_resume too, a state that is named counts where the run has none.
    path = {"path:resume_state": state, "name": "other", "val": ...}
    assert common.train(here, path, "--auto_resume") == 0
    assert min(common.losses_of(common.log_of(here, "other"))) == 2


@pytest.mark.parametrize("ignored", [[], ["network_g"]])
def test_an_average_that_a_state_lacks_begins_with_its_weights(
    here: Path, ignored: list[str]
) -> None:
    """Begun with fresh ones, the released weights would be noise for long."""
    begin = {
        "val": ...,
        "train:total_iter": 1,
        "train:ema_decay": 0 if not ignored else 1,
    }
    assert common.train(here, begin) == 0
    changes = {
        "val": ...,
        "name": "other",
        "train:total_iter": 2,
        "train:ema_decay": 1,  # never moves
        "train:ema_warmup": False,
        "path:resume_state": "experiments/run/training_states/1.state",
        "path:ignore_resume_networks": ignored,
        "manual_seed": 8,
    }
    assert common.train(here, changes) == 0
    states = [
        torch.load(f"experiments/{name}/training_states/{file}", weights_only=True)
        for name, file in (("run", "1.state"), ("other", "2.state"))
    ]
    average = states[1]["networks"]["net_g_ema"]
    saved = states[0]["networks"].values()
    assert any(same(average, weights) for weights in saved) is not bool(ignored)
