"""chaiNNer: the pack and its start-up hook as one wheel in the bundled Python.

chaiNNer has no entry for plug-ins, but it loads models through spandrel; a `.pth` file
in its Python registers our architectures whenever spandrel is imported. All of it
belongs to one wheel, so that pip takes all of it away again; nothing is patched and no
other package changes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from .. import __version__

PACK = Path(__file__).resolve().parents[1]
HOOK = "_paragon_archs_hook"
DISTRIBUTION = "paragon_archs"

FLOORS = {
    "torch": (2, 7, 0),
    "numpy": (1, 24),
    "safetensors": (0, 4, 0),
    "spandrel": (0, 3, 4),
}
"""What must be there already; the pack brings none of it along."""

_VERSIONS = """
import json, sys
from importlib import metadata
found = {"python": sys.version.split()[0]}
for name in (%s):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
print("REPORT" + json.dumps(found))
"""

_REGISTERED = """
import json
import spandrel
print("REPORT" + json.dumps([s.architecture.id for s in spandrel.MAIN_REGISTRY
    if type(s.architecture).__module__.startswith("paragon_archs.")]))
"""


def bundled_python() -> Path:
    """Returns the Python that chaiNNer brings along, where its installers put it.

    Raises:
        FileNotFoundError: when there is none.
    """
    home = Path.home()
    folders = {
        "win32": Path(os.environ.get("APPDATA", home / "AppData/Roaming")),
        "darwin": home / "Library" / "Application Support",
    }
    base = folders.get(sys.platform, Path(os.environ.get("XDG_CONFIG_HOME", "")))
    if not base.parts:
        base = home / ".config"
    names = ("python.exe",) if sys.platform == "win32" else ("bin/python3.11",)
    names += ("bin/python3",)
    for app in ("chaiNNer", "chainner"):
        for name in names:
            python = base / app / "python" / "python" / name
            if python.is_file():
                return python
    raise FileNotFoundError(
        f"Expected chaiNNer's own Python under {str(base / 'chaiNNer/python')!r}, but "
        "there is none. Start chaiNNer once and let it install its Python, or name it "
        "with --python (chaiNNer's Settings, Python, show it)."
    )


def versions(python: Path) -> dict[str, str | None]:
    """Asks a Python, in a fresh process, what is installed.

    Args:
        python: The interpreter.

    Returns:
        Versions by package name, None where absent, and `python`.

    Raises:
        ValueError: when the interpreter does not run.
    """
    names = (*FLOORS, DISTRIBUTION)
    return _ask(python, _VERSIONS % ", ".join(map(repr, names)))


def registered(python: Path) -> list[str]:
    """Returns the ids of this pack that a bare `import spandrel` registers there."""
    return _ask(python, _REGISTERED)


def _ask(python: Path, script: str) -> Any:
    done = _run(python, "-c", script)
    for line in done.stdout.splitlines():
        if line.startswith("REPORT"):
            return json.loads(line.removeprefix("REPORT"))
    raise ValueError(
        f"Expected a Python that runs, but {str(python)!r} said: "
        f"{_last_line(done)}. Name another one with --python."
    )


def install(python: Path) -> None:
    """Installs the pack and its hook into a Python; nothing else changes there.

    Raises:
        ValueError: when a package that must be there is missing or too old.
        RuntimeError: when pip fails.
    """
    found = versions(python)
    for name, floor in FLOORS.items():
        version = found[name]
        if version is None or _numbers(version) < floor:
            wanted = ".".join(map(str, floor))
            raise ValueError(
                f"Expected {name} {wanted} or newer in {str(python)!r}, but it has "
                f"{version or 'none'}. Install it in chaiNNer's dependency manager "
                "(PyTorch and ONNX packages)."
            )
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        _pip(python, "install", "--no-deps", "--no-index", "--force-reinstall", wheel)


def remove(python: Path) -> bool:
    """Takes the pack and its hook out of a Python; False when it was not there."""
    if versions(python)[DISTRIBUTION] is None:
        return False
    _pip(python, "uninstall", "-y", DISTRIBUTION)
    return True


def build_wheel(folder: Path) -> Path:
    """Writes a wheel of this pack with the start-up hook into `folder`.

    It asks for no other package, so that pip never touches the host's.
    """
    info = f"{DISTRIBUTION}-{__version__}.dist-info"
    files = {
        f"{DISTRIBUTION}/{file.relative_to(PACK).as_posix()}": file.read_bytes()
        for file in sorted(PACK.rglob("*.py"))
    }
    hook = PACK / "integrations" / "spandrel_hook.py"
    files[f"{HOOK}.py"] = hook.read_bytes()
    files[f"{DISTRIBUTION}_hook.pth"] = f"import {HOOK}\n".encode()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: paragon-archs\nVersion: {__version__}\n"
        "Summary: Super-resolution networks, with a start-up hook for spandrel.\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: paragon_archs\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n"
    )
    record = "".join(f"{n},{_digest(c)},{len(c)}\n" for n, c in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{DISTRIBUTION}-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def _digest(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _numbers(version: str) -> tuple[int, ...]:
    release = version.split("+", maxsplit=1)[0].split(".")
    return tuple(int(part) for part in release if part.isdigit())


def _run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # As chaiNNer starts it: no user packages, and nothing of our own environment.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONNOUSERSITE"] = "1"
    try:
        return subprocess.run(
            [str(python), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
    except OSError as error:
        raise ValueError(
            f"Expected a Python that runs, but got {str(python)!r} ({error.strerror}). "
            "Name the python executable itself."
        ) from error


def _pip(python: Path, *arguments: str | Path) -> None:
    done = _run(python, "-m", "pip", *map(str, arguments))
    if done.returncode:
        raise RuntimeError(
            f"pip {arguments[0]} failed in {str(python)!r}: {_last_line(done)}"
        )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout or "nothing").strip().splitlines()[-1]
