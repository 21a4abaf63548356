#!/usr/bin/env python3
"""Batches through daemon, ring and engine equal a plain loop of transformers, whatever dies.

daemon_parity.py BIN_DIR [--seed N] [--full]
The random checkpoints behind a real facetd with two workers; images go up as files. First nothing
dies, then workers (and once the broker) are killed with SIGKILL at random moments.
"""

import argparse
import os
import random
import signal
import tempfile

from model_daemon import Goldens, ModelDaemon
from pool_client import Client
from pool_daemon import wait_idle, wait_ready

TIME_LIMIT_S = 240  # for one batch, on a machine that does other things too


class Killer:
    """Called again and again while a batch runs: ends a process whenever the next of some random
    shares of all tokens has come, so that every kill hits requests in flight."""

    def __init__(self, daemon, rng, requests, num_kills, with_broker):
        self.daemon, self.rng, self.requests = daemon, rng, requests
        total = sum(r.params["max_tokens"] for r in requests)
        self.due = sorted(rng.uniform(0.01, 0.85) * total for _ in range(num_kills))
        self.broker_at = rng.randrange(num_kills) if with_broker else None
        self.kills = []

    def __call__(self):
        if not self.due or sum(len(r.tokens) for r in self.requests) < self.due[0]:
            return
        kind = "broker" if len(self.kills) == self.broker_at else "worker"
        victims = self.daemon.pids("facet-" + kind)
        if not victims:
            return
        try:
            os.kill(self.rng.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills.append(kind)
        self.due.pop(0)


def run_batch(daemon, goldens, requests, killer=None):
    client = Client(daemon.socket_path)
    try:
        client.run(requests, in_flight=48, timeout_s=TIME_LIMIT_S, on_turn=killer)
        wait_idle(client, 30)
        problems = [p for p in map(goldens.problem, requests) if p]
        again = sum(r.done is not None and r.done["attempts"] > 1 for r in requests)
        print(f"  {len(requests)} requests, {sum(len(r.tokens) for r in requests)} tokens, "
              f"{again} at a second attempt or later, {client.num_resubmits} times silence, "
              f"{len(problems)} wrong", flush=True)
        for problem in problems[:5]:
            print("   ", problem)
        return len(problems), again
    finally:
        client.close()


def check(bin_dir, name, rng, memory, max_tokens, num_kills, with_broker):
    goldens = Goldens(name)
    order = list(range(len(goldens.cases)))
    rng.shuffle(order)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="facet-parity-") as model:
        goldens.make_checkpoint(model)
        # Few lanes, small steps, a small KV pool: sequences queue, are cut and preempted.
        worker = "max_lanes = 12\nmax_num_batched_tokens = 96\nmax_model_len = 2048\n"
        with ModelDaemon(bin_dir, model, memory=memory, worker=worker) as daemon:
            client = Client(daemon.socket_path)
            wait_ready(client, daemon.num_workers, 60)
            client.close()
            print(f"{name}: nothing dies", flush=True)
            wrong += run_batch(daemon, goldens, [goldens.request(n, max_tokens) for n in order])[0]
            requests = [goldens.request(n, max_tokens) for n in order]
            killer = Killer(daemon, rng, requests, num_kills, with_broker)
            print(f"{name}: processes are killed", flush=True)
            found, again = run_batch(daemon, goldens, requests, killer)
            print(f"  killed: {', '.join(killer.kills)}", flush=True)
            assert len(killer.kills) == num_kills and again > 0, "no kill hit a request"
            wrong += found
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--seed", type=int,
                        default=int(os.environ.get("FACET_SEED", "0")) or random.getrandbits(30))
    parser.add_argument("--full", action="store_true", help="all tokens, and more kills")
    args = parser.parse_args()
    print(f"seed {args.seed} (FACET_SEED)", flush=True)
    rng = random.Random(args.seed)
    kills = 24 if args.full else 6
    wrong = check(args.bin_dir, "parity/hard.json", rng, "400MB", None if args.full else 96,
                  kills, True)
    wrong += check(args.bin_dir, "qwen2_5_vl_golden.json", rng, "440MB", None, kills // 2, False)
    print(f"{wrong} wrong")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
