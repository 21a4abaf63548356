#!/usr/bin/env python3
"""requests and tokens a second through a daemon whose engine costs nothing

scripts/bench.sh throughput [--requests N]

A daemon with two echo workers whose steps take no time; one client in C++ on the same cores.
The last line is one JSON object:
  requests_per_s   answers of one token, no image
  tokens_per_s     answers of 512 tokens, no image
  image_requests_per_s   answers of one token about a JPEG of 448 x 448
  cores
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

from pool_case import jpeg  # noqa: E402
from pool_client import Client  # noqa: E402
from pool_daemon import Daemon, wait_ready  # noqa: E402


def measure(bench, daemon, *arguments):
    done = subprocess.run([bench, daemon.socket_path, *map(str, arguments)], capture_output=True,
                          text=True, check=True, timeout=300)
    print(arguments[:3], done.stdout.strip(), flush=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20000)
    options = parser.parse_args()
    build = os.environ.get("FACET_BUILD", os.path.join(ROOT, "build", "release"))
    bench = os.path.join(build, "tests", "throughput_bench")
    with Daemon(os.path.join(build, "bin"), workers=2, log_level="warn",
                worker="echo.token_us = 0\nmax_lanes = 64\ncredits = 128",
                broker="record_ttl_s = 10",  # a host may stall, and the client must hear the end
                ledger='bytes = "512MiB"\nmax_records = 65536') as daemon:
        client = Client(daemon.socket_path)
        wait_ready(client, daemon.num_workers, 30)
        with tempfile.NamedTemporaryFile(suffix=".jpg") as image:
            image.write(jpeg(448, 448))
            image.flush()
            short = measure(bench, daemon, options.requests, 256, 1)
            long = measure(bench, daemon, max(1, options.requests // 50), 64, 512)
            seen = measure(bench, daemon, max(1, options.requests // 20), 128, 1, image.name)
        client.close()
    print(json.dumps({"requests_per_s": short["requests_per_s"],
                      "tokens_per_s": long["tokens_per_s"],
                      "image_requests_per_s": seen["requests_per_s"],
                      "cores": len(os.sched_getaffinity(0))}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
