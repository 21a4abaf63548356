#!/usr/bin/env python3
"""kill -9 of a GPU's only worker in mid-generation: death to next token, step by step

scripts/bench.sh gpu_crash [--kills N] [--tokens N] [--dtype fp32|bf16|fp16|auto] [--cpu]

Several answers of the demo model are under way on GPU 0 when the worker is killed; they go on, and
must be what they are without a kill. Asked are those prompts whose two best tokens are never close,
so that no order of summation decides. What the driver says is in use of the GPU must be what it was
before, to the byte. The last line is one JSON object, medians in milliseconds:
  noticed        kill to the line in the log that says so
  next_process   from there to the start of the next worker
  parts          of its start, as the worker's own line in the log has them
  ready          start to the end of these
  first_token    from there to the first token that a client sees
  death_to_token kill to that token; total_p100 is the longest
Exit code 1: an answer or the memory was not the same.
"""

import argparse
import datetime
import json
import os
import re
import signal
import statistics
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "gpu"))

from gpu_pool import GpuMemory, NoMemory, Pool, wait_idle, wait_settled  # noqa: E402
from pool_client import Client, Request  # noqa: E402

SAMPLES = os.path.join(ROOT, "configs", "samples")
CANDIDATES, ASKED = 30, 6
MARGIN = 5e-3
SECTIONS = {"worker": {"max_lanes": 32, "credits": 48, "max_model_len": 2048}}


class Timed(Client):
    """Notes when tokens came."""

    def on_tokens(self, request, message):
        super().on_tokens(request, message)
        request.came = getattr(request, "came", []) + [time.time()]


def prompts():
    """(text, images) of the samples."""
    found = []
    with open(os.path.join(SAMPLES, "samples.jsonl"), encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            names = row["image"] if isinstance(row["image"], list) else [row["image"]]
            images = []
            for name in names:
                with open(os.path.join(SAMPLES, name), "rb") as image:
                    images.append(image.read())
            found.append((row["question"], images))
    return found[:CANDIDATES]


def requests_of(chosen, tokens, **params):
    return [Request(text, images, {"max_tokens": tokens, "ignore_eos": True, "temperature": 0.0,
                                   **params}) for text, images in chosen]


def margin_of(request):
    """Least distance of the two best tokens over all steps."""
    pairs = request.logprobs
    return min(pairs[at + 1][1] - pairs[at + 2][1] for at in range(0, len(pairs), 3))


def choose(client, tokens):
    """Prompts without close calls, and their answers."""
    candidates = prompts()
    asked = client.run(requests_of(candidates, tokens, logprobs=2), timeout_s=300)
    ranked = sorted(zip(candidates, asked), key=lambda pair: -margin_of(pair[1]))[:ASKED]
    print(f"least margin of those asked: {margin_of(ranked[-1][1]):.4f}", flush=True)
    if margin_of(ranked[-1][1]) < MARGIN:
        sys.exit("too few prompts without close calls")
    return [prompt for prompt, _ in ranked], [request.tokens for _, request in ranked]


def log_times(text):
    """What the log says of one death: seconds since the epoch by event, and the start's parts."""
    seen = {}
    for line in text.splitlines():
        found = re.match(r"(\S+) \S+ \S+ (\S+)(.*)", line)
        if not found:
            continue
        try:
            at = datetime.datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
        except ValueError:
            continue
        event, rest = found[2], found[3]
        if event == "worker_dead":
            seen.setdefault("noticed", at)
        elif event == "started" and "worker" in rest:
            seen["started"] = at
        elif event == "worker_ready":
            words = dict(w.split("=", 1) for w in rest.split() if "=" in w)
            place = list(words).index("seconds")
            seen["ready"] = at
            seen["parts"] = {k: float(v) * 1000 for k, v in list(words.items())[place + 1:]}
    return seen


def once(pool, client, chosen, wanted, tokens):
    """One kill. What it took in milliseconds, and how many answers differ."""
    requests = requests_of(chosen, tokens)
    for request in requests:
        request.came = []
        client.submit(request)
    client.poll_until(lambda: all(len(r.tokens) >= 20 for r in requests), 60)
    if any(r.finished for r in requests):
        sys.exit("an answer was over before the kill: more --tokens are needed")
    with open(pool.log, encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        killed = time.time()
        os.kill(pool.worker(), signal.SIGKILL)
        client.poll_until(lambda: all(r.finished for r in requests), 120)
        seen = log_times(file.read())
    differ = sum(r.tokens != w for r, w in zip(requests, wanted))
    first = min((at for r in requests for at in r.came if at > seen["ready"]), default=None)
    if first is None:
        sys.exit("no token came after the kill: more --tokens are needed")
    return {"noticed": (seen["noticed"] - killed) * 1000,
            "next_process": (seen["started"] - seen["noticed"]) * 1000,
            "parts": seen["parts"],
            "ready": (seen["ready"] - seen["started"]) * 1000,
            "first_token": (first - seen["ready"]) * 1000,
            "death_to_token": (first - killed) * 1000}, differ


def settles_at(memory, wanted, client):
    """Bytes in use once the pool rests; the driver may take a moment to free a dead process'."""
    wait_settled(client)
    wait_idle(client)
    deadline = time.monotonic() + 10
    while memory.used() != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return memory.used()


def summary(rows):
    def median(values):
        return round(statistics.median(values), 1)
    out = {name: median(r[name] for r in rows)
           for name in ("noticed", "next_process", "ready", "first_token", "death_to_token")}
    out["parts"] = {name: median(r["parts"][name] for r in rows) for name in rows[0]["parts"]}
    out["total_p100"] = round(max(r["death_to_token"] for r in rows), 1)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=700)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--bin", default=os.path.join(os.environ.get("FACET_BUILD", os.path.join(
        ROOT, "build", "release")), "bin"), help="folder of facetd")
    parser.add_argument("--cpu", action="store_true", help="to try this script")
    args = parser.parse_args()
    memory = NoMemory() if args.cpu else GpuMemory()
    idle = memory.used()
    sections = {name: dict(keys) for name, keys in SECTIONS.items()}
    sections["worker"]["device_max_memory"] = '"2GB"' if args.cpu else '"8GB"'
    rows, used, differ = [], [], 0
    with Pool(args.bin, dtype=args.dtype, on_gpu=not args.cpu, sections=sections) as pool:
        client = Timed(pool.socket_path)
        wait_settled(client)
        chosen, wanted = choose(client, args.tokens)
        wait_idle(client)
        before = memory.used()
        for number in range(args.kills):
            took, different = once(pool, client, chosen, wanted, args.tokens)
            rows.append(took)
            differ += different
            used.append(settles_at(memory, before, client))
            print(f"kill {number}: {took['death_to_token']:.0f} ms to the next token, "
                  f"{different} of {ASKED} answers differ, {used[-1] - before:+d} bytes",
                  flush=True)
        deaths = client.status()["workers"][0]["deaths"]
        client.close()
    deadline = time.monotonic() + 30
    while memory.used() > idle and time.monotonic() < deadline:
        time.sleep(0.1)
    result = {"bench": "gpu_crash", "kills": args.kills, "dtype": args.dtype, **summary(rows),
              "answers_compared": args.kills * ASKED, "answers_differ": differ,
              "used_bytes_before": before, "used_bytes_after": used[-1],
              "is_memory_same": all(u == before for u in used),
              "used_bytes_without_daemon": [idle, memory.used()], "deaths": deaths}
    print(json.dumps(result))
    is_good = not differ and result["is_memory_same"] and deaths == args.kills
    sys.exit(0 if is_good and memory.used() <= idle else 1)


if __name__ == "__main__":
    main()
