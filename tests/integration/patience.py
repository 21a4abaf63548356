"""How many times longer a test waits for what must happen: a deadline is no measure.

tests/CMakeLists.txt sets it for each test, since the programs of a build with sanitizers are many
times slower. Every deadline of a test goes through patient(), and so does one that a test
configures shorter than Facet's default; the defaults hold as they are.
"""

import os

PATIENCE = float(os.environ.get("FACET_TEST_PATIENCE", "1"))


def patient(seconds):
    """So long a wait of a fast build is here."""
    return seconds * PATIENCE


def patient_ms(milliseconds):
    """The same for a line of facet.toml."""
    return round(milliseconds * PATIENCE)
