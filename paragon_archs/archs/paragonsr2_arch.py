"""ParagonSR2: a fixed base path plus a learned residual, in four sizes of block.

Origin: ParagonSR2 by Philip Hofmann (MIT), built here from its published layout. MIT.
Particular: the network only adds `detail_gain` times its residual to a fixed
upsampling of the input; a `settings` entry keeps what released weights do not record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils.checkpoint import checkpoint

from ..utils.registry import ARCH_REGISTRY

logger = logging.getLogger(__name__)

VARIANTS: dict[str, dict[str, Any]] = {
    "paragonsr2_realtime": {
        "num_feat": 16,
        "num_groups": 1,
        "num_blocks": 3,
        "variant": "realtime",
        "detail_gain": 0.05,
        "upsampler_alpha": 0.3,
    },
    "paragonsr2_stream": {
        "num_feat": 32,
        "num_groups": 2,
        "num_blocks": 3,
        "variant": "stream",
        "detail_gain": 0.1,
        "upsampler_alpha": 0.0,
    },
    "paragonsr2_photo": {
        "num_feat": 64,
        "num_groups": 4,
        "num_blocks": 4,
        "variant": "photo",
        "detail_gain": 0.1,
        "upsampler_alpha": 0.4,
    },
    "paragonsr2_pro": {
        "num_feat": 64,
        "num_groups": 6,
        "num_blocks": 6,
        "variant": "pro",
        "detail_gain": 0.1,
        "upsampler_alpha": 0.4,
    },
}

MAX_SCALE = 8
MILLION = 1_000_000
NUM_HEADS = 4
NUM_TOKENS = 64
TOKEN_DIM = 16  # of queries and keys in TokenDictionary
HALF_MAX = 65504.0  # largest float16


def widen(x: Tensor) -> Tensor:
    """Returns `x` in at least float32; float32 and float64 pass without a cast."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


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


class SeparableFilter(nn.Module):
    """A fixed filter on each channel apart: horizontal, then vertical, zero padded."""

    def __init__(self, channels: int, taps: Sequence[float]) -> None:
        super().__init__()
        kernel = torch.tensor(taps)
        self.register_buffer("kernel", kernel)  # kept once more by released weights
        n = len(taps)
        self.h = nn.Conv2d(
            channels, channels, (1, n), padding=(0, n // 2), groups=channels, bias=False
        )
        self.v = nn.Conv2d(
            channels, channels, (n, 1), padding=(n // 2, 0), groups=channels, bias=False
        )
        self.requires_grad_(False)
        self.h.weight.copy_(kernel.view(1, 1, 1, n).expand_as(self.h.weight))
        self.v.weight.copy_(kernel.view(1, 1, n, 1).expand_as(self.v.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.v(self.h(x))


class PublishedBase(nn.Module):
    """blur(nearest(x + alpha * (sharp(x) - x))): the base path of released weights.

    Two things to know: `sharp` is a low-pass (its gain at Nyquist is 0), so a higher
    alpha softens; and zero padding darkens the border. Weights were trained around
    both.
    """

    def __init__(self, channels: int, scale: int, alpha: float) -> None:
        super().__init__()
        self.scale = scale
        self.alpha = alpha
        sharp = (-1 / 32, 0, 9 / 32, 16 / 32, 9 / 32, 0, -1 / 32)
        self.sharp = SeparableFilter(channels, sharp)
        self.blur = SeparableFilter(channels, (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16))

    def forward(self, x: Tensor) -> Tensor:
        if self.alpha > 0:
            x = x + self.alpha * (self.sharp(x) - x)
        return self.blur(F.interpolate(x, scale_factor=self.scale, mode="nearest"))


def magic_kernel_sharp_2021(x: Tensor) -> Tensor:
    """Returns Costella's Magic Kernel Sharp 2021 at `x`, in input samples.

    The published piecewise formula (J. P. Costella, "The Magic Kernel", 2021).
    """
    a = x.abs()
    pieces = (
        (0.5, 577 / 576 - 239 / 144 * a**2),
        (1.5, (140 * a**2 - 379 * a + 239) / 144),
        (2.5, -(24 * a**2 - 113 * a + 130) / 144),
        (3.5, (4 * a**2 - 27 * a + 45) / 144),
        (4.5, -((2 * a - 9) ** 2) / 1152),
    )
    value = torch.zeros_like(a)
    for end, piece in reversed(pieces):
        value = torch.where(a <= end, piece, value)
    return value


class MagicKernelSharp2021(nn.Module):
    """Polyphase upsampling with Magic Kernel Sharp 2021, borders replicated.

    Output pixel i lies at (i + 1/2) / s - 1/2 of the input; each of the s phases has
    nine taps whose sum is one, so a constant image stays what it is.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        at = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        taps = torch.arange(-4, 5, dtype=torch.float64)
        kernel = magic_kernel_sharp_2021(at[:, None] - taps)  # (s, 9)
        rows, columns = channels * scale, channels * scale**2
        self.v = nn.Conv2d(channels, rows, (9, 1), groups=channels, bias=False)
        self.h = nn.Conv2d(rows, columns, (1, 9), groups=rows, bias=False)
        self.requires_grad_(False)
        self.v.weight.copy_(kernel.repeat(channels, 1).view(rows, 1, 9, 1))
        self.h.weight.copy_(kernel.repeat(rows, 1).view(columns, 1, 1, 9))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and has_torch_function_unary(x):
            # Whoever records the network sees one step, as of torch's functions.
            return handle_torch_function(MagicKernelSharp2021.forward, (x,), self, x)
        x = F.pad(x, (4, 4, 4, 4), mode="replicate")
        return F.pixel_shuffle(self.h(self.v(x)), self.scale)


class MagicBase(nn.Module):
    """The base path `mks2021`; its entries are all called `base.mks2021.`."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.mks2021 = MagicKernelSharp2021(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.mks2021(x)


class LayerScale2d(nn.Module):
    """A learnable factor per channel on a residual branch, kept as (1, C, 1, 1)."""

    def __init__(self, channels: int, init_value: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), init_value))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Returns `x + gamma * branch`, both (B, C, H, W), in one pass."""
        return torch.addcmul(x, self.gamma, branch)


class RMSNorm2d(nn.Module):
    """x / sqrt(mean over channels of x^2 + eps) * scale + bias, squares widened."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = widen(x)
        wide = wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + self.eps)
        return wide.to(self.scale.dtype) * self.scale + self.bias


class WindowAttention(nn.Module):
    """Multi-head attention inside square windows; no bias, no mask.

    Zero padding at the bottom and the right, and the wrap-around of the cyclic shift,
    take part as ordinary pixels: weights were trained so.
    """

    def __init__(self, channels: int, window: int, shift: bool, mode: str) -> None:
        super().__init__()
        if channels % NUM_HEADS:
            raise ValueError(
                f"Expected num_feat to be a multiple of {NUM_HEADS}, the number of "
                f"attention heads, but got {channels!r}. Choose another width."
            )
        self.window = window
        self.shift = window // 2 if shift else 0
        self.attend = _flex_attention if mode == "flex" else _sdp_attention
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and has_torch_function_unary(x):
            # Whoever records the network sees one step, as of torch's functions.
            return handle_torch_function(WindowAttention.forward, (x,), self, x)
        b, c, h, w = x.shape
        side = self.window
        # Rounding up, padding and cropping are the same steps for every size: a graph
        # that was traced at one size is then right at all of them.
        rows, columns = (h + side - 1) // side, (w + side - 1) // side
        x = F.pad(x, (0, columns * side - w, 0, rows * side - h))
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (2, 3))
        x = x.reshape(b, c, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        qkv = self.qkv(x.reshape(-1, side * side, c))  # (B * windows, side^2, 3C)
        qkv = qkv.reshape(-1, side * side, 3, NUM_HEADS, c // NUM_HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        x = self.attend(q, k, v).transpose(1, 2).reshape(-1, side * side, c)
        x = self.proj(x).reshape(b, rows, columns, side, side, c)
        x = x.permute(0, 5, 1, 3, 2, 4).reshape(b, c, rows * side, columns * side)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (2, 3))
        return crop(x, 2, h, w)


def _sdp_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _flex_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's flex attention; q, k, v and the result are (B, heads, N, D).

    It is one fused kernel only inside `torch.compile`.
    """
    try:
        from torch.nn.attention.flex_attention import (  # noqa: PLC0415 (new in 2.5)
            flex_attention,
        )

        attended = flex_attention(q, k, v)
    except (ImportError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ValueError(
            'Expected attention_mode="flex" where torch\'s flex attention runs, but '
            f"got {q.dtype} on {q.device} under torch {torch.__version__} "
            f'({str(error).splitlines()[0]}). Use "sdpa": it computes the same.'
        ) from error
    assert isinstance(attended, Tensor)
    return attended


class ChannelAttention(nn.Module):
    """x * sigmoid(fc(mean over the image)): weights per channel, whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc(x.mean((2, 3))))
        return x * weights[:, :, None, None]


class TokenDictionary(nn.Module):
    """out_proj(softmax(q k^T / 4) v): every pixel attends to learned tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token_dict = nn.Parameter(0.02 * torch.randn(1, NUM_TOKENS, channels))
        self.q_proj = nn.Linear(channels, TOKEN_DIM)
        self.k_proj = nn.Linear(channels, TOKEN_DIM)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        keys = self.k_proj(self.token_dict[0])  # (T, 16)
        values = self.v_proj(self.token_dict[0])  # (T, C)
        scores = self.q_proj(pixels) @ keys.t() * TOKEN_DIM**-0.5  # (B, H, W, T)
        pixels = self.out_proj(scores.softmax(-1) @ values)
        return pixels.permute(0, 3, 1, 2)


class NanoBlock(nn.Module):
    """x + scale * conv2(gelu(dw(conv1(x))))."""

    def __init__(self, channels: int, **_: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.dw = nn.Conv2d(
            2 * channels, 2 * channels, 3, padding=1, groups=2 * channels
        )
        self.conv2 = nn.Conv2d(2 * channels, channels, 1)
        self.scale = LayerScale2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.conv2(F.gelu(self.dw(self.conv1(x)))))


class StreamBlock(nn.Module):
    """x + scale * out(a * b), (a, b) = gate(proj(fuse([dw1(x), dw3(x)])))."""

    def __init__(self, channels: int, **_: Any) -> None:
        super().__init__()
        c = channels
        self.dw1 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.dw3 = nn.Conv2d(c, c, 3, padding=3, dilation=3, groups=c)
        self.fuse = nn.Conv2d(2 * c, c, 1)
        self.proj = nn.Conv2d(c, 4 * c, 1)
        self.gate = nn.Conv2d(4 * c, 4 * c, 3, padding=1, groups=4 * c)
        self.out = nn.Conv2d(2 * c, c, 1)
        self.scale = LayerScale2d(c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(self.fuse(torch.cat((self.dw1(x), self.dw3(x)), 1)))
        a, b = self.gate(y).chunk(2, 1)
        # The product of two halves may leave float16's range: widened, then clamped.
        y = (widen(a) * widen(b)).clamp(-HALF_MAX, HALF_MAX).to(y.dtype)
        return self.scale(x, self.out(y))


class PhotoBlock(nn.Module):
    """x + scale * conv2(gelu(dw(conv1(norm(x))))), then x + scale * attn(...).

    Both steps share one `scale`.
    """

    def __init__(
        self, channels: int, window: int, shift: bool, mode: str | None
    ) -> None:
        super().__init__()
        self.norm = RMSNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.dw = nn.Conv2d(
            2 * channels, 2 * channels, 3, padding=1, groups=2 * channels
        )
        self.conv2 = nn.Conv2d(2 * channels, channels, 1)
        self.scale = LayerScale2d(channels)
        self.has_attention = mode is not None
        if mode is not None:
            self.attn_norm = RMSNorm2d(channels)
            self.attn = WindowAttention(channels, window, shift, mode)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.gelu(self.dw(self.conv1(self.norm(x)))))
        x = self.scale(residual_stream(x), y)
        if self.has_attention:
            x = self.scale(x, self.attn(self.attn_norm(x)))
        return x


class ProBlock(nn.Module):
    """Convolutions, channel attention, window attention, token dictionary in a row.

    Each is a residual step with its own scale; channel attention sees the
    un-normalized features.
    """

    def __init__(
        self, channels: int, window: int, shift: bool, mode: str | None
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.dw = nn.Conv2d(
            2 * channels, 2 * channels, 3, padding=1, groups=2 * channels
        )
        self.conv2 = nn.Conv2d(2 * channels, channels, 1)
        self.scale1 = LayerScale2d(channels)
        self.channel_attn = ChannelAttention(channels)
        self.scale2 = LayerScale2d(channels)
        self.has_attention = mode is not None
        if mode is not None:
            self.norm3 = RMSNorm2d(channels)
            self.window_attn = WindowAttention(channels, window, shift, mode)
            self.scale3 = LayerScale2d(channels)
        self.norm4 = RMSNorm2d(channels)
        self.token_ca = TokenDictionary(channels)
        self.scale4 = LayerScale2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.gelu(self.dw(self.conv1(self.norm1(x)))))
        x = self.scale1(x, y)
        x = self.scale2(x, self.channel_attn(x))
        if self.has_attention:
            x = self.scale3(x, self.window_attn(self.norm3(x)))
        return self.scale4(x, self.token_ca(self.norm4(x)))


BLOCKS: dict[str, type[nn.Module]] = {
    "realtime": NanoBlock,
    "stream": StreamBlock,
    "photo": PhotoBlock,
    "pro": ProBlock,
}
ATTENTION_PARTS = (".attn_norm.", ".attn.", ".norm3.", ".window_attn.", ".scale3.")


class ParagonGroup2(nn.Module):
    """A row of blocks, without a skip of its own; may recompute them backwards."""

    def __init__(self, *blocks: nn.Module, use_checkpointing: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.use_checkpointing = use_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        if not (self.use_checkpointing and torch.is_grad_enabled()):
            return self.blocks(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x


@ARCH_REGISTRY.register()
class ParagonSR2(nn.Module):
    """ParagonSR2; it has no fused form of its own.

    Args:
        scale: Upscaling factor, 1 to 8.
        in_chans: Channels of the input and of the output.
        num_feat: Width of the body.
        num_groups: Groups of blocks.
        num_blocks: Blocks in a group.
        variant: The block: "realtime" (also "nano"), "stream", "photo" or "pro".
        detail_gain: Start of the learned factor on the residual.
        upsampler_alpha: Share of the low-pass `sharp` in the published base path, 0 to
            1; a higher one softens. It has no part in `mks2021`.
        use_checkpointing: Whether blocks are recomputed in the backward pass.
        attention_mode: "sdpa", "flex" (torch's flex attention, same result), or None
            for no window attention; for the photo and the pro block.
        export_safe: Whether to leave window attention out, as None does.
        window_size: Side of the attention windows in pixels, even.
        base_kernel: "published", or "mks2021": the true Magic Kernel Sharp 2021 with
            replicated borders, for new training.

    Raises:
        ValueError: for a value that is not allowed.
    """

    settings: Tensor  # (2,), int64: upsampler_alpha in millionths, window_size

    def __init__(
        self,
        *,
        scale: int = 4,
        in_chans: int = 3,
        num_feat: int = 64,
        num_groups: int = 4,
        num_blocks: int = 4,
        variant: str = "photo",
        detail_gain: float = 0.1,
        upsampler_alpha: float = 0.4,
        use_checkpointing: bool = False,
        attention_mode: str | None = "sdpa",
        export_safe: bool = False,
        window_size: int = 16,
        base_kernel: str = "published",
    ) -> None:
        variant = "realtime" if variant == "nano" else variant
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
        _check_choice("variant", variant, tuple(BLOCKS))
        _check_choice("attention_mode", attention_mode, ("sdpa", "flex", None))
        _check_choice("base_kernel", base_kernel, ("published", "mks2021"))
        if not 0 <= upsampler_alpha <= 1:
            raise ValueError(
                "Expected upsampler_alpha to be a number from 0 to 1, but got "
                f"{upsampler_alpha!r}. The published ones are 0.0, 0.3 and 0.4."
            )
        if not (isinstance(window_size, int) and window_size > 0) or window_size % 2:
            raise ValueError(
                "Expected window_size to be a positive even integer, but got "
                f"{window_size!r}. Windows shift by half their side; 16 is published."
            )
        self.scale = scale
        mode = None if export_safe else attention_mode

        def block(index: int) -> nn.Module:
            return BLOCKS[variant](
                num_feat, window=window_size, shift=index % 2 == 1, mode=mode
            )

        self.base: nn.Module = (
            MagicBase(in_chans, scale)
            if base_kernel == "mks2021"
            else PublishedBase(in_chans, scale, upsampler_alpha)
        )
        self.conv_in = nn.Conv2d(in_chans, num_feat, 3, padding=1)
        self.body = nn.Sequential(
            *(
                ParagonGroup2(
                    # Shifts alternate through the whole body, not from each group on.
                    *(block(g * num_blocks + b) for b in range(num_blocks)),
                    use_checkpointing=use_checkpointing,
                )
                for g in range(num_groups)
            )
        )
        self.conv_mid = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.up = nn.Sequential(
            nn.Conv2d(num_feat, num_feat * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )
        self.conv_out = nn.Conv2d(num_feat, in_chans, 3, padding=1)
        self.detail_gain = nn.Parameter(torch.tensor(float(detail_gain)))
        self.register_buffer("settings", self._settings())

    def _settings(self) -> Tensor:
        alpha = round(self.hyperparameters["upsampler_alpha"] * MILLION)
        return torch.tensor([alpha, self.hyperparameters["window_size"]])

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuses `torch.jit.script`, which would fail at some line with no advice."""
        raise TypeError(
            "Expected torch.jit.trace for this network, but got torch.jit.script. One "
            "trace serves every size: torch.jit.trace(network, torch.rand(1, 3, 64, "
            "64))."
        )

    def forward(
        self,
        x: Tensor,
        feature_tap: bool = False,
        prev_feat: Tensor | None = None,
        alpha: float = 0.2,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Upscales; for video, blends the features with those of the frame before.

        Args:
            x: (B, C, H, W) in [0, 1].
            feature_tap: Whether to return the (blended) features too.
            prev_feat: The features of the frame before, (B, num_feat, H, W).
            alpha: Share of `prev_feat` in the blend, 0 to 1.

        Returns:
            (B, C, H * scale, W * scale), not clamped; with `feature_tap` also the
            features (B, num_feat, H, W), to be handed in with the next frame.
        """
        features = self.conv_in(x)
        if prev_feat is not None:
            features = (1 - alpha) * features + alpha * prev_feat
        deep = self.body(features).to(features.dtype)
        detail = self.conv_out(self.up(self.conv_mid(deep)))
        out = self.base(x) + self.detail_gain * detail
        return (out, features) if feature_tap else out

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads as always, but for two things that weights alone cannot settle.

        Released weights have no `settings`, and where a file brings other ones the
        constructor's stay, so that an option file can override them. Attention weights
        are never dropped, not even by `strict=False`.
        """
        key, own = f"{prefix}settings", self._settings()
        stored = state_dict.get(key)
        if stored is not None and stored.tolist() != own.tolist():
            logger.warning(
                "The weights were saved with (upsampler_alpha in millionths, "
                "window_size) = %s, the network was built with %s, which stays.",
                stored.tolist(),
                own.tolist(),
            )
        state_dict[key] = own
        h = self.hyperparameters
        if h["export_safe"] or h["attention_mode"] is None:
            body = f"{prefix}body."
            dropped = [
                k
                for k in state_dict
                if k.startswith(body) and any(part in k for part in ATTENTION_PARTS)
            ]
            if dropped:
                error_msgs.append(
                    "Expected weights without attention, because export_safe is set "
                    f"or attention_mode is None, but got {dropped[0]!r} and "
                    f"{len(dropped) - 1} more trained entries, which would be dropped. "
                    "Build the network with attention."
                )
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def _check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"Expected {name} to be one of {', '.join(map(repr, allowed))}, but got "
            f"{value!r}. Correct the value."
        )


@ARCH_REGISTRY.register()
def paragonsr2_realtime(scale: int = 4, **overrides: Any) -> ParagonSR2:
    """Real-time, 1 group of 3 nano blocks, 16 channels."""
    return ParagonSR2(scale=scale, **{**VARIANTS["paragonsr2_realtime"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr2_stream(scale: int = 4, **overrides: Any) -> ParagonSR2:
    """Stream, 2 groups of 3 gated blocks, 32 channels."""
    return ParagonSR2(scale=scale, **{**VARIANTS["paragonsr2_stream"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr2_photo(scale: int = 4, **overrides: Any) -> ParagonSR2:
    """Photo, 4 groups of 4 blocks with window attention, 64 channels."""
    return ParagonSR2(scale=scale, **{**VARIANTS["paragonsr2_photo"], **overrides})


@ARCH_REGISTRY.register()
def paragonsr2_pro(scale: int = 4, **overrides: Any) -> ParagonSR2:
    """Pro, 6 groups of 6 blocks with three kinds of attention, 64 channels."""
    return ParagonSR2(scale=scale, **{**VARIANTS["paragonsr2_pro"], **overrides})
