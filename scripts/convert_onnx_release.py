"""ONNX releases under their published name and flags."""

import sys

from paragon_archs.cli.convert_onnx_release import main

if __name__ == "__main__":
    sys.exit(main())
