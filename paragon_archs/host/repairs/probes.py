"""How to see that a piece of the host is still broken: each shows its fault, or not.

A probe gets what stands at a patch's target and returns whether the fault is there.
They are small, write into temporary folders alone, and need no GPU.
"""

from __future__ import annotations

import inspect
import io
import logging
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from basicsr.metrics import niqe as host_niqe
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from PIL import Image
from torch import Tensor, nn

CPU = torch.device("cpu")
FAILURES = (RuntimeError, AssertionError, ValueError, TypeError, LookupError)
FAILURES += (NotImplementedError, ArithmeticError, AttributeError, NameError)


def _model(kind: type[BaseModel] = BaseModel, **opt: object) -> Any:
    """Returns an object of a model class that no constructor has run for."""
    model = object.__new__(kind)
    defaults = {"dist": False, "num_gpu": 0, "rank": 0, "world_size": 1, "path": {}}
    model.opt, model.device = {**defaults, **opt}, CPU
    model.optimizers, model.schedulers = [], []
    return model


def _raises(run: Callable[[], object]) -> BaseException | None:
    """Returns what a call raises, with the host's log kept quiet."""
    logger = logging.getLogger("basicsr")
    quiet = logger.disabled
    logger.disabled = True
    try:
        run()
    except FAILURES as error:
        return error
    finally:
        logger.disabled = quiet
    return None


def _sgd(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr)


def is_absent(found: object) -> bool:
    """Nothing stands there."""
    return not callable(found)


# Models ----------------------------------------------------------------------------


def processes_need_a_gpu(method: Callable[..., object]) -> bool:
    """Wrapping for several processes gets as far as asking for their group."""
    error = _raises(lambda: method(_model(dist=True), nn.Linear(1, 1)))
    return error is not None and "process group" not in str(error)


def knows_adam_alone(method: Callable[..., object]) -> bool:
    """AdamW is refused."""
    weights = [nn.Parameter(torch.ones(1))]
    return _raises(lambda: method(_model(), "AdamW", weights, lr=1.0)) is not None


def fails_without_a_schedule(method: Callable[..., object]) -> bool:
    """An option file without `train:scheduler` is refused."""
    return _raises(lambda: method(_model(train={"total_iter": 1}))) is not None


def warm_up_falls_short(method: Callable[..., object]) -> bool:
    """After two steps of warm-up the rate is not the one given."""
    model = _model()
    model.optimizers = [_sgd()]
    model.optimizers[0].param_groups[0]["initial_lr"] = 1.0
    schedule = torch.optim.lr_scheduler.MultiplicativeLR(
        model.optimizers[0], lambda _: 1.0
    )
    model.schedulers = [schedule]
    model.optimizers[0].step()
    for iteration in (1, 2, 3):
        method(model, iteration, warmup_iter=2)
    return model.optimizers[0].param_groups[0]["lr"] != 1.0


def average_forgets_buffers(method: Callable[..., object]) -> bool:
    """A running mean does not reach the average."""
    model = _model()
    model.net_g, model.net_g_ema = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    model.net_g.load_state_dict({"running_mean": torch.full((1,), 3.0)}, strict=False)
    method(model, 0.5)
    return not bool((model.net_g_ema.running_mean == 3).all())


def nan_trains_on(method: Callable[..., object]) -> bool:
    """A loss that is NaN raises nothing."""
    losses = OrderedDict(l_pix=torch.tensor(float("nan")))
    return _raises(lambda: method(_model(), losses)) is None


def ignores_a_full_disk(method: FunctionType) -> bool:
    """Its own code shows that it ignores what cannot be written.

    To let it fail would take its three tries, a second each.
    """
    return "Just ignore it" in str(inspect.unwrap(method).__code__.co_consts)


def wants_its_own_wrapping(method: Callable[..., object]) -> bool:
    """A bare state dict is refused."""
    net = nn.Linear(1, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "bare.pth"))
        torch.save(net.state_dict(), file)
        return _raises(lambda: method(_model(), net, file)) is not None


def writes_states_without_weights(method: Callable[..., object]) -> bool:
    """A state is written that cannot give the weights back."""
    with tempfile.TemporaryDirectory() as folder:
        method(_model(path={"training_states": folder}), 0, 1)
        return any(Path(folder).iterdir())


def resumes_without_weights(method: Callable[..., object]) -> bool:
    """The networks of a state are passed over."""
    model, weights = _model(train={}), nn.Linear(1, 1).state_dict()
    model.net_g = nn.Linear(1, 1)
    state = {"iter": 1, "networks": {"net_g": weights}}
    state |= {"optimizers": [], "schedulers": []}
    _raises(lambda: method(model, state))
    return not torch.equal(model.net_g.weight, weights["weight"])


# Validation ------------------------------------------------------------------------


class _Pictures(torch.utils.data.Dataset[dict[str, Tensor | str]]):
    """Two images that differ in their suffix alone."""

    opt: ClassVar = {"name": "pictures"}
    paths = ("odd.png", "odd.jpg")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        image = torch.zeros(3, 2, 2)
        return {"lq": image, "lq_path": self.paths[index]}


def _results(method: Callable[..., object], **opt: object) -> int:
    """Returns how many results a validation of both images writes."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(
            SRModel,
            val={"suffix": "x", "metrics": None},
            is_train=False,
            name="probe",
            path={"visualization": folder},
            datasets={},
            **opt,
        )
        model.net_g = nn.Identity()
        loader = torch.utils.data.DataLoader(_Pictures())
        _raises(lambda: method(model, loader, 1, None, True))
        return len([*Path(folder).rglob("*.png")])


def results_overwrite_each_other(method: Callable[..., object]) -> bool:
    """Of two images with one stem, one result is left."""
    return _results(method) < 2


def first_process_validates_alone(method: Callable[..., object]) -> bool:
    """The second of two processes has no image to validate."""
    return _results(method, rank=1, world_size=2) < 1


def videos_need_a_gpu(method: Callable[..., object]) -> bool:
    """The results of a model on the CPU are kept on a GPU, or nowhere."""
    clips = type("Clips", (SimpleNamespace,), {"__len__": lambda _: 0})
    dataset = clips(opt={"name": "clips"}, data_info={"folder": ["a"]})
    model = _model(val={"metrics": {"psnr": {}}})
    model._log_validation_metric_values = lambda *_: None
    loader = SimpleNamespace(dataset=dataset)
    if _raises(lambda: method(model, loader, 1, None, False)) is not None:
        return True
    return model.metric_results["a"].device != CPU


def clips_lose_their_batch(method: Callable[..., object]) -> bool:
    """A tensor squeezed after it was fed is squeezed inside of the model too."""
    model, clip = _model(), torch.zeros(1, 2, 3, 4, 4)
    method(model, {"lq": clip})
    clip.squeeze_(0)
    return model.lq.ndim != 5


def niqe_needs_two_blocks(function: Callable[..., object]) -> bool:
    """One block raises."""
    file = Path(host_niqe.__file__).with_name("niqe_pris_params.npz")
    with np.load(file) as content:
        names = ("mu_pris_param", "cov_pris_param", "gaussian_window")
        parameters = [content[name] for name in names]
    image = np.random.default_rng(0).uniform(0, 255, (96, 96)).round()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _raises(lambda: function(image, *parameters)) is not None


# Data ------------------------------------------------------------------------------


def reads_8_of_16_bits(function: Callable[..., np.ndarray]) -> bool:
    """A pixel of 16 bits comes back rounded to 8."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2), 1000, np.uint16)).save(buffer, "png")
    pixels = function(buffer.getvalue(), float32=True)
    return bool(abs(pixels - 1000 / 65535).max() > 1e-4)


def _list(folder: str) -> str:
    file = Path(folder, "list.txt")
    file.write_text("a b.png (2,2,3)\n", encoding="utf-8")
    return str(file)


def cuts_paired_names(function: Callable[..., list[dict[str, str]]]) -> bool:
    """`a b.png` becomes `a`."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = function(["lq", "gt"], ["lq", "gt"], _list(folder), "{}")
    return Path(pairs[0]["gt_path"]).name != "a b.png"


def _cuts(init: FunctionType, opt: dict[str, object]) -> bool:
    owner = getattr(sys.modules[init.__module__], init.__qualname__.split(".")[0])
    dataset = owner.__new__(owner)
    init(dataset, opt)
    return Path(dataset.paths[0]).name != "a b.png"


def cuts_gt_names(init: FunctionType) -> bool:
    """`a b.png` becomes `a`."""
    blur = ("blur_kernel_size", "kernel_list", "kernel_prob", "blur_sigma")
    blur += ("betag_range", "betap_range", "sinc_prob")
    opt = {f"{name}{suffix}": 1 for name in blur for suffix in ("", "2")}
    opt |= {"final_sinc_prob": 1, "dataroot_gt": "gt", "io_backend": {"type": "disk"}}
    with tempfile.TemporaryDirectory() as folder:
        return _cuts(init, {**opt, "meta_info": _list(folder)})


def cuts_lq_names(init: FunctionType) -> bool:
    """`a b.png` becomes `a`."""
    opt = {"dataroot_lq": "lq", "io_backend": {"type": "disk"}}
    with tempfile.TemporaryDirectory() as folder:
        return _cuts(init, {**opt, "meta_info_file": _list(folder)})


# Operators and degradations --------------------------------------------------------


def fails_at_a_fractional_quality(function: Callable[..., object]) -> bool:
    """JPEG quality 50.5 raises."""
    import cv2  # noqa: PLC0415 (its own kind of error)

    try:
        function(np.zeros((8, 8, 3), np.float32), 50.5)
    except (TypeError, cv2.error):
        return True
    return False


def activation_needs_an_extension(function: Callable[..., object]) -> bool:
    """StyleGAN2's activation of a tensor on the CPU raises."""
    return _raises(lambda: function(torch.ones(1, 2), torch.ones(2))) is not None


def module_needs_a_gpu(kind: type[nn.Module]) -> bool:
    """`.cuda()` raises where there is no GPU."""
    return _raises(lambda: kind().cuda()) is not None


def pool_needs_a_gpu(method: Callable[..., object]) -> bool:
    """A pool for pairs on the CPU is asked of a GPU."""
    pairs = SimpleNamespace(queue_size=2, lq=torch.zeros(1, 3, 2, 2))
    pairs.gt = pairs.lq
    if _raises(lambda: method(pairs)) is not None:
        return True
    return pairs.queue_lr.device != pairs.lq.device
