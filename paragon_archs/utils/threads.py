"""How a process's threads wait for each other."""

from __future__ import annotations

import os

# OpenMP's own variable, and those of GNU's and of LLVM's and Intel's runtimes.
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> None:
    """Lets threads sleep, not spin, at OpenMP's barriers; call it before torch loads.

    A spinning thread takes its core from the thread that it waits for, as soon as other
    processes compute as well. A value that the user set stays.
    """
    if not any(name in os.environ for name in _VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
