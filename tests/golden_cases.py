"""Golden vectors: deterministic weights, a deterministic input, and what a network must answer.

A case is one JSON file: which network (`arch`, `kwargs`), the name and shape of every entry of its state
dict, the input's shape and seed, and samples of the float64 output. `check(case, model)` fills `model`
with the case's weights and compares. Weights come from the entry's own name, so nothing but names and
shapes has to agree for two implementations to hold the same network.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FIXED = ("base.", "relative_position_index")  # constants that a network builds itself


def weights(name: str, shape: tuple[int, ...], salt: int = 0) -> torch.Tensor:
    """Values of the state-dict entry `name`: float64, the same on every machine."""
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), salt]))
    z = rng.standard_normal(shape if shape else (1,))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "gamma" or leaf in ("mix_weight", "residual_scale", "detail_gain"):
        z = 0.5 + 0.1 * z
    elif leaf == "relative_position_bias_table":
        z = 0.2 * z
    elif leaf == "bias":
        z = 0.1 * z
    elif leaf in ("weight", "scale") and (
        len(shape) == 1 or (len(shape) == 3 and shape[1:] == (1, 1))
    ):
        z = 1.0 + 0.1 * z  # normalisation scales
    else:
        z = z / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(z, dtype=np.float64)).reshape(shape)


def fill(
    model: torch.nn.Module, salt: int = 0, keep: set[str] = frozenset()
) -> torch.nn.Module:
    """Gives every entry of the state dict its golden value, except constants and `keep`. Turns the model to float64."""
    model = model.double().eval()
    state = model.state_dict()
    for name, value in state.items():
        if name in keep or any(name.startswith(f) or name.endswith(f) for f in FIXED):
            continue
        if value.is_floating_point():
            state[name] = weights(name, tuple(value.shape), salt)
    model.load_state_dict(state, strict=True)
    return model


def image(shape: list[int], seed: int) -> torch.Tensor:
    """An input in [0, 1], float64."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape))


def samples(tensor: torch.Tensor, seed: int = 7, count: int = 64) -> dict:
    """What is kept of an output: its shape, mean, standard deviation and `count` values at seeded places."""
    flat = tensor.detach().double().flatten().numpy()
    places = np.random.Generator(np.random.PCG64(seed)).integers(0, flat.size, count)
    return {
        "shape": list(tensor.shape),
        "mean": float(flat.mean()),
        "std": float(flat.std()),
        "places": places.tolist(),
        "values": [float(v) for v in flat[places]],
    }


def compare(got: torch.Tensor, want: dict, tolerance: float = 1e-5) -> float:
    """Largest error over the kept values, relative to the output's spread. Raises ValueError past `tolerance`."""
    if list(got.shape) != want["shape"]:
        raise ValueError(f"shape {list(got.shape)}, expected {want['shape']}")
    flat = got.detach().double().flatten().numpy()
    error = float(
        np.abs(flat[want["places"]] - np.asarray(want["values"])).max() / want["std"]
    )
    if not error <= tolerance:
        raise ValueError(
            f"differs by {error:.3g} of the output's standard deviation (allowed {tolerance:g})"
        )
    return error


def load(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def check(case: dict, model: torch.nn.Module, tolerance: float = 1e-5) -> float:
    """Holds `model` (freshly built with the case's arguments) to the case: names, shapes, and every output.

    Entries that the case does not know may be listed in `case["optional"]`; they keep their values.
    """
    have = {name: list(value.shape) for name, value in model.state_dict().items()}
    optional = set(case.get("optional", []))
    missing = {n for n in case["state"] if have.get(n) != case["state"][n]}
    extra = set(have) - set(case["state"]) - optional
    if missing or extra:
        raise ValueError(
            f"state dict differs: missing or misshapen {sorted(missing)[:5]}, unknown {sorted(extra)[:5]}"
        )
    fill(model, case["salt"], optional)
    x = image(case["input"]["shape"], case["input"]["seed"])
    with torch.no_grad():
        if "video" in case:
            first, features = model(x, feature_tap=True)
            y = image(case["input"]["shape"], case["input"]["seed"] + 1)
            second, blended = model(
                y, feature_tap=True, prev_feat=features, alpha=case["video"]["alpha"]
            )
            return max(
                compare(first, case["output"], tolerance),
                compare(features, case["video"]["features"], tolerance),
                compare(second, case["video"]["second"], tolerance),
                compare(blended, case["video"]["blended"], tolerance),
            )
        return compare(model(x), case["output"], tolerance)
