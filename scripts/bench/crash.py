#!/usr/bin/env python3
"""a worker's death to the next token from another worker, against a pidfd

scripts/bench.sh crash [--count N] [--memory SIZE]

Two echo workers that hold memory; the one that runs a request gets SIGKILL or SIGSEGV. The tokens
say which attempt made them, so the first one of the second attempt is known. As control a process
that holds as much is killed and waited for by its pidfd. The last line is one JSON object, times in
milliseconds from the kill:
  kill_p50, kill_p99    SIGKILL to the first token of the next attempt at the client
  segv_p50, segv_p99    the same for SIGSEGV
  step                  of which one step of the engine, which the new worker must do
  redispatch_p50        kill_p50 - step: notice, re-dispatch and the way to the client (target 5)
  pidfd_p50             the control: until the kernel is done with such a process
"""

import argparse
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import pool_oracle  # noqa: E402
from pool_client import Client, Request  # noqa: E402
from pool_daemon import Daemon, wait_ready  # noqa: E402

STEP_MS = 1.0


class Timed(Client):
    """Notes when each token came."""

    def on_tokens(self, request, message):
        super().on_tokens(request, message)
        now = time.monotonic()
        request.times = getattr(request, "times", []) + [now] * len(message["ids"])


def first_of_second_attempt(request):
    """Index of the first token that the first attempt would not have made."""
    prompt = pool_oracle.prompt_digest(request)
    pixels = pool_oracle.pixel_digest(request.images)
    first = pool_oracle.drifted_digest(prompt, 1)
    for index, token in enumerate(request.tokens):
        if pool_oracle.step(request, first, pixels, request.tokens[:index]) != token:
            return index
    return None


def once(daemon, client, number, index):
    wait_ready(client, daemon.num_workers, 60)
    request = Request(f"{pool_oracle.DRIFT}{index}", [], {"max_tokens": 2000, "ignore_eos": True})
    client.submit(request)
    client.poll_until(lambda: len(request.tokens) > 20, 30)
    busy = next(w for w in client.status()["workers"] if w["outstanding"])
    killed = time.monotonic()
    os.kill(busy["pid"], number)
    held = len(request.tokens)
    client.poll_until(lambda: len(request.tokens) > held + 200, 30)
    client.cancel(request)
    client.poll_until(lambda: request.finished, 30)
    return (request.times[first_of_second_attempt(request)] - killed) * 1000


def pidfd_ms(memory):
    """From SIGKILL to the readable pidfd of a process that holds so much."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"m = b'x' * {memory}; print(len(m), flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    pidfd = os.pidfd_open(holder.pid)
    started = time.monotonic()
    holder.kill()
    select.select([pidfd], [], [])
    took = (time.monotonic() - started) * 1000
    os.close(pidfd)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--memory", type=int, default=512, help="MiB that each worker holds")
    options = parser.parse_args()
    memory = options.memory << 20
    build = os.environ.get("FACET_BUILD", os.path.join(ROOT, "build", "release"))
    took = {signal.SIGKILL: [], signal.SIGSEGV: []}
    with Daemon(os.path.join(build, "bin"), workers=2,
                worker=f"echo.token_us = {int(STEP_MS * 1000)}\necho.memory = {memory}") as daemon:
        client = Timed(daemon.socket_path)
        for index in range(options.count):
            for number, times in took.items():
                times.append(once(daemon, client, number, index))
        client.close()
    control = statistics.median(pidfd_ms(memory) for _ in range(10))

    def figures(times):
        times = sorted(times)
        return round(statistics.median(times), 2), round(times[int(0.99 * (len(times) - 1))], 2)
    kill_p50, kill_p99 = figures(took[signal.SIGKILL])
    segv_p50, segv_p99 = figures(took[signal.SIGSEGV])
    print(json.dumps({"kill_p50": kill_p50, "kill_p99": kill_p99, "segv_p50": segv_p50,
                      "segv_p99": segv_p99, "step": STEP_MS,
                      "redispatch_p50": round(kill_p50 - STEP_MS, 2),
                      "pidfd_p50": round(control, 2), "memory_mib": options.memory}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
