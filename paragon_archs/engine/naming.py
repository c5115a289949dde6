"""Names of the results of a set's images, of which no two may be the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def input_paths(dataset: object) -> list[str]:
    """Returns the input path of every image of a data set of the host or the pack.

    Empty when the set does not list them.
    """
    store = getattr(dataset, "store", None)
    paths = getattr(dataset, "paths", None) or getattr(store, "files", None) or []
    return [str(p.get("lq_path", "") if isinstance(p, dict) else p) for p in paths]


def result_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns path -> name of the result: the stem, or more where others share it.

    `odd.png` and `odd.jpg` give `odd-png` and `odd-jpg`; `a/1.png` and `b/1.png` give
    `a-1` and `b-1`. A number is the last resort.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for forms in (_stem, _with_suffix, _with_folder, _whole):
        left = [p for p in dict.fromkeys(paths) if p not in names]
        counts = Counter(forms(p) for p in left)
        for path in left:
            name = forms(path)
            if counts[name] == 1 and name not in taken:
                names[path] = name
                taken.add(name)
    for path in paths:
        number = 2
        while path not in names:
            name = f"{_whole(path)}-{number}"
            if name not in taken:
                names[path] = name
                taken.add(name)
            number += 1
    return names


def _stem(path: str) -> str:
    return Path(path).stem


def _with_suffix(path: str) -> str:
    return Path(path).name.replace(".", "-")


def _with_folder(path: str) -> str:
    return f"{Path(path).parent.name}-{Path(path).stem}"


def _whole(path: str) -> str:
    return "-".join(part.replace(".", "-") for part in Path(path).parts if part != "/")
