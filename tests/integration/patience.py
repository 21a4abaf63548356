"""How many times longer a test waits for what must happen: a deadline is no measure.

tests/sanitizers/run_test.py sets it, whose programs are many times slower.
"""

import os

PATIENCE = float(os.environ.get("FACET_TEST_PATIENCE", "1"))
