"""How many rows the strips of a plan have, and how much memory they take."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from .plan import Plan

logger = logging.getLogger(__name__)

LEAST_ROWS = 8
_MARGINS = 8  # rows of a strip with its margins, at least, in margins
_HIGHEST = 3  # what a strip takes for its margins' sake at the most, in `most`
_WORTH = 0.85  # share of the work at which more sweeps are taken
_SHORT = 1e9  # added to the work of a plan that does not fit


def choose(
    plans: Sequence[Plan],
    size: tuple[int, int],
    row: int,
    budget: float,
    most: float,
) -> tuple[Plan, list[int]]:
    """Returns the plan, and the strips' rows per stage, of the least work.

    Args:
        plans: The first has the fewest sweeps: more of them keep more whole maps.
        size: Height and width of the inputs.
        row: Bytes of one value per pixel, one row.
        budget: Bytes for maps and strips.
        most: Bytes that a strip should take, however large the budget is.
    """
    height, width = size
    found = [(*_cost(plan, height, row, budget, most), plan) for plan in plans]
    least = min(found, key=lambda one: one[0])
    work, rows, plan = least if least[0] < _WORTH * found[0][0] else found[0]
    if work >= _SHORT:
        logger.warning(
            "%d x %d pixels take more memory than the %.2fG that are left; going "
            "on with as little as possible",
            width,
            height,
            budget / 2**30,
        )
    return plan, rows


def _cost(
    plan: Plan, height: int, row: int, budget: float, most: float
) -> tuple[float, list[int]]:
    """Returns the work of a plan, and the rows of each stage's strips."""
    left = budget - plan.maps * row * height
    rows, work = [], 0.0
    for stage in plan.stages:
        # Wide margins need high strips, whatever is the best size otherwise.
        high = min(_MARGINS * stage.margin * stage.peak * row, _HIGHEST * most)
        wanted = int(min(left, max(most, high)) / (stage.peak * row))
        wanted -= 2 * stage.margin
        count = math.ceil(height / max(wanted, LEAST_ROWS))
        rows.append(math.ceil(height / count))  # strips of one size
        twice = 2 * stage.margin * (count - 1) / height
        work += stage.work * (1 + twice) + (wanted < LEAST_ROWS) * _SHORT
    return work, rows


def least_bytes(plan: Plan, height: int, row: int) -> float:
    """Returns about how many bytes a plan takes at the least."""
    return max(
        plan.maps * row * height
        + stage.peak * row * min(height, LEAST_ROWS + 2 * stage.margin)
        for stage in plan.stages
    )
