"""Work on a sweep as a process of its own: ``python -m allometry.harness.sweep FOLDER``."""

import signal
import sys

from allometry.harness.sweep.worker import main

# A shell's background jobs ignore SIGINT and hand that on; a worker must hear its driver.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
