"""Which files are images, in every room alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

import paragon_archs
from paragon_archs.data.reading import OptionError
from paragon_archs.data.reading import find_images as data_images
from paragon_archs.media import paths


def test_folders_are_searched_to_any_depth_without_hidden_files(tmp_path):
    kept = ["a.png", "b.TIFF", "sub/c.webp", "sub/deep/d.avif"]
    for name in [*kept, "sub/.e.png", ".trash/f.png", "notes.txt", "._a.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = paths.find_images(tmp_path)
    assert [str(p.relative_to(tmp_path)) for p in found] == kept
    assert data_images(tmp_path) == found
    assert len(paths.find_images(tmp_path, recursive=False)) == 2


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_folder_without_images_is_one_sentence(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="folder of images"):
        paths.find_images(tmp_path / name)
    with pytest.raises(OptionError, match="dataroot_gt"):
        data_images(tmp_path / name)


def test_every_format_that_is_written_is_one_of_pillows():
    Image.init()
    assert {f.name for f in paths.FORMATS.values()} <= set(Image.SAVE)


def test_suffixes_stand_in_one_file():
    pack = Path(paragon_archs.__file__).parent
    table = re.compile(r"\"\.(?:jpe?g|webp|tiff?)\",? *\"\.")
    holders = [p.name for p in pack.rglob("*.py") if table.search(p.read_text())]
    assert holders == []
