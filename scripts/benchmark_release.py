"""Speed and memory over a folder, under the published name and flags."""

import sys

from paragon_archs.cli.benchmark_release import main

if __name__ == "__main__":
    sys.exit(main())
