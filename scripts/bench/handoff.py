#!/usr/bin/env python3
"""an image from client bytes to the reader's checksum, against memcpy and multiprocessing.Queue

scripts/bench.sh handoff [--count N]

For 1, 12 and 48 MiB. The last line is one JSON object: `sizes`, a list of (all are medians, in ms)
  mebibytes
  descriptor_ms                 the image lies in a memfd, as the client library puts a file there
  bytes_to_descriptor_ms        it lies in memory, and is first written into a memfd used before
  file_to_descriptor_ms         it lies in a file (in the page cache), and is read into such a one
  first_file_to_descriptor_ms   the same into a new memfd: the first image of a client
  chunks_ms                     it lies in memory, and goes in chunks over ZeroMQ
  ring_ms                       from the broker's bytes on: through the ring to the reader
  memcpy_and_checksum_ms        the control, in one process
  read_memcpy_and_checksum_ms   the same after read() of the file: the control of file_to_descriptor
  queue_ms                      multiprocessing.Queue between two Python processes
  ratio                         the control / descriptor_ms. The library hands over what does not
                                fit into one chunk, after a client's first four such requests
  bytes_ratio, file_ratio, first_file_ratio, chunks_ratio, ring_ratio, queue_ratio: of the others
`ratio`, that of the sizes from 12 MiB on at its lowest; and `copies`, every copy on each way.
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
INTO_RING = ["broker: memfd, mapped, into the ring"]
COPIES = {
    "descriptor": INTO_RING,
    "bytes_to_descriptor": ["client: bytes into a mapped memfd", *INTO_RING],
    "file_to_descriptor": ["client: page cache into a mapped memfd (kernel)", *INTO_RING],
    "chunks": [
        "client: message into the socket (kernel)",
        "broker: socket into a ZeroMQ message (kernel)",
        "broker: message into the ring",
    ],
}


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
    ratio = min(figures["ratio"] for figures in sizes if figures["mebibytes"] >= 12)
    print(json.dumps({"ratio": ratio, "sizes": sizes, "copies": COPIES}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
