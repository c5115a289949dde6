"""Runs a recorded network over an image, strip by strip."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..utils.oom import is_out_of_memory, release
from ..utils.progress import Task, task
from .graph import record
from .maps import Map, Rows, Source
from .nodes import Node, Ref
from .plan import Plan, Stage, make_plan
from .rehearsal import Rehearsal, rehearse
from .sizing import LEAST_ROWS, choose, least_bytes
from .statistics import GroupNorm, Mean, Moments, moments_of
from .strip import Strip, strip_at, strips_end

logger = logging.getLogger(__name__)

Read = Callable[[int, int], Tensor]
Part = tuple[int, int, int, Tensor]  # index of the result, rows from and to, the rows

# Widest margins that are tried: the narrower, the more whole maps are kept.
_LIMITS = (None, 32, 16, 8, 4)
INDEXED = 2**31  # elements that a tensor on a GPU must not have


class StripEngine:
    """Gives a network's result on the whole image, at bounded memory.

    Args:
        network: In eval mode, on its device and in its dtype.
        channels: Of each input map.
        call: What is run on the inputs; the network itself by default.

    Raises:
        UntraceableError: when the network does not allow it; tiles are left then.
    """

    def __init__(
        self,
        network: nn.Module,
        channels: Sequence[int] = (3,),
        call: Callable[..., object] | None = None,
    ) -> None:
        parameter = next(network.parameters(), torch.empty(0))
        self.dtype, self.device = parameter.dtype, parameter.device
        self._like = parameter
        self._network, self._call = network, call
        self._channels = tuple(channels)
        graph = record(network, channels, call)
        self._plans = [make_plan(graph, limit) for limit in _LIMITS]
        # Runs strips that are local.
        self.graph: Callable[..., Tensor | tuple[Tensor, ...]] | None = None
        self._warned = False
        self._rehearsals: dict[tuple[tuple[int, int], int], Rehearsal | None] = {}
        self.busy = 0.0  # seconds times threads spent in computing strips, in all runs
        self._lock = threading.Lock()

    def run(
        self,
        reads: Sequence[Read],
        size: tuple[int, int],
        budget: float,
        batch: int = 1,
        most: float = math.inf,
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Runs a network of one result.

        Args:
            reads: One per input: from the first row and the row behind the last to
                (B, C, rows, W), in the network's dtype and on its device.
            size: Height and width of the inputs.
            budget: Bytes for maps and strips; at least a few rows are always taken.
            batch: Images side by side.
            most: Bytes that a strip should take, however large the budget is.

        Yields:
            The first row, the row behind the last (rows of the input) and the result's
            rows, in any order.
        """
        for _, low, high, rows in self.parts(reads, size, budget, batch, most):
            yield low, high, rows

    def parts(
        self,
        reads: Sequence[Read],
        size: tuple[int, int],
        budget: float,
        batch: int = 1,
        most: float = math.inf,
    ) -> Iterator[Part]:
        """Runs a network of any number of results; as `run`, with each result's index
        before its rows."""
        plan, rows = self._choose(size, budget, batch, most)
        sweeps = f"{len(plan.stages)} sweep{'s' * (len(plan.stages) > 1)}"
        logger.info("%d x %d: %s, strips of %d rows", *size[::-1], sweeps, min(rows))
        one = _Run(self, plan, reads, size)
        yield from one.run(rows)
        with self._lock:
            self.busy += one.seconds * torch.get_num_threads()

    def _choose(
        self, size: tuple[int, int], budget: float, batch: int, most: float
    ) -> tuple[Plan, list[int]]:
        """Returns the plan, and the strips' rows per stage, of the least work."""
        row = size[1] * batch * self.dtype.itemsize
        if self.device.type != "cpu":  # of all tensors, so of each
            most = min(most, INDEXED * self.dtype.itemsize)
        return choose(self._plans, size, row, budget, most)

    def agrees(self, network: nn.Module) -> bool:
        """Whether strips give what the network gives, tried on a small noise image."""
        plan = self._plans[0]
        channels = [int(plan.graph.values[v].size) for v in plan.graph.inputs]
        height, width = 61, 27
        generator = torch.Generator().manual_seed(1)
        inputs = [
            torch.rand((1, c, height, width), generator=generator).to(
                self.device, self.dtype
            )
            for c in channels
        ]
        with torch.inference_mode():
            wanted = network(*inputs)
        got = torch.zeros_like(wanted)
        factor = wanted.shape[2] // height
        reads = [lambda a, b, x=x: x[:, :, a:b] for x in inputs]
        run = _Run(self, plan, reads, (height, width))
        for _, low, high, rows in run.run([LEAST_ROWS] * len(plan.stages)):
            got[:, :, low * factor : high * factor] = rows
        spread = float(wanted.max() - wanted.min()) or 1.0
        return float((got - wanted).abs().max()) <= 1e-3 * spread

    @property
    def sweeps_at_least(self) -> int:
        """How many sweeps the network takes where memory is no matter."""
        return len(self._plans[0].stages)

    def sweeps(self, size: tuple[int, int], budget: float = 0) -> int:
        """Returns how many sweeps an image of that size and budget takes."""
        return len(self._choose(size, budget, 1, math.inf)[0].stages)

    def peak(self, size: tuple[int, int], batch: int = 1) -> float:
        """Returns about how many bytes a run over the image in one piece takes."""
        rehearsed = self._rehearsed(size, batch)
        if rehearsed is not None:
            return float(rehearsed.peak)
        first = self._plans[0]
        whole = max(stage.peak for stage in first.stages) + first.maps
        return whole * size[0] * size[1] * batch * self.dtype.itemsize

    def addressable(self, size: tuple[int, int], batch: int = 1) -> bool:
        """Whether every tensor of a run in one piece has fewer elements than `INDEXED`.

        Kernels of GPUs count elements in 32 bits, convolutions among them.
        """
        if self.device.type == "cpu":
            return True
        rehearsed = self._rehearsed(size, batch)
        if rehearsed is not None:
            return rehearsed.largest < INDEXED
        values = self._plans[0].graph.values
        widest = max(v.size for v in values if v.rows_dim is not None)
        return widest * size[0] * size[1] * batch < INDEXED

    def least(self, size: tuple[int, int], batch: int = 1) -> float:
        """Returns about how many bytes a run over the image takes at the least."""
        row = size[1] * batch * self.dtype.itemsize
        return min(least_bytes(plan, size[0], row) for plan in self._plans)

    def _rehearsed(self, size: tuple[int, int], batch: int) -> Rehearsal | None:
        if self.device.type == "cpu":  # the plan's figures serve there
            return None
        key = size, batch
        if key not in self._rehearsals:
            shapes = [(batch, channels, *size) for channels in self._channels]
            call = self._call or self._network
            self._rehearsals[key] = rehearse(call, shapes, self._like)
        return self._rehearsals[key]

    def warn_once(self, rows: int) -> None:
        """Logs that memory ran out; once per engine."""
        if not self._warned:
            logger.warning("out of memory: going on with strips of %d rows", rows)
            self._warned = True


class _Run:
    """One pass of one image (or batch) through the stages."""

    def __init__(
        self,
        engine: StripEngine,
        plan: Plan,
        reads: Sequence[Read],
        size: tuple[int, int],
    ) -> None:
        self.engine = engine
        self.graph = plan.graph
        self.plan = plan
        self.height = size[0]
        self.maps: dict[int, Rows] = {
            v: Source(read) for v, read in zip(self.graph.inputs, reads, strict=True)
        }
        self.small: dict[int, Tensor] = {}  # values without rows
        self.seconds = 0.0  # spent in computing strips
        self.norms: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def run(self, rows: Sequence[int]) -> Iterator[Part]:
        total = self.height * len(self.plan.stages)
        with task("strips", total, "row") as counted:
            for index, stage in enumerate(self.plan.stages):
                yield from self._sweep(index, stage, rows[index], counted)
                for v, last in self.plan.until.items():
                    if last == index:
                        self.maps.pop(v, None)

    def _sweep(
        self, index: int, stage: Stage, rows: int, counted: Task
    ) -> Iterator[Part]:
        graph = self.graph
        gathered: dict[int, Moments | Mean] = {
            n: moments_of(graph.nodes[n])
            if graph.nodes[n].rule.kind == "norm"
            else Mean()
            for n in stage.statistics
        }
        for v in stage.keeps:
            if v not in graph.outputs or self.plan.until[v] < len(self.plan.stages):
                value = graph.values[v]
                self.maps[v] = Map(value.axis, value.factor)
        ending = [v for v in stage.sources if self.plan.until[v] == index]
        at = 0
        end = strips_end(self.height, stage.window)
        while at < end:
            try:
                strip = strip_at(at, rows, self.height, stage)
                started = time.perf_counter()
                values = self._compute(stage, strip)
                self.seconds += time.perf_counter() - started
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or rows <= 1:
                    raise
                rows = max(1, rows // 2)
                self.engine.warn_once(rows)
                release(self.engine.device)
                continue
            self._gather(values, gathered)
            yield from self._made(stage, strip, values)
            del values
            counted.advance(strip.next - at)
            at = strip.next
            for v in ending:
                self.maps[v].release(strip.done)
        for n, statistic in gathered.items():
            node = graph.nodes[n]
            if isinstance(statistic, Moments):
                self.norms[n] = statistic.finish()
            else:
                self.small[node.outputs[0]] = statistic.finish(self.engine.dtype)
        for n in stage.after:
            if graph.nodes[n].rule.kind != "mean":
                self._call(graph.nodes[n], self.small)

    def _compute(self, stage: Stage, strip: Strip) -> dict[int, Tensor]:
        """Runs a strip through a stage's nodes; returns the values that are wanted."""
        env: dict[int, Tensor] = {
            v: self.maps[v].read(strip.spans) for v in stage.sources
        }
        if (run := self.engine.graph) is not None and self.plan.local:
            made = run(*(env[i] for i in self.graph.inputs))
            made = made if isinstance(made, tuple) else (made,)
            outputs = zip(self.graph.outputs, made, strict=True)
            return {v: self._cut(v, x, strip) for v, x in outputs}
        for n in stage.nodes:
            node = self.graph.nodes[n]
            if node.rule.kind == "norm":
                env[node.outputs[0]] = self._norm(n, env[node.inputs[0]])
            elif node.rule.kind == "window":
                env[node.outputs[0]] = self._windows(node, env, strip)
            else:
                self._call(node, env)
            for v in stage.drops.get(n, ()):
                env.pop(v, None)
        wanted = [*stage.keeps]
        wanted += [self.graph.nodes[n].inputs[0] for n in stage.statistics]
        return {v: self._cut(v, env[v], strip) for v in wanted}

    def _cut(self, v: int, x: Tensor, strip: Strip) -> Tensor:
        """Takes the margins off."""
        value = self.graph.values[v]
        start = (strip.own[0][0] - strip.spans[0][0]) * value.factor
        length = sum(b - a for a, b in strip.own) * value.factor
        return x.narrow(value.axis, start, length)

    def _call(self, node: Node, env: dict[int, Tensor]) -> None:
        result = node.call(
            *(self._filled(a, env) for a in node.args),
            **{k: self._filled(v, env) for k, v in node.kwargs.items()},
        )
        made = result if node.many else [result]
        env.update(zip(node.outputs, made, strict=True))

    def _filled(self, item: object, env: dict[int, Tensor]) -> object:
        # No function inside `_call`: it would refer to itself, and so keep a strip's
        # values until Python looks for such circles.
        if isinstance(item, Ref):
            return env[item.value] if item.value in env else self.small[item.value]
        if isinstance(item, (list, tuple)):
            parts = [self._filled(part, env) for part in item]
            return tuple(parts) if isinstance(item, tuple) else parts
        return item

    def _norm(self, n: int, x: Tensor) -> Tensor:
        """Norms a strip by the image's statistics, and what else the node does."""
        node = self.graph.nodes[n]
        if not node.rule.given:
            return GroupNorm(node)(x, self.norms[n])
        images = zip(x.split(1), *self.norms[n], strict=True)
        parts = [node.call(image, (mean, scale)) for image, mean, scale in images]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _windows(self, node: Node, env: dict[int, Tensor], strip: Strip) -> Tensor:
        """Runs window attention on whole windows that lie in shifted order.

        The module shifts by itself, so rows are shifted back before; where it treats
        the image's last windows apart and these are not here, zeros stand for them.
        """
        rule, v = node.rule, node.inputs[0]
        dim, x = self.graph.values[v].axis, env[v]
        if not rule.shift:
            self._call(node, env)
            return env[node.outputs[0]]
        rows = x.shape[dim]
        split = strip.own[0][1] - strip.own[0][0] if strip.padded[2] else 0
        between, behind = strip.padded[:2]
        # Where the module treats the image's last windows apart, they must be there.
        stand_ins = rule.window if rule.masked and not strip.wraps else 0

        def zeros(length: int) -> Tensor:
            shape = [length if d == dim else n for d, n in enumerate(x.shape)]
            return x.new_zeros(shape)

        parts = [
            x.narrow(dim, 0, split),
            zeros(between),
            x.narrow(dim, split, rows - split),
            zeros(behind + stand_ins),
        ]
        whole = torch.cat([part for part in parts if part.shape[dim]], dim)
        shifted = {**env, v: torch.roll(whole, rule.shift, dim)}
        self._call(node, shifted)
        result = torch.roll(shifted[node.outputs[0]], -rule.shift, dim)
        if not between:
            return result.narrow(dim, 0, rows)
        below = result.narrow(dim, split + between, rows - split)
        return torch.cat((result.narrow(dim, 0, split), below), dim)

    def _gather(
        self, values: dict[int, Tensor], gathered: dict[int, Moments | Mean]
    ) -> None:
        """Takes a strip into the statistics."""
        for n, statistic in gathered.items():
            node = self.graph.nodes[n]
            x = values[node.inputs[0]]
            if isinstance(statistic, Moments):
                statistic.add(x)
            else:
                env = {node.inputs[0]: x}
                self._call(node, env)
                rows = x.shape[self.graph.values[node.inputs[0]].axis]
                statistic.add(env[node.outputs[0]], rows)

    def _made(
        self, stage: Stage, strip: Strip, values: dict[int, Tensor]
    ) -> Iterator[Part]:
        """Keeps what later stages need of a strip, and yields its rows of results."""
        for v in stage.keeps:
            start = 0
            value = self.graph.values[v]
            for a, b in strip.own:
                length = (b - a) * value.factor
                rows = values[v].narrow(value.axis, start, length)
                start += length
                if v in self.maps:
                    kept = self.maps[v]
                    assert isinstance(kept, Map)
                    kept.add((a, b), rows)
                for output, made in enumerate(self.graph.outputs):
                    if made == v:
                        yield output, a, b, rows
