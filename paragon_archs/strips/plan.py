"""From a record to stages: sweeps over the image between which whole maps are kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ..deploy.leaf import Rule
from .nodes import Graph, Node
from .rules import argument

_AT_ONCE = 16  # products that take the time of moving one element


@dataclass
class Stage:
    """One sweep over the image, strip by strip.

    Attributes:
        nodes: Nodes with rows, in order, that a strip runs through.
        sources: Whole maps that it reads.
        keeps: Values that it makes whole, for later stages or as the result.
        statistics: Nodes whose statistics are gathered while it runs.
        after: Nodes without rows that follow from its statistics.
        margin: Rows of the input above and below a strip that it needs.
        window: The windows that strips must consist of, if any.
        peak: Elements per pixel of the input that a strip holds at once.
        work: What computing a pixel of the input costs, in elements moved.
        last_use: Value -> node after which the strip needs it no more.
    """

    nodes: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    keeps: list[int] = field(default_factory=list)
    statistics: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    margin: int = 0
    window: Rule | None = None
    peak: float = 0.0
    work: float = 0.0
    last_use: dict[int, int] = field(default_factory=dict)

    @functools.cached_property
    def drops(self) -> dict[int, list[int]]:
        """Node -> values that the strip needs no more after it."""
        dropped: dict[int, list[int]] = {}
        for v, n in self.last_use.items():
            dropped.setdefault(n, []).append(v)
        return dropped


@dataclass
class Plan:
    """Stages in order.

    Attributes:
        stages: The sweeps.
        until: Kept value -> the last stage that reads it.
        maps: Elements per pixel of all maps that stand at once, at the most.
        graph: What the stages' nodes count in.
    """

    graph: Graph
    stages: list[Stage]
    until: dict[int, int]
    maps: float

    @property
    def local(self) -> bool:
        """Whether a strip with its margins gives the results by itself."""
        first = self.stages[0]
        alone = len(self.stages) == 1 and first.window is None
        return alone and not first.statistics


def make_plan(graph: Graph, limit: int | None = None) -> Plan:
    """Cuts a record into stages.

    Statistics of the whole image and windows force cuts. Where stages need wider
    margins than `limit` they are cut once more, where the fewest values are alive.

    Args:
        graph: What `record` returned.
        limit: Widest margin in rows of the input, None for any.
    """
    graph = _late(graph)
    cuts: set[int] = set()
    while True:
        levels, halos = _levels(graph, cuts)
        more = _further_cuts(graph, levels, halos, limit) if limit else set()
        if not more - cuts:
            break
        cuts |= more
    return _stages(graph, levels, halos)


def _levels(graph: Graph, cuts: set[int]) -> tuple[dict[int, int], dict[int, float]]:
    """Returns each node's stage, and the rows of input that it needs inside it."""
    level: dict[int, int] = {}
    made_at = dict.fromkeys(graph.inputs, -1)  # value -> stage that makes it
    halos: set[int] = set()  # stages in which a node looks beyond its row
    windows: dict[int, Rule] = {}
    floor = highest = 0
    early = made_of_input(graph)
    for index, node in enumerate(graph.nodes):
        values = [graph.values[v] for v in node.inputs]
        here = max(floor, highest) if index in early else floor
        for v, value in zip(node.inputs, values, strict=True):
            usable = made_at[v] if value.rows_dim is not None else made_at[v] + 1
            if node.rule.kind in ("norm", "mean"):
                usable = made_at[v] + (node.rule.kind == "norm")
            here = max(here, usable)
        if graph.values[node.outputs[0]].rows_dim is None:
            # A statistic stands when its input's stage is through; so does what
            # follows from statistics alone.
            sources = [made_at[v] for v in node.inputs]
            here = max(0, *sources)
            level[index] = here
        else:
            if node.rule.kind == "window":
                while here in halos or here in windows:
                    here += 1
                windows[here] = node.rule
            elif node.rule.halo:
                while here in windows:
                    here += 1
                halos.add(here)
            level[index] = here
        highest = max(highest, level[index])
        for v in node.outputs:
            made_at[v] = level[index]
        if index in cuts:
            floor = highest + 1
    return level, _halos(graph, level)


def made_of_input(graph: Graph) -> set[int]:
    """Returns the nodes that need neither statistics nor windows before them."""
    values, nodes = set(graph.inputs), set()
    for index, node in enumerate(graph.nodes):
        if node.rule.kind == "local" and values.issuperset(node.inputs):
            values.update(node.outputs)
            nodes.add(index)
    return nodes


def _late(graph: Graph) -> Graph:
    """Returns the graph with what is made of the input alone right before its use.

    The input's rows can be read at any time; a map that waits costs memory.
    """
    early = made_of_input(graph)
    made_by = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
    order: list[int] = []
    placed: set[int] = set()

    def place(index: int) -> None:
        if index not in placed:
            placed.add(index)
            for v in graph.nodes[index].inputs:
                if v in made_by:
                    place(made_by[v])
            order.append(index)

    for index in range(len(graph.nodes)):
        if index not in early:
            place(index)
    for v in graph.outputs:
        place(made_by[v])
    return replace(graph, nodes=[graph.nodes[i] for i in order])


def _halos(graph: Graph, level: dict[int, int]) -> dict[int, float]:
    """Returns how many rows of a stage's sources each node needs on each side."""
    halos: dict[int, float] = {}
    made_by = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
    for index, node in enumerate(graph.nodes):
        inside = [
            halos[made_by[v]]
            for v in node.inputs
            if v in made_by and level[made_by[v]] == level[index]
        ]
        factor = graph.values[node.inputs[0]].factor
        halos[index] = max(inside, default=0.0) + node.rule.halo / factor
    return halos


def _further_cuts(
    graph: Graph,
    levels: dict[int, int],
    halos: dict[int, float],
    limit: int,
) -> set[int]:
    """Returns nodes after which the stages with too wide margins should end."""
    alive = _alive(graph)
    cuts = set()
    for stage in set(levels.values()):
        nodes = [n for n, at in levels.items() if at == stage]
        if math.ceil(max(halos[n] for n in nodes)) <= limit:
            continue
        allowed = [n for n in nodes[:-1] if 0 < halos[n] <= limit]
        if allowed:
            cuts.add(min(allowed, key=lambda n: (alive[n], -n)))
    return cuts


def _alive(graph: Graph) -> list[float]:
    """Returns, after each node, the elements per pixel that later nodes still need."""
    last = {v: len(graph.nodes) for v in graph.outputs}
    for index in reversed(range(len(graph.nodes))):
        for v in graph.nodes[index].inputs:
            last.setdefault(v, index)
    alive, now = [], 0.0
    ending: dict[int, float] = {}
    for index, node in enumerate(graph.nodes):
        for v in node.outputs:
            value = graph.values[v]
            if value.rows_dim is not None and last.get(v, -1) > index:
                now += value.size
                ending[last[v]] = ending.get(last[v], 0.0) + value.size
        now -= ending.pop(index, 0.0)
        alive.append(now)
    return alive


def _stages(graph: Graph, levels: dict[int, int], halos: dict[int, float]) -> Plan:
    stages = [Stage() for _ in range(max(levels.values()) + 1)]
    made_at = {
        v: levels[index] for index, node in enumerate(graph.nodes) for v in node.outputs
    }
    until: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        at = levels[index]
        stage = stages[at]
        has_rows = graph.values[node.outputs[0]].rows_dim is not None
        if node.rule.kind in ("norm", "mean"):
            source = node.inputs[0]
            gathered = max(0, made_at.get(source, 0))
            stages[gathered].statistics.append(index)
            if made_at.get(source, -1) < gathered:
                _add(stages[gathered].sources, [source])
                until[source] = max(until.get(source, 0), gathered)
        if not has_rows:
            stages[at].after.append(index)
            continue
        stage.nodes.append(index)
        stage.margin = max(stage.margin, math.ceil(halos[index] - 1e-9))
        if node.rule.kind == "window":
            stage.window = node.rule
        for v in node.inputs:
            if graph.values[v].rows_dim is None or made_at.get(v, -1) == at:
                continue
            _add(stage.sources, [v])
            until[v] = max(until.get(v, 0), at)
            if v in made_at:
                _add(stages[made_at[v]].keeps, [v])
    for v in graph.outputs:
        _add(stages[made_at[v]].keeps, [v])
        until[v] = len(stages)
    for stage in stages:
        _count(graph, stage)
    standing = [
        sum(
            graph.values[v].size
            for v, last in until.items()
            if v in made_at and v not in graph.outputs and made_at[v] <= at <= last
        )
        for at in range(len(stages))
    ]
    return Plan(graph, stages, until, max(standing))


def _add(to: list[int], values: Iterable[int]) -> None:
    to += [v for v in values if v not in to]


def _count(graph: Graph, stage: Stage) -> None:
    """Fills in when a strip drops each value, and what it holds at the most."""
    for index in stage.nodes:
        for v in graph.nodes[index].inputs:
            stage.last_use[v] = index
    for index in stage.statistics:
        stage.last_use.pop(graph.nodes[index].inputs[0], None)
    for v in stage.keeps:
        stage.last_use.pop(v, None)
    now = sum(graph.values[v].size for v in stage.sources)
    stage.peak = now
    stage.work = now + sum(graph.values[v].size for v in stage.keeps)
    for index in stage.nodes:
        node = graph.nodes[index]
        made = sum(graph.values[v].size for v in node.outputs)
        # What an operation needs beside its result: attention holds queries, keys,
        # values and its windows; convolutions may reorder what they read.
        read = sum(graph.values[v].size for v in node.inputs)
        extra = 6 * made if node.rule.kind == "window" else read + node.rule.inside
        stage.peak = max(stage.peak, now + made + extra)
        stage.work += made + read + node.rule.inside + _products(node, made) / _AT_ONCE
        now += made
        for v in {*node.inputs}:
            if stage.last_use.get(v) == index:
                now -= graph.values[v].size


def _products(node: Node, made: float) -> float:
    """Returns about how many products per pixel of the input a node computes."""
    module = getattr(node.call, "__self__", None)
    if isinstance(module, nn.Module):  # each weight of a convolution once per pixel
        return float(sum(t.numel() for t in module.state_dict().values()))
    weight = argument(node, 1, "weight", None)
    if not isinstance(weight, Tensor) or not weight.ndim:
        return 0.0
    return made * weight.numel() / weight.shape[0]
