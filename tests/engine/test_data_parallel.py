"""`num_gpu: 2` without a launcher, as far as a CPU can show.

torch's DataParallel without GPUs calls the network as it is. So what can be held here
is all that our side does about the wrapper: whatever is trained, averaged, saved and
resumed is the network inside of it. The split over GPUs is torch's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_common import batch, model, options, run
from safetensors.torch import load_file
from torch import nn

from paragon_archs.checkpoint import load_model
from paragon_archs.engine.checkpointing import checkpoint_blocks
from paragon_archs.engine.resuming import training_state
from paragon_archs.models.paragon_model import ParagonModel


class OnCPU(ParagonModel):
    """Stays on the CPU whatever `num_gpu` says."""

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
