#!/usr/bin/env python3
"""The fuzz tests can fail: a planted defect is found, and repeated by its input; a target that
reaches too little is refused; without either the same run passes.

    planted_test.py RUNNER TARGET
"""

import glob
import os
import subprocess
import sys
import tempfile


def run(*command):
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    print(done.stdout.decode(errors="replace"))
    return done


def main():
    runner, target = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="facet-planted-") as keep:
        # A minute is far more than it needs: each byte of the word is a comparison it sees.
        found = run(runner, target, "--seconds", "60", "--keep", keep)
        assert found.returncode == 1 and b"planted defect" in found.stdout
        crashes = glob.glob(os.path.join(keep, "*", "crash-*"))
        assert len(crashes) == 1, crashes
        again = subprocess.run([target, crashes[0]], stderr=subprocess.PIPE, check=False)
        assert again.returncode != 0 and b"planted defect" in again.stderr
        with open(crashes[0], "rb") as file:
            assert file.read().startswith(b"DEFECT")
        # Inputs too short for the defect: nothing to find, and nothing reached either.
        shallow = run(runner, target, "--seconds", "1", "--max-len", "3", "--keep", keep,
                      "--min-cov", "100000")
        assert shallow.returncode == 1 and b"at least 100000 are wanted" in shallow.stdout
        good = run(runner, target, "--seconds", "1", "--max-len", "3", "--keep", keep)
        assert good.returncode == 0
    print("a planted defect is found")


if __name__ == "__main__":
    main()
