"""Validation images that are too large for one pass, with the whole image's result."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from ..inference.memory import budget as free_for_maps
from ..inference.memory import parse_memory
from ..strips import StripEngine, UntraceableError
from ..utils.oom import is_out_of_memory, release

logger = logging.getLogger("basicsr")


def check_limit(limit: str | None) -> None:
    """Holds `val:max_memory` to what it may be, before the first iteration.

    Raises:
        ValueError: when it is no size.
    """
    try:
        parse_memory(limit or "auto")
    except ValueError as error:
        raise ValueError(
            f"Expected val:max_memory to be a size like 4G or 800M, but got {limit!r}. "
            "Correct it, or leave it out to validate whole images at once."
        ) from error


@torch.inference_mode()
def run_within(network: nn.Module, x: Tensor, limit: str | None) -> Tensor:
    """Runs a network on whole images, strip by strip where they would not fit.

    The strips' result is that of the whole image, networks with statistics of the
    whole image included. A network whose rows cannot be followed runs whole, whatever
    the limit.

    Args:
        network: In eval mode.
        x: Images (B, C, H, W).
        limit: Most memory of the features, as `4G`; with None or `auto` images run
            whole, and in strips where the device turns out to be full.

    Returns:
        The network's result.
    """
    given = parse_memory(limit) if limit else None
    if given is None and (whole := _tried(network, x)) is not None:
        return whole
    budget = given or free_for_maps(None, x.device) / 2
    size = (x.shape[2], x.shape[3])
    try:
        # Anew each time: what is folded out of weights is as old as the record.
        engine = StripEngine(network, (x.shape[1],))
    except UntraceableError as error:
        logger.info("Validation runs whole, beyond the memory: %s.", error)
        return network(x)
    fits = given is not None and engine.peak(size, x.shape[0]) <= budget
    if fits and (whole := _tried(network, x)) is not None:
        return whole
    if not type(network).__module__.startswith("paragon_archs.") and not engine.agrees(
        network
    ):
        logger.info("Validation runs whole, beyond the memory.")
        return network(x)
    return _in_strips(engine, x, budget)


def _tried(network: nn.Module, x: Tensor) -> Tensor | None:
    """Returns the result of a run in one piece; None where memory is full."""
    try:
        return network(x)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    logger.warning(
        "A validation image of %d x %d does not fit into memory: going on in strips, "
        "with the same result. val:max_memory takes them at once.",
        x.shape[3],
        x.shape[2],
    )
    release(x.device)
    return None


def _in_strips(engine: StripEngine, x: Tensor, budget: float) -> Tensor:
    size, result = (x.shape[2], x.shape[3]), torch.empty(0)

    def read(low: int, high: int) -> Tensor:
        return x[:, :, low:high]

    for low, high, rows in engine.run([read], size, budget, batch=x.shape[0]):
        factor = rows.shape[2] // (high - low)
        if not result.numel():
            shape = (*rows.shape[:2], size[0] * factor, rows.shape[3])
            result = rows.new_empty(shape)
        result[:, :, low * factor : high * factor] = rows
    return result
