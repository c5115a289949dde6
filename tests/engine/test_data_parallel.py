"""`num_gpu: 2` without a launcher, as far as a CPU can show.

torch's DataParallel without GPUs calls the network as it is. So what can be held here
is all that our side does about the wrapper: whatever is trained, averaged, saved and
resumed is the network inside of it. The split over GPUs is torch's.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from model_common import batch, model, options, run
from safetensors.torch import load_file
from torch import nn

from paragon_archs.checkpoint import load_model
from paragon_archs.cli import session
from paragon_archs.engine.checkpointing import checkpoint_blocks
from paragon_archs.engine.resuming import training_state
from paragon_archs.host.repairs.model import Replicas
from paragon_archs.models.paragon_model import ParagonModel


class OnCPU(ParagonModel):
    """Stays on the CPU whatever `num_gpu` is."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cpu")

    @device.setter
    def device(self, _: torch.device) -> None:
        """The host sets it."""


def split(here: Path, changes: dict[str, Any] | None = None) -> Any:
    """The model of `num_gpu: 2`; the checker would miss the GPUs."""
    torch.manual_seed(0)
    return OnCPU({**options(here, changes), "num_gpu": 2})


def test_it_trains_saves_and_resumes_the_network_inside(here: Path) -> None:
    changes = {"train:accum_iter": 2, "train:grad_clip": 1.0}
    alone, two = model(here, changes), split(here, changes)
    assert isinstance(two.net_g, nn.DataParallel)
    for one in (alone, two):
        run(one, batch(4), 3)
    assert two.log_dict == alone.log_dict
    one, other = training_state(alone), training_state(two)
    assert list(other["networks"]) == ["net_g", "net_g_ema"]
    for name, tensors in one["networks"].items():
        assert list(other["networks"][name]) == list(tensors)
        for key, value in tensors.items():
            assert torch.equal(other["networks"][name][key], value), (name, key)

    two.feed_data({"lq": batch(1)["lq"]})
    two.test()
    assert two.output.shape == (1, 3, 16, 16)
    Path(two.opt["path"]["models"]).mkdir(parents=True)
    two.save(0, 3)
    two.save_network(two.net_g, "net_host", 3)
    folder = Path(two.opt["path"]["models"])
    released = load_file(folder / "net_g_3.safetensors")
    for key, value in one["networks"]["net_g_ema"].items():
        assert torch.equal(released[key], value), key
    assert load_model(str(folder / "net_g_3.safetensors")).scale == 2
    host = torch.load(folder / "net_host_3.pth", weights_only=True)["params"]
    assert list(host) == list(one["networks"]["net_g"])

    for fresh in (model(here, changes, seed=1), split(here, changes)):
        fresh.resume_training({**other, "iter": 3})
        run(fresh, batch(4, seed=5))
        fresh.load_network(fresh.net_g, str(folder / "net_g_3.safetensors"))
        begun = fresh.get_bare_model(fresh.net_g).state_dict()
        assert all(torch.equal(begun[k], v) for k, v in released.items())


class Block(nn.Module):
    """Multiplies by its factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.mark.parametrize("how", ["compile", "grad_checkpointing"])
def test_what_replicas_cannot_do_is_refused(how: str, here: Path) -> None:
    """Both tie a block to itself: a replica on another GPU would run the first's."""
    network = nn.Sequential(Block(), Block())
    if how == "compile":
        network[0].compile(backend="eager")
    else:
        checkpoint_blocks(nn.Sequential(network))
    replica: Any = network[0]._replicate_for_data_parallel()
    replica.factor = torch.full((1,), 3.0)
    assert float(replica(torch.ones(1))) == 1  # not 3

    with pytest.raises(ValueError, match="one GPU per process"):
        split(here, {f"train:{how}": True})
    model(here, {f"train:{how}": True})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None], ids=str)
def test_replicas_keep_the_dtype_of_autocast(
    dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch gives each replica's thread autocast in its default dtype."""

    def in_threads(replicas: Any, inputs: Any, kwargs: Any, devices: Any) -> list[Any]:
        """As torch's own, without GPUs."""
        on, results = torch.is_autocast_enabled("cuda"), [None] * len(replicas)

        def work(index: int) -> None:
            with torch.autocast("cuda", enabled=on):
                results[index] = replicas[index](*inputs[index], **kwargs[index])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def network(x: torch.Tensor) -> object:
        on = torch.is_autocast_enabled("cuda")
        return torch.get_autocast_dtype("cuda") if on else None

    common_amp = torch.cuda.amp.common  # autocast is off where there is no GPU
    monkeypatch.setattr(common_amp, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    module = sys.modules["torch.nn.parallel.data_parallel"]
    monkeypatch.setattr(module, "parallel_apply", in_threads)
    replicas = Replicas(nn.Identity())
    with torch.autocast("cuda", dtype or torch.float16, enabled=dtype is not None):
        inputs = [(torch.ones(1),)] * 2
        found = replicas.parallel_apply([network] * 2, inputs, [{}, {}])
    assert found == [dtype, dtype]


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_auto_is_one_gpu(
    gpus: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = common.write_options(here / "o.yml", {"num_gpu": "auto"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    run = session.prepare(
        session.arguments_of("train", ["-opt", str(path)]), True, here
    )
    assert run.values["num_gpu"] == min(gpus, 1)
