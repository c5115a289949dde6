"""The house keeps its shape: imports go one way, arch files stand alone."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent.parent / "paragon_archs"
FILES = sorted(PACK.rglob("*.py"))
ARCH_FILES = sorted((PACK / "archs").glob("*_arch.py"))

# A room imports rooms of lower ranks only: from the tensor's side to the user's.
ROOMS = (
    "utils archs fuse deploy loaders weights checkpoint media strips export inference "
    "optim config losses evaluation metrics data engine host models integrations "
    "ui cli __main__"
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


def modules():
    """Maps the package's dotted names to files; a package is its `__init__`."""
    names = {}
    for file in FILES:
        parts = ("paragon_archs", *file.relative_to(PACK).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def imported(file, known):
    """Yields module and name of every import of this package, lazy ones too.

    What only type checkers see is passed over. The name is empty where a module is
    imported as a whole.
    """
    package = ("paragon_archs", *file.relative_to(PACK).parts[:-1])
    tree = ast.parse(file.read_text())
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in unseen:
            continue
        start = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join([*start, *([node.module] if node.module else [])])
        for alias in node.names:
            if f"{module}.{alias.name}" in known:
                yield f"{module}.{alias.name}", ""
            elif module in known:
                yield module, alias.name


@pytest.mark.parametrize("file", FILES, ids=identity)
def test_no_private_name_of_another_module(file):
    known = modules()
    for module, name in imported(file, known):
        private = name.startswith("_") and name != "__version__"
        assert not private, f"{identity(file)} takes {name} of {module}"


def test_imports_have_no_circle_of_files():
    known = modules()
    graph = {
        module: {other for other, _ in imported(file, known)} - {module}
        for module, file in known.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


# What may be longer, and why.
LONG_FILES = {
    "archs/paragonsr2_arch.py": "an arch file stays one file to copy",
    "archs/paragonsr_arch.py": "an arch file stays one file to copy",
    "media/containers.py": "one way of every kind of stream into every container",
    "models/paragon_model.py": "one class of small methods, which subclasses override",
}
LONG_FUNCTIONS = {
    "archs/paragonsr2_arch.py:__init__": "one argument and one check a line",
    "cli/upscale.py:flags": "one flag a line",
    "export/onnx.py:export_onnx": "half of it documents its arguments",
    "inference/planning.py:plan": "half of it documents its arguments",
    "inference/video.py:run_video": "half of it documents what is kept",
    "integrations/options.py:redux_train": "the file that it writes, line by line",
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 60


@pytest.mark.parametrize("file", FILES, ids=identity)
def test_files_and_functions_are_short(file):
    text, name = file.read_text(), file.relative_to(PACK).as_posix()
    assert text.count("\n") <= LINES_OF_A_FILE or name in LONG_FILES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            short = length <= LINES_OF_A_FUNCTION
            assert short or f"{name}:{node.name}" in LONG_FUNCTIONS, node.name
