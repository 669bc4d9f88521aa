"""``python -m rarelab``: the same as ``rarelab``."""

import sys

from rarelab.cli import main

if __name__ == "__main__":
    sys.exit(main())
