#!/usr/bin/env python3
"""several workers, one a GPU, under one daemon: what two do over one, shares, deaths

scripts/bench.sh gpus [--count 2] [--only scaling,...] [--limit-s 470] [--model DIR] [--tiny]

Qwen2.5-VL-7B at full size with random weights, a worker on each of --count GPUs. Parts:
  scaling  captions/s and tokens/s of all workers over those of one; CPU seconds of each program and
           the ring's high mark of both, so that a limit of the host can be seen
  order    GPUs named by CUDA_VISIBLE_DEVICES backwards, by UUID: which worker got which
  uneven   one worker has memory for half the lanes: its share of the tokens under least_loaded,
           against the share that its speed alone would give it
  deaths   --kills times SIGKILL and as often SIGSEGV for one worker in mid-answer: what streams of
           the others wait at most, against before; the killed ones go on; free memory of each card.
           (A GPU's illegal access cannot be caused from outside; SIGSEGV stands in for it.)
  Devices are taken in the order that `facet doctor --json` lists.
--tiny: CPU workers and a tiny model, to test this script. Exit code 1: a part failed.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

from bench_daemon import BenchDaemon
from bench_parts import PartRunner, add_arguments, check_arguments
from gpu_parts import digits, make_images
from load_client import Ask, BenchError

PARTS = ("scaling", "order", "uneven", "deaths")
READY_S = 180.0
TRIES = 5  # until a worker is caught in the midst of answers

FULL = {"shape": "7b", "lanes": 64, "prompt": 700, "answer": 256, "rounds": 3, "captions": 256,
        "in_flight": 128, "caption_answer": 100, "caption_size": (1024, 1024), "stream": 700,
        "uneven_rounds": 6, "max_model_len": 2048, "batched": 8192, "ring": '"1200MiB"'}
TINY = {"shape": "tiny", "lanes": 4, "prompt": 60, "answer": 40, "rounds": 2, "captions": 8,
        "in_flight": 6, "caption_answer": 6, "caption_size": (112, 112), "stream": 600,
        "uneven_rounds": 3, "max_model_len": 1024, "batched": 256, "ring": '"64MiB"'}


class Sampler:
    """Notes over a connection of its own how many tokens each worker has made, and when."""

    def __init__(self, daemon, asks):
        self.daemon, self.asks, self.samples = daemon, asks, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        client = self.daemon.client()
        while True:
            is_last = self.over.is_set()
            workers = client.status()["workers"]
            ended = sum(1 for ask in self.asks if ask.ended)
            self.samples.append((ended, [worker["tokens"] for worker in workers]))
            if is_last:
                break
            self.over.wait(0.1)
        client.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.thread.join()

    def tokens_between(self, begin, end):
        """(tokens of each worker, answers at begin and end) from `begin` answers on to `end`: with
        all lanes full. Of the whole run where no two samples lie in between."""
        inside = [s for s in self.samples if begin <= s[0] <= end]
        first, last = (inside[0], inside[-1]) if len(inside) > 1 and inside[0][1] != inside[-1][1] \
            else (self.samples[0], self.samples[-1])
        return [b - a for a, b in zip(first[1], last[1])], [first[0], last[0]]


class Bench(PartRunner):
    def __init__(self, args):
        super().__init__("gpus", args, "a tiny random model" if args.tiny else
                         "Qwen2.5-VL-7B's sizes, random weights, bf16")
        self.scale = TINY if args.tiny else FULL
        self.seed = 0
        self.results["count"] = args.count
        self.cards = self.list_cards()

    def list_cards(self):
        """[{"uuid", "name", "free_bytes", ...}]; empty with --tiny."""
        if self.args.tiny:
            return []
        config = os.path.join(self.folder, "echo.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write('[worker]\nengine = "echo"\n')
        done = subprocess.run(
            [os.path.join(self.bin_dir, "facet"), "doctor", "--json", "--config", config],
            stdout=subprocess.PIPE, check=False)
        cards = json.loads(done.stdout)["gpus"]
        if len(cards) < self.args.count:
            sys.exit(f"gpus: {len(cards)} visible GPUs, --count {self.args.count}: "
                     f"{[card['uuid'] for card in cards]}")
        return cards[:self.args.count]

    def daemon(self, workers, worker=None, env=None, names=True):
        """`workers`: how many, on the first GPUs; `names`: by worker.gpus."""
        keys = {"max_lanes": self.scale["lanes"], "credits": self.scale["lanes"] * 3 // 2,
                "max_num_batched_tokens": self.scale["batched"],
                "max_model_len": self.scale["max_model_len"], "prefix_cache": "false"}
        if self.cards and names:
            keys["gpus"] = json.dumps([card["uuid"] for card in self.cards[:workers]])
        elif not self.cards:
            keys.update(count=workers, threads=1, device_max_memory='"1200MB"')
            env = dict(env or {}, CUDA_VISIBLE_DEVICES="")
        keys.update(worker or {})
        return BenchDaemon(self.bin_dir, {
            "model": {"path": json.dumps(self.model)}, "worker": keys,
            "ring": {"ingest_bytes": self.scale["ring"], "pixel_bytes": self.scale["ring"]},
            "broker": {"max_ingest_bytes_per_client": self.scale["ring"],
                       "max_requests_per_client": 4096}}, env)

    def text(self, answer):
        self.seed += 1
        return Ask(digits(self.scale["prompt"], self.seed), answer)

    def wait_ready(self, client, workers):
        """[status of each worker], once all are ready and settled."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            status = client.status()["workers"]
            if len(status) == workers and all(
                    w["state"] == "ready" and w["settled"] for w in status):
                return status
            time.sleep(0.05)
        raise BenchError(f"not ready within {READY_S:.0f} s: {[w['state'] for w in status]}")

    def tokens_per_s(self, client, lanes, asks=None):
        """Of answers that come and go, `lanes` at a time."""
        asks = client.run(asks or [self.text(self.scale["answer"])
                                   for _ in range(lanes * self.scale["rounds"])], lanes)
        seconds = max(a.ended for a in asks) - min(a.sent for a in asks)
        return sum(len(a.times) for a in asks) / seconds

    def captions_per_s(self, client, images, in_flight):
        asks = [Ask("7", self.scale["caption_answer"], [image]) for image in images]
        client.run(asks, in_flight)
        return len(asks) / (max(a.ended for a in asks) - min(a.sent for a in asks))

    def load(self, workers, images):
        with self.daemon(workers) as daemon:
            client = daemon.client()
            self.wait_ready(client, workers)
            lanes = self.scale["lanes"] * workers
            client.run([self.text(4) for _ in range(2 * workers)])
            figures = {"tokens_per_s": round(self.tokens_per_s(client, lanes), 1)}
            before = daemon.cpu_seconds()
            begin = time.monotonic()
            figures["captions_per_s"] = round(self.captions_per_s(
                client, images * workers, self.scale["in_flight"] * workers), 3)
            figures["captions_took_s"] = round(time.monotonic() - begin, 2)
            figures["captions_cpu_seconds"] = {
                name: round(seconds - before.get(name, 0), 2)
                for name, seconds in sorted(daemon.cpu_seconds().items())}
            status = client.status()
            figures["ring"] = {name: {key: status["ring"][name][key]
                                      for key in ("pages", "high_mark", "page_bytes")}
                               for name in ("ingest", "pixels")}
            figures["finished"] = [w["finished"] for w in status["workers"]]
            client.close()
        return figures

    def scaling(self):
        images = make_images(self.scale["captions"], *self.scale["caption_size"])
        one = self.load(1, images)
        self.say(f"one: {one}")
        every = self.load(self.args.count, images)
        return {"one": one, "all": every, "captions_ratio": round(
            every["captions_per_s"] / one["captions_per_s"], 3),
            "tokens_ratio": round(every["tokens_per_s"] / one["tokens_per_s"], 3), "wanted": 1.97}

    def order(self):
        wanted = [card["uuid"] for card in self.cards[::-1]]
        env = {"CUDA_VISIBLE_DEVICES": ",".join(wanted)} if wanted else None
        with self.daemon(self.args.count, env=env, names=False) as daemon:
            client = daemon.client()
            status = self.wait_ready(client, self.args.count)
            client.run([self.text(8) for _ in range(4 * self.args.count)])
            seen = []
            for worker in status:
                with open(f"/proc/{worker['pid']}/environ", "rb") as file:
                    variables = [v.split(b"=", 1) for v in file.read().split(b"\0") if v]
                seen.append(dict(variables).get(b"CUDA_VISIBLE_DEVICES", b"").decode())
            finished = [w["finished"] for w in client.status()["workers"]]
            client.close()
        if wanted and seen != wanted:
            raise BenchError(f"workers are on {seen}, not on {wanted}")
        return {"workers_on": seen, "finished": finished}

    def plan(self, context, *more):
        done = subprocess.run(
            [os.path.join(self.bin_dir, "facet"), "plan", self.model, "--json", "--max-lanes",
             str(self.scale["lanes"]), "--max-model-len", str(context),
             "--max-num-batched-tokens", str(self.scale["batched"]), *more],
            stdout=subprocess.PIPE, check=True,
            env=dict(os.environ, **({} if self.cards else {"CUDA_VISIBLE_DEVICES": ""})))
        plan = json.loads(done.stdout)
        return plan["fits"], plan["devices"][0]["used_bytes"]

    def budgets(self, context):
        """[(bytes, KV tokens)] for all lanes and for half of them: planned, not guessed."""
        fits, used = self.plan(context)
        per_token = fits["kv_bytes_per_token"]
        found = []
        for lanes in (self.scale["lanes"], self.scale["lanes"] // 2):
            size = used + (lanes * context + 64 - fits["kv_tokens"]) * per_token  # and some blocks
            found.append((size, self.plan(context, "--gpu-memory", str(size))[0]["kv_tokens"]))
        return found

    def uneven(self):
        lanes, count = self.scale["lanes"], self.args.count
        context = self.scale["prompt"] + self.scale["answer"] + 64
        (full, full_tokens), (half, half_tokens) = self.budgets(context)

        def alone(budget):
            keys = {"device_max_memory": f'"{budget}"', "max_model_len": context}
            with self.daemon(1, keys) as daemon:
                client = daemon.client()
                self.wait_ready(client, 1)
                speed = self.tokens_per_s(client, lanes)
                client.close()
            return speed
        speeds = [alone(full), alone(half)]
        budgets = [full] * (count - 1) + [half]
        each = json.dumps([str(budget) for budget in budgets])
        keys = {"device_max_memory": each, "max_model_len": context}
        with self.daemon(count, keys) as daemon:
            client = daemon.client()
            self.wait_ready(client, count)
            total = lanes * count * self.scale["uneven_rounds"]
            asks = [self.text(self.scale["answer"]) for _ in range(total)]
            with Sampler(daemon, asks) as sampler:
                together = self.tokens_per_s(client, lanes * count, asks)
            made, window = sampler.tokens_between(total // 4, total - lanes * count)
            client.close()
        ideal = speeds[1] / (speeds[0] * (count - 1) + speeds[1])
        share = made[-1] / sum(made)
        return {"budget_bytes": budgets, "kv_tokens": [full_tokens, half_tokens],
                "alone_tokens_per_s": [round(s, 1) for s in speeds],
                "together_tokens_per_s": round(together, 1), "tokens": made,
                "answers_at_begin_and_end": window,
                "share_of_the_slower": round(share, 4), "ideal": round(ideal, 4),
                "off_by": round(share / ideal - 1, 4), "wanted": "within 0.1"}

    def free_bytes(self):
        return {card["uuid"]: card["free_bytes"] for card in self.list_cards()}

    def deaths(self):
        count = self.args.count
        with self.daemon(count) as daemon:
            client = daemon.client()
            self.wait_ready(client, count)
            self.streams(client, None, None)  # every graph and buffer was in use once
            baseline = self.free_bytes()
            figures = {"SIGKILL": [], "SIGSEGV": []}
            for _ in range(self.args.kills):
                for number in (signal.SIGKILL, signal.SIGSEGV):
                    figures[number.name].append(self.strike(client, number))
                    self.wait_ready(client, count)
            lost = {uuid: baseline[uuid] - free for uuid, free in self.free_bytes().items()}
            status = client.status()
            client.close()
        summary = {"conservation": status["conservation"], "free_bytes_lost": lost,
                   "deaths": [w["deaths"] for w in status["workers"]]}
        for name, runs in figures.items():
            summary[name] = {key: round(max(run[key] for run in runs), 2) for key in
                             ("usual_gap_ms", "gap_ms", "resume_ms")}
            summary[name]["resume_ms_median"] = round(
                statistics.median(run["resume_ms"] for run in runs), 2)
            summary[name]["moved"] = sum(run["moved"] for run in runs)
            summary[name]["times"] = len(runs)
        return summary

    def strike(self, client, number):
        for _ in range(TRIES):
            victim = self.wait_ready(client, self.args.count)[0]["pid"]
            figures = self.streams(client, victim, number)
            if figures:
                return figures
        raise BenchError("no worker was caught in the midst of answers")

    def streams(self, client, victim, number):
        """Long answers on all workers; `victim` gets the signal when all of them run."""
        asks = [self.text(self.scale["stream"])
                for _ in range(self.scale["lanes"] // 2 * self.args.count)]
        killed = []

        def watch():
            while not all(len(ask.times) > 20 for ask in asks):
                if any(ask.ended for ask in asks):
                    return
                time.sleep(0.002)
            killed.append(time.monotonic())
            os.kill(victim, number)
        striker = threading.Thread(target=watch, daemon=True)
        if victim:
            striker.start()
        client.run(asks)
        if not victim:
            return None
        striker.join()
        moved = [ask for ask in asks if ask.done["attempts"] > 1]
        if not killed or not moved:
            return None
        usual, gaps, resumed = [0.0], [0.0], []
        for ask in asks:
            after = [(b - a) for a, b in zip(ask.times, ask.times[1:]) if b > killed[0]]
            if ask in moved:
                resumed.append(max(after))
            else:
                gaps += after
                usual += [b - a for a, b in zip(ask.times, ask.times[1:]) if b <= killed[0]]
        return {"usual_gap_ms": max(usual) * 1000, "gap_ms": max(gaps) * 1000,
                "resume_ms": max(resumed) * 1000, "moved": len(moved)}

    def run(self):
        try:
            self.model = self.make_model(self.scale["shape"])
            for name in PARTS:
                self.part(name, getattr(self, name))
        finally:
            self.clean_up()
        return self.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, PARTS)
    parser.add_argument("--count", type=int, default=2, help="GPUs, and workers")
    parser.add_argument("--kills", type=int, default=None, help="of each kind; 10, 1 with --tiny")
    args = parser.parse_args()
    check_arguments(parser, args)
    if args.count < 2:
        parser.error("--count: at least 2")
    if args.kills is None:
        args.kills = 1 if args.tiny else 10
    sys.exit(Bench(args).run())


if __name__ == "__main__":
    main()
