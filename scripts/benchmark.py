"""`paragon benchmark` under its published name."""

import sys

from paragon_archs.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
