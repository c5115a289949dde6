"""Validation metrics that register into BasicSR.

Every `*_metric.py` beside this file is imported.
"""

from ..utils.scan import import_all

import_all(__name__, "_metric")
