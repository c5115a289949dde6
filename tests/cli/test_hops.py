"""From the command to the written file in few steps that a reader can follow."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

from PIL import Image

from paragon_archs.cli.__main__ import main


def calls(frame) -> list[str]:
    """Returns the calls of this pack on a thread's stack, the outermost first."""
    stack = traceback.extract_stack(frame)
    own = [f for f in stack if "paragon_archs" in Path(f.filename).parts]
    return [f"{Path(f.filename).stem}.{f.name}" for f in own]


def test_the_command_reaches_the_file_in_twelve_calls(tmp_path, monkeypatch):
    seen: list[list[str]] = []
    replace = os.replace

    def note(source, target):
        if Path(target).name == "a_x4.png":
            outer = calls(sys._current_frames()[threading.main_thread().ident])
            # A thread writes what the run has handed over, and now waits for.
            handed = outer[: len(outer) - outer[::-1].index("jobs.run")]
            seen.append([*handed, *calls(sys._getframe(1))])
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    Image.new("RGB", (16, 12), "gray").save(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "--device", "cpu", "-q"]) == 0
    (found,) = seen
    assert found[0] == "__main__.main" and found[-1] == "files.atomic_write"
    assert len(found) <= 12, found
