"""ComfyUI node folder: our networks in the stock nodes, and exact upscaling.

Copied by `paragon integrate comfyui PATH`, with the pack beside this file. The stock
"Load Upscale Model" then opens our files; "Upscale (exact)" gives the whole image's
picture whatever the memory, where the stock node's tiles would change it.
"""

# pyright: reportMissingImports=false
# What it imports stands beside it only where it was copied to.

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import threading
from pathlib import Path
from typing import Any

import torch

try:
    from paragon_archs.checkpoint import load_model
    from paragon_archs.inference.upscaler import Upscaler
    from paragon_archs.loaders import install
    from paragon_archs.utils.progress import Task, shown_by, task
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "paragon_archs":
        raise
    # Not installed in ComfyUI's Python (or only another version, or a folder of that
    # name): the copy beside this file.
    from .paragon_archs.checkpoint import load_model
    from .paragon_archs.inference.upscaler import Upscaler
    from .paragon_archs.loaders import install
    from .paragon_archs.utils.progress import Task, shown_by, task

api: Any = None
with contextlib.suppress(ImportError):  # a ComfyUI of before the V3 schema
    api = importlib.import_module("comfy_api.latest")

install()

NODE, TITLE, CATEGORY = (
    "ParagonUpscale",
    "Upscale (exact, paragon_archs)",
    "image/upscaling",
)
DESCRIPTION = (
    "Upscales with any model of models/upscale_models. The result is that of the whole "
    "image, without seams of tiles, whatever the memory. Transparency is kept."
)
PRECISIONS = ["auto", "fp32", "fp16", "bf16"]
TOOLTIPS = {
    "model_name": "A file of models/upscale_models.",
    "image": "Images; those with a fourth channel keep their transparency.",
    "precision": "auto: fp16 on a CUDA card where the model allows it, else fp32.",
    "output": "The images, larger by the model's scale.",
}
STEPS = 1000  # of the progress bar


class Bar:
    """Shows tasks in ComfyUI's progress bar, and ends them where ComfyUI cancels."""

    def __init__(self) -> None:
        import comfy.model_management  # noqa: PLC0415 (ComfyUI's, there when it runs)
        import comfy.utils  # noqa: PLC0415

        self.stop = comfy.model_management.throw_exception_if_processing_interrupted
        self.bar = comfy.utils.ProgressBar(STEPS)
        self.thread, self.step = threading.current_thread(), 0

    def update(self, whole: Task) -> None:
        """Shows where the whole stands; raises ComfyUI's error when cancelled."""
        if threading.current_thread() is not self.thread:
            return  # the error would not reach ComfyUI
        self.stop()
        step = int(STEPS * (whole.fraction or 0))
        if step > self.step:
            self.step = step
            self.bar.update_absolute(step)

    def close(self, whole: Task) -> None:
        """Leaves the bar as it is: ComfyUI ends it."""


@functools.lru_cache(maxsize=1)
def opened(
    path: str, _written: int, device: torch.device, precision: str
) -> tuple[Upscaler, list[Any]]:
    """Returns an upscaler, read once, and what makes room for it (empty: nothing)."""
    import comfy.model_management as management  # noqa: PLC0415

    opened.cache_clear()  # the one before goes first, circles of references and all
    gc.collect()
    upscaler = Upscaler(load_model(path, "cpu"), device=device, dtype=precision)
    if not hasattr(management, "load_models_gpu"):
        return upscaler, []
    from comfy.model_patcher import ModelPatcher  # noqa: PLC0415

    home = torch.device("cpu")
    return upscaler, [ModelPatcher(upscaler.runner.network, device, home)]


def make_room(upscaler: Upscaler, patchers: list[Any], image: torch.Tensor) -> None:
    """Has ComfyUI free the memory that a batch needs, and brings the model in."""
    import comfy.model_management as management  # noqa: PLC0415

    _, height, width, channels = image.shape
    result = 4 * channels * height * width * upscaler.scale**2
    needed = upscaler.runner.cost((height, width)) + result
    if patchers:  # ComfyUI may take such a model off the card when it needs the room
        management.load_models_gpu(patchers, memory_required=needed)
    else:
        management.free_memory(needed, upscaler.device)
    upscaler.runner.network.to(upscaler.device)  # wholly, however little is free


def upscale(model_name: str, image: torch.Tensor, precision: str) -> torch.Tensor:
    """Upscales a batch.

    Args:
        model_name: A file of models/upscale_models.
        image: (B, H, W, C), C = 1 to 4, float32 in [0, 1].
        precision: As `Upscaler`'s dtype.

    Returns:
        (B, H * scale, W * scale, C), float32 in [0, 1].
    """
    import comfy.model_management as management  # noqa: PLC0415
    import folder_paths  # noqa: PLC0415

    path = folder_paths.get_full_path_or_raise("upscale_models", model_name)
    written = Path(path).stat().st_mtime_ns
    device = management.get_torch_device()
    upscaler, patchers = opened(str(path), written, device, precision)
    make_room(upscaler, patchers, image)
    upscaled = []
    try:
        with shown_by(Bar()), task("upscale", len(image), "image") as work:
            for picture in image:
                pixels = upscaler.image(picture.cpu().float().numpy())
                upscaled.append(torch.from_numpy(pixels))
                work.advance()
    finally:
        if not patchers:
            upscaler.runner.network.to("cpu")
    return torch.stack(upscaled)


def files() -> list[str]:
    """Returns the names of the files of models/upscale_models."""
    import folder_paths  # noqa: PLC0415

    return folder_paths.get_filename_list("upscale_models")


class ParagonUpscale:
    """The node as every ComfyUI takes it (V1)."""

    CATEGORY = CATEGORY
    DESCRIPTION = DESCRIPTION
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = (TOOLTIPS["output"],)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (ComfyUI's name)
        """Returns the node's inputs."""
        tips = {name: {"tooltip": text} for name, text in TOOLTIPS.items()}
        return {
            "required": {
                "model_name": (files(), tips["model_name"]),
                "image": ("IMAGE", tips["image"]),
                "precision": (PRECISIONS, {"default": "auto", **tips["precision"]}),
            }
        }

    def upscale(
        self, model_name: str, image: torch.Tensor, precision: str = "auto"
    ) -> tuple[torch.Tensor]:
        """Upscales a batch."""
        return (upscale(model_name, image, precision),)


NODE_CLASS_MAPPINGS: dict[str, Any] = {NODE: ParagonUpscale}
NODE_DISPLAY_NAME_MAPPINGS = {NODE: TITLE}

if api is not None:
    io = api.io

    class ParagonUpscaleV3(io.ComfyNode):
        """The same node with ComfyUI's V3 schema."""

        @classmethod
        def define_schema(cls) -> Any:
            """Returns the node's schema."""
            return io.Schema(
                node_id=NODE,
                display_name=TITLE,
                category=CATEGORY,
                description=DESCRIPTION,
                inputs=[
                    io.Combo.Input(
                        "model_name", options=files(), tooltip=TOOLTIPS["model_name"]
                    ),
                    io.Image.Input("image", tooltip=TOOLTIPS["image"]),
                    io.Combo.Input(
                        "precision",
                        options=PRECISIONS,
                        default="auto",
                        tooltip=TOOLTIPS["precision"],
                    ),
                ],
                outputs=[io.Image.Output(tooltip=TOOLTIPS["output"])],
            )

        @classmethod
        def execute(
            cls, model_name: str, image: torch.Tensor, precision: str = "auto"
        ) -> Any:
            """Upscales a batch."""
            return io.NodeOutput(upscale(model_name, image, precision))

    class ParagonExtension(api.ComfyExtension):
        """What ComfyUI asks for nodes."""

        async def get_node_list(self) -> list[Any]:
            """Returns the one node."""
            return [ParagonUpscaleV3]

    async def comfy_entrypoint() -> ParagonExtension:
        """Returns the extension, for a ComfyUI that looks for it first."""
        return ParagonExtension()

    # One that looks for the mapping first takes V3 nodes from it as well.
    NODE_CLASS_MAPPINGS[NODE] = ParagonUpscaleV3
