"""``python -m training train | backtest | promote | nightly``."""

import sys

from training.cli import main

sys.exit(main(sys.argv[1:]))
