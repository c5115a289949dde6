"""Replacements for BasicSR's broken pieces; the table lists their targets."""

from ...utils.registry import load_host

load_host()  # first: what registers there imports this room
