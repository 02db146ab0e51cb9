"""Work on a sweep as a process of its own: ``python -m allometry.harness.sweep FOLDER``."""

import sys

from allometry.harness.sweep.worker import main

sys.exit(main())
