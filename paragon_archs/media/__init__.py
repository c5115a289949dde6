"""Files in and out: images with their metadata and color, video frames."""
