"""Asks transformers what the random checkpoints answer, token for token, and with which logits.

    python scripts/make_parity_goldens.py OUT_DIR [--shape hard] [--count 80]

Called by make_fixtures.py. Greedy answers of 256 tokens by a plain loop of `generate`, one prompt
at a time, in fp32 with eager attention; then one forward pass over prompt and answer gives the
logits. In bf16 and fp16 the sdpa and the eager path are recorded by how far they are from fp32.
"""

import argparse
import os
import random
import tempfile
import zlib

import numpy as np
import torch
import transformers

import make_fixture_checkpoint as fixture
import make_goldens as goldens

TOKENS = 256
MARGIN = 1e-3  # a step whose two best logits are closer is a toss between orders of summation
ROW_STEPS = (0, 97)  # steps whose whole rows of logits are kept, of ROW_CASES cases
ROW_CASES = 16
LOGIT_SCALE = 1 << 15  # logits are stored as integers of three bytes: 1.5e-5 off at most

# What each shape is stored as: config.json and tensor names in the old and the new spelling.
SPELLING = {"plain": dict(old_spelling=False, nested_names=False),
            "hard": dict(old_spelling=True, nested_names=True)}

SYSTEMS = (
    "You are a careful observer of pictures. Name what is there, where it is, which colour it has "
    "and how many there are; say so when something cannot be seen. Answer in one sentence.",
    "Du bist ein Assistent, der Bilder beschreibt. Antworte kurz, auf Deutsch, ohne zu raten.",
    "",
)
LARGE = (36, 37, 38, 39)  # of goldens.SIZES


def random_text(rng):
    lines = [line.strip() for line in fixture.CORPUS.split("\n") if line.strip()]
    words = rng.choice(lines)
    begin = rng.randrange(len(words))
    text = words[begin:begin + rng.randrange(4, 90)]
    return text + rng.choice(("", "?", "\n", " 🙂", "…", "\n\n  - and: " + rng.choice(lines)[:30]))


def random_image(rng):
    return rng.choice(LARGE) if rng.random() < 0.08 else rng.randrange(36)


def conversation(rng, num_images):
    """Images anywhere in the user's turns; one in three begins as others do."""
    messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    images = [random_image(rng) for _ in range(num_images)]
    if images and rng.random() < 0.34:
        images[0] = rng.choice((13, 29, 35))  # the same picture first: a shared prefix
        first = [images.pop(0), rng.choice(("Describe this image.", "What is on the left?"))]
    else:
        first = [images.pop(0) if images and rng.random() < 0.7 else random_text(rng)]
    turns = [first]
    while images or rng.random() < 0.3:
        place = rng.choice(("here", "turn", "between"))
        if place == "turn":
            turns.append([])
        if images:
            turns[-1].append(images.pop(0))
        if place != "between":
            turns[-1].append(random_text(rng))
    for number, turn in enumerate(turns):
        if number:
            messages.append({"role": "assistant", "content": random_text(rng)})
        content = [{"type": "image", "image": goldens.image_name(p)} if isinstance(p, int)
                   else {"type": "text", "text": p} for p in turn]
        messages.append({"role": "user", "content": content})
    return messages


def checksum(ids):
    return zlib.crc32(np.asarray(ids, "<i4").tobytes())


def probe(step, vocab):
    """Which logit of a step is kept beside the chosen one: all over the vocabulary in the end."""
    return (step * 7919 + 13) % vocab


def forced_logits(model, inputs, output_ids):
    """[len(output_ids), vocab]: the logits that each token of the answer is chosen from.

    Two passes, prompt and answer: an image token that the answer holds is a word like others.
    """
    ids = torch.tensor([output_ids[:-1]])
    model.model.rope_deltas = None  # or a text prompt would get those of the one before
    with torch.no_grad():
        first = model(**inputs, use_cache=True)
        length = inputs["input_ids"].shape[1]
        mask = torch.ones(1, length + ids.shape[1], dtype=torch.long)
        begin = length + (0 if first.rope_deltas is None else int(first.rope_deltas))
        positions = torch.arange(begin, begin + ids.shape[1]).expand(3, 1, -1)
        rest = model(input_ids=ids, attention_mask=mask, position_ids=positions,
                     past_key_values=first.past_key_values)
    return torch.cat([first.logits[0, -1:], rest.logits[0]]).float().numpy()


def packed(values):
    """Three little-endian bytes each."""
    scaled = np.rint(np.asarray(values, np.float64) * LOGIT_SCALE).astype("<i4")
    assert np.abs(scaled).max() < 1 << 23
    return np.ascontiguousarray(scaled).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_narrow(directory, attention, dtype):
    return transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        directory, dtype=dtype, attn_implementation=attention).eval()


class Spread:
    """How far a path in fewer bits is from fp32, over the kept rows."""

    def __init__(self):
        self.max, self.sum, self.count = 0.0, 0.0, 0

    def add(self, found, wanted):
        apart = np.abs(found - wanted)
        self.max = max(self.max, float(apart.max()))
        self.sum += float(apart.sum(dtype=np.float64))
        self.count += apart.size

    def report(self):
        return {"max": round(self.max, 6), "mean": round(self.sum / self.count, 6)}


def add_spread(spread, models, inputs, ids, forced):
    low = {n: forced_logits(m, inputs, ids) for n, m in models.items()}
    for step in ROW_STEPS:
        for name, values in low.items():
            spread[name].add(values[step], forced[step])
        spread["sdpa_eager"].add(low["sdpa"][step], low["eager"][step])


def one_case(reference, sdpa, inputs):
    output_ids, margins = goldens.generate(reference, inputs, TOKENS)
    forced = forced_logits(reference, inputs, output_ids)
    assert (forced.argmax(1) == output_ids).all() or min(margins) < MARGIN
    other = forced_logits(sdpa, inputs, output_ids)
    chosen = forced[np.arange(TOKENS), output_ids]
    probes = forced[np.arange(TOKENS), [probe(s, forced.shape[1]) for s in range(TOKENS)]]
    return output_ids, min(margins), forced, np.abs(other - forced).max(), chosen, probes


def make(out, shape, count, seed):
    torch.set_num_threads(1)  # the sums in one order, and no threads to wait for in small steps
    folder = os.path.join(out, "parity")
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        fixture.make(directory, 1, shape=shape, **SPELLING[shape])
        reference, sdpa = goldens.load(directory, "eager"), goldens.load(directory, "sdpa")
        narrow = {dtype: {name: load_narrow(directory, name, NARROW[dtype])
                          for name in ("sdpa", "eager")} for dtype in NARROW}
        processor = transformers.AutoProcessor.from_pretrained(directory)
        cases, apart = [], 0.0
        spread = {dtype: {n: Spread() for n in ("sdpa", "eager", "sdpa_eager")} for dtype in NARROW}
        with open(os.path.join(folder, f"{shape}.logits"), "wb") as logits, \
                open(os.path.join(folder, f"{shape}.rows"), "wb") as rows:
            for number in range(count):
                messages = conversation(rng, number % 4)
                _, inputs = goldens.inputs_of(processor, messages, out)
                ids, margin, forced, other, chosen, probes = one_case(reference, sdpa, inputs)
                apart = max(apart, float(other))
                logits.write(packed(np.stack([chosen, probes], 1)))
                if number < ROW_CASES:
                    for step in ROW_STEPS:
                        rows.write(packed(forced[step]))
                    for dtype, models in narrow.items():
                        add_spread(spread[dtype], models, inputs, ids, forced)
                prompt = inputs["input_ids"][0].tolist()
                cases.append({"messages": messages, "prompt_tokens": len(prompt),
                              "prompt_crc32": checksum(prompt), "output_ids": ids,
                              "min_margin": round(margin, 7), "is_tie": margin < MARGIN})
                print(number, len(prompt), f"{margin:.5f}", len(set(ids)), f"{other:.6f}",
                      flush=True)
        sha = fixture.digest(directory)
    dropped = sum(c["is_tie"] for c in cases)
    print(f"{shape}: {count} prompts, {dropped} with a margin below {MARGIN}; sdpa is {apart} away")
    goldens.write(os.path.join(folder, f"{shape}.json"), {
        "what": "greedy answers, exactly 256 tokens, end marks ignored", "shape": shape,
        **SPELLING[shape], "fixture_sha256": sha, "prompt_seed": seed, "dtype": "float32",
        "attention": "eager", "margin": MARGIN, "num_ties": dropped,
        "sdpa_max_difference": round(apart, 7), "row_steps": list(ROW_STEPS),
        "row_cases": min(count, ROW_CASES), "logit_scale": LOGIT_SCALE,
        **{f"{dtype}_from_fp32": {n: s.report() for n, s in of_dtype.items()}
           for dtype, of_dtype in spread.items()},
        "versions": goldens.versions(), "cases": cases})


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=sorted(SPELLING), default="hard")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    make(args.out, args.shape, args.count, args.seed)


if __name__ == "__main__":
    main()
