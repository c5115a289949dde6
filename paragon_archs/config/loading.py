"""Reads option files: YAML whose numbers are numbers and whose lines are known."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import wrong
from .frozen import place_of

KeyPath = tuple[Hashable, ...]

PACK_OPTIONS = (
    Path(__file__).resolve().parents[1] / "options",  # inside a wheel
    Path(__file__).resolve().parents[2] / "options",  # in a checkout
)
"""Where option files that come with the pack lie."""


# Sections that change nothing in what is trained. A resumed run keeps its seed.
UNRECORDED = ("name", "path", "logger", "dist_params", "manual_seed")
MAX_BYTES = 1 << 20  # of an option file; the longest has 10 kB
MAX_NODES = 10_000  # keys, values and lists, those of aliases as often as they stand
MAX_DEPTH = 40


class _Loader(yaml.SafeLoader):
    """SafeLoader for which `1e-4` is a number and a key given twice an error.

    What aliases stand for is counted each time: ten of ten of ten are a thousand.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.level = 0
        self.nodes: dict[int, int] = {}  # of each finished node: how many it stands for

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        self.level += 1
        if self.level > MAX_DEPTH:
            raise _fault(f"sections nest deeper than {MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        if alias and id(node) not in self.nodes:
            raise _fault("a section holds itself", mark)
        if not alias:
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            self.nodes[id(node)] = 1 + sum(self.nodes[id(part)] for part in parts)
        if max(self.nodes[id(node)], len(self.nodes)) > MAX_NODES:
            raise _fault(f"it holds more than {MAX_NODES:,} keys and values", mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _fault(f"a value is no {kind}", node.start_mark) from error

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            own: list[object] = []
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self.construct_object(key_node, deep=True)
                if key in own:
                    raise _fault(f"the key {key!r} is given twice", key_node.start_mark)
                own.append(key)
            self.flatten_mapping(node)
        return super().construct_mapping(node, deep=deep)


def _fault(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


# Lists of its own: SafeLoader's belong to the whole process. No option is a date, but
# a run may be named after one.
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 wants a dot in a float; everybody else writes 1e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass
class Options:
    """An option file's content, and where each key was written.

    `recorded` is what training states keep of it.
    """

    values: dict[str, Any]
    file: Path
    places: dict[KeyPath, str] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)

    def record(self) -> None:
        """Keeps the values as they are now for training states to hold."""
        kept = {k: v for k, v in self.values.items() if k not in UNRECORDED}
        self.recorded = copy.deepcopy(kept)

    def place(self, path: Sequence[Hashable]) -> str:
        """Returns where `path`, or the nearest section around it, was written."""
        return place_of(path, self.places, self.file)


def find_option_file(name: str) -> Path:
    """Returns the option file `name`: in this folder, else among the pack's own.

    Args:
        name: A path; `options/paragonsr_s.yml` and `paragonsr_s.yml` name the pack's
            file where the current folder has none.

    Raises:
        OptionError: when there is no such file.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    if not given.is_absolute():
        parts = given.parts[1:] if given.parts[:1] == ("options",) else given.parts
        for folder in PACK_OPTIONS:
            own = folder.joinpath(*parts)
            if own.is_file():
                return own
    raise wrong("no_file", name=name)


def load_options(file: str | Path) -> Options:
    """Reads an option file.

    Args:
        file: An existing YAML file.

    Returns:
        Its values, as plain dicts and lists, and the line of every key.

    Raises:
        OptionError: when it is no YAML, gives a key twice, or is no mapping.
    """
    path = Path(file)
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            problem = f"more than {MAX_BYTES >> 20} MiB"
            raise wrong("not_text", file=str(path), problem=problem)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            values = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = error.problem or error.context
        raise wrong("not_yaml", file=str(path), problem=problem, place=place) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong("not_text", file=str(path), problem=error) from error
    if not isinstance(values, dict):
        raise wrong("no_mapping", file=str(path), kind=repr(values))
    options = Options(values, path)
    _note_lines(node, (), options)
    return options


def _note_lines(node: object, path: KeyPath, options: Options) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            # A merged section is noted first, so that what overrides it wins.
            options.places[here] = f"{options.file}, line {key.start_mark.line + 1}"
            _note_lines(value, here, options)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            options.places[here] = f"{options.file}, line {value.start_mark.line + 1}"
            _note_lines(value, here, options)


def force(options: Options, entries: Sequence[str]) -> None:
    """Applies `--force_yml` entries such as `train:optim_g:lr=1e-4`, in place.

    Args:
        options: What was read.
        entries: `key:path=value`; the value is YAML (`None` is `~`), may hold `=`, and
            replaces what stood there. A number picks an entry of a list. Whether the
            key is known is the checker's business.

    Raises:
        OptionError: when an entry has no `=`, or its path crosses a plain value.
    """
    for entry in entries:
        name, equals, text = entry.partition("=")
        keys = [k.strip() for k in name.split(":")]
        if not equals or not all(keys):
            raise wrong("force_form", entry=entry)
        target: Any = options.values
        path: list[Hashable] = []
        for key in keys[:-1]:
            path.append(_step(target, key, path, entry))
            if isinstance(target, dict) and target.get(path[-1]) is None:
                target[path[-1]] = {}
            target = target[path[-1]]
        path.append(_step(target, keys[-1], path, entry))
        target[path[-1]] = _value(text.strip())
        options.places[tuple(path)] = f"--force_yml {entry}"


def _step(target: object, key: str, path: list[Hashable], entry: str) -> Hashable:
    if isinstance(target, dict):
        return key
    if isinstance(target, list) and key.isdigit() and int(key) < len(target):
        return int(key)
    where = ":".join(map(str, path))
    kind = f"a list of {len(target)}" if isinstance(target, list) else repr(target)
    raise wrong("force_path", entry=entry, where=where, kind=kind, key=key)


def _value(text: str) -> object:
    if text.lower() == "none":
        return None
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text  # `@x` and the like are no YAML, and are meant as they stand
