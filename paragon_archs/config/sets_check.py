"""Looks at the files of a data set: folders, lists, pairs, sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..media.images import read_size
from ..media.paths import IMAGE_SUFFIXES, find_images
from .errors import sentence
from .loading import Options
from .meta_info import listed_names
from .sections.data import DataSection

HOST_SETS = ("PairedImageDataset", "SingleImageDataset", "FFHQDataset")
"""Data sets of the host's that read no sub-folders."""

LOOK_AT = 500  # images of a set whose size is read; spread over large sets

BACKENDS = ("disk", "lmdb", "memcached")  # of the host's FileClient


def check_set(options: Options, name: str, section: DataSection) -> list[str]:
    """Returns a sentence for each mistake of a data set's section.

    Args:
        options: For the scale, and the places of keys.
        name: Of the section, as `val_2`.
        section: Its keys.
    """
    here = ("datasets", name)
    wrong: list[str] = []
    roots: dict[str, Path] = {}
    backend = (section.arguments.get("io_backend") or {}).get("type", "disk")
    if backend not in BACKENDS:
        wrong.append(
            sentence(
                "wrong_choice",
                key=f"datasets:{name}:io_backend:type",
                choices=", ".join(BACKENDS),
                value=backend,
                place=options.place((*here, "io_backend", "type")),
                hint="Fix it.",
            )
        )
    lmdb = backend == "lmdb"
    meta = _meta_key(section) if not lmdb else None
    for key, value in section.arguments.items():
        if not str(key).startswith("dataroot") or not isinstance(value, str):
            continue
        folder = Path(value).expanduser()
        full, place = f"datasets:{name}:{key}", options.place((*here, key))
        if not folder.is_dir():
            wrong.append(sentence("no_folder", key=full, value=value, place=place))
        elif lmdb and not (folder / "meta_info.txt").is_file():
            file = str(folder / "meta_info.txt")
            wrong.append(sentence("no_data_file", key=full, value=file, place=place))
        elif lmdb or meta:  # what they list is looked at below
            roots[str(key)] = folder
        elif not _images(section, folder) and not _frames(section, folder):
            wrong.append(sentence("empty_folder", key=full, value=value, place=place))
        elif odd := _no_image(section, folder):
            wrong.append(sentence("unreadable", key=full, file=str(odd), place=place))
        else:
            roots[str(key)] = folder
    scale = options.values.get("scale") or 1
    train = name.split("_", maxsplit=1)[0] == "train"
    crop = _crop_key(section) if train else None
    wrong += _crops(options, name, section, scale) if crop else []
    if wrong or lmdb:
        return wrong
    if meta:
        return [*_listed(options, name, section, roots, meta, scale, crop)]
    if "dataroot_gt" in roots:
        images = _images(section, roots["dataroot_gt"])
        return [*_sizes(options, name, section, roots, images, scale, crop)]
    return []


def _crop_key(section: DataSection) -> str | None:
    """Returns the key that gives the side of the crops cut out of images."""
    keys = ("crop_size", "gt_size")  # the first, where there are crops of crops
    return next(
        (key for key in keys if isinstance(section.arguments.get(key), int)), None
    )


def _crops(
    options: Options, name: str, section: DataSection, scale: int
) -> Iterator[str]:
    """Holds the sides of crops to the scale, and to one another."""
    for crop in ("gt_size", "crop_size"):
        size, key = section.arguments.get(crop), f"datasets:{name}:{crop}"
        place = options.place(("datasets", name, crop))
        if not isinstance(size, int):
            continue
        if size % scale:
            near = max(scale, round(size / scale) * scale)
            yield sentence(
                "crop_scale", key=key, scale=scale, value=size, near=near, place=place
            )
        least = section.arguments.get("gt_size")
        if isinstance(least, int) and size < least:
            yield sentence("too_small", key=key, low=least, value=size, place=place)


def _meta_key(section: DataSection) -> str | None:
    """Returns the key of the file that lists the images, where there is one."""
    keys = ("meta_info", "meta_info_file")
    return next(
        (key for key in keys if isinstance(section.arguments.get(key), str)), None
    )


def _listed(
    options: Options,
    name: str,
    section: DataSection,
    roots: Mapping[str, Path],
    key: str,
    scale: int,
    crop: str | None,
) -> Iterator[str]:
    """Checks the images that a meta-info file names, and their sizes."""
    full, place = f"datasets:{name}:{key}", options.place(("datasets", name, key))
    file = Path(section.arguments[key]).expanduser()
    if not file.is_file():
        yield sentence(
            "no_data_file", key=full, value=section.arguments[key], place=place
        )
        return
    if _is_video(section):
        return  # its lists name folders of frames
    try:
        names = listed_names(file)
    except UnicodeDecodeError:
        names = []
    if not names:
        yield sentence(
            "empty_list", key=full, value=section.arguments[key], place=place
        )
        return
    root = roots.get("dataroot_gt") or roots.get("dataroot_lq")
    if root is None or section.type == "RealESRGANPairedDataset":
        return  # two names a line, which its class reads
    images = [root / listed for listed in names]
    missing = next((image for image in images if not image.is_file()), None)
    if missing is not None and section.on_bad_image != "skip":
        yield sentence(
            "unlisted",
            key=full,
            value=section.arguments[key],
            file=str(missing),
            place=place,
        )
        return
    if "dataroot_gt" in roots:
        images = [image for image in images if image.is_file()]
        yield from _sizes(options, name, section, roots, images, scale, crop)


def _is_video(section: DataSection) -> bool:
    """True for one of the host's video sets, whose frames lie in sub-folders."""
    return section.type.startswith(("REDS", "Vimeo", "Video"))


def _images(section: DataSection, folder: Path) -> list[Path]:
    """The images of a set, none where its folder holds none."""
    try:
        return find_images(folder, section.type not in HOST_SETS)
    except FileNotFoundError:
        return []


def _no_image(section: DataSection, folder: Path) -> Path | None:
    """A file that the host's sets of images would stumble over: they take them all."""
    takes_all = section.type in ("PairedImageDataset", "SingleImageDataset")
    if not takes_all or section.on_bad_image == "skip":
        return None
    others = (
        p
        for p in sorted(folder.iterdir())
        if p.suffix.lower() not in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    return next((p for p in others if p.is_file() and _size(p) is None), None)


def _frames(section: DataSection, folder: Path) -> bool:
    """True where a video set of the host finds its folders of frames."""
    return _is_video(section) and any(sub.is_dir() for sub in folder.iterdir())


def _sizes(
    options: Options,
    name: str,
    section: DataSection,
    roots: Mapping[str, Path],
    images: Sequence[Path],
    scale: int,
    crop: str | None,
) -> Iterator[str]:
    """Holds HR to the crop and to its LR; stops at the first mistake of a set."""
    key = f"datasets:{name}:dataroot_gt"
    place = options.place(("datasets", name, "dataroot_gt"))
    for file in images[:: max(1, len(images) // LOOK_AT)]:
        partner = _partner(section, roots, file)
        if partner is not None and not partner.is_file():
            yield sentence(
                "unpaired", key=key, file=str(file), partner=str(partner), place=place
            )
            return
        sizes = [_size(p) for p in (file, partner) if p is not None]
        if None in sizes:
            bad = file if sizes[0] is None else partner
            if section.on_bad_image == "skip":
                continue
            yield sentence("unreadable", key=key, file=str(bad), place=place)
            return
        (width, height), *others = [s for s in sizes if s is not None]
        if crop and min(width, height) < section.arguments[crop]:
            yield sentence(
                "too_small_image",
                key=key,
                crop=crop,
                size=section.arguments[crop],
                file=str(file),
                width=width,
                height=height,
                place=options.place(("datasets", name, crop)),
            )
            return
        for lr_width, lr_height in others:
            # Benchmark sets keep an HR that scale does not divide; it is cropped.
            exact = (lr_width * scale, lr_height * scale) == (width, height)
            cropped = (width // scale, height // scale) == (lr_width, lr_height)
            if not exact and not (cropped and not crop):
                yield sentence(
                    "pair_scale",
                    scale=scale,
                    file=str(file),
                    width=width,
                    height=height,
                    lr_width=lr_width,
                    lr_height=lr_height,
                    place=place,
                )
                return


def _partner(
    section: DataSection, roots: Mapping[str, Path], file: Path
) -> Path | None:
    if "dataroot_lq" not in roots:
        return None
    template = section.arguments.get("filename_tmpl") or "{}"
    below = file.relative_to(roots["dataroot_gt"]).parent
    name = f"{template.format(file.stem)}{file.suffix}"
    return roots["dataroot_lq"] / below / name


def _size(file: Path) -> tuple[int, int] | None:
    """Width and height out of the file's header; None when it is no image."""
    try:
        return read_size(file)
    except (OSError, ValueError):
        return None
