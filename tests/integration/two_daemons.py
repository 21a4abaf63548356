"""Two facetd started at the same moment on one configuration, again and again.

    two_daemons.py BIN_DIR [--count N]

Each time one says that it is ready, and the other ends with 1 and names the one that has the
folder; the first is then stopped, and nothing of either is left in the folder. Last line: one JSON
object {starts, both, neither, unnamed, leaked, start_p50_ms}; exit code 0 when the middle four
are 0.
"""

import argparse
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

CONFIG = """
[worker]
engine = "echo"
count = 1
[broker]
runtime_dir = "{folder}/run"
[ring]
ingest_bytes = "1MiB"
pixel_bytes = "1MiB"
[ledger]
bytes = "1MiB"
max_records = 16
[decoder]
processes = 1
"""
LIMIT_S = 60


def start(bin_dir, config):
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [os.path.join(bin_dir, "facetd"), "--config", config, "--ready-fd", str(write_end)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        pass_fds=(write_end,))
    os.close(write_end)
    return process, read_end


def is_ready(read_end):
    """The byte came; False: the descriptor was closed without it."""
    if not select.select([read_end], [], [], LIMIT_S)[0]:
        raise TimeoutError(f"neither ready nor failed within {LIMIT_S} s")
    byte = os.read(read_end, 1)
    os.close(read_end)
    return byte == b"1"


def once(bin_dir, config, run_dir, figures):
    began = time.monotonic()
    pair = [start(bin_dir, config) for _ in range(2)]
    ready = [is_ready(read_end) for _, read_end in pair]
    took = (time.monotonic() - began) * 1000
    figures["both"] += all(ready)
    figures["neither"] += not any(ready)
    for (process, _), serves in zip(pair, ready):
        if serves:
            owner = process
    for (process, _), serves in zip(pair, ready):
        if not serves:
            said = process.communicate(timeout=LIMIT_S)[1].decode()
            named = any(ready) and f"in use by another facetd, pid {owner.pid}" in said
            if not (named and process.returncode == 1):
                figures["unnamed"] += 1
                print(f"exit {process.returncode}: {said}", flush=True)
    for (process, _), serves in zip(pair, ready):
        if serves:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT_S)
            figures["leaked"] += process.returncode != 0
    left = os.listdir(run_dir) if os.path.isdir(run_dir) else []
    figures["leaked"] += len([name for name in left if not name.endswith(".lock")])
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    figures = {"starts": options.count, "both": 0, "neither": 0, "unnamed": 0, "leaked": 0}
    folder = tempfile.mkdtemp(prefix="facet-two-")
    config = os.path.join(folder, "facet.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(folder=folder))
    took = [once(options.bin_dir, config, os.path.join(folder, "run"), figures)
            for _ in range(options.count)]
    shutil.rmtree(folder)
    failed = sum(figures[name] for name in ("both", "neither", "unnamed", "leaked"))
    figures["start_p50_ms"] = round(statistics.median(took), 1)
    print(json.dumps(figures), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
