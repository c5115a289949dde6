"""Meta-info files: lists of the images of a data set, in BasicSR's forms."""

from __future__ import annotations

import re
from pathlib import Path

# `name.png (480,480,3)`: the image's shape, and lmdb's compression level after it.
_SHAPE = re.compile(r"\s+\(\s*\d+(\s*,\s*\d+)*\s*\)(\s+\d+)?$")


def listed_names(file: str | Path) -> list[str]:
    """Returns the images that a meta-info file names, one a line.

    A name may hold blanks and sub-folders. A shape behind it and empty lines are
    passed over.

    Raises:
        UnicodeDecodeError: when the file is no text.
        OSError: when it cannot be read.
    """
    lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    return [_SHAPE.sub("", line.strip()) for line in lines if line.strip()]
