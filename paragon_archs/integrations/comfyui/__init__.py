"""ComfyUI node folder: our networks in the stock nodes, and exact upscaling.

Copied by `paragon integrate comfyui PATH`, with the pack beside this file. The stock
"Load Upscale Model" then opens our files; "Upscale (exact)" gives the whole image's
picture whatever the memory, where the stock node's tiles would change it.
"""

# pyright: reportMissingImports=false
# What it imports stands beside it only where it was copied to.

from __future__ import annotations

from typing import Any

import torch

try:
    from paragon_archs.inference.upscaler import Upscaler
    from paragon_archs.loaders import install
except ModuleNotFoundError as error:
    if error.name != "paragon_archs":
        raise
    # Not installed in ComfyUI's Python: the copy beside this file.
    from .paragon_archs.inference.upscaler import Upscaler
    from .paragon_archs.loaders import install

install()


class ParagonUpscale:
    """Upscales images with one weight file, exactly, with progress."""

    CATEGORY = "image/upscaling"
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (ComfyUI's name)
        """Returns the node's inputs; the files are those of models/upscale_models."""
        import folder_paths  # noqa: PLC0415 (ComfyUI's, there when it asks)

        return {
            "required": {
                "model_name": (folder_paths.get_filename_list("upscale_models"),),
                "image": ("IMAGE",),
                "precision": (["auto", "fp32", "fp16", "bf16"],),
            }
        }

    def upscale(
        self, model_name: str, image: torch.Tensor, precision: str
    ) -> tuple[torch.Tensor]:
        """Upscales a batch.

        Args:
            model_name: A file of models/upscale_models.
            image: (B, H, W, 3), float32 in [0, 1].
            precision: As `Upscaler`'s dtype.

        Returns:
            (B, H * scale, W * scale, 3), float32 in [0, 1].
        """
        import comfy.model_management  # noqa: PLC0415 (ComfyUI's, there when it runs)
        import comfy.utils  # noqa: PLC0415
        import folder_paths  # noqa: PLC0415

        path = folder_paths.get_full_path_or_raise("upscale_models", model_name)
        device = comfy.model_management.get_torch_device()
        upscaler = Upscaler(path, device=device, dtype=precision)
        progress = comfy.utils.ProgressBar(len(image))
        upscaled = []
        for picture in image:
            comfy.model_management.throw_exception_if_processing_interrupted()
            pixels = upscaler.image(picture[..., :3].cpu().float().numpy())
            upscaled.append(torch.from_numpy(pixels))
            progress.update(1)
        return (torch.stack(upscaled),)


NODE_CLASS_MAPPINGS = {"ParagonUpscale": ParagonUpscale}
NODE_DISPLAY_NAME_MAPPINGS = {"ParagonUpscale": "Upscale (exact, paragon_archs)"}
