"""Speed and memory over a folder, under the published name and flags."""

import sys

from paragon_archs.cli.benchmark import load

if __name__ == "__main__":
    sys.exit(load("benchmarks.command_release").main())
