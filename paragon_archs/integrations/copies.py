"""Files that a host gets from us: copied, checked, taken away, never overwritten."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import __version__
from ..config.loading import PACK_OPTIONS
from ..utils.files import atomic_write
from ..weights import available

PACK = Path(__file__).resolve().parents[1]
OURS = PACK / "integrations"
SCALE_FILE = OURS / "neosr" / "paragon_scale_arch.py"

_SCRIPT = '''"""`paragon {command}` under its published name and flags."""

import sys

from paragon_archs.cli.{command} import main

if __name__ == "__main__":
    sys.exit(main())
'''


def trainner_redux(checkout: Path) -> dict[Path, bytes]:
    """Returns what a traiNNer-redux checkout gets: networks, options, scripts.

    Args:
        checkout: The folder with `train.py` and `traiNNer/`.

    Raises:
        ValueError: when it is no such folder.
    """
    _expect(checkout, "traiNNer/archs", "a traiNNer-redux checkout")
    scripts = checkout / "scripts" / "paragonsr"
    return {
        **_arch_files(checkout / "traiNNer" / "archs"),
        **_files("trainner_redux/train", checkout / "options/train/paragon_archs"),
        **_files("trainner_redux/test", checkout / "options/test/paragon_archs"),
        **_files("trainner_redux/onnx", checkout / "options/onnx/paragon_archs"),
        scripts / "fuse_model.py": _SCRIPT.format(command="fuse").encode(),
        scripts / "export_onnx.py": _SCRIPT.format(command="export").encode(),
    }


def neosr(checkout: Path) -> dict[Path, bytes]:
    """Returns what a neosr checkout gets: networks and options.

    Args:
        checkout: The folder with `train.py` and `neosr/`.

    Raises:
        ValueError: when it is no such folder.
    """
    _expect(checkout, "neosr/archs", "a neosr checkout")
    return {
        **_arch_files(checkout / "neosr" / "archs"),
        checkout / "neosr" / "archs" / SCALE_FILE.name: SCALE_FILE.read_bytes(),
        **_files("neosr", checkout / "options" / "paragon_archs"),
    }


def comfyui(folder: Path) -> dict[Path, bytes]:
    """Returns what ComfyUI gets: a custom node with the pack inside it.

    The pack stands beside the node file, so nothing is installed into its Python.

    Args:
        folder: ComfyUI's folder, or its `custom_nodes`.

    Raises:
        ValueError: when it is neither.
    """
    node = _comfyui_root(folder) / "custom_nodes" / "paragon_archs"
    source = OURS / "comfyui"
    own = {file.name: file for file in source.iterdir() if file.is_file()}
    project = own.pop("pyproject.toml").read_text(encoding="utf-8")
    project = project.replace('version = "0"', f'version = "{__version__}"')
    return {
        node / "pyproject.toml": project.encode(),
        **{node / name: own[name].read_bytes() for name in sorted(own)},
        **_pack(node),
    }


def webui(folder: Path) -> dict[Path, bytes]:
    """Returns what Stable Diffusion WebUI (A1111) and Forge get: an extension.

    Args:
        folder: The folder with `webui.py` and `extensions/`.

    Raises:
        ValueError: when it is no such folder.
    """
    _expect(folder, "extensions", "the folder of A1111's or Forge's web UI")
    extension = folder / "extensions" / "paragon_archs"
    script, readme = (OURS / "webui" / n for n in ("paragon_upscaler.py", "README.md"))
    return {
        extension / readme.name: readme.read_bytes(),
        extension / "scripts" / script.name: script.read_bytes(),
        **_pack(extension),
    }


def invokeai(root: Path) -> dict[Path, bytes]:
    """Returns what InvokeAI gets: a node pack that makes our files known.

    It has another name than the pack: InvokeAI imports it as a module of that name.

    Args:
        root: The root folder of its installation, with `nodes/`.

    Raises:
        ValueError: when it is no such folder.
    """
    _expect(root, "nodes", "InvokeAI's root folder, after its first start")
    node = root / "nodes" / "paragon_archs_node"
    source = OURS / "invokeai" / "__init__.py"
    return {node / source.name: source.read_bytes(), **_pack(node)}


def _pack(folder: Path) -> dict[Path, bytes]:
    """This pack inside an add-on's folder, so that the host's Python stays as it is."""
    inside = folder / "paragon_archs"
    return {
        inside / file.relative_to(PACK): file.read_bytes()
        for file in sorted(PACK.rglob("*.py"))
    }


def comfyui_models(folder: Path) -> Path:
    """Returns where ComfyUI looks for upscale models.

    Args:
        folder: ComfyUI's folder, or its `custom_nodes`.

    Raises:
        ValueError: when it is neither.
    """
    return _comfyui_root(folder) / "models" / "upscale_models"


def _comfyui_root(folder: Path) -> Path:
    """ComfyUI's folder, given it or its `custom_nodes`."""
    root = folder.parent if folder.name == "custom_nodes" else folder
    _expect(root, "custom_nodes", "ComfyUI's folder")
    return root


HOSTS: dict[str, Callable[[Path], dict[Path, bytes]]] = {
    "trainner-redux": trainner_redux,
    "neosr": neosr,
    "comfyui": comfyui,
    "a1111": webui,
    "forge": webui,
    "invokeai": invokeai,
}
"""Hosts that get files, by the name on the command line."""

MODEL_FOLDERS: dict[str, Callable[[Path], Path]] = {
    "comfyui": comfyui_models,
    "a1111": lambda folder: folder / "models" / "Paragon",
    "forge": lambda folder: folder / "models" / "Paragon",
}
"""Hosts that look for models in a folder of theirs -> that folder."""


def shipped_weights(host: str, folder: Path) -> dict[Path, bytes]:
    """Returns the shipped weights, where a host of `MODEL_FOLDERS` looks for models."""
    target = MODEL_FOLDERS[host](folder)
    return {target / file.name: file.read_bytes() for file in available().values()}


def _expect(folder: Path, inside: str, what: str) -> None:
    if not (folder / inside).is_dir():
        raise ValueError(
            f"Expected the path to be {what}, but got {str(folder)!r}, which has no "
            f"{inside}. Name the folder that has it."
        )


def _arch_files(target: Path) -> dict[Path, bytes]:
    """The networks; discriminators stay, such a host tests every file as a network."""
    return {
        target / file.name: file.read_bytes()
        for file in sorted((PACK / "archs").glob("*_arch.py"))
        if b"\nVARIANTS:" in file.read_bytes()
    }


def _files(folder_name: str, target: Path) -> dict[Path, bytes]:
    """Option files of a folder of ours, under a folder of the host."""
    folder = next(f for f in PACK_OPTIONS if f.is_dir()) / folder_name
    return {target / file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def states(files: Mapping[Path, bytes]) -> dict[Path, str]:
    """Returns for each file whether it is `absent`, `current` or `different`."""
    return {
        path: "absent"
        if not path.exists()
        else ("current" if path.read_bytes() == content else "different")
        for path, content in files.items()
    }


def registered_names(source: bytes) -> set[str]:
    """Returns what a Python file registers as networks, in lower case.

    Args:
        source: The file's content; what is no Python registers nothing.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set()
    return {
        node.name.lower()
        for node in body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and any("REGISTRY.register" in ast.unparse(d) for d in node.decorator_list)
    }


def rivals(files: Mapping[Path, bytes]) -> dict[Path, str]:
    """Returns the host's own files that register a name of ours -> one such name.

    A host imports every `*_arch.py` of a folder, and ends at a name that comes twice.
    """
    archs = {p: c for p, c in files.items() if p.name.endswith("_arch.py")}
    ours = {name for content in archs.values() for name in registered_names(content)}
    found = {}
    for folder in {path.parent for path in archs}:
        for file in sorted(folder.glob("*_arch.py")):
            shared = ours & registered_names(file.read_bytes())
            if file not in files and shared:
                found[file] = min(shared)
    return found


def place(files: Mapping[Path, bytes], overwrite: bool = False) -> int:
    """Writes the files that are not there yet; each is whole or not there.

    Args:
        files: Paths and contents.
        overwrite: Whether files that differ are replaced, and the host's own files
            that register a name of ours set aside as `NAME.py.replaced`.

    Returns:
        How many were written.

    Raises:
        ValueError: when a file of that name with other content is there, or one that
            registers a name of ours; then nothing is written.
    """
    others = rivals(files)
    for file, name in others.items():
        if not overwrite:
            raise ValueError(
                f"Expected no other network named {name!r}, but {str(file)!r} has "
                "one, and the host imports both. Pass --overwrite to set that file "
                f"aside as {file.name}.replaced."
            )
    state = states(files)
    different = [path for path, found in state.items() if found == "different"]
    if different and not overwrite:
        raise ValueError(
            f"Expected no other files in the way, but {str(different[0])!r} "
            f"({len(different)} in all) is there with other content. Move it, or pass "
            "--overwrite."
        )
    written = [path for path, found in state.items() if found != "current"]
    for file in others:
        file.replace(file.with_name(f"{file.name}.replaced"))
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(files[path])
    return len(written)


def take_away(files: Mapping[Path, bytes]) -> tuple[int, list[Path]]:
    """Removes what `place` wrote, and the folders of these files that are empty then.

    Returns:
        How many files were removed, and those that were edited since and stay.
    """
    state = states(files)
    removed = [path for path, found in state.items() if found == "current"]
    for path in removed:
        path.unlink()
        cache = path.parent / "__pycache__"
        for compiled in cache.glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
    folders = {p.parent for p in removed} | {p.parent / "__pycache__" for p in removed}
    for folder in sorted(folders, key=lambda f: -len(f.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return len(removed), [p for p, found in state.items() if found == "different"]
