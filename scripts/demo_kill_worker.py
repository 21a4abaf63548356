#!/usr/bin/env python3
"""Kills (SIGKILL) one worker as soon as a third of the answers is there; prints which one.

Usage: demo_kill_worker.py FACET_BINARY ANSWERS.jsonl TOTAL
Part of scripts/demo.sh. Exits 1 when the batch ended before it could kill.
"""
import json
import os
import signal
import subprocess
import sys
import time


def lines_in(path):
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0


def main():
    facet, answers, total = sys.argv[1], sys.argv[2], int(sys.argv[3])
    deadline = time.monotonic() + 120
    while lines_in(answers) < total // 3:
        if time.monotonic() > deadline:
            sys.exit("no answers came within 120 s")
        time.sleep(0.002)
    status = json.loads(subprocess.check_output([facet, "status", "--json"]))
    busy = max(status["workers"], key=lambda worker: worker["outstanding"])
    os.kill(busy["pid"], signal.SIGKILL)
    print(json.dumps({"worker": busy["index"], "pid": busy["pid"],
                      "outstanding": busy["outstanding"], "answers": lines_in(answers)}))


if __name__ == "__main__":
    main()
