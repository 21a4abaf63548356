#!/usr/bin/env python3
"""an image from client bytes to the reader's checksum, against memcpy and multiprocessing.Queue

scripts/bench.sh handoff [--count N]

For 1, 12 and 48 MiB. The last line is one JSON object: `sizes`, a list of
  mebibytes, client_to_checksum_ms, ring_to_checksum_ms, memcpy_and_checksum_ms, queue_ms (medians)
  ratio        memcpy and checksum in one process / the whole way from a client
  ring_ratio   the same / from the broker's bytes through the ring to the reader (target 0.85)
  queue_ratio  the same / multiprocessing.Queue between two Python processes
and `copies`, every copy on the whole way.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

SIZES = (1, 12, 48)
COPIES = [
    "client: bytes into a ZeroMQ message",
    "client: message into the socket (kernel)",
    "broker: socket into a ZeroMQ message (kernel)",
    "broker: message into the ring",
]


def read_all(queue, answers):
    import zlib
    while (data := queue.get()) is not None:
        answers.put((zlib.crc32(data[:64]), len(data), time.monotonic()))


def queue_ms(mebibytes, count):
    """Median from put() to the bytes in the other process; it sums up none of them."""
    context = multiprocessing.get_context("spawn")
    queue, answers = context.Queue(), context.Queue()
    reader = context.Process(target=read_all, args=(queue, answers), daemon=True)
    reader.start()
    data = os.urandom(1 << 20) * mebibytes
    queue.put(data)
    answers.get(timeout=60)
    took = []
    for _ in range(count):
        started = time.monotonic()
        queue.put(data)
        _, size, seen = answers.get(timeout=60)
        assert size == len(data)
        took.append((seen - started) * 1000)
    queue.put(None)
    reader.join()
    return statistics.median(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    options = parser.parse_args()
    bench = os.path.join(os.environ.get("FACET_BUILD", "build/release"), "tests", "handoff_bench")
    sizes = []
    for mebibytes in SIZES:
        done = subprocess.run([bench, str(mebibytes), str(options.count)], capture_output=True,
                              text=True, check=True)
        figures = json.loads(done.stdout)
        figures["queue_ms"] = round(queue_ms(mebibytes, options.count), 2)
        figures["queue_ratio"] = round(
            figures["memcpy_and_checksum_ms"] / figures["queue_ms"], 2)
        print(figures, flush=True)
        sizes.append(figures)
    print(json.dumps({"sizes": sizes, "copies": COPIES}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
