"""``python -m features simulate | import | trades | book | describe``."""

import sys

from features.cli import main

sys.exit(main(sys.argv[1:]))
