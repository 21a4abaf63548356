#!/usr/bin/env python3
"""The systemd unit: accepted without a word, and closed.

Usage: check_unit.py SYSTEMD_ANALYZE FACETD   FACETD stands in for the installed program.
"""

import os
import re
import subprocess
import sys
import tempfile

MAX_EXPOSURE = 2.0  # as systemd counts: 10 is open; nginx and postgresql as packaged have 9.6


def main():
    analyze, facetd = sys.argv[1:]
    source = os.path.join(os.path.dirname(__file__), "../../configs/systemd/facet.service")
    with open(source, encoding="utf-8") as file:
        unit = file.read().replace("/usr/local/bin", os.path.dirname(facetd))
    with tempfile.TemporaryDirectory(prefix="facet-unit-") as folder:
        path = os.path.join(folder, "facet.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit)
        verify = subprocess.run([analyze, "verify", "--man=no", path],
                                capture_output=True, text=True, check=False)
        remarks = [line for line in (verify.stdout + verify.stderr).splitlines()
                   if "facet.service" in line]
        security = subprocess.run([analyze, "security", "--offline=true", path],
                                  capture_output=True, text=True, check=True).stdout
    exposure = float(re.search(r"Overall exposure level for .*: ([0-9.]+)", security).group(1))
    print(f"remarks: {remarks}, exposure {exposure}, at most {MAX_EXPOSURE}")
    return 1 if remarks or verify.returncode or exposure > MAX_EXPOSURE else 0


if __name__ == "__main__":
    sys.exit(main())
