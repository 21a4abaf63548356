#!/usr/bin/env python3
"""Qwen2.5-VL-7B at full size on one GPU: every figure with its floor, beside transformers

scripts/bench.sh gpu [--only start,decode,...] [--limit-s 470] [--model DIR] [--tiny]

Makes a checkpoint with random weights, starts a daemon and measures through its socket, as any
client would see it. Parts, in this order:
  start        facetd's start to the first token; `weights` says where they were read from
  decode       ms a step and tokens/s of 1, 16 and 64 lanes with prompts of 768 tokens, while all
               lanes decode; the GPU's idle time between steps where the worker tells it
  prefill      tokens/s of 1 and 8 prompts of 2,048 tokens, and of 64
  vision       ms of a 1036x728 image in the encoder, preprocessing included
  first_token  ms to the first token after one image and 512 text tokens
  captions     answers of 100 tokens about 1024x1024 JPEGs, 128 and 256 in flight
  transformers transformers on the same checkpoint, afterwards
Floors: bytes over the card's read bandwidth, operations over its rate of bf16 products; both are
measured first. `peers`: what others reached, quoted; `compared`: how many times better Facet is.
A line a part is printed as it is done: `part NAME {...}`. Parts begun after --limit-s seconds are
left out and named in `skipped`. --model: a checkpoint made by an earlier run (or to be made and
kept there). --tiny: a small model and little work, on whatever there is, to test this script.
FACET_PYTHON names the Python to run with, FACET_REFERENCE_PYTHON the one that has torch and
transformers. Exit code 1: a part failed.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time

import gpu_model
import gpu_parts
import gpu_peers
from bench_daemon import BenchDaemon
from bench_parts import BENCH, PartRunner, add_arguments, check_arguments
from gpu_floors import Floors
from load_client import Ask, BenchError

PARTS = ("start", "decode", "prefill", "vision", "first_token", "captions", "transformers")
H200_READ = 4.65e12  # the best that a kernel without any other work has read on an H200


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of each kind of work."""
    shape: str
    decode_lanes: tuple
    decode_prompt: int
    decode_answer: int
    prefill: tuple
    vision_size: tuple
    vision_count: int
    first_token_sizes: tuple
    first_token_text: int
    first_token_count: int
    caption_size: tuple
    caption_count: int
    caption_answer: int
    caption_in_flight: tuple
    max_lanes: int
    worker: dict
    ring: dict
    reference_tokens: int


FULL = Scale(
    shape="7b", decode_lanes=(1, 16, 64), decode_prompt=768, decode_answer=256,
    prefill=((1, 2048), (8, 2048), (64, 2048)), vision_size=(1036, 728), vision_count=8,
    first_token_sizes=((1024, 1024), (1036, 728)), first_token_text=512, first_token_count=5,
    caption_size=(1024, 1024), caption_count=384, caption_answer=100,
    caption_in_flight=(128, 256), max_lanes=64,
    worker={"max_lanes": 64, "credits": 96, "max_num_batched_tokens": 8192,
            "max_model_len": 8192, "prefix_cache": "false"},
    ring={"ingest_bytes": '"512MiB"', "pixel_bytes": '"1200MiB"'}, reference_tokens=64)

TINY = Scale(
    shape="tiny", decode_lanes=(1, 3), decode_prompt=96, decode_answer=128,
    prefill=((1, 128), (2, 128)), vision_size=(140, 112), vision_count=2,
    first_token_sizes=((112, 112),), first_token_text=64, first_token_count=2,
    caption_size=(112, 112), caption_count=6, caption_answer=6, caption_in_flight=(2, 4),
    max_lanes=4,
    worker={"max_lanes": 4, "credits": 6, "max_num_batched_tokens": 256, "max_model_len": 1024,
            "prefix_cache": "false", "device_max_memory": '"1500MB"'},
    ring={"ingest_bytes": '"64MiB"', "pixel_bytes": '"64MiB"'}, reference_tokens=4)


class Bench(PartRunner):
    def __init__(self, args):
        super().__init__("gpu", args, "a tiny random model" if args.tiny else
                         "Qwen2.5-VL-7B's sizes, random weights, bf16")
        self.scale = TINY if args.tiny else FULL

    def measure_rates(self):
        self.say("what the card can do")
        command = [self.reference_python, os.path.join(BENCH, "gpu_rates.py")]
        if self.args.tiny and not self.args.gpus:
            command = [sys.executable, command[1], "--cpu"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"gpu: the card's rates could not be measured: {' '.join(command)} ended with "
                     f"{done.returncode}; it needs torch and a GPU that it sees")
        card = json.loads(done.stdout.splitlines()[-1])
        if "H200" in card["device"]:
            card["read_bytes_per_s_measured"] = card["read_bytes_per_s"]
            card["read_bytes_per_s"] = max(H200_READ, card["read_bytes_per_s"])
        self.tell("card", card)
        return card

    def sections(self, model):
        worker = dict(self.scale.worker)
        if self.args.gpus:
            worker["gpus"] = json.dumps(self.args.gpus)
            worker.pop("device_max_memory", None)
        return {"model": {"path": json.dumps(model)}, "worker": worker, "ring": self.scale.ring,
                "broker": {"max_ingest_bytes_per_client": '"384MiB"' if not self.args.tiny
                           else '"32MiB"'}}

    def run(self):
        card = self.measure_rates()
        try:
            model = self.make_model(self.scale.shape)
            bytes_per_value = 2 if self.args.gpus else 4  # the CPU computes in fp32
            floors = Floors(gpu_model.SHAPES[self.scale.shape], card, bytes_per_value)
            try:
                self.measure_facet(model, floors)
            except (BenchError, OSError) as error:
                self.results["failed"]["daemon"] = str(error)
                self.say(f"the daemon failed: {error}")
            self.part("transformers", lambda: self.measure_reference(model, self.folder))
        finally:
            self.clean_up()
        self.results["peers"] = gpu_peers.PEERS
        if not self.args.tiny:
            self.results["compared"] = gpu_peers.compare(self.results)
            self.results["targets"] = gpu_peers.TARGETS
        return self.finish()

    def measure_facet(self, model, floors):
        asked = [name for name in self.wanted if name != "transformers"]
        if not asked or self.is_late():
            self.results["skipped"] += asked
            return
        self.say("starting facetd")
        env = None if self.args.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        with BenchDaemon(self.bin_dir, self.sections(model), env) as daemon:
            client = daemon.client()
            self.part("start", lambda: self.start(daemon, client, model))
            parts = gpu_parts.Parts(client, floors, self.scale)
            for name in ("decode", "prefill", "vision", "first_token"):
                self.part(name, getattr(parts, name))
            self.part("captions", lambda: parts.captions(daemon.cpu_seconds))
            status = client.status()
            self.results["facet"] = {key: status[key] for key in ("version", "conservation")}
            self.results["facet"]["workers"] = status["workers"]
            client.close()

    def start(self, daemon, client, model):
        ask = Ask("7", 1)
        client.run([ask])
        kind = "in memory (tmpfs)" if model.startswith("/dev/shm/") else \
            "files written or read before in this boot: in the page cache as far as it held them"
        return {"first_token_s": round(ask.first - daemon.began, 3), "weights": kind}

    def measure_reference(self, model, folder):
        probe = subprocess.run([self.reference_python, "-c", "import torch, transformers"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if probe.returncode:
            return {"left_out": f"{self.reference_python} has no torch and transformers"}
        images = {}
        for width, height in self.scale.first_token_sizes:
            images[f"{width}x{height}"] = path = os.path.join(folder, f"{width}x{height}.jpg")
            with open(path, "wb") as file:
                file.write(gpu_parts.jpeg(width, height, 1))
        workload = {
            "decode_text": gpu_parts.digits(self.scale.decode_prompt, 1),
            "decode_tokens": self.scale.reference_tokens,
            "prefill_text": gpu_parts.digits(self.scale.prefill[0][1], 2),
            "image_text": gpu_parts.digits(self.scale.first_token_text, 3), "images": images}
        path = os.path.join(folder, "workload.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(workload, file)
        left = max(60.0, self.args.limit_s + 60 - (time.monotonic() - self.began))
        done = subprocess.run(
            [self.reference_python, os.path.join(BENCH, "gpu_reference.py"), model, path],
            stdout=subprocess.PIPE, text=True, check=True, timeout=left)
        return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, PARTS)
    parser.add_argument("--gpus", default=None, help='worker.gpus; "0", and "" with --tiny')
    args = parser.parse_args()
    check_arguments(parser, args)
    if args.gpus is None:
        args.gpus = "" if args.tiny else "0"
    sys.exit(Bench(args).run())


if __name__ == "__main__":
    main()
