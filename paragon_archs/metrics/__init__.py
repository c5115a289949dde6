"""Validation metrics that register into BasicSR.

Every `*_metric.py` beside this file is imported.
"""

from ..utils.registry import load_host
from ..utils.scan import import_all

load_host()  # first: what registers there imports this room
import_all(__name__, "_metric")
