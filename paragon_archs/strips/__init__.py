"""The whole image's result at bounded memory: networks run layer by layer in strips.

`graph` records what a network computes, `rules` has what each operation needs to know
of its neighborhood, `plan` cuts the record into stages between which whole maps are
kept, `engine` runs the stages strip by strip.
"""

from __future__ import annotations

from .engine import Part, Read, StripEngine
from .graph import UntraceableError, record

__all__ = ["Part", "Read", "StripEngine", "UntraceableError", "record"]
