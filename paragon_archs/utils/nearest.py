"""The name that was meant, for messages about one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(
    name: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6
) -> list[str]:
    """Returns up to `count` of `names` that are close to `name`, the closest first.

    Where none is, upper and lower case are taken for the same.

    Args:
        name: What was given.
        names: What exists.
        count: How many to return.
        cutoff: Least likeness, from 0 to 1.
    """
    known = list(names)
    close = difflib.get_close_matches(name, known, count, cutoff)
    if close:
        return close
    folded = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), folded, count, cutoff)
    return [folded[entry] for entry in close]


def did_you_mean(
    name: str,
    names: Iterable[str],
    otherwise: str = "",
    count: int = 1,
    cutoff: float = 0.6,
) -> str:
    """Returns "Did you mean X?", or `otherwise` where nothing is close.

    Args:
        name: What was given.
        names: What exists.
        otherwise: What to do instead.
        count: How many to name.
        cutoff: Least likeness, from 0 to 1.
    """
    close = nearest(name, names, count, cutoff)
    return f"Did you mean {' or '.join(close)}?" if close else otherwise
