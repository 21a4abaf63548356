#!/usr/bin/env python3
"""Kills (SIGKILL) the busiest worker as soon as some answers are there; prints what it held.

Usage: demo_kill_worker.py FACET_BINARY MIN_ANSWERS
Part of scripts/demo.sh; the daemon is found through FACET_SOCKET. Exits 1 when the batch was over
before it could kill.
"""
import json
import os
import signal
import subprocess
import sys
import time


def daemon_status(facet):
    return json.loads(subprocess.check_output([facet, "status", "--json"], timeout=30))


def main():
    facet, min_answers = sys.argv[1], int(sys.argv[2])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        workers = daemon_status(facet)["workers"]
        answers = sum(worker["finished"] for worker in workers)
        busiest = max(workers, key=lambda worker: worker["outstanding"])
        if answers >= min_answers and busiest["outstanding"] > 0:
            os.kill(busiest["pid"], signal.SIGKILL)
            print(json.dumps({"worker": busiest["index"], "pid": busiest["pid"],
                              "outstanding": busiest["outstanding"], "answers": answers}))
            return
    sys.exit("no worker could be killed within 120 s")


if __name__ == "__main__":
    main()
