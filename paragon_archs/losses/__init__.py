"""Losses that register into BasicSR.

Every `*_loss.py` beside this file is imported.
"""

from ..utils.scan import import_all

import_all(__name__, "_loss")
