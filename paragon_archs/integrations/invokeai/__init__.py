"""Node pack for InvokeAI: its model manager and its spandrel nodes open our files.

Copied by `paragon integrate invokeai ROOT` into ROOT/nodes, with the pack beside it.
InvokeAI imports it at its start; it brings no nodes of its own.
"""

# pyright: reportMissingImports=false
# The pack stands beside it only where it was copied to.

from .paragon_archs.loaders import install

install()
