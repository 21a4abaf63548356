"""Logits of random checkpoints against transformers on the same device, step by step.

    python tests/gpu/transformers_logits_test.py TESTS_DIR [--shapes plain,wide,large] [--cpu]

Needs torch and transformers. Prompts of a word to about 3000 tokens, 0 to 3 images; transformers
answers them in fp32 (eager attention, greedy), and all others are led along its answers: its sdpa
path, both paths in bf16 and fp16, and Facet in fp32, bf16 and fp16 (not on a CPU) by
TESTS_DIR/dump_logits. Facet's fp32 may be twice as far from the eager path as transformers' other
ways to add up the same numbers are (sdpa, and a token at a time instead of all), and 2e-5 for
rounding; its bf16 and fp16 at most 1.25 times as far from fp32 as the further one of transformers'
two in the same type, and 1.1 times in the mean. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

import make_fixture_checkpoint as fixture  # noqa: E402

STEPS = 10
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}
fixture.SHAPES["wide"] = fixture.Shape(
    vocab=20480, tied=False, shards=2,
    embed_std=1.0, head_std=0.15, query_gain=1.3, branch_gain=1.5,
    text=dict(hidden=1024, mlp=2736, layers=4, heads=8, kv_heads=2, head=128, mrope=(16, 24, 24),
              theta=1e6),
    vision=dict(hidden=320, mlp=850, depth=4, heads=4, full=(1, 3), patch=14, window=112))
fixture.SHAPES["large"] = fixture.Shape(  # the heads of the 7B's language model and vision tower
    vocab=30000, tied=True, shards=3,
    embed_std=0.12, head_std=0.0, query_gain=1.3, branch_gain=1.5,
    text=dict(hidden=1792, mlp=4736, layers=4, heads=14, kv_heads=2, head=128, mrope=(16, 24, 24),
              theta=1e6),
    vision=dict(hidden=1280, mlp=3420, depth=4, heads=16, full=(1, 3), patch=14, window=112))


@dataclasses.dataclass
class Apart:
    max: float = 0.0
    sum: float = 0.0
    count: int = 0

    def add(self, found, wanted):
        apart = np.abs(found.astype(np.float64) - wanted)
        self.max = max(self.max, float(apart.max()))
        self.sum += float(apart.sum())
        self.count += apart.size

    def figures(self):
        return {"max": float(f"{self.max:.4g}"), "mean": float(f"{self.sum / self.count:.4g}")}


def draw(rng, path, width, height):
    small = np.array([[[rng.randrange(256) for _ in range(3)] for _ in range(width // 24 + 2)]
                      for _ in range(height // 24 + 2)], np.uint8)
    Image.fromarray(small).resize((width, height), Image.BICUBIC).save(path)


def text_of(rng, words):
    lines = [line for line in fixture.CORPUS.split("\n") if line.strip()]
    found = []
    while len(found) < words:
        found += rng.choice(lines).split()
    return " ".join(found[:words])


def conversations(rng, folder, is_small):
    """(words, sizes of images): short, long in parts, images before, after and between text."""
    plan = [(1, ()), (7, ()), (60, ()), (400, ()), (1100, ()), (3, ((30, 30),)),
            (12, ((300, 200),)), (90, ((641, 359), (57, 400))), (5, ((100, 90), (500, 444))),
            (20, ((56, 56), (333, 211), (28, 300))), (500, ((420, 300),)),
            (250, ((224, 224), (640, 480), (199, 301)))]
    if not is_small:
        plan += [(1600, ()), (30, ((1000, 700),)), (900, ((900, 500), (301, 199), (77, 1000)))]
    messages = []
    for number, (words, sizes) in enumerate(plan):
        parts = []
        for place, (width, height) in enumerate(sizes):
            name = f"{number}-{place}.png"
            draw(rng, os.path.join(folder, name), width, height)
            parts.append({"type": "image", "image": name})
            if rng.random() < 0.4:
                parts.append({"type": "text", "text": text_of(rng, 4)})
        parts.insert(rng.choice((0, len(parts))), {"type": "text", "text": text_of(rng, words)})
        messages.append([{"role": "user", "content": parts}])
    return messages


def inputs_of(processor, messages, folder, device):
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    images = [Image.open(os.path.join(folder, part["image"])).convert("RGB")
              for part in messages[0]["content"] if part["type"] == "image"]
    return processor(text=[prompt], images=images or None, return_tensors="pt").to(device)


class Reference:
    """transformers on one device. Logits come as [steps, vocab] fp32."""

    def __init__(self, directory, attention, dtype, device):
        self.model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, attn_implementation=attention).eval().to(device)

    def _begin(self, inputs):
        self.model.model.rope_deltas = None  # or a text prompt would get those of the one before
        first = self.model(**inputs, use_cache=True)
        length = inputs["input_ids"].shape[1]
        return first, length, length + (
            0 if first.rope_deltas is None else int(first.rope_deltas))

    def _go_on(self, first, length, begin, ids, before):
        """Tokens `ids` after `before` of them."""
        device = self.model.device
        count = len(ids)
        positions = torch.arange(begin + before, begin + before + count, device=device)
        return self.model(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=torch.ones(1, length + before + count, dtype=torch.long, device=device),
            position_ids=positions.expand(3, 1, -1), past_key_values=first.past_key_values,
            use_cache=True)

    @torch.no_grad()
    def answer(self, inputs, steps):
        """The best token of each step, one at a time, and their logits."""
        first, length, begin = self._begin(inputs)
        rows = [first.logits[0, -1].float()]
        ids = [int(rows[0].argmax())]
        while len(ids) < steps:
            out = self._go_on(first, length, begin, ids[-1:], len(ids) - 1)
            rows.append(out.logits[0, -1].float())
            ids.append(int(rows[-1].argmax()))
        return ids, torch.stack(rows).cpu().numpy()

    @torch.no_grad()
    def led(self, inputs, ids):
        """Logits along a given answer, its tokens at once."""
        first, length, begin = self._begin(inputs)
        rest = self._go_on(first, length, begin, ids[:-1], 0)
        return torch.cat([first.logits[0, -1:], rest.logits[0]]).float().cpu().numpy()


def dump(args, directory, folder, dtype):
    out = os.path.join(folder, f"{dtype}.rows")
    command = [os.path.join(args.tests_dir, "dump_logits"), directory, dtype, folder, out]
    done = subprocess.run(command + ([] if args.cpu else ["0"]), stdout=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode:
        sys.exit(f"dump_logits ended with {done.returncode}: {' '.join(command)}")
    facts = json.loads(done.stdout.splitlines()[-1])
    rows = np.fromfile(out, np.float32).reshape(-1, STEPS, facts["vocab"])
    os.remove(out)
    return rows, facts["forced"]


def names_of(narrow):
    return ["fp32_sdpa", "fp32_by_token", "facet_fp32"] + [
        name for n in narrow for name in (f"{n}_sdpa", f"{n}_eager", f"facet_{n}")]


def compare(args, shape, work):
    began = time.monotonic()
    device = "cpu" if args.cpu else "cuda:0"
    directory, folder = os.path.join(work, shape), os.path.join(work, shape + "-cases")
    os.makedirs(folder)
    fixture.make(directory, args.seed % 1000, shape=shape)
    rng = random.Random(args.seed)
    processor = transformers.AutoProcessor.from_pretrained(directory)
    messages = conversations(rng, folder, args.cpu)
    inputs = [inputs_of(processor, m, folder, device) for m in messages]
    narrow = [dtype for dtype in NARROW if dtype != "fp16" or not args.cpu]
    apart = {name: Apart() for name in names_of(narrow)}
    reference = Reference(directory, "eager", torch.float32, device)
    answers = [reference.answer(i, STEPS) for i in inputs]
    wanted = [reference.led(i, ids) for i, (ids, _) in zip(inputs, answers)]
    for rows, (_, by_token) in zip(wanted, answers):
        apart["fp32_by_token"].add(by_token, rows)
    for name, attention, dtype in [("fp32_sdpa", "sdpa", torch.float32)] + [
            (f"{n}_{a}", a, NARROW[n]) for n in narrow for a in ("sdpa", "eager")]:
        reference = Reference(directory, attention, dtype, device)
        for one, (ids, _), rows in zip(inputs, answers, wanted):
            apart[name].add(reference.led(one, ids), rows)
    del reference
    if not args.cpu:
        torch.cuda.empty_cache()
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
        json.dump({"cases": [
            {"messages": m, "repetition_penalty": 1.0, "text": "", "output_ids": ids,
             "input_ids": one["input_ids"][0].tolist()}
            for m, one, (ids, _) in zip(messages, inputs, answers)]}, file)
    worst = []
    for dtype in ("fp32", *narrow):
        rows, forced = dump(args, directory, folder, dtype)
        for number, (found, row) in enumerate(zip(rows, wanted)):
            apart[f"facet_{dtype}"].add(found, row)
            worst.append((float(np.abs(found - row).max()), dtype, number))
        print(f"{shape} {dtype}: {forced} of {rows.shape[0] * STEPS} tokens differ", flush=True)
    figures = {name: a.figures() for name, a in apart.items()}
    limits = {"fp32_max": 2 * max(apart["fp32_sdpa"].max, apart["fp32_by_token"].max) + 2e-5}
    for dtype in narrow:
        for which, times in (("max", 1.25), ("mean", 1.1)):
            limits[f"{dtype}_{which}"] = times * max(
                figures[f"{dtype}_{path}"][which] for path in ("sdpa", "eager"))
    is_good = all(figures["facet_" + name.split("_")[0]][name.split("_")[1]] <= limit
                  for name, limit in limits.items())
    lengths = [int(i["input_ids"].shape[1]) for i in inputs]
    return {**figures, "limits": {k: float(f"{v:.4g}") for k, v in limits.items()},
            "largest_logit": float(f"{max(np.abs(r).max() for r in wanted):.4g}"),
            "prompt_tokens": [min(lengths), max(lengths)], "cases": len(lengths),
            **{f"worst_{dtype}_case": max(w for w in worst if w[1] == dtype)[2]
               for dtype in ("fp32", *narrow)},
            "is_good": is_good, "seconds": round(time.monotonic() - began, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests_dir", help="build/release/tests")
    parser.add_argument("--shapes", default="plain,wide,large")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--cpu", action="store_true", help="all on the CPU, with fewer prompts")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    # fp32 is fp32: no shorter formats behind our back.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    result = {"test": "transformers_logits", "seed": args.seed,
              "transformers": transformers.__version__, "torch": torch.__version__,
              "device": "cpu" if args.cpu else torch.cuda.get_device_name(0), "shapes": {}}
    with tempfile.TemporaryDirectory(prefix="facet-logits-") as work:
        for shape in args.shapes.split(","):
            result["shapes"][shape] = found = compare(args, shape, work)
            for name in [n for n in found if isinstance(found[n], dict) and "mean" in found[n]]:
                print(f"{shape:6} {name:14} max {found[name]['max']:.3e}  mean "
                      f"{found[name]['mean']:.3e}", flush=True)
    print(json.dumps(result))
    sys.exit(0 if all(s["is_good"] for s in result["shapes"].values()) else 1)


if __name__ == "__main__":
    main()
