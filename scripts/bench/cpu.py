#!/usr/bin/env python3
"""Tokens/s and images/s of Facet on the CPU, next to transformers on the same checkpoint.

    scripts/bench.sh cpu [--models demo,mid] [--texts 64] [--images 48]

Facet answers through daemon, ring and engine, with one worker on all cores and with a worker per
core; the better one counts. transformers runs in fp32 with sdpa and as many torch threads as cores,
at several batch sizes; the best one counts. Both decode the same PNGs and preprocess them, greedy,
every answer as long as asked. Facet is measured before and after transformers and the slower
figure counts. Models: the demo model, and a random one of 163 M parameters that is made here.
Without the prefix cache. Needs the environment `ref` of scripts/setup.sh --reference. Exit code 1:
Facet is not twice as fast everywhere.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, SCRIPTS)

from demo_model.facet_client import Pool, PrivateDaemon  # noqa: E402

BENCH = os.path.join(SCRIPTS, "bench")
ROOT = os.path.join(SCRIPTS, "..")
QUESTION = "Which colour is it?"
WANTED = 2.0


def reference_python():
    cache = os.environ.get("FACET_CACHE", os.path.expanduser("~/.cache/facet"))
    return os.path.join(cache, "ref", "bin", "python")


DRAW = """
import sys
sys.path.insert(0, sys.argv[1])
from demo_model import draw
from PIL import Image
for i in range(int(sys.argv[3])):
    sample = draw.draw_sample(draw.TASKS[i % 2], "eval", 5, i)
    Image.fromarray(sample.images[0]).save(f"{sys.argv[2]}/{i}.png")
"""


def make_workload(folder, args, small):
    """Texts, and the demo's pictures of 224 x 224."""
    subprocess.run([reference_python(), "-c", DRAW, SCRIPTS, folder, str(args.images)], check=True)
    texts, images = (args.texts // 2, args.images // 3) if small else (args.texts, args.images)
    workload = {
        "texts": [f"Question number {i}: what can be seen, and where?" for i in range(texts)],
        "text_tokens": 32 if small else 64,
        "text_batches": sorted({1, 8, 16, 32, texts} if not small else {8, texts}),
        "images": [os.path.join(folder, f"{i}.png") for i in range(images)],
        "image_tokens": 8,
        "image_batches": sorted({1, 4, 16, images} if not small else {4, images}),
        "question": QUESTION}
    path = os.path.join(folder, "workload.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(workload, file)
    return path, workload


def ask(daemon, items, tokens):
    """Seconds until the last answer, and the tokens of all."""
    pool = Pool(daemon.socket_path, in_flight=len(items), max_tokens=tokens,
                params={"ignore_eos": True})
    began, made = time.monotonic(), 0
    for _, ids, _, _ in pool.run(items):
        made += len(ids)
    seconds = time.monotonic() - began
    pool.close()
    assert made == tokens * len(items), f"{made} tokens of {tokens * len(items)}"
    return seconds, made


def measure_facet(model, workload, workers, args):
    encoded = []
    for path in workload["images"]:
        with open(path, "rb") as file:
            encoded.append(file.read())
    texts = [([], text) for text in workload["texts"]]
    images = [([png], QUESTION) for png in encoded]
    keys = "max_lanes = 64\ncredits = 128\nprefix_cache = false"
    with PrivateDaemon(args.bin, model, workers, "fp32", keys) as daemon:
        ask(daemon, texts[:4] + images[:4], 4)  # warm
        seconds, made = ask(daemon, texts, workload["text_tokens"])
        tokens_per_s = made / seconds
        seconds, _ = ask(daemon, images, workload["image_tokens"])
    figures = {"tokens_per_s": round(tokens_per_s, 2),
               "images_per_s": round(len(images) / seconds, 2)}
    print(f"facet, {workers} worker(s): {figures}", flush=True)
    return figures


def best_facet(model, workload, args):
    cores = len(os.sched_getaffinity(0))
    settings = {w: measure_facet(model, workload, w, args) for w in sorted({1, cores})}
    return {key: max(figures[key] for figures in settings.values())
            for key in ("tokens_per_s", "images_per_s")}, settings


def measure_transformers(model, path):
    script = os.path.join(BENCH, "cpu_reference.py")
    process = subprocess.run([reference_python(), script, model, path], stdout=subprocess.PIPE,
                             text=True, check=True)
    print(process.stdout, end="", flush=True)
    return json.loads(process.stdout.splitlines()[-1])


def bench_model(name, model, args):
    with tempfile.TemporaryDirectory(prefix="facet-bench-") as folder:
        path, workload = make_workload(folder, args, small=name == "mid")
        print(f"== {name}", flush=True)
        before, settings = best_facet(model, workload, args)
        reference = measure_transformers(model, path)
        after, settings_after = best_facet(model, workload, args)
    result = {"facet_by_workers": [settings, settings_after], "transformers": reference}
    for key in before:
        facet, peer = min(before[key], after[key]), max(reference[key].values())
        result[key] = {"facet": facet, "transformers": peer, "ratio": round(facet / peer, 2)}
        print(f"{name}: {key}: {result[key]}", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="demo,mid")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--images", type=int, default=48)
    args = parser.parse_args()
    args.bin = os.path.join(os.environ.get("FACET_BUILD", os.path.join(ROOT, "build", "release")),
                            "bin")
    if not os.path.exists(reference_python()):
        sys.exit(f"cpu: no {reference_python()}; run scripts/setup.sh --reference")
    results = {"bench": "cpu", "cores": len(os.sched_getaffinity(0)), "dtype": "fp32"}
    with tempfile.TemporaryDirectory(prefix="facet-bench-") as folder:
        for name in args.models.split(","):
            model = os.path.join(ROOT, "configs", "demo-model")
            if name == "mid":
                model = os.path.join(folder, "mid")
                subprocess.run([reference_python(), os.path.join(BENCH, "cpu_checkpoint.py"),
                                model], check=True)
            elif name != "demo":
                parser.error(f"no model {name}: demo, mid")
            results[name] = bench_model(name, model, args)
    enough = all(results[name][key]["ratio"] >= WANTED for name in args.models.split(",")
                 for key in ("tokens_per_s", "images_per_s"))
    print(json.dumps(results))
    sys.exit(0 if enough else 1)


if __name__ == "__main__":
    main()
