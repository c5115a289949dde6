"""Data sets that register into BasicSR.

Every `*_dataset.py` beside this file is imported.
"""

from ..utils.scan import import_all

import_all(__name__, "_dataset")
