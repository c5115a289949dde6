"""`paragon doctor` prints what a bug report needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paragon_archs import __version__
from paragon_archs.cli.__main__ import main
from paragon_archs.host.table import MODULES, PATCHES
from paragon_archs.utils.registry import load_host


def test_the_report_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["system"]["paragon_archs"] == __version__
    assert report["packages"]["torch"] == torch.__version__.split("+")[0]
    assert "threads" in report["devices"]["CPU"]
    assert len([k for k in report["devices"] if k.startswith("cuda:")]) == (
        torch.cuda.device_count()
    )
    assert {"onnxruntime", "TensorRT", "FFmpeg (PyAV)"} == set(report["runtimes"])
    assert report["hosts"]["spandrel"].startswith("usable, 5 architectures")
    usable = "usable" if load_host() else "not installed"
    assert report["hosts"]["BasicSR"] == usable
    if usable == "usable":
        rows = [(p, t) for p in (*MODULES, *PATCHES) for t in p.targets]
        assert len(report["repairs of BasicSR"]) == len(rows)
        words = {line.split(":")[0] for line in report["repairs of BasicSR"].values()}
        assert words <= {"needed", "not needed", "not installed"}


def test_a_fresh_process_finds_every_row_of_the_host_needed(
    root: Path, tmp_path: Path
) -> None:
    """Nothing is repaired before the report looks."""
    if not load_host():
        pytest.skip("needs BasicSR")
    done = subprocess.run(
        [sys.executable, "-m", "paragon_archs.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert str(Path.home()) not in done.stdout
    rows = done.stdout.partition("repairs of BasicSR:")[2].splitlines()
    unneeded = [r for r in rows if "  not needed: " in r and ":" in r.split()[0]]
    assert not unneeded or torch.cuda.is_available()  # some fix what needs a GPU
    assert sum("  needed: " in row for row in rows) > 25
