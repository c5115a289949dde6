"""`paragon integrate`: what hosts get, in stand-ins that hold their contracts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from common import error_of

import paragon_archs
from paragon_archs.archs import create
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.__main__ import main
from paragon_archs.integrations import chainner

FOLDERS = {
    "trainner-redux": "traiNNer/archs",
    "neosr": "neosr/archs",
    "comfyui": "custom_nodes",
    "a1111": "extensions",
    "forge": "extensions",
    "invokeai": "nodes",
}
CHECKOUTS = ("trainner-redux", "neosr")
PACK = Path(paragon_archs.__file__).parent
NETWORKS = {
    f"{n}_arch.py"
    for n in ("paragonsr", "paragonsr2", "fusionsr", "resshuffle", "facesr")
}


@pytest.fixture(params=FOLDERS)
def host(request, tmp_path):
    (tmp_path / FOLDERS[request.param]).mkdir(parents=True)
    return request.param, tmp_path


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_copies_are_made_checked_and_taken_away(host, capsys):
    name, folder = host
    (folder / "mine.txt").write_text("mine")
    assert main(["integrate", name, str(folder), "--check"]) == 1
    assert main(["integrate", name, str(folder)]) == 0
    assert main(["integrate", name, str(folder), "--check"]) == 0
    written = files_of(folder)
    assert main(["integrate", name, str(folder)]) == 0
    assert "wrote 0 files" in capsys.readouterr().out
    if name in CHECKOUTS:
        archs = folder / FOLDERS[name]
        extra = {"paragon_scale_arch.py"} if name == "neosr" else set()
        assert {p.name for p in archs.iterdir()} == NETWORKS | extra
        for file in archs.iterdir():
            where = "integrations/neosr" if file.name in extra else "archs"
            own = PACK / where / file.name
            assert file.read_bytes() == own.read_bytes()
    assert main(["integrate", name, str(folder), "--remove"]) == 0
    assert files_of(folder) == {"mine.txt"}
    if name not in CHECKOUTS:  # the host's folder stays, of ours nothing does
        assert not any((folder / FOLDERS[name]).iterdir())
    assert len(written) > len(NETWORKS)


@pytest.mark.parametrize("name", CHECKOUTS)
def test_another_file_with_our_networks_is_found_by_their_names(name, tmp_path, capsys):
    """Such a host imports both, and then nothing: the name is registered twice."""
    archs = tmp_path / FOLDERS[name]
    archs.mkdir(parents=True)
    theirs = archs / "ParagonSR_arch.py"
    code = "@ARCH_REGISTRY.register()\ndef paragonsr_s(scale=4):\n    return scale\n"
    theirs.write_text(code)
    (archs / "broken_arch.py").write_text("def (")
    before = files_of(tmp_path)
    sentence = error_of(capsys, ["integrate", name, tmp_path])
    assert "'paragonsr_s'" in sentence
    assert "ParagonSR_arch.py" in sentence
    assert "--overwrite" in sentence
    assert files_of(tmp_path) == before
    assert main(["integrate", name, str(tmp_path), "--overwrite"]) == 0
    assert not theirs.exists()
    assert theirs.with_name("ParagonSR_arch.py.replaced").read_text() == code


def like_neosr(checkout: Path, scale: int | None) -> None:
    """Makes what our files ask of neosr: its registry and its command line's scale."""
    archs = checkout / "neosr" / "archs"
    archs.mkdir(parents=True)
    assert main(["integrate", "neosr", str(checkout)]) == 0
    utils = checkout / "neosr" / "utils"
    utils.mkdir()
    (utils / "registry.py").write_text(
        "from paragon_archs.utils.registry import Registry\n"
        "ARCH_REGISTRY = Registry('arch')\n"
    )
    (archs / "arch_util.py").write_text(f"def net_opt(): return {scale}, False\n")


@pytest.mark.parametrize("scale", [2, None])
def test_neosr_gives_networks_the_scale_of_its_command_line(scale, tmp_path):
    like_neosr(tmp_path, scale)
    code = """
        import importlib, pathlib, torch
        for file in pathlib.Path("neosr/archs").glob("*_arch.py"):
            importlib.import_module("neosr.archs." + file.stem)
        from neosr.utils.registry import ARCH_REGISTRY
        for name in "resshuffle facesr fusionsr paragonsr_s ParagonSR".split():
            build = ARCH_REGISTRY.get(name)
            with torch.device("meta"):
                print(build().scale, build(scale=8).scale)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PACK.parent)},
    )
    assert run.stdout.split() == [str(scale or 4), "8"] * 5


def test_neosr_converts_what_the_weights_record(tmp_path):
    """Its convert.py names a network and its weights, and no options of it."""
    like_neosr(tmp_path, 2)
    options: dict[str, dict[str, Any]] = {
        "fusionsr": {"use_rca": False},
        "paragonsr2_stream": {"upsampler_alpha": 0.25},
        "paragonsr2_photo": {"upsampler_alpha": 0.5, "window_size": 8},
    }
    code = """
        import importlib, json, pathlib, sys, torch
        for file in pathlib.Path("neosr/archs").glob("*_arch.py"):
            importlib.import_module("neosr.archs." + file.stem)
        from neosr.utils.registry import ARCH_REGISTRY
        from paragon_archs.archs import create
        kind, options = sys.argv[1], json.loads(sys.argv[2])
        with torch.device("meta"):
            wanted = create(kind, 2, **options).hyperparameters
            assert ARCH_REGISTRY.get(kind)().hyperparameters == wanted, wanted
    """
    file = tmp_path / "net.pth"
    for kind, values in options.items():
        torch.save({"params-ema": create(kind, 2, **values).state_dict()}, file)
        given = [kind, json.dumps(values), "--input", str(file), "-net", kind]
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *given],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "PYTHONPATH": str(PACK.parent)},
        )


def test_edited_files_are_not_touched(tmp_path, capsys):
    (tmp_path / "neosr/archs").mkdir(parents=True)
    assert main(["integrate", "neosr", str(tmp_path)]) == 0
    edited = tmp_path / "neosr/archs/facesr_arch.py"
    edited.write_text("# mine")
    before = files_of(tmp_path)
    capsys.readouterr()
    assert "facesr_arch.py" in error_of(capsys, ["integrate", "neosr", tmp_path])
    assert edited.read_text() == "# mine"
    assert files_of(tmp_path) == before
    assert main(["integrate", "neosr", str(tmp_path), "--remove"]) == 1
    assert files_of(tmp_path) == {"neosr/archs/facesr_arch.py"}
    assert main(["integrate", "neosr", str(tmp_path), "--overwrite"]) == 0
    assert edited.read_text() != "# mine"


@pytest.mark.parametrize("name", FOLDERS)
def test_another_folder_is_refused(name, tmp_path, capsys):
    assert "Expected the path to be" in error_of(capsys, ["integrate", name, tmp_path])
    assert "Name the folder" in error_of(capsys, ["integrate", name])
    assert not any(tmp_path.iterdir())


def test_option_files_of_other_hosts_are_current(root):
    from paragon_archs.integrations.options import generate

    wanted = {root / "options" / path: text for path, text in generate().items()}
    folders = (root / "options" / "trainner_redux", root / "options" / "neosr")
    found = {f for folder in folders for f in folder.rglob("*.*")}
    assert found == set(wanted)
    for file, text in wanted.items():
        assert file.read_text() == text, f"{file} is not what the command writes"


# The keys that traiNNer-redux's strict structs allow, of those that we use.
STRICT = {
    "": "name scale use_amp amp_bf16 use_channels_last num_gpu manual_seed datasets "
    "network_g path train val logger",
    "train": "total_iter warmup_iter ema_decay grad_clip grad_clip_max_norm optim_g "
    "scheduler losses",
    "val": "val_enabled val_freq save_img metrics_enabled metrics",
    "logger": "print_freq save_checkpoint_freq save_checkpoint_format use_tb_logger",
    "path": "strict_load_g",
    "datasets.train": "name type dataroot_gt lq_resize_mode gt_size use_hflip use_rot "
    "num_worker_per_gpu batch_size_per_gpu accum_iter",
    "datasets.val": "name type dataroot_gt dataroot_lq",
}
REQUIRED = ("name", "scale", "num_gpu", "path")


@pytest.mark.parametrize("variant", paragon_archs.variants())
def test_options_for_trainner_redux_are_strict_and_ours(variant, root):
    file = root / "options" / "trainner_redux" / "train" / f"{variant}.yml"
    options = yaml.safe_load(file.read_text())
    for path, allowed in STRICT.items():
        section = options
        for key in path.split(".") if path else ():
            section = section[key]
        assert set(section) <= set(allowed.split()), path
    assert set(REQUIRED) <= set(options)
    network = dict(options["network_g"])
    with torch.device("meta"):
        model: Any = create(network.pop("type"), options["scale"], **network)
    shape = paragon_archs.variants()[variant]
    free = {**shape, **network}
    assert free.items() <= model.hyperparameters.items()
    # PyYAML reads 1e-3 as a string, and so does that host.
    assert isinstance(options["train"]["optim_g"]["lr"], float)
    ours = yaml.safe_load((root / "options" / f"{variant}.yml").read_text())
    assert options["scale"] == ours["scale"]
    rate = ours.get("stages", [{}])[0].get("lr", ours["train"]["optim_g"]["lr"])
    assert options["train"]["optim_g"]["lr"] == float(rate)
    assert options["train"]["optim_g"]["type"] == ours["train"]["optim_g"]["type"]
    batch = ours["datasets"]["train"]["batch_size_per_gpu"]
    assert options["datasets"]["train"]["batch_size_per_gpu"] == batch


@pytest.mark.parametrize("variant", paragon_archs.variants())
def test_options_for_neosr_name_the_scale_twice(variant, root):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    file = root / "options" / "neosr" / f"train_{variant}.toml"
    options = tomllib.loads(file.read_text())
    network = options["network_g"]
    assert network["scale"] == options["scale"]
    builder = network.pop("type")
    assert builder.lower() == variant
    with torch.device("meta"):
        create(builder, **network)
    assert options["train"]["optim_g"]["lr"] > 0


COUNT = """
import spandrel
known = (type(s.architecture).__module__ for s in spandrel.MAIN_REGISTRY)
print(sum(name.startswith("paragon_archs.") for name in known))
"""


def run(python, code, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [python, "-W", "ignore", "-c", textwrap.dedent(code)],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(python).parent,  # `-c` looks into the current folder first
        capture_output=True,
        text=True,
        check=False,
    )


def test_chainner_s_python_from_nothing_to_nothing(tmp_path, capsys, monkeypatch):
    """A fresh Python with torch and spandrel, as chaiNNer's: install, use, remove."""
    home = tmp_path / "python"
    venv.create(home, with_pip=False, symlinks=True)  # pip is among the host's packages
    python = home / "bin" / "python"
    site = next((home / "lib").glob("python*/site-packages"))
    shared = sysconfig.get_paths()["purelib"]
    (site / "host_packages.pth").write_text(f"{shared}\n")
    before = files_of(site)
    file = tmp_path / "face.safetensors"
    save_model(create("facesr", 4), file)

    monkeypatch.chdir(home)  # as a shell completes it
    assert main(["integrate", "chainner", "--python", "bin/python"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"spandrel knows ParagonSR, ParagonSR2, FusionSR", out)
    assert (
        site / "paragon_archs_hook.pth"
    ).read_text() == "import _paragon_archs_hook\n"

    # A start that does not import spandrel imports neither torch nor the pack.
    heavy = (
        "import sys; print({'torch', 'spandrel', 'paragon_archs'} & set(sys.modules))"
    )
    assert run(python, heavy).stdout.strip() == "set()"
    armed = "import sys; print('SpandrelFinder' in map(repr_of, sys.meta_path))"
    armed = "repr_of = lambda f: getattr(f, '__name__', '')\n" + armed
    assert run(python, armed).stdout.strip() == "True"
    assert run(python, armed, PARAGON_ARCHS_NO_HOOK="1").stdout.strip() == "False"
    # Looked up first, imported later; and the host adds spandrel's extras after us.
    use = f"""
        import importlib.util
        importlib.util.find_spec("spandrel")
        import spandrel
        model = spandrel.ModelLoader().load_from_file({str(file)!r})
        print(model.architecture.id, model.scale, model.purpose)
        import spandrel_extra_arches
        spandrel.MAIN_REGISTRY.add(*spandrel_extra_arches.EXTRA_REGISTRY)
    """
    used = run(python, use)
    assert used.returncode == 0, used.stderr
    assert used.stdout.strip() == "FaceSR 4 SR"
    # Our own modules first: the hook waits for them to end.
    first = run(python, "from paragon_archs.loaders import install\n" + COUNT)
    assert (first.stdout.strip(), first.stderr) == ("5", "")
    # A broken pack reports it and breaks nothing; a stand-in for spandrel spares torch.
    package = site / "paragon_archs" / "__init__.py"
    whole = package.read_text()
    package.write_text("raise RuntimeError('broken')")
    (python.parent / "spandrel.py").write_text("here = True")
    broken = run(python, "import spandrel; print(spandrel.here)")
    assert broken.stdout.strip() == "True"
    assert "not registered (RuntimeError: broken)" in broken.stderr
    package.write_text(whole)
    (python.parent / "spandrel.py").unlink()

    assert main(["integrate", "chainner", "--python", str(python), "--remove"]) == 0
    left = {f for f in files_of(site) - before if "__pycache__" not in f}
    assert not left


def test_chainner_s_python_must_have_what_we_need(tmp_path, capsys):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    printed = error_of(capsys, ["integrate", "chainner", "--python", python])
    assert "Expected torch 2.7.0 or newer" in printed
    missing = ["integrate", "chainner", "--python", tmp_path / "no"]
    assert "Expected a Python that runs" in error_of(capsys, missing)
    assert main(["integrate", "chainner", "--python", str(python), "--check"]) == 1


def test_floors_are_the_project_s(root):
    text = (root / "pyproject.toml").read_text()
    for name, floor in chainner.FLOORS.items():
        assert f'"{name}>={".".join(map(str, floor))}"' in text


@pytest.mark.parametrize(
    "name", ["./bin/python", "bin/python", "~/bin/python", "python"]
)
def test_an_interpreter_is_named_as_in_a_shell(name, tmp_path, monkeypatch, capsys):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(python.parent))
    monkeypatch.setattr(chainner, "versions", lambda path: {"told": path}[path])
    with pytest.raises(KeyError, match=re.escape(str(python))):
        main(["integrate", "chainner", "--python", name, "--check"])
