#!/usr/bin/env python3
"""Which shared libraries the programs may need, dependencies of dependencies included.

Usage: check_links.py PROGRAM...   exit status 1 with the offending library if any.
"""

import os
import re
import subprocess
import sys

TORCH_AND_CUDA = r"lib(torch|c10|cu|nv|nccl)"
FORBIDDEN = {  # program -> pattern of library names
    "facetd": TORCH_AND_CUDA + "|libzmq",
    "facet-broker": TORCH_AND_CUDA,
    "facet-decoder": TORCH_AND_CUDA + "|libzmq",
    "facet": TORCH_AND_CUDA,
    "facet-worker-echo": TORCH_AND_CUDA,
    "facet-worker": "libtorch_cuda|libtorch_python|libpython",
}


def libraries(program):
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [line.strip() for line in listing.splitlines()]


def main():
    offences = 0
    for program in sys.argv[1:]:
        needed = libraries(program)
        forbidden = FORBIDDEN[os.path.basename(program)]
        bad = [line for line in needed
               if re.match(forbidden, os.path.basename(line.split()[0])) or "not found" in line]
        print(f"{program}: {len(needed)} libraries" + (f", FORBIDDEN: {bad}" if bad else ""))
        offences += len(bad)
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
