"""The published form of the networks: the frozen baseline that speed is measured by.

Fused layout, plain torch operators one after the other in the order of the networks'
description, contiguous NCHW, eager. Nothing here is ever made faster: a figure
against this file means the same in every version. It reads nothing but a state dict,
so that changes of the architectures do not reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paragon_archs.fuse import fuse_model


class PublishedForm(nn.Module):
    """A network of this pack, computed the published way.

    Args:
        model: The network, training or fused form; its weights are copied.

    Raises:
        ValueError: for a network that has no published form here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        kind = type(model).__name__
        if kind not in _FORWARDS:
            raise ValueError(
                f"Expected a network out of {', '.join(_FORWARDS)}, but got {kind!r}. "
                "For others the network itself is the published form."
            )
        self.compute = _FORWARDS[kind]
        self.hyperparameters: dict[str, Any] = vars(model)["hyperparameters"]
        for name, value in fuse_model(model).state_dict().items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())

    def weight(self, name: str) -> Tensor:
        """Returns the entry `name` of the state dict."""
        return self.get_buffer(name.replace(".", "/"))

    def has(self, name: str) -> bool:
        """Whether the state dict has an entry `name`."""
        return name.replace(".", "/") in self._buffers

    def conv(
        self,
        name: str,
        x: Tensor,
        padding: int | tuple[int, int] | str = "same",
        dilation: int = 1,
    ) -> Tensor:
        """Convolves with `name.weight` and `name.bias`, keeping the size."""
        weight = self.weight(f"{name}.weight")
        bias = self.weight(f"{name}.bias") if self.has(f"{name}.bias") else None
        return F.conv2d(
            x,
            weight,
            bias,
            padding=padding,
            dilation=dilation,
            groups=x.shape[1] // weight.shape[1],
        )

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Applies `name.weight` and `name.bias` to the last axis."""
        bias = self.weight(f"{name}.bias") if self.has(f"{name}.bias") else None
        return F.linear(x, self.weight(f"{name}.weight"), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales (B, C, H, W) in [0, 1]."""
        return self.compute(self, x)


def _paragonsr(net: PublishedForm, x: Tensor) -> Tensor:
    h = net.hyperparameters
    shallow = net.conv("conv_in", x)
    x = shallow
    for group in range(h["num_groups"]):
        kept = x
        for index in range(h["num_blocks"]):
            block = f"body.{group}.blocks.{index}"
            context = f"{block}.context"
            y = _group_norm(net, f"{block}.norm1", x)
            g = net.weight(f"{context}.dwconv_hw.weight").shape[0]
            identity, square, wide, tall = torch.split(
                y, [y.shape[1] - 3 * g, g, g, g], dim=1
            )
            y = torch.cat(
                (
                    identity,
                    net.conv(f"{context}.dwconv_hw", square),
                    net.conv(f"{context}.dwconv_w", wide),
                    net.conv(f"{context}.dwconv_h", tall),
                ),
                dim=1,
            )
            x = x + _layer_scale(net, f"{block}.ls1", y)
            y = _group_norm(net, f"{block}.norm2", x)
            ffn = f"{block}.transformer"
            gate = net.conv(f"{ffn}.project_in_g", y)
            inner = net.conv(f"{ffn}.project_in_i", y)
            gate = F.mish(net.conv(f"{ffn}.spatial_mixer", gate))
            y = net.conv(f"{ffn}.project_out", gate * inner)
            x = x + _layer_scale(net, f"{block}.ls2", y)
        x = x + kept
    x = net.conv("conv_fuse", x) + shallow
    x = F.pixel_shuffle(net.conv("upsampler.0", x), h["scale"])
    return net.conv("conv_out", x)


def _group_norm(net: PublishedForm, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 1, net.weight(f"{name}.weight"), net.weight(f"{name}.bias"))


def _layer_scale(net: PublishedForm, name: str, x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    x = x * net.weight(f"{name}.gamma")
    return x.permute(0, 3, 1, 2).contiguous()


def _paragonsr2(net: PublishedForm, x: Tensor) -> Tensor:
    h = net.hyperparameters
    image = x
    x = net.conv("conv_in", image)
    index = 0
    for group in range(h["num_groups"]):
        for number in range(h["num_blocks"]):
            block = f"body.{group}.blocks.{number}"
            x = _BLOCKS[h["variant"]](net, block, x, index % 2 == 1)
            index += 1
    x = net.conv("conv_mid", x)
    x = F.pixel_shuffle(net.conv("up.0", x), h["scale"])
    detail = net.conv("conv_out", x)
    return _base(net, image) + net.weight("detail_gain") * detail


def _base(net: PublishedForm, x: Tensor) -> Tensor:
    h = net.hyperparameters
    if h["base_kernel"] == "mks2021":
        x = F.pad(x, (4, 4, 4, 4), mode="replicate")
        for name in ("base.mks2021.v", "base.mks2021.h"):
            x = net.conv(name, x, padding=0)
        return F.pixel_shuffle(x, h["scale"])
    if h["upsampler_alpha"] > 0:
        sharp = net.conv("base.sharp.v", net.conv("base.sharp.h", x))
        x = x + h["upsampler_alpha"] * (sharp - x)
    x = F.interpolate(x, scale_factor=h["scale"], mode="nearest")
    return net.conv("base.blur.v", net.conv("base.blur.h", x))


def _nano_block(net: PublishedForm, block: str, x: Tensor, _: bool) -> Tensor:
    y = net.conv(f"{block}.dw", net.conv(f"{block}.conv1", x))
    y = net.conv(f"{block}.conv2", F.gelu(y))
    return x + net.weight(f"{block}.scale.gamma") * y


def _stream_block(net: PublishedForm, block: str, x: Tensor, _: bool) -> Tensor:
    y = torch.cat(
        (
            net.conv(f"{block}.dw1", x),
            net.conv(f"{block}.dw3", x, padding=3, dilation=3),
        ),
        dim=1,
    )
    y = net.conv(f"{block}.proj", net.conv(f"{block}.fuse", y))
    a, b = net.conv(f"{block}.gate", y).chunk(2, dim=1)
    y = (a.float() * b.float()).clamp(-65504, 65504).to(a.dtype)
    y = net.conv(f"{block}.out", y)
    return x + net.weight(f"{block}.scale.gamma") * y


def _rms_norm(net: PublishedForm, name: str, x: Tensor) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + 1e-6)
    return wide.to(x.dtype) * net.weight(f"{name}.scale") + net.weight(f"{name}.bias")


def _window_attention(net: PublishedForm, name: str, x: Tensor, shift: bool) -> Tensor:
    side = net.hyperparameters["window_size"]
    heads = 4
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % side, 0, -h % side))
    rows, columns = x.shape[2] // side, x.shape[3] // side
    if shift:
        x = torch.roll(x, (-(side // 2), -(side // 2)), (2, 3))
    x = x.view(b, c, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    x = x.reshape(-1, side * side, c)
    x = net.linear(f"{name}.qkv", x)
    x = x.reshape(-1, side * side, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    x = F.scaled_dot_product_attention(x[0], x[1], x[2])
    x = x.transpose(1, 2).reshape(-1, side * side, c)
    x = net.linear(f"{name}.proj", x)
    x = x.view(b, rows, columns, side, side, c).permute(0, 5, 1, 3, 2, 4)
    x = x.reshape(b, c, rows * side, columns * side)
    if shift:
        x = torch.roll(x, (side // 2, side // 2), (2, 3))
    return x[:, :, :h, :w].contiguous()


def _photo_block(net: PublishedForm, block: str, x: Tensor, shift: bool) -> Tensor:
    y = net.conv(f"{block}.conv1", _rms_norm(net, f"{block}.norm", x))
    y = net.conv(f"{block}.conv2", F.gelu(net.conv(f"{block}.dw", y)))
    x = x + net.weight(f"{block}.scale.gamma") * y
    if net.has(f"{block}.attn.qkv.weight"):
        y = _rms_norm(net, f"{block}.attn_norm", x)
        y = _window_attention(net, f"{block}.attn", y, shift)
        x = x + net.weight(f"{block}.scale.gamma") * y
    return x


def _pro_block(net: PublishedForm, block: str, x: Tensor, shift: bool) -> Tensor:
    y = net.conv(f"{block}.conv1", _rms_norm(net, f"{block}.norm1", x))
    y = net.conv(f"{block}.conv2", F.gelu(net.conv(f"{block}.dw", y)))
    x = x + net.weight(f"{block}.scale1.gamma") * y
    weights = F.adaptive_avg_pool2d(x, 1).flatten(1)
    weights = F.gelu(net.linear(f"{block}.channel_attn.fc.0", weights))
    weights = torch.sigmoid(net.linear(f"{block}.channel_attn.fc.2", weights))
    x = x + net.weight(f"{block}.scale2.gamma") * (x * weights[:, :, None, None])
    if net.has(f"{block}.window_attn.qkv.weight"):
        y = _rms_norm(net, f"{block}.norm3", x)
        y = _window_attention(net, f"{block}.window_attn", y, shift)
        x = x + net.weight(f"{block}.scale3.gamma") * y
    y = _rms_norm(net, f"{block}.norm4", x)
    b, c, h, w = y.shape
    y = y.flatten(2).transpose(1, 2)
    token_ca = f"{block}.token_ca"
    tokens = net.weight(f"{token_ca}.token_dict").expand(b, -1, -1)
    q = net.linear(f"{token_ca}.q_proj", y)
    k = net.linear(f"{token_ca}.k_proj", tokens)
    v = net.linear(f"{token_ca}.v_proj", tokens)
    y = (q @ k.transpose(1, 2) / 4).softmax(-1) @ v
    y = net.linear(f"{token_ca}.out_proj", y)
    y = y.transpose(1, 2).reshape(b, c, h, w)
    return x + net.weight(f"{block}.scale4.gamma") * y


_BLOCKS: dict[str, Callable[[PublishedForm, str, Tensor, bool], Tensor]] = {
    "realtime": _nano_block,
    "stream": _stream_block,
    "photo": _photo_block,
    "pro": _pro_block,
}


def _fusionsr(net: PublishedForm, x: Tensor) -> Tensor:
    h = net.hyperparameters
    path = "conv_first.original_path"
    y = F.gelu(net.conv(f"{path}.0", x))
    shallow = net.conv(f"{path}.4", F.gelu(net.conv(f"{path}.2", y)))
    if h["use_rca"]:
        path = "conv_first.enhanced_path"
        y = F.gelu(net.conv(f"{path}.0", x))
        for index in (2, 3):
            y = _rca_block(net, f"{path}.{index}", y)
        m = torch.sigmoid(net.weight("conv_first.mix_weight"))
        shallow = (1 - m) * shallow + m * net.conv(f"{path}.4", y)
    b, c, height, width = shallow.shape
    x = shallow.flatten(2).transpose(1, 2)
    for index in range(h["depth"]):
        x = _swin_block(net, f"body.{index}", x, height, width, index % 2 == 1)
    deep = x.transpose(1, 2).reshape(b, c, height, width)
    x = net.conv("feature_fusion.0", torch.cat((shallow, deep), 1))
    x = net.conv("feature_fusion.2", F.gelu(x))
    return F.pixel_shuffle(net.conv("upsample.0", x), h["scale"])


def _rca_block(net: PublishedForm, block: str, x: Tensor) -> Tensor:
    y = F.gelu(net.conv(f"{block}.conv_block.0", x))
    y = net.conv(f"{block}.conv_block.2", y)
    weights = F.adaptive_avg_pool2d(y, 1)
    weights = F.gelu(net.conv(f"{block}.channel_attention.fc.0", weights))
    weights = torch.sigmoid(net.conv(f"{block}.channel_attention.fc.2", weights))
    return x + net.weight(f"{block}.residual_scale") * (y * (0.5 + 0.5 * weights))


def _swin_block(
    net: PublishedForm, block: str, x: Tensor, h: int, w: int, shift: bool
) -> Tensor:
    hyper = net.hyperparameters
    side, heads = hyper["window_size"], hyper["num_heads"]
    b, _, c = x.shape
    y = _layer_norm(net, f"{block}.norm1", x).view(b, h, w, c)
    y = F.pad(y, (0, 0, 0, -w % side, 0, -h % side))
    rows, columns = y.shape[1] // side, y.shape[2] // side
    if shift:
        y = torch.roll(y, (-(side // 2), -(side // 2)), (1, 2))
    y = y.view(b, rows, side, columns, side, c).transpose(2, 3)
    y = y.reshape(-1, side * side, c)
    qkv = net.linear(f"{block}.attn.qkv", y)
    qkv = qkv.reshape(-1, side * side, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    q = qkv[0] * (c // heads) ** -0.5
    scores = q @ qkv[1].transpose(-2, -1)
    table = net.weight(f"{block}.attn.relative_position_bias_table")
    index = net.weight(f"{block}.attn.relative_position_index").view(-1)
    bias = table[index].view(side * side, side * side, heads).permute(2, 0, 1)
    scores = scores + bias.unsqueeze(0)
    if shift:
        mask = _swin_mask(rows, columns, side, x)
        scores = scores.view(b, rows * columns, heads, side**2, side**2)
        scores = (scores + mask[None, :, None]).view(-1, heads, side**2, side**2)
    y = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(-1, side * side, c)
    y = net.linear(f"{block}.attn.proj", y)
    y = y.view(b, rows, columns, side, side, c).transpose(2, 3)
    y = y.reshape(b, rows * side, columns * side, c)
    if shift:
        y = torch.roll(y, (side // 2, side // 2), (1, 2))
    x = x + y[:, :h, :w].reshape(b, h * w, c)
    y = F.gelu(net.linear(f"{block}.mlp.0", _layer_norm(net, f"{block}.norm2", x)))
    return x + net.linear(f"{block}.mlp.2", y)


def _layer_norm(net: PublishedForm, name: str, x: Tensor) -> Tensor:
    weight, bias = net.weight(f"{name}.weight"), net.weight(f"{name}.bias")
    return F.layer_norm(x, weight.shape, weight, bias)


def _swin_mask(rows: int, columns: int, side: int, like: Tensor) -> Tensor:
    """Returns Swin's mask (windows, N, N): -100 between regions of the shifted map."""
    regions = torch.zeros(rows * side, columns * side)
    cuts = (slice(0, -side), slice(-side, -(side // 2)), slice(-(side // 2), None))
    for number, (down, across) in enumerate((d, a) for d in cuts for a in cuts):
        regions[down, across] = number
    regions = regions.view(rows, side, columns, side).transpose(1, 2)
    regions = regions.reshape(-1, side * side)
    mask = (regions[:, None] != regions[:, :, None]) * -100.0
    return mask.to(like)


def _resshuffle(net: PublishedForm, x: Tensor) -> Tensor:
    shallow = F.relu(net.conv("conv_input", x))
    x = shallow
    for index in range(net.hyperparameters["num_residuals"]):
        block = f"residual_blocks.{index}"
        y = F.relu(net.conv(f"{block}.conv1", x))
        x = net.conv(f"{block}.conv2", y) + x
    x = net.conv("conv_mid", x) + shallow
    index = 0
    while net.has(f"upsample.{index}.conv.weight"):
        y = net.conv(f"upsample.{index}.conv", x)
        x = F.relu(F.pixel_shuffle(y, round((y.shape[1] / x.shape[1]) ** 0.5)))
        index += 1
    return net.conv("conv_output", x)


_FORWARDS: dict[str, Callable[[PublishedForm, Tensor], Tensor]] = {
    "ParagonSR": _paragonsr,
    "ParagonSR2": _paragonsr2,
    "FusionSR": _fusionsr,
    "ResShuffle": _resshuffle,
}
