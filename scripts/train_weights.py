"""Trains the shipped weights: see `train_weights.py --help`."""

import sys

from paragon_archs.cli.train_weights import main

if __name__ == "__main__":
    sys.exit(main())
