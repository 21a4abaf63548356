"""300 mixed images over 3 echo workers while workers and decoders are killed at random.

    chaos_batch.py BIN_DIR [--seed N] [--requests N]

An undisturbed run is recorded and compared with the computed answers. Then the same requests run
again, under new ids, while SIGKILL hits workers, the decoder and its children every 50 to 400 ms:
the answers must be the same byte for byte, every index once and in order, and afterwards everything
is back at its baseline. Then `facet batch` over a folder does the same.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pool_oracle
from pool_client import Client, Request
from pool_daemon import Daemon, count_fds, wait_until
from pool_images import big_noise_png, mixed_images, write_folder

NUM_IMAGES = 300
MIN_KILLS = 20
MIN_RETRIED = 10  # requests with more than one attempt
WORKER = "echo.token_us = 20000\nmax_lanes = 4\ncredits = 8"


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Killer(threading.Thread):
    """SIGKILLs a worker, the decoder or a decoder's child every 50 to 400 ms until told to stop."""

    def __init__(self, daemon, seed):
        super().__init__(daemon=True)
        self.pool = daemon
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.kills = {"worker": 0, "decoder": 0, "child": 0}

    def run(self):
        while not self.stopping.wait(self.rng.uniform(0.05, 0.4)):
            kind = self.rng.choices(["worker", "decoder", "child"], [5, 2, 3])[0]
            targets = self.find(kind)
            if not targets:
                continue
            try:
                os.kill(self.rng.choice(targets), signal.SIGKILL)
                self.kills[kind] += 1
            except ProcessLookupError:
                pass

    def find(self, kind):
        if kind == "worker":
            return self.pool.workers()
        if kind == "decoder":
            return self.pool.pids("facet-decoder")
        deadline = time.monotonic() + 0.2  # a child lives for milliseconds: lie in wait
        while time.monotonic() < deadline and not self.stopping.is_set():
            if children := self.pool.decoder_children():
                return children
        return []

    def stop(self):
        self.stopping.set()
        self.join()


def make_requests(seed, count, images):
    """Every image is used; 1 to 3 in a request, some requests have none."""
    rng = random.Random(seed)
    requests = []
    for i in range(count):
        chosen = [] if i % 10 == 9 else [images[i % len(images)]]
        chosen += rng.choices(images, k=rng.randint(0, 2)) if chosen else []
        requests.append(Request(f"What is in picture {i}?", chosen,
                                {"max_tokens": rng.randint(8, 40), "seed": rng.randrange(1 << 63),
                                 "ignore_eos": rng.random() < 0.7}))
    return requests


def result(request):
    check(request.done is not None, f"refused: {request.refused}")
    return request.tokens, request.text, request.done["finish_reason"]


def again(requests):
    """The same questions under new ids."""
    return [Request(r.prompt, r.images, r.params) for r in requests]


def ready_count(client):
    return sum(w["state"] == "ready" for w in client.status()["workers"])


def wait_for_rest(daemon, client):
    def rests():
        status = client.status()
        check(status["conservation"] == "ok", status["conservation"])
        return status["idle"] and status["decoder_up"] and ready_count(client) == daemon.num_workers
    wait_until(rests, 20, "the pool is whole and idle again")
    status = client.status()
    for arena in ("ingest", "pixels"):
        check(status["ring"][arena]["used"] == 0, f"{arena} pages are not given back: {status}")
    return status


def descriptors(daemon):
    return {"broker": count_fds(daemon.broker()), "facetd": count_fds(daemon.process.pid)}


def run_through_protocol(daemon, client, seed, requests):
    started = time.monotonic()
    client.run(requests)
    expected = [result(r) for r in requests]
    check(expected == [pool_oracle.answer(r) for r in requests], "not the computed answers")
    print(f"undisturbed: {len(requests)} requests in {time.monotonic() - started:.1f} s, "
          f"all as computed", flush=True)
    wait_for_rest(daemon, client)
    before, broker = descriptors(daemon), daemon.broker()

    killer = Killer(daemon, seed)
    disturbed = again(requests)
    started = time.monotonic()
    killer.start()
    try:
        client.run(disturbed)
    finally:
        killer.stop()
    seconds = time.monotonic() - started
    retried = sum(r.done is not None and r.done["attempts"] > 1 for r in disturbed)
    print(f"disturbed: {seconds:.1f} s, kills {killer.kills}, {retried} requests took more than "
          f"one attempt (most: {max(r.done['attempts'] for r in disturbed if r.done)})", flush=True)
    for index, (request, answer) in enumerate(zip(disturbed, expected)):
        check(result(request) == answer, f"request {index} differs: {result(request)} {answer} "
                                         f"{request.done}")
    check(sum(killer.kills.values()) >= MIN_KILLS, "too few kills to mean anything")
    check(killer.kills["worker"] >= 5 and killer.kills["decoder"] >= 2, "one kind was spared")
    check(retried >= MIN_RETRIED, "too few requests were hit to mean anything")
    check(daemon.broker() == broker, "the broker died")
    check(client.num_resubmits == 0, "the client heard nothing for 3 s")

    status = wait_for_rest(daemon, client)
    check(status["counters"]["protocol_kills"] == 0, f"protocol broken: {status}")
    check(status["counters"]["quarantined"] == 0, f"an innocent was quarantined: {status}")
    wait_until(lambda: descriptors(daemon) == before, 5,
               f"descriptors are back at {before}: {descriptors(daemon)}")
    print(f"at rest: conservation ok, descriptors {before}, "
          f"retried {status['counters']['retried']}, stale dropped "
          f"{status['counters']['stale_dropped']}", flush=True)


def run_cli_batch(daemon, folder, out):
    command = [os.path.join(daemon.bin_dir, "facet"), "batch", folder, "-p", "Describe it.",
               "-o", out, "--socket", daemon.socket_path, "--max-tokens", "24"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=80, check=False)
    check(done.returncode == 0, f"facet batch: exit {done.returncode}\n{done.stderr[-2000:]}")
    lines = {}
    with open(out, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            name = os.path.basename(entry["image"])
            check(name not in lines, f"{name} stands twice")
            lines[name] = (entry["token_ids"], entry["text"], entry["finish_reason"])
    return lines


def run_through_cli(daemon, client, seed, images):
    if not os.path.exists(os.path.join(daemon.bin_dir, "facet")):
        raise AssertionError("the CLI is not built")
    with tempfile.TemporaryDirectory(prefix="facet-batch-") as folder:
        pictures = os.path.join(folder, "pictures")
        os.mkdir(pictures)
        write_folder(pictures, images)
        quiet = run_cli_batch(daemon, pictures, os.path.join(folder, "quiet.jsonl"))
        check(len(quiet) == len(images), f"{len(quiet)} lines for {len(images)} images")
        killer = Killer(daemon, seed + 1)
        killer.start()
        try:
            disturbed = run_cli_batch(daemon, pictures, os.path.join(folder, "disturbed.jsonl"))
        finally:
            killer.stop()
        check(disturbed == quiet, "facet batch: the disturbed run differs")
        print(f"facet batch: {len(quiet)} lines, the same with kills {killer.kills}", flush=True)
    wait_for_rest(daemon, client)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin_dir")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--requests", type=int, default=NUM_IMAGES)
    parser.add_argument("--no-cli", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed} (--seed)", flush=True)
    images = mixed_images(options.seed, NUM_IMAGES - 1) + [big_noise_png(options.seed)]
    requests = make_requests(options.seed, options.requests, images)
    with Daemon(options.bin_dir, worker=WORKER) as daemon:
        client = Client(daemon.socket_path)
        wait_until(lambda: ready_count(client) == daemon.num_workers, 20, "workers ready")
        run_through_protocol(daemon, client, options.seed, requests)
        if not options.no_cli:
            run_through_cli(daemon, client, options.seed, images)
        client.close()
        code = daemon.stop()
        check(code == 0, f"facetd ended with {code}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
