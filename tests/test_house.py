"""The house keeps its shape: imports go one way, arch files stand alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent.parent / "paragon_archs"
FILES = sorted(PACK.rglob("*.py"))
ARCH_FILES = sorted((PACK / "archs").glob("*_arch.py"))

# A room imports rooms of lower ranks only: from the tensor's side to the user's.
ROOMS = (
    "utils archs fuse deploy loaders checkpoint weights media strips inference export "
    "optim config losses evaluation metrics data engine host models integrations cli "
    "__main__"
).split()
RANKS = {room: rank for rank, room in enumerate(ROOMS)}
MAY_IMPORT_BASICSR = ("utils/registry.py", "models", "data", "losses", "metrics")
MAY_IMPORT_BASICSR += ("engine", "host", "optim", "cli/train.py", "cli/test.py")


def imports(file):
    """Yields the dotted names that a file imports, relative ones resolved."""
    package = ("paragon_archs", *file.relative_to(PACK).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            if module == "paragon_archs":
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def identity(file):
    return str(file.relative_to(PACK))


@pytest.mark.parametrize("file", FILES, ids=identity)
def test_imports_go_one_way(file):
    room = file.relative_to(PACK).parts[0].removesuffix(".py")
    if room == "__init__":
        reached = {n.split(".")[1] for n in imports(file) if "paragon_archs." in n}
        assert not reached & {"loaders", "checkpoint", "inference", "export", "cli"}
        return
    assert room in RANKS, f"a new room: give {room} its rank"
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "paragon_archs" and len(parts) > 1 and parts[1] != room:
            if parts[1] == "__version__":
                continue
            assert RANKS[parts[1]] < RANKS[room], f"{room} reaches up to {name}"
        if parts[0] == "basicsr":
            here = file.relative_to(PACK).as_posix()
            assert here.startswith(MAY_IMPORT_BASICSR), f"{here} touches basicsr"


@pytest.mark.parametrize("file", ARCH_FILES, ids=identity)
def test_an_arch_file_needs_torch_alone(file):
    allowed = {"torch", "__future__", *sys.stdlib_module_names}
    for name in imports(file):
        assert name == "paragon_archs.utils.registry" or name.split(".")[0] in allowed


def test_equal_names_across_arch_files_have_equal_source():
    seen = {}
    for file in ARCH_FILES:
        text = file.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                source = ast.get_source_segment(text, node)
                where, other = seen.setdefault(node.name, (file.name, source))
                assert source == other, f"{node.name}: {where} and {file.name} differ"
    assert len(seen) > 20


def test_arch_files_differ_by_more_than_case_for_hosts_that_fold_it():
    names = [
        node.name
        for file in ARCH_FILES
        for node in ast.parse(file.read_text()).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and any("ARCH_REGISTRY" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert len({name.lower() for name in names}) == len(names)
