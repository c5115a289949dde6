"""The keys of an option file, by path: those of all sections, in one table.

`docs/config.md` is generated from this table, and a test holds them together. Arguments
of a section with a `type` (networks, losses, optimizers, schedulers, metrics) are not
listed: they are those of the class or function that `type` names.
"""

from __future__ import annotations

from .key import Key
from .sections.run import RunSection

# Path, `:` between the keys and `*` for any name -> key.
KEYS: dict[str, Key] = dict(RunSection.keys())

# Keys that the host's published files hold although nothing reads them: accepted under
# the host's models, so that every one of those files passes.
UNREAD: dict[str, tuple[str, ...]] = {
    "": ("suffix", "crop_border", "save_img"),
    "datasets:*": ("gt_size", "interval_list", "use_hflip", "use_rot", "color"),
    "train": ("net_d_iters", "net_d_init_iters"),
}
