"""Load for a pool from tests/bench/load_generator.cc, and its rates while all lanes were full.

The generator is a program of its own, so that what is measured is the pool; the workers' counters
are read over a connection beside it.
"""

import json
import os
import random
import subprocess
import threading
import time

from load_client import BenchError

GENERATOR_S = 240.0


def answer_lengths(count, mean, first, seed):
    """`count` lengths around `mean`, the `first` ones shorter: they end at all times, so that lanes
    are out of step from the first generation on."""
    source = random.Random(seed)
    lengths = [source.randint(max(1, mean // 8), mean) for _ in range(first)]
    return lengths + [source.randint(mean // 2, mean * 3 // 2) for _ in range(count - first)]


class Sampler:
    """Notes what each worker has made and holds, and when."""

    def __init__(self, daemon, interval_s):
        self.daemon, self.interval_s, self.samples = daemon, interval_s, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        client = self.daemon.client()
        is_last = False
        while not is_last:
            is_last = self.over.is_set()
            status = client.status()
            workers = status["workers"]
            self.samples.append({
                "at": time.monotonic(), "queued": status["requests"]["queued_interactive"],
                **{key: [worker[key] for worker in workers]
                   for key in ("tokens", "finished", "outstanding")}})
            self.over.wait(self.interval_s)
        client.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.thread.join()

    def _later(self, lanes):
        """Samples from the moment when each worker has ended as many answers as half its lanes."""
        base = self.samples[0]["finished"]
        return [sample for sample in self.samples if all(
            2 * (now - then) >= own for now, then, own in zip(sample["finished"], base, lanes))]

    def steady(self, lanes):
        """Of these the longest stretch in which every sample found no fewer requests at a worker
        than it has `lanes`."""
        best, run = [], []
        for sample in self._later(lanes):
            is_full = all(held >= own for held, own in zip(sample["outstanding"], lanes))
            run = [*run, sample] if is_full else []
            best = max(best, run, key=len)
        return best

    def starved(self, lanes):
        """Of these how many found a request waiting in the broker, and of those how many a worker
        with a lane for it."""
        waiting = [s for s in self._later(lanes) if s["queued"]]
        return {"waiting": len(waiting), "and_a_lane_free": sum(
            any(held < own for held, own in zip(s["outstanding"], lanes)) for s in waiting)}


def run_load(generator, daemon, asks, in_flight, lanes, images=(), interval_s=0.1):
    """`asks`: [(text, max_tokens, index of images or -1)]; `lanes` of each worker. The whole run's
    figures from the generator, and "steady" ones of the workers while all lanes were full."""
    if not os.path.exists(generator):
        raise BenchError(f"{generator}: build the target load_generator first")
    plan = json.dumps({"in_flight": in_flight, "images": list(images), "asks": asks})
    before = daemon.cpu_seconds()
    with Sampler(daemon, interval_s) as sampler:
        done = subprocess.run([generator, daemon.socket_path], input=plan.encode(),
                              stdout=subprocess.PIPE, timeout=GENERATOR_S, check=False)
    if done.returncode:
        raise BenchError(f"load_generator ended with {done.returncode}")
    whole = json.loads(done.stdout)
    cpu = {name: round(seconds - before.get(name, 0), 2)
           for name, seconds in sorted(daemon.cpu_seconds().items())}
    cpu["load_generator"] = round(whole["cpu_seconds"], 2)
    made = [b - a for a, b in zip(sampler.samples[0]["tokens"], sampler.samples[-1]["tokens"])]
    figures = {"answers": whole["answers"], "seconds": round(whole["seconds"], 2), "tokens": made,
               "tokens_per_s": round(whole["tokens"] / whole["seconds"], 1),
               "answers_per_s": round(whole["answers"] / whole["seconds"], 3),
               "mean_answer": round(whole["tokens"] / whole["answers"], 2),
               "client_messages_per_s": round(whole["messages"] / whole["seconds"], 1),
               "cpu_seconds": cpu, "samples_with_a_request": sampler.starved(lanes), "steady": None}
    later = [tokens for _, tokens, _ in asks[len(asks) // 2:]]  # no shorter first ones
    inside = sampler.steady(lanes)
    if len(inside) > 1:
        first, last = inside[0], inside[-1]
        seconds = last["at"] - first["at"]
        tokens = [b - a for a, b in zip(first["tokens"], last["tokens"])]
        ended = sum(last["finished"]) - sum(first["finished"])
        figures["steady"] = {
            "seconds": round(seconds, 2), "tokens": tokens,
            "tokens_per_s": round(sum(tokens) / seconds, 1),
            "answers_per_s": round(sum(tokens) / seconds * len(later) / sum(later), 3),
            "answers_ended_per_s": round(ended / seconds, 3)}
    return figures
