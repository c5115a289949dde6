"""Optimizers and learning-rate schedules by their names in option files."""

from ..utils.registry import load_host

load_host()  # first: what registers there imports this room
