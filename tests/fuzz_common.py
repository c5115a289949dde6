"""Running many hostile files in a child process, each within bounds."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ALLOWED_BYTES = 1 << 30  # that one file may take on top of what the process has
ALLOWED_SECONDS = 10  # of processor time; six times that where it waits

Result = dict[str, Any]


class TimeOut(BaseException):
    """A file took too long."""


def run_each(files: Iterable[Path], call: Callable[[Path], int]) -> None:
    """Calls a command for every file, prints what came of each as a line of JSON.

    Everything that the command imports must be imported by now.
    """

    def stop(*_: object) -> None:
        raise TimeOut

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for file in files:
        out, err = io.StringIO(), io.StringIO()
        code: Any
        signal.setitimer(signal.ITIMER_PROF, ALLOWED_SECONDS)
        signal.alarm(6 * ALLOWED_SECONDS)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = call(file)
        except TimeOut:
            code = "time-out"
        except BaseException as error:
            code = repr(error)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        line = {
            "file": file.name,
            "code": code,
            "err": err.getvalue(),
            "memory": memory,
        }
        print(json.dumps(line), flush=True)


def in_child(script: str, folder: Path) -> list[Result]:
    """Runs `script open FOLDER`; returns what came of every file that it reached."""
    child = subprocess.run(
        [sys.executable, script, "open", str(folder)],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    return [json.loads(line) for line in child.stdout.splitlines()]


def right(result: Result) -> bool:
    """True for a file that is right after all, or the exit code 2 and sentences."""
    errors = [line for line in result["err"].splitlines() if line.startswith("error: ")]
    sentences = all(line.startswith("error: Expected ") for line in errors)
    whole = len(errors) == result["err"].count("\n")
    return result["code"] == 0 or (
        result["code"] == 2 and bool(errors) and sentences and whole
    )


def report(
    results: list[Result], count: int, passes: Callable[[Result], bool] = right
) -> None:
    """Prints how many files came out how, and those that do not pass."""
    counts = collections.Counter(str(r["code"]) for r in results)
    print(f"{len(results)} of {count} tried, by exit code {dict(counts)}")
    print("most memory on top, MiB:", max(r["memory"] for r in results) >> 10)
    for result in results:
        if not passes(result):
            print(result)
