"""Holds an option file to the keys that exist, before anything is created."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Any

from ..optim.optimizers import extra_optimizers
from ..utils.nearest import did_you_mean
from .errors import OptionError, sentence
from .key import REQUIRED, Key
from .keys import KEYS, UNREAD
from .loading import Options
from .signatures import (
    KNOWN_TO_TRAINER,
    SECTIONS,
    argument_key,
    dataset_keys,
    known_types,
    model_keys,
    parameters,
)
from .values import Fault, as_kind, fault, is_name, unfit, wrong_kind

Path = tuple[Hashable, ...]

_NAME = Key("name", None, "")  # what stands for `*` in a pattern


def check_options(options: Options, is_train: bool) -> None:
    """Checks every key, type and plain value; fills defaults in, in place.

    Args:
        options: What was read and overridden.
        is_train: Whether it is for training; `test` asks for less.

    Raises:
        OptionError: with one sentence for each mistake.
    """
    _Check(options, is_train).run()


def has_base(model: type | None, name: str) -> bool:
    """True when `model` is the class called `name`, or builds on it."""
    return model is not None and name in {base.__name__ for base in model.__mro__}


class _Check:
    def __init__(self, options: Options, is_train: bool) -> None:
        self.options = options
        self.is_train = is_train
        self.wrong: list[str] = []
        model = known_types("model").get(str(options.values.get("model_type")))
        self.model: type | None = model if inspect.isclass(model) else None
        self.ours = has_base(self.model, "ParagonModel")
        self.host_keys = (
            model_keys(self.model) if self.model and not self.ours else set()
        )

    def run(self) -> None:
        values = self.options.values
        for path, kind, value in unfit(values):
            self._fault(
                path,
                Key("any", None, ""),
                ("wrong_kind", {"kind": kind, "value": value, "hint": "Fix it."}),
            )
        if self.wrong:  # the rest of the checks compares and prints values
            raise OptionError(*self.wrong)
        self._type(("model_type",), "model", values.get("model_type"))
        for section in ("path", "logger", "train", "datasets"):
            if values.get(section) is None and (section != "train" or self.is_train):
                values[section] = {}
        sets = values["datasets"]
        if isinstance(sets, dict):  # `datasets:val: ~` leaves a set out
            values["datasets"] = {k: v for k, v in sets.items() if v is not None}
        self._section((), values)
        self._stage_sets()
        self._sets()
        if self.wrong:
            raise OptionError(*self.wrong)

    # One section -----------------------------------------------------------------

    def _section(self, path: Path, values: dict[Any, object]) -> None:
        known = self._known(path, values)
        for name, value in list(values.items()):
            key = _match(known, name)
            if key is None:
                self._unknown(path, name, known)
            elif name not in known and not (is_name(str(name)) or _patterns(path)):
                self._fault((*path, name), key, wrong_kind(_NAME, name))
            else:
                values[name] = self._value((*path, name), key, value)
        for name, key in known.items():
            if "*" not in name and name not in values:
                self._absent(path, name, key, values)

    def _known(self, path: Path, values: dict[object, object]) -> dict[str, Key]:
        known = _children(path)
        what = _lookup(SECTIONS, path)
        if what is not None:
            known = {
                "type": Key("str", REQUIRED, "name of a registered class"),
                **known,
            }
            target = self._type((*path, "type"), what, values.get("type"))
            if what == "data set":
                training = path[-1] == "train"
                own = dataset_keys(target, training) if target else {}
                known = {**own, **known}
                known |= {"phase": Key("any", None, ""), "scale": Key("any", None, "")}
            elif target is not None:
                known = {**_from_signature(what, target), **known}
            if target is None:  # the type is wrong; its keys cannot be judged
                known["*"] = Key("any", None, "")
        level = "opt" if not path else str(path[0]) if len(path) == 1 else ""
        if not self.ours:
            for pattern, names in UNREAD.items():
                if _fits(pattern.split(":") if pattern else [], path):
                    unread = Key("any", None, "")
                    missing = [n for n in names if n not in known or known[n].model]
                    known |= dict.fromkeys(missing, unread)
        for section, name in sorted(self.host_keys):
            if section == level and (name not in known or known[name].model):
                kind = "map" if _lookup(SECTIONS, (*path, name)) else "any"
                known[name] = Key(kind, None, "")
        return known

    def _absent(
        self, path: Path, name: str, key: Key, values: dict[object, object]
    ) -> None:
        if key.model and not has_base(self.model, key.model):
            return
        if (*path, name) == ("train", "total_iter") and has_base(
            self.model, "ParagonStagedModel"
        ):
            return  # its stages say how long they are
        if key.default is not REQUIRED:
            # An argument that is not given keeps the default of its signature.
            if key.text:
                default = _copy(key.default_for(self.ours))
                values[name] = self._value((*path, name), key, default)
            return
        if self._needed(path) and not (name == "scale" and not self.ours):
            full = _join((*path, name))
            place = self.options.place((*path, name))
            example = key.example or key.text or name
            self.wrong.append(
                sentence("missing_key", key=full, place=place, text=example)
            )

    def _needed(self, path: Path) -> bool:
        """`basicsr test` needs no training keys, whatever its file still holds."""
        return self.is_train or path[:1] not in (("train",), ("val",), ("logger",))

    def _value(self, path: Path, key: Key, value: object) -> object:
        if key.model and self.model and not has_base(self.model, key.model):
            self.wrong.append(
                sentence(
                    "other_model",
                    section=_where(path[:-1]),
                    model=self.model.__name__,
                    other=key.model,
                    key=path[-1],
                    place=self.options.place(path),
                )
            )
            return value
        if value is None:
            if key.default is not None and key.default is not REQUIRED:
                return _copy(key.default_for(self.ours))
            if key.default is REQUIRED and key.kind != "any":
                self._fault(path, key, wrong_kind(key, value))
            return value
        value = as_kind(key, value)
        if found := fault(key, value):
            self._fault(path, key, found)
        if isinstance(value, dict) and _has_children(path):
            self._section(path, value)
        elif isinstance(value, list) and _has_children(path):
            for index, entry in enumerate(value):
                if isinstance(entry, dict):
                    self._section((*path, index), entry)
                else:
                    entries = Key("map", None, "")
                    self._fault((*path, index), entries, wrong_kind(entries, entry))
        return value

    def _fault(self, path: Path, key: Key, found: Fault) -> None:
        message, words = found
        if message == "wrong_choice":
            near = did_you_mean(str(words["value"]), map(str, key.choices))
            words = {**words, "hint": near}
        place = self.options.place(path)
        self.wrong.append(sentence(message, key=_join(path), place=place, **words))

    # Names -----------------------------------------------------------------------

    def _type(self, path: Path, what: str, value: object) -> Any:
        if value is None:
            return None  # reported as missing
        types = known_types(what)
        if what == "optimizer" and isinstance(value, str) and value not in types:
            types |= extra_optimizers()  # whose import takes a second
        if isinstance(value, str) and value in types:
            return types[value]
        near = did_you_mean(str(value), types)
        self.wrong.append(
            sentence(
                "unknown_type",
                key=_join(path),
                what=what,
                value=value,
                place=self.options.place(path),
                hint=near or f"Known are {', '.join(sorted(types))}.",
            )
        )
        return None

    def _unknown(self, path: Path, name: object, known: dict[str, Key]) -> None:
        here = (*path, name)
        names = [
            n
            for n, key in known.items()
            if "*" not in n and (not key.model or has_base(self.model, key.model))
        ]
        hint = did_you_mean(str(name), names) or _elsewhere(str(name))
        self.wrong.append(
            sentence(
                "unknown_key",
                section=_where(path),
                key=name,
                place=self.options.place(here),
                hint=hint or f"Known are {', '.join(sorted(names))}.",
            )
        )

    def _stage_sets(self) -> None:
        """Completes the data of each stage with the keys of the training set.

        A stage with another type of set has all keys of its own.
        """
        sets, stages = (self.options.values.get(k) for k in ("datasets", "stages"))
        train = sets.get("train") if isinstance(sets, dict) else None
        if self.wrong or not train or not isinstance(stages, list):
            return
        for stage in stages:
            if (own := stage.get("data")) is not None:
                other = own.get("type", train["type"]) != train["type"]
                start = {"name": train["name"]} if other else train
                stage["data"] = {**start, **own}
                self._section(("datasets", "train"), stage["data"])

    def _sets(self) -> None:
        sets = self.options.values.get("datasets")
        if not isinstance(sets, dict):
            return
        phases = [str(name).split("_")[0] for name in sets]
        wanted = "train" if self.is_train else "test"
        if wanted not in phases and not (wanted == "test" and "val" in phases):
            self.wrong.append(
                sentence(
                    "no_training",
                    phase=wanted,
                    got=", ".join(map(str, sets)) or "none",
                    place=self.options.place(("datasets",)),
                )
            )


# Paths and patterns --------------------------------------------------------------


def _patterns(path: Path) -> bool:
    """True for a section whose keys are patterns of parameters, no names of files."""
    return path[:1] == ("stages",) and path[2:] == ("start_values",)


def _children(path: Path) -> dict[str, Key]:
    """Keys of the table that stand directly under `path`."""
    if path[:1] == ("stages",) and path[2:3] == ("losses",):
        path = ("train", *path[2:])  # a stage's losses are written as all losses are
    found: dict[str, Key] = {}
    for pattern, key in KEYS.items():
        *section, leaf = pattern.split(":")
        if _fits(section, path):
            # `datasets:train:x` comes after `datasets:*:x` and wins.
            found[leaf] = key
    if path == ("datasets",):
        phase = Key("map", None, "")
        found |= dict.fromkeys(("train", "val", "val_*", "test", "test_*"), phase)
    if path in (("val", "metrics"), ("train", "losses"), ("stages",)):
        found["*"] = Key("map", REQUIRED, "")
    return found


def _has_children(path: Path) -> bool:
    return bool(_children(path)) or _lookup(SECTIONS, path) is not None


def _fits(pattern: list[str], path: Path) -> bool:
    return len(pattern) == len(path) and all(
        fnmatch.fnmatchcase(str(name), part)
        for name, part in zip(path, pattern, strict=True)
    )


def _lookup(table: dict[str, str], path: Path) -> str | None:
    for pattern, value in table.items():
        if _fits(pattern.split(":"), path):
            return value
    return None


def _match(known: dict[str, Key], name: Any) -> Key | None:
    if name in known:
        return known[name]
    for pattern, key in known.items():
        if fnmatch.fnmatchcase(str(name), pattern):
            return key
    return None


def _from_signature(what: str, target: Callable[..., object]) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for name, parameter in parameters(what, target).items():
        required = parameter.default is parameter.empty
        required = required and name not in KNOWN_TO_TRAINER
        keys[name] = replace(
            argument_key(what, parameter),
            default=REQUIRED if required else None,
            example=f"it is an argument of {what}",
        )
    return keys


def _join(path: Iterable[Hashable]) -> str:
    return ":".join(map(str, path))


def _where(path: Path) -> str:
    return repr(_join(path)) if path else "the option file"


def _elsewhere(name: str) -> str:
    """A key that stands in another section."""
    for pattern in KEYS:
        if pattern.split(":")[-1] == name:
            return f"It belongs to {pattern!r}."
    return ""


def _copy(value: object) -> object:
    return dict(value) if isinstance(value, dict) else value
