"""Runs `paragon upscale` in a process of its own, and reads its progress.

The page does what the command does because it is the command: the same settings, the
same output. A process can be stopped at any moment, and gives its memory back.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_PATIENCE = 30.0  # seconds that a process has to stop by itself, on a busy machine too


@dataclass(frozen=True)
class Settings:
    """What the page lets a user choose; empty values are the command's defaults."""

    model: str = ""
    scale: int | None = None
    device: str = "auto"
    memory: str = ""
    format: str = "png"
    quality: float | None = None
    scale_to: str = ""
    tta: bool = False
    crf: float | None = None

    def flags(self) -> list[str]:
        """Returns the command's flags."""
        flags = [f"--device={self.device}", f"--format={self.format}"]
        for name, value in (
            ("model", self.model),
            ("memory", self.memory.strip()),
            ("scale-to", self.scale_to.strip()),
        ):
            if value:
                flags.append(f"--{name}={value}")
        if self.scale is not None:
            flags.append(f"--scale={self.scale}")
        if self.quality is not None:
            flags.append(f"--quality={self.quality:.0f}")
        if self.crf is not None:
            flags.append(f"--crf={self.crf:.0f}")
        if self.tta:
            flags.append("--tta")
        return flags


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        fraction: Share that is done; None before the first count.
        eta: Seconds left; None when unknown.
        count: Such as `3 of 24 images`.
    """

    fraction: float | None = None
    eta: float | None = None
    count: str = ""

    @staticmethod
    def parse(line: str) -> Progress | None:
        """Reads a line of `--progress json`; None for any other line."""
        if not line.startswith("{"):
            return None
        try:
            found = json.loads(line)
            total = f" of {found['total']:g}" if found["total"] else ""
            count = f"{found['done']:g}{total} {found['unit']}s"
            return Progress(found["fraction"], found["eta"], count)
        except (ValueError, KeyError, TypeError):
            return None


class Run:
    """One `paragon upscale`, as a context: leaving it early stops the process.

    Args:
        inputs: Files and folders.
        output: File or folder.
        settings: What the user chose.
        more: Further flags, such as `--resume`.

    Attributes:
        messages: Lines that are no progress, without `error: `.
        stopped: Whether `stop` ended it.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        output: Path,
        settings: Settings,
        more: Sequence[str] = (),
    ) -> None:
        self.messages: list[str] = []
        self.stopped = False
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "paragon_archs", "upscale"),
                *map(str, inputs),
                *("-o", str(output), "--progress", "json"),
                *settings.flags(),
                *more,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def progress(self) -> Iterator[Progress]:
        """Yields where the run stands until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = Progress.parse(line)
            if found is not None:
                yield found
            elif line.strip():
                self.messages.append(line.strip().removeprefix("error: "))
        self._process.wait()

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Stops the process, as Ctrl-C does; nothing half-written stays."""
        if self._process.poll() is not None:
            return
        self.stopped = True
        interrupt = signal.SIGTERM if sys.platform == "win32" else signal.SIGINT
        self._process.send_signal(interrupt)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
