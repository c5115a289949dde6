"""Model classes that register into BasicSR.

Every `*_model.py` beside this file is imported.
"""

from ..utils.scan import import_all

import_all(__name__, "_model")
