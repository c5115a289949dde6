"""FusionSR: a Swin transformer whose shallow extractor is mixed out of two paths.

Origin: FusionSR by Lakshay Dahiya, built here from its published layout. MIT.
Particular: it is trained in stages. Stage 0 is the network without the enhanced path
(`use_rca=False`); `transfer_baseline` takes its weights into the full network at
almost no cost, and `STAGES` names the parameters that each later stage trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..utils.registry import ARCH_REGISTRY

VARIANTS: dict[str, dict[str, Any]] = {
    "fusionsr": {
        "embed_dim": 180,
        "depth": 8,
        "num_heads": 6,
        "window_size": 8,
        "mlp_ratio": 4,
        "use_rca": True,
    },
}

STAGES: dict[str, tuple[str, ...]] = {
    "enhanced": ("conv_first.enhanced_path.*", "conv_first.mix_weight"),
    "shallow": ("conv_first.*",),
    "all": ("*",),
}
"""What each training stage trains, in order, as fnmatch patterns of parameter names."""

TRANSFER_MIX = -6.0
"""Start of `mix_weight` for a transferred baseline: sigmoid(-6) = 0.0025."""

MAX_SCALE = 8


def residual_stream(x: Tensor) -> Tensor:
    """Returns `x` in float32 if it is bfloat16, whose 8 bits round at every block."""
    return x.float() if x.dtype == torch.bfloat16 else x


def crop(x: Tensor, dim: int, height: int, width: int) -> Tensor:
    """Returns the first rows (along `dim`) and columns (along the next) of `x`."""
    # torch.export keeps of a slice whether it was all of the example. (New in 2.7.)
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()
    for at, size in ((dim, height), (dim + 1, width)):
        if exporting:
            x = x.index_select(at, torch.arange(size, device=x.device))
        else:
            x = x.narrow(at, 0, size)
    return x


class RCAChannelAttention(nn.Module):
    """x * (0.5 + 0.5 * sigmoid(fc(mean over the image))): never below a half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        last = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.fc = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))
        return x * (0.5 + 0.5 * weights)


class RCABlock(nn.Module):
    """x + residual_scale * attention(conv(gelu(conv(x)))); starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual_scale = nn.Parameter(torch.zeros(1))
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.channel_attention = RCAChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.channel_attention(self.conv_block(x))
        return x + self.residual_scale * branch


class ShallowExtractor(nn.Module):
    """(1 - m) * original(x) + m * enhanced(x), m = sigmoid(mix_weight)."""

    def __init__(self, in_chans: int, embed_dim: int, use_rca: bool) -> None:
        super().__init__()
        half = embed_dim // 2
        self.original_path = nn.Sequential(
            nn.Conv2d(in_chans, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, embed_dim, 1),
        )
        self.use_rca = use_rca
        if use_rca:
            self.enhanced_path = nn.Sequential(
                nn.Conv2d(in_chans, half, 3, padding=1),
                nn.GELU(),
                RCABlock(half),
                RCABlock(half),
                nn.Conv2d(half, embed_dim, 1),
            )
            self.mix_weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        original = self.original_path(x)
        if not self.use_rca:
            return original
        m = torch.sigmoid(self.mix_weight)
        return (1 - m) * original + m * self.enhanced_path(x)


class SwinAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + position bias + mask) v inside each window."""

    relative_position_index: Tensor  # (N, N) into the bias table, N = window^2

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        span = 2 * window - 1  # distances along one side: 1 - window to window - 1
        self.relative_position_bias_table = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(span**2, num_heads), std=0.02)
        )
        sides = torch.arange(window)
        rows = sides.repeat_interleave(window)
        columns = sides.repeat(window)
        index = (rows[:, None] - rows + window - 1) * span
        index = index + columns[:, None] - columns + window - 1
        self.register_buffer("relative_position_index", index)

    def forward(
        self, x: Tensor, mask: Tensor | None, padded: bool | None = None
    ) -> Tensor:
        """Attends inside windows.

        Args:
            x: (B * windows, N, D).
            mask: (windows, N, N), added to the scores, or None.
            padded: Whether heads are padded to a multiple of 8; except on a CPU.
        """
        count, n, dim = x.shape
        size = dim // self.num_heads
        more = -size % 8 if (not x.is_cpu if padded is None else padded) else 0
        qkv = F.linear(x, *self._padded(more)) if more else self.qkv(x)
        qkv = qkv.reshape(-1, n, 3, self.num_heads, size + more)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # (B * windows, heads, N, d)
        table = self.relative_position_bias_table.to(q.dtype)
        bias = table[self.relative_position_index.flatten()]
        bias = bias.reshape(1, n, n, self.num_heads).permute(0, 3, 1, 2)
        if mask is not None:
            bias = bias + mask.to(q.dtype)[:, None]  # (windows, heads, N, N)
            windows = mask.shape[0]
            bias = bias.expand(count // windows, -1, -1, -1, -1)
            bias = bias.reshape(-1, self.num_heads, n, n)
        scale = size**-0.5 if more else None
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        x = x[..., :size] if more else x
        return self.proj(x.transpose(1, 2).reshape(-1, n, dim))

    def _padded(self, more: int) -> tuple[Tensor, Tensor]:
        """Returns the projection to queries, keys and values, a head padded by zeros.

        Fused attention on GPUs wants heads of a multiple of 8; zeros change no score.
        """
        weight, bias = self.qkv.weight, self.qkv.bias
        heads = (3 * self.num_heads, -1)
        weight = F.pad(weight.unflatten(0, heads), (0, 0, 0, more)).flatten(0, 1)
        return weight, F.pad(bias.unflatten(0, heads), (0, more)).flatten()


class SwinBlock(nn.Module):
    """x + attention(norm1(x)) in (shifted) windows, then x + mlp(norm2(x))."""

    def __init__(
        self, dim: int, num_heads: int, window: int, shift: bool, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = window // 2 if shift else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SwinAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )

    def _regions(self, size: Tensor) -> Tensor:
        """Returns 0, 1 or 2 per position of a side: what shifting brought together."""
        at = torch.arange(size, device=self.norm1.weight.device)  # type: ignore[call-overload]
        return (at >= size - self.window).long() + (at >= size - self.shift).long()

    def mask(self, rows: Any, columns: Any) -> Tensor:
        """Returns -100 between pixels of different regions: (windows, N, N)."""
        side = self.window
        down, across = self._regions(rows * side), self._regions(columns * side)
        regions = (3 * down[:, None] + across).reshape(rows, side, columns, side)
        regions = regions.transpose(1, 2).reshape(-1, side * side)
        return -100.0 * (regions[:, None] != regions[:, :, None])

    def attend(self, x: Tensor) -> Tensor:
        """Attends inside windows of the normalized pixels (B, H, W, D)."""
        if not torch.compiler.is_compiling() and has_torch_function_unary(x):
            # Whoever records the network sees one step, as of torch's functions.
            return handle_torch_function(SwinBlock.attend, (x,), self, x)
        b, h, w, c = x.shape
        side = self.window
        # The same steps for every size, so that a traced graph is right at all sizes.
        rows, columns = (h + side - 1) // side, (w + side - 1) // side
        x = F.pad(x, (0, 0, 0, columns * side - w, 0, rows * side - h))
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.reshape(b, rows, side, columns, side, c).transpose(2, 3)
        mask = self.mask(rows, columns) if self.shift else None
        x = self.attn(x.reshape(-1, side * side, c), mask)
        x = x.reshape(b, rows, columns, side, side, c).transpose(2, 3)
        x = x.reshape(b, rows * side, columns * side, c)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return crop(x, 1, h, w)

    def forward(self, x: Tensor) -> Tensor:
        dtype = self.norm1.weight.dtype
        x = residual_stream(x)  # (B, H, W, D)
        x = x + self.attend(self.norm1(x.to(dtype)))
        return x + self.mlp(self.norm2(x.to(dtype)))


@ARCH_REGISTRY.register()
class FusionSR(nn.Module):
    """FusionSR, whole (`use_rca`) or as the baseline of its stage 0.

    Args:
        scale: Upscaling factor, 1 to 8.
        in_chans: Channels of the input and of the output.
        embed_dim: Width of the body (D), even and a multiple of `num_heads`.
        depth: Swin blocks; every second one shifts its windows.
        num_heads: Attention heads.
        window_size: Side of the windows in pixels, even.
        mlp_ratio: Hidden width of the feed-forward over D.
        use_rca: Whether the shallow extractor has its enhanced path.

    Raises:
        ValueError: for a value that is not allowed.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        in_chans: int = 3,
        embed_dim: int = 180,
        depth: int = 8,
        num_heads: int = 6,
        window_size: int = 8,
        mlp_ratio: float = 4,
        use_rca: bool = True,
    ) -> None:
        hyperparameters = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
        }
        super().__init__()
        self.hyperparameters = hyperparameters
        if not (isinstance(scale, int) and 1 <= scale <= MAX_SCALE):
            raise ValueError(
                f"Expected scale to be an integer from 1 to {MAX_SCALE}, but got "
                f"{scale!r}. Use 2, 3, 4 or 8, or any other in that range."
            )
        if embed_dim % 2 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                "Expected embed_dim to be even and a multiple of num_heads, which is "
                f"at least 1, but got {embed_dim!r} and {num_heads!r}. The published "
                "ones are 180 and 6."
            )
        if not (isinstance(window_size, int) and window_size > 0) or window_size % 2:
            raise ValueError(
                "Expected window_size to be a positive even integer, but got "
                f"{window_size!r}. Windows shift by half their side; 8 is published."
            )
        self.scale = scale
        self.conv_first = ShallowExtractor(in_chans, embed_dim, use_rca)
        self.body = nn.Sequential(
            *(
                SwinBlock(embed_dim, num_heads, window_size, i % 2 == 1, mlp_ratio)
                for i in range(depth)
            )
        )
        self.feature_fusion = nn.Sequential(
            nn.Conv2d(2 * embed_dim, embed_dim, 1),
            nn.GELU(),
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1),
        )
        self.upsample = nn.Sequential(
            nn.Conv2d(embed_dim, in_chans * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuses `torch.jit.script`, which would fail at some line with no advice."""
        raise TypeError(
            "Expected torch.jit.trace for this network, but got torch.jit.script. One "
            "trace serves every size: torch.jit.trace(network, torch.rand(1, 3, 64, "
            "64))."
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscales (B, C, H, W) in [0, 1] to (B, C, H * scale, W * scale)."""
        shallow = self.conv_first(x)
        deep = self.body(shallow.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        both = torch.cat((shallow, deep.to(shallow.dtype)), 1)
        return self.upsample(self.feature_fusion(both))


def transfer_baseline(
    network: FusionSR,
    baseline: Mapping[str, Tensor],
    mix_weight: float = TRANSFER_MIX,
) -> None:
    """Takes the weights of a baseline (`use_rca=False`) into a full network, in place.

    Exactly the new parts (`enhanced_path`, `mix_weight`) keep their fresh values, and
    `mix_weight` starts low, so that the picture is the baseline's.

    Args:
        network: A network with `use_rca=True`.
        baseline: Names and tensors of the baseline.
        mix_weight: Start of `mix_weight`; the published 0.1 would mix the untrained
            path in by half.

    Raises:
        ValueError: when `network` has no enhanced path, or anything but the new parts
            is missing, unknown or of another shape.
    """
    if not network.hyperparameters["use_rca"]:
        raise ValueError(
            "Expected a FusionSR with use_rca=True to transfer a baseline into, but "
            "got one without. Set use_rca: true."
        )
    own = network.state_dict()
    new = {
        name
        for name in own
        if name.startswith("conv_first.enhanced_path.")
        or name == "conv_first.mix_weight"
    }
    wanted = set(own) - new
    faults = [
        *(f"{name} is missing" for name in sorted(wanted - set(baseline))),
        *(f"{name} is unknown" for name in sorted(set(baseline) - wanted)),
        *(
            f"{name} is {tuple(baseline[name].shape)} instead of "
            f"{tuple(own[name].shape)}"
            for name in sorted(wanted & set(baseline))
            if baseline[name].shape != own[name].shape
        ),
    ]
    if faults:
        raise ValueError(
            "Expected the baseline to hold every entry of the network but the new "
            f"parts, and nothing else, but got a state dict where {faults[0]} "
            f"({len(faults)} such entries). Use a checkpoint of the same network with "
            "use_rca=False."
        )
    start = torch.tensor(float(mix_weight))
    fresh = {name: own[name] for name in new}
    network.load_state_dict(
        {**fresh, **baseline, "conv_first.mix_weight": start}, strict=True
    )
