"""The only reader and writer of weight files."""

from __future__ import annotations

import contextlib
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from spandrel import (
    MAIN_REGISTRY,
    ArchRegistry,
    ImageModelDescriptor,
    UnsupportedModelError,
    canonicalize_state_dict,
)
from torch import Tensor, nn

from .loaders import PARAGON_REGISTRY, PackArchitecture
from .utils.budget import BudgetError, CreationBudget
from .utils.files import atomic_write
from .utils.weight_header import (
    MAX_TENSORS,
    HeaderError,
    check_pickle,
    check_safetensors,
)
from .utils.weight_tensors import check_kinds, check_tensors
from .weights import resolve

PICKLES = (".pth", ".pt", ".ckpt", ".tar", ".state")
"""Extensions that hold a pickle; `.pth.tar` ends in one of them too."""

_COMPILED = "_orig_mod."
_SPARE = 1 << 26  # bytes or numbers that small things may take
_TEMPORARY = "Use a .safetensors or a .pth file."


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads names and tensors of a weight file; nothing in it is executed.

    Wrappers (`params_ema`, `params`, `state_dict`, ...) and the prefix `module.` are
    taken off; of several, EMA weights win.

    Args:
        path: A `.safetensors`, `.pth`, `.pt`, `.ckpt` or `.pth.tar` file, or the name
            of a shipped model.

    Returns:
        Names and tensors, on the CPU.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is cut off, claims more than it holds, holds other things
            than tensors, or has another extension.
    """
    file = resolve(path)
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        content = _read_safetensors(file)
    elif suffix in PICKLES:
        content = read_pickle(file)
    else:
        raise ValueError(
            f"Expected the extension of a weight file to be .safetensors or one of "
            f"{', '.join(PICKLES)}, but got {str(file)!r}. {_TEMPORARY}"
        )
    try:
        state = unwrapped(content) if isinstance(content, dict) else {}
    except AttributeError:  # of keys that are no names, such as an optimizer's
        state = {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(
            f"Expected {str(file)!r} to hold a network's weights, but it holds no "
            f"tensors by name. {_TEMPORARY}"
        )
    check_tensors(tensors, repr(str(file)))
    size, claimed = file.stat().st_size, sum(map(_bytes_of, tensors.values()))
    if claimed > size + _SPARE:
        raise ValueError(
            f"Expected {str(file)!r} to hold its tensors, but {size} bytes claim to be "
            f"{claimed}. Get or save it anew."
        )
    return tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        check_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            count = len(opened.keys())
        if count > MAX_TENSORS:
            raise HeaderError(f"a file of {count:,} tensors, which no network has")
        return safetensors.torch.load_file(file)
    except HeaderError as error:
        raise _stranger(file, error) from error
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch lacks
        raise ValueError(
            f"Expected {str(file)!r} to be a whole safetensors file, but it is not "
            f"({error}). Get or save it anew."
        ) from error


def _stranger(file: Path, error: HeaderError) -> ValueError:
    return ValueError(f"Expected {str(file)!r} to be a weight file, but it is {error}.")


def _bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def unwrapped(content: Mapping[str, object]) -> dict[str, Any]:
    """Returns names and tensors without wrappers and without a common prefix.

    As spandrel does it, and without the prefix that `torch.compile` leaves.
    """
    state = canonicalize_state_dict(dict(content))
    while state and all(name.startswith(_COMPILED) for name in state):
        bare = {name.removeprefix(_COMPILED): v for name, v in state.items()}
        state = canonicalize_state_dict(bare)
    return state


def read_pickle(path: str | Path) -> Any:
    """Reads a file of torch onto the CPU: tensors and plain containers, no code.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is cut off, damaged or something else, claims more than it
            holds, or holds objects that would run code.
    """
    file = Path(path)
    try:
        check_pickle(file)
        with warnings.catch_warnings():  # of pickle protocols
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except HeaderError as error:
        raise _stranger(file, error) from error
    except pickle.UnpicklingError as error:
        # torch refuses anything but tensors and plain containers, and names it.
        raise ValueError(
            f"Expected {str(file)!r} to hold tensors only, but it is no pickle of "
            "tensors, or holds objects that would run code when opened. Nothing was "
            "executed; ask its author for a .safetensors file."
        ) from error
    except OSError:
        raise
    # Whatever else torch's reader raises, the file made it do so.
    except Exception as error:
        raise ValueError(
            f"Expected {str(file)!r} to be a whole checkpoint, but it is cut off or "
            "damaged. Get or save it anew."
        ) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file; empty for other files."""
    file = resolve(path)
    if file.suffix.lower() != ".safetensors":
        return {}
    try:
        check_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except HeaderError as error:
        raise _stranger(file, error) from error
    except SafetensorError as error:
        raise ValueError(
            f"Expected {str(file)!r} to be a whole safetensors file, but it is not "
            f"({error}). Get or save it anew."
        ) from error


def load_model(
    path_or_state_dict: str | Path | Mapping[str, object],
    device: str | torch.device = "cpu",
    overrides: Mapping[str, object] | None = None,
) -> ImageModelDescriptor:
    """Opens a network: its architecture and hyperparameters come from the tensors.

    Args:
        path_or_state_dict: A weight file, or a state dict (wrapped or not).
        device: Where the network goes.
        overrides: Constructor arguments that replace what was read; for values that
            weights do not record, such as `window_size`.

    Returns:
        spandrel's descriptor; calling it with (B, C, H, W) in [0, 1] upscales. The
        pack's networks come first, then every architecture that spandrel knows.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no whole weight file, of no known network, or a tensor
            does not fit.
        TypeError: when an override is no argument of that network.
    """
    if isinstance(path_or_state_dict, (str, Path)):
        name = repr(str(path_or_state_dict))
        state = read_state_dict(path_or_state_dict)
    else:
        name = "the state dict"
        state = unwrapped(path_or_state_dict)
        check_tensors(state, name)
    architecture = find_architecture(state)
    numbers = sum(v.numel() for v in state.values() if isinstance(v, Tensor))
    with _explained(name), CreationBudget(2 * numbers + _SPARE, 2 * len(state) + 2000):
        if architecture is not None:
            descriptor = architecture.load(state, overrides)
        else:
            descriptor = _load_foreign(state, MAIN_REGISTRY, name, overrides)
    check_kinds(descriptor.model, state, name)
    return descriptor.to(torch.device(device)).eval()


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what building a network raises into a sentence about its weights."""
    try:
        yield
    except BudgetError as error:
        raise ValueError(
            f"Expected {name} to hold every tensor of the network that its first ones "
            "describe, but that is far larger than the file. Check that the file is "
            "whole and unedited."
        ) from error
    except RuntimeError as error:
        # The first line only repeats the class; the second names the tensor.
        detail = " ".join(str(error).split("\n")[1:2]).strip() or str(error)
        raise ValueError(
            f"Expected the tensors of {name} to fit the network that their names "
            f"describe, but one does not: {detail} Check that the file is whole and "
            "unedited."
        ) from error
    except (LookupError, ArithmeticError, AttributeError) as error:
        raise ValueError(
            f"Expected {name} to hold every tensor of its network, but {error} is "
            "missing or misshapen. Check that the file is whole and unedited."
        ) from error
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{error} This was met in {name}.") from error


def _load_foreign(
    state: dict[str, Any],
    registry: ArchRegistry,
    name: str,
    overrides: Mapping[str, object] | None,
) -> ImageModelDescriptor:
    try:
        descriptor = registry.load(state)
    except UnsupportedModelError as error:
        raise ValueError(
            f"Expected {name} to hold a network of this pack or of spandrel, but its "
            "tensors match none. `paragon variants` lists this pack's."
        ) from error
    except BudgetError:
        raise
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        # A detector of spandrel took it by some names; the rest does not fit.
        raise ValueError(
            f"Expected {name} to hold every tensor of the network that it looks like, "
            f"but it does not ({error}). Check that the file is whole and unedited."
        ) from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ValueError(
            f"Expected {name} to hold a network from image to image, but it is a "
            f"{descriptor.architecture.name} with other inputs. Use another model."
        )
    if overrides:
        raise ValueError(
            f"Expected overrides for a network of this pack only, but {name} is a "
            f"{descriptor.architecture.name}. Leave {', '.join(overrides)} out."
        )
    return descriptor


def find_architecture(state: Mapping[str, object]) -> PackArchitecture | None:
    """Returns the pack's loader that detects `state`, or None."""
    for support in PARAGON_REGISTRY:
        if support.detect(dict(state)):
            assert isinstance(support.architecture, PackArchitecture)
            return support.architecture
    return None


def save_model(
    model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a network's weights; the file is whole or not there.

    Args:
        model: The network, training or fused form.
        path: `.safetensors` (with metadata) or `.pth` (`{"params": ...}`).
        metadata: Added to what is always written: architecture, arguments, scale.

    Raises:
        ValueError: for another extension, or weights that are not finite.
    """
    save_state_dict(model.state_dict(), path, {**describe(model), **(metadata or {})})


def describe(model: nn.Module) -> dict[str, str]:
    """Returns the metadata of a network: its class, arguments (JSON) and scale."""
    arguments = getattr(model, "hyperparameters", None)
    described = {"architecture": type(model).__name__}
    if isinstance(arguments, dict):
        # Networks of others may take a class, as SwinIR its norm.
        described["arguments"] = json.dumps(arguments, default=str)
        if "scale" in arguments:
            described["scale"] = str(arguments["scale"])
    return described


def save_state_dict(
    state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]
) -> None:
    """Writes names and tensors as `save_model` does; `metadata` is written as it is."""
    file = Path(path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise ValueError(
            f"Expected finite weights, but got a non-finite value in {bad[0]!r}. "
            "Nothing was written."
        )
    if file.suffix not in (".safetensors", ".pth"):
        raise ValueError(
            f"Expected the output's extension to be .safetensors or .pth, but got "
            f"{str(file)!r}. {_TEMPORARY}"
        )
    if file.suffix == ".pth":
        write_pickle({"params": tensors, "metadata": dict(metadata)}, file)
        return
    # A tensor that shares memory with another cannot be stored; copies can.
    copies = {k: v.clone() for k, v in tensors.items()}
    with atomic_write(file) as temporary:
        try:
            safetensors.torch.save_file(copies, temporary, dict(metadata))
        except SafetensorError as error:  # what it raises when the disk is full
            raise OSError(f"{str(file)!r} could not be written: {error}") from error


def write_pickle(content: object, path: str | Path) -> None:
    """Writes tensors and plain containers as torch does; whole or not there.

    Raises:
        OSError: when the disk is full or the folder cannot be written.
    """
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what it raises when the disk is full
            reason = str(error).split("\n")[0]
            raise OSError(f"{str(path)!r} could not be written: {reason}") from error
