"""`paragon info FILE`: what a weight file holds."""

from __future__ import annotations

from collections.abc import Sequence

from spandrel import ModelTiling

from ..checkpoint import find_architecture, load_model, read_metadata, read_state_dict
from .common import EXIT_DONE, guarded, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints architecture, variant, form, scale, channels, size and hyperparameters."""
    arguments = parser(
        "info",
        "Says what a weight file holds; everything is read from its tensors.",
        "paragon info 4xParagonSR_S.safetensors",
    )
    arguments.add_argument("file", help="weight file (.safetensors, .pth, .pth.tar)")
    options = arguments.parse_args(argv)
    return guarded(lambda: _show(options.file))


def _show(file: str) -> int:
    state = read_state_dict(file)
    descriptor = load_model(file)
    architecture = find_architecture(state)
    model = descriptor.model
    rows = [("architecture", descriptor.architecture.name)]
    assumed: dict[str, str] = {}
    hyperparameters: dict[str, object] = getattr(model, "hyperparameters", {})
    if architecture is not None:
        reading = architecture.inspect(state)
        assumed = reading.assumed
        rows += [
            ("variant", architecture.variant(reading) or "none (free hyperparameters)"),
            ("form", reading.form),
        ]
    elif descriptor.tags:
        rows.append(("tags", ", ".join(descriptor.tags)))
    rows += [
        ("scale", str(descriptor.scale)),
        ("channels", f"{descriptor.input_channels} -> {descriptor.output_channels}"),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("float16", "yes" if descriptor.supports_half else "no"),
        ("bfloat16", "yes" if descriptor.supports_bfloat16 else "no"),
        (
            "tiles",
            {
                ModelTiling.SUPPORTED: "same picture as the whole image, with a margin",
                ModelTiling.DISCOURAGED: "change the picture: whole-image statistics",
                ModelTiling.INTERNAL: "handled by the network itself",
            }[descriptor.tiling],
        ),
    ]
    for name, value in hyperparameters.items():
        note = f"  (assumed: {assumed[name]})" if name in assumed else ""
        rows.append((f"  {name}", f"{value}{note}"))
    rows += [(f"metadata {k}", v) for k, v in sorted(read_metadata(file).items())]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return EXIT_DONE
