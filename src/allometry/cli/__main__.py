"""``python -m allometry.cli``."""

import sys

from allometry.cli import main

sys.exit(main())
