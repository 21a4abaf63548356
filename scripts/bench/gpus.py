#!/usr/bin/env python3
"""several workers, one a GPU, under one daemon: what two do over one, shares, deaths

scripts/bench.sh gpus [--count 2] [--only scaling,...] [--limit-s 470] [--model DIR] [--tiny]

Qwen2.5-VL-7B at full size with random weights, a worker on each of --count GPUs. Parts:
  scaling  captions/s and tokens/s of all workers over those of one, by the workers' own counters
           while all lanes were full ("steady"), and of the whole runs; CPU seconds of each program
           and the ring's high mark, so that a limit of the host can be seen
  order    GPUs named by CUDA_VISIBLE_DEVICES backwards, by UUID: which worker got which
  uneven   one worker has memory for half the lanes: its share of the tokens under least_loaded,
           against the share that its speed alone would give it
  deaths   --kills times each SIGKILL, SIGSEGV and an illegal access of the GPU for one worker in
           mid-answer: what streams of the others wait between tokens, against before; the killed
           ones go on; free memory of each card, against that after one rehearsed death
  Devices are taken in the order that `facet doctor --json` lists.
--tiny: CPU workers and a tiny model, to test this script; no illegal access.
Exit code 1: a part failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from bench_daemon import BenchDaemon
from bench_parts import PartRunner, add_arguments, check_arguments
from gpu_parts import digits, make_images
from gpus_deaths import Deaths
from load_client import Ask, BenchError
from pool_load import answer_lengths, run_load

PARTS = ("scaling", "order", "uneven", "deaths")
READY_S = 180.0

# answers, captions, uneven, in_flight, captions_in_flight: of each worker.
# streams, fault_streams: (how many for each worker, tokens of an answer); strike_at: when so much
# of each has come, so that about as many steps are looked at before as after.
FULL = {"shape": "7b", "lanes": 64, "prompt": 128, "answer": 256, "answers": 480, "in_flight": 80,
        "captions": 320, "captions_in_flight": 128, "caption_answer": 100,
        "caption_size": (1024, 1024), "uneven": 320, "streams": (16, 250),
        "fault_streams": (4, 150), "strike_at": 0.4, "stream_prompt": 700, "max_model_len": 2048,
        "batched": 8192, "ring": '"1200MiB"', "interval_s": 0.1}
TINY = {"shape": "tiny", "lanes": 4, "prompt": 60, "answer": 40, "answers": 24, "in_flight": 5,
        "captions": 12, "captions_in_flight": 6, "caption_answer": 6, "caption_size": (112, 112),
        "uneven": 24, "streams": (2, 400), "fault_streams": (2, 200), "strike_at": 0.05,
        "stream_prompt": 60, "max_model_len": 1024, "batched": 256, "ring": '"64MiB"',
        "interval_s": 0.02}


class Bench(PartRunner):
    def __init__(self, args):
        super().__init__("gpus", args, "a tiny random model" if args.tiny else
                         "Qwen2.5-VL-7B's sizes, random weights, bf16")
        self.scale = TINY if args.tiny else FULL
        self.seed = 0
        self.results["count"] = args.count
        self.cards = self.list_cards()
        self.generator = os.path.join(self.bin_dir, "..", "tests", "load_generator")

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

    def stream(self, answer):
        self.seed += 1
        return Ask(digits(self.scale["stream_prompt"], self.seed), answer)

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

    def text_load(self, daemon, lanes, count):
        """Texts, `count` for each worker. `lanes` of each worker, by which it counts as full."""
        in_flight = self.scale["in_flight"]
        lengths = answer_lengths(count, self.scale["answer"], in_flight, seed=1)
        asks = []
        for length in lengths:  # the same mix for one worker and for several
            for _ in lanes:
                self.seed += 1
                asks.append((digits(self.scale["prompt"], self.seed), length, -1))
        return run_load(self.generator, daemon, asks, in_flight * len(lanes), lanes,
                        interval_s=self.scale["interval_s"])

    def caption_load(self, daemon, lanes, images):
        in_flight = self.scale["captions_in_flight"]
        lengths = answer_lengths(len(images), self.scale["caption_answer"], in_flight // 2, seed=2)
        asks = [("7", length, index) for index, length in enumerate(lengths) for _ in lanes]
        return run_load(self.generator, daemon, asks, in_flight * len(lanes), lanes, images,
                        self.scale["interval_s"])

    def load(self, workers, images):
        lanes = [self.scale["lanes"]] * workers
        with self.daemon(workers) as daemon:
            client = daemon.client()
            self.wait_ready(client, workers)
            client.run([self.text(4) for _ in range(2 * workers)])
            figures = {"tokens": self.text_load(daemon, lanes, self.scale["answers"]),
                       "captions": self.caption_load(daemon, lanes, images)}
            status = client.status()
            figures["ring"] = {name: {key: status["ring"][name][key]
                                      for key in ("pages", "high_mark", "page_bytes")}
                               for name in ("ingest", "pixels")}
            figures["finished"] = [w["finished"] for w in status["workers"]]
            figures["idle_gap_us"] = [w["idle_gap_us"] for w in status["workers"]]
            client.close()
        return figures

    def image_files(self):
        paths = []
        for data in make_images(self.scale["captions"], *self.scale["caption_size"]):
            paths.append(os.path.join(self.folder, f"{len(paths)}.jpg"))
            with open(paths[-1], "wb") as file:
                file.write(data)
        return paths

    def scaling(self):
        images = self.image_files()
        one = self.load(1, images)
        self.say(f"one: {json.dumps(one)}")
        every = self.load(self.args.count, images)

        def ratio(kind, key, steady):
            a, b = ((f[kind]["steady"] if steady else f[kind]) for f in (one, every))
            return round(b[key] / a[key], 3) if a and b else None
        return {"one": one, "all": every, "wanted": 1.97,
                "tokens_ratio": ratio("tokens", "tokens_per_s", True),
                "captions_ratio": ratio("captions", "answers_per_s", True),
                "tokens_ratio_of_whole_runs": ratio("tokens", "tokens_per_s", False),
                "captions_ratio_of_whole_runs": ratio("captions", "answers_per_s", False),
                "judged": "steady: the workers' counters between two moments; every sample between "
                          "them found all lanes full. Captions by their tokens"}

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
        context = self.scale["prompt"] + self.scale["answer"] * 3 // 2 + 64
        (full, full_tokens), (half, half_tokens) = self.budgets(context)

        def measure(budgets, own_lanes):
            keys = {"device_max_memory": json.dumps([str(budget) for budget in budgets]),
                    "max_model_len": context}
            with self.daemon(len(budgets), keys) as daemon:
                client = daemon.client()
                self.wait_ready(client, len(budgets))
                client.close()
                figures = self.text_load(daemon, own_lanes, self.scale["uneven"])
            return figures["steady"] or figures
        alone = [measure([full], [lanes]), measure([half], [lanes // 2])]
        speeds = [figures["tokens_per_s"] for figures in alone]
        budgets = [full] * (count - 1) + [half]
        together = measure(budgets, [lanes] * (count - 1) + [lanes // 2])
        made = together["tokens"]
        ideal = speeds[1] / (speeds[0] * (count - 1) + speeds[1])
        share = made[-1] / sum(made)
        return {"budget_bytes": budgets, "kv_tokens": [full_tokens, half_tokens],
                "alone_tokens_per_s": speeds, "together_tokens_per_s": together["tokens_per_s"],
                "tokens": made, "seconds": [f["seconds"] for f in (*alone, together)],
                "is_steady": ["answers_ended_per_s" in f for f in (*alone, together)],
                "share_of_the_slower": round(share, 4), "ideal": round(ideal, 4),
                "off_by": round(share / ideal - 1, 4), "wanted": "within 0.1"}

    def free_bytes(self):
        return {card["uuid"]: card["free_bytes"] for card in self.list_cards()}

    def deaths(self):
        return Deaths(self).run()

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
