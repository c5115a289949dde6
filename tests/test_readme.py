"""The README is held to the code."""

from __future__ import annotations

import importlib
import inspect
import re

from paragon_archs.cli.__main__ import main


def test_variants_table_is_what_the_command_prints(root, capsys):
    assert main(["variants", "--markdown"]) == 0
    assert capsys.readouterr().out in (root / "README.md").read_text()


def test_public_names_exist_with_their_signatures(root):
    text = (root / "README.md").read_text()
    rows = re.findall(r"^\| `(paragon_archs\.[\w.]+)(?:\(([^`]*)\))?` \|", text, re.M)
    assert len(rows) >= 7
    for path, arguments in rows:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if callable(found):
            names = [a.split("=")[0].strip(" *") for a in arguments.split(",")]
            parameters = list(inspect.signature(found).parameters)
            assert parameters == [n for n in names if n], path


def test_python_examples_run(root, tmp_path, monkeypatch):
    text = (root / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert examples
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
