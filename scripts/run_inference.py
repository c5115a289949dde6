"""Upscaling under its published name and flags."""

import sys

from paragon_archs.cli.run_inference import main

if __name__ == "__main__":
    sys.exit(main())
