"""``python -m features simulate | import | describe``."""

import sys

from features.cli import main

sys.exit(main(sys.argv[1:]))
