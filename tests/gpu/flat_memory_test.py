"""From `settled` on the GPU's memory stays the same to the byte, whatever is asked: texts and
images of random sizes, answers of any length, sampling with penalties, log probabilities, cancelled
requests, prompts that begin alike, prompts that take many steps.

    python tests/gpu/flat_memory_test.py BIN_DIR [--steps 10000] [--seed N] [--cpu]

The daemon's only worker serves the demo model on GPU 0. What the driver says is in use is read when
the worker is settled, every 500 steps, and at the end. The last line is one JSON object.
"""

import argparse
import io
import json
import random
import sys
import time

from gpu_pool import GpuMemory, NoMemory, Pool, wait_idle, wait_settled

import numpy as np
from PIL import Image
from pool_client import Request

EVERY = 500
IN_FLIGHT = 40
LIMIT_S = 100
SECTIONS = {
    "worker": {"max_lanes": 24, "credits": 32, "max_num_batched_tokens": 384,
               "max_model_len": 4096},
    "ring": {"ingest_bytes": '"64MiB"', "pixel_bytes": '"256MiB"'}}


class Load:
    """Random requests, some of which come again."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.asked = []
        self.kinds = {name: 0 for name in ("text", "long", "image", "again", "sampled", "penalties",
                                           "logprobs", "cancelled")}

    def words(self, count):
        return " ".join(self.random.choice(("which", "colour", "is", "the", "left", "shape", "of",
                                            "seven", "how", "many", "Wort", "Größe", "数"))
                        for _ in range(count))

    def image(self):
        rng = np.random.default_rng(self.random.getrandbits(32))
        width, height = self.random.randint(8, 700), self.random.randint(8, 500)
        small = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((width, height)).save(
            file, self.random.choice(("JPEG", "PNG")))
        return file.getvalue()

    def params(self):
        rng = self.random
        params = {"max_tokens": rng.choice((1, 2, 7, 20, 64, 150)), "ignore_eos": True}
        if rng.random() < 0.5:
            self.kinds["sampled"] += 1
            params.update(temperature=rng.choice((0.3, 1.0, 1.7)), seed=rng.getrandbits(40),
                          top_p=rng.choice((1.0, 0.9)), top_k=rng.choice((0, 20)))
        if rng.random() < 0.4:
            self.kinds["penalties"] += 1
            params.update(repetition_penalty=rng.choice((1.0, 1.2)), presence_penalty=0.5,
                          frequency_penalty=rng.choice((0.0, 0.3)))
        if rng.random() < 0.25:
            self.kinds["logprobs"] += 1
            params["logprobs"] = rng.choice((0, 3, 20))
        return params

    def next(self):
        kind = self.random.random()
        if kind < 0.2 and self.asked:
            self.kinds["again"] += 1
            prompt, images = self.random.choice(self.asked)
        elif kind < 0.3:
            self.kinds["long"] += 1
            prompt, images = self.words(self.random.randint(150, 700)), []
        elif kind < 0.55:
            self.kinds["image"] += 1
            count = self.random.choice((1, 1, 1, 2, 3))
            prompt, images = self.words(5), [self.image() for _ in range(count)]
        else:
            self.kinds["text"] += 1
            prompt, images = self.words(self.random.randint(1, 120)), []
        self.asked = [*self.asked[-30:], (prompt, images)]
        request = Request(prompt, images, self.params())
        request.cancel_at = None
        if self.random.random() < 0.08:
            self.kinds["cancelled"] += 1
            request.cancel_at = self.random.randrange(8)
        return request


class Watch:
    """Reads the memory whenever enough steps have passed."""

    def __init__(self, memory, pool):
        self.memory, self.pool = memory, pool
        self.used, self.steps = [memory.used()], [0]
        self.next_look = 0.0

    def look(self, force=False):
        if not force and time.monotonic() < self.next_look:
            return self.steps[-1]
        self.next_look = time.monotonic() + 0.05
        steps = self.pool.steps()
        if force or steps >= self.steps[-1] + EVERY:
            self.steps.append(steps)
            self.used.append(self.memory.used())
        return steps


def run(pool, memory, args):
    load = Load(args.seed)
    client, status_client = pool.client(), pool.client()
    wait_settled(status_client)
    wait_idle(status_client)
    watch = Watch(memory, pool)
    begin = time.monotonic()
    running, finished, failures, steps = [], 0, [], 0
    while steps < args.steps or running:
        if time.monotonic() - begin > args.limit_s:
            sys.exit(f"{steps} steps after {args.limit_s} s")
        while steps < args.steps and len(running) < IN_FLIGHT:
            running.append(client.submit(load.next()))
        client.poll(0.02)
        for request in running:
            if request.cancel_at is not None and len(request.tokens) >= request.cancel_at:
                request.cancel_at = None
                client.cancel(request)
                request.was_cancelled = True
            if not request.finished:
                continue
            finished += 1
            reason = request.done["finish_reason"] if request.done else "refused"
            wanted = ("length", "cancelled") if hasattr(request, "was_cancelled") else ("length",)
            if reason not in wanted:
                failures.append(str(request.done or request.refused))
            client.requests.pop(request.id)
        running = [r for r in running if not r.finished]
        steps = watch.look()
    status = wait_idle(status_client)
    watch.look(force=True)
    took = time.monotonic() - begin
    worker = status["workers"][0]
    return {"test": "flat_memory", "seed": args.seed, "steps": watch.steps[-1],
            "tokens": worker["tokens"], "requests": finished, "kinds": load.kinds,
            "seconds": round(took, 1), "readings": len(watch.used),
            "used_bytes_settled": watch.used[0], "used_bytes_least": min(watch.used),
            "used_bytes_most": max(watch.used), "is_flat": len(set(watch.used)) == 1,
            "changes": [(s, u - watch.used[0]) for s, u in zip(watch.steps, watch.used)
                        if u != watch.used[0]][:10],
            "deaths": worker["deaths"], "failures": failures[:3]}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--limit-s", type=float, default=LIMIT_S)
    parser.add_argument("--cpu", action="store_true", help="to try this script")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    memory = NoMemory() if args.cpu else GpuMemory()
    sections = {name: dict(keys) for name, keys in SECTIONS.items()}
    sections["worker"]["device_max_memory"] = '"2GB"' if args.cpu else '"8GB"'
    with Pool(args.bin_dir, on_gpu=not args.cpu, sections=sections) as pool:
        result = run(pool, memory, args)
    is_good = result["is_flat"] and not result["failures"] and not result["deaths"]
    print(json.dumps(result))
    sys.exit(0 if is_good and result["steps"] >= args.steps else 1)


if __name__ == "__main__":
    main()
