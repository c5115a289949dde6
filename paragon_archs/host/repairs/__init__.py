"""What takes the place of BasicSR's broken pieces; the table says where."""

from ...utils.registry import load_host

load_host()  # first: what registers there imports this room
