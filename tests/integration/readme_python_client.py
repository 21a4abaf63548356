#!/usr/bin/env python3
"""The README's Python client, run as it stands there against a real daemon.

Usage: readme_python_client.py BIN_DIR
"""

import os
import re
import signal
import subprocess
import sys
import tempfile

from cli_harness import Facet, expect, expect_exit
from patience import patient
from pool_daemon import Daemon
from pool_images import big_noise_png, mixed_images, write_folder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAX_LINES = 40


def client_block():
    """Of the README's section, else of the protocol's page."""
    for name in ("README.md", "common/protocol/README.md"):
        path = os.path.join(ROOT, name)
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            found = re.search(r"^#+ Python client$.*?^```python\n(.*?)^```$", file.read(),
                              re.DOTALL | re.MULTILINE)
        if found:
            return name, found.group(1)
    raise AssertionError("no README has a Python client")


def main():
    bin_dir = sys.argv[1]
    name, code = client_block()
    lines = code.count("\n")
    expect(lines <= MAX_LINES, f"{name}: the client has {lines} lines")
    with tempfile.TemporaryDirectory(prefix="facet-readme-") as work:
        client = os.path.join(work, "client.py")
        with open(client, "w", encoding="utf-8") as file:
            file.write(code)
        images = write_folder(work, [*mixed_images(3, 1), big_noise_png(4)])
        facet = Facet(bin_dir, work)
        with Daemon(bin_dir, workers=2, worker="[worker.echo]\ntoken_us = 10000") as daemon:
            ask = [sys.executable, client, daemon.socket_path, "what?", *images]
            wanted = facet.run("run", *images, "-p", "what?", "--max-tokens", "256", "--socket",
                               daemon.socket_path)
            expect_exit(wanted, 0)
            got = subprocess.run(ask, capture_output=True, timeout=patient(60), check=True)
            expect(got.stdout == wanted.stdout, got.stdout, wanted.stdout)
            # The broker dies in the middle: the client goes on at its next token.
            # Unbuffered: what communicate() reads must be all that read() has left.
            running = subprocess.Popen(ask, stdout=subprocess.PIPE, bufsize=0)
            start = running.stdout.read(40)
            os.kill(daemon.broker(), signal.SIGKILL)
            rest, _ = running.communicate(timeout=patient(60))
            expect(running.returncode == 0, running.returncode)
            expect(start + rest == wanted.stdout, start + rest, wanted.stdout)
            refused = subprocess.run([*ask[:3], "x" * 10, os.path.abspath(__file__)],
                                     capture_output=True, timeout=patient(60), check=False)
            expect(refused.returncode == 1 and b"unsupported: image 0" in refused.stderr,
                   refused.stderr)
    print(f"{name}: a client of {lines} lines, run through a broker's death")


if __name__ == "__main__":
    main()
