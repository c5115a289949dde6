"""Packages that may be absent."""

from __future__ import annotations

import pytest

from paragon_archs.utils import optional
from paragon_archs.utils.optional import need


def test_an_absent_package_names_what_brings_it():
    with pytest.raises(ImportError, match=r"`pip install 'paragon-archs\[onnx\]'`"):
        need("a_package_that_nobody_has.part", "tests", "paragon-archs[onnx]")


def test_a_broken_package_says_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import what_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="what_it_needs"):
        need("broken_package", "tests", "broken-package")


def test_what_an_extra_brings_is_asked_for_by_the_extra(root):
    text = (root / "pyproject.toml").read_text()
    for package, extra in optional._EXTRAS.items():
        listed = text.partition(f"\n{extra} = [")[2].partition("\n\n")[0]
        assert f'"{package}>=' in listed
