"""Upscaling of images, folders and videos with any network that spandrel opens."""

from __future__ import annotations

from ..media.images import Picture, WriteOptions, read_picture, write_picture
from .upscaler import Upscaler
from .video import VideoOptions, upscale_video

__all__ = [
    "Picture",
    "Upscaler",
    "VideoOptions",
    "WriteOptions",
    "read_picture",
    "upscale_video",
    "write_picture",
]
