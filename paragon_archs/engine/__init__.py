"""A training run: data, model, states, validation, precision, average, stopping."""

from ..utils.registry import load_host

load_host()  # first: what registers there imports this room
