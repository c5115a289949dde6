"""Every network against its golden cases: names, shapes, outputs, parameter counts."""

from __future__ import annotations

from pathlib import Path

import golden_cases as golden
import pytest

import paragon_archs

CASES = sorted((Path(__file__).parent.parent / "golden").glob("*.json"))
# Entries beyond the released layout, which may be missing from a file.
OPTIONAL = {"paragonsr2": ["settings"]}


@pytest.mark.parametrize("file", CASES, ids=lambda f: f.stem)
def test_golden(file):
    case = golden.load(file)
    case["optional"] = OPTIONAL.get(case["arch"].split("_")[0], [])
    model = paragon_archs.create(case["arch"], **case["kwargs"])
    assert sum(p.numel() for p in model.parameters()) == case["params"]
    golden.check(case, model)
