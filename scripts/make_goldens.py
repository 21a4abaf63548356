"""Asks transformers for the answers that Facet must give, and writes them to tests/data.

    python scripts/make_goldens.py OUT_DIR [--only pixels,tokenizer]

Pinned: transformers 5.17.0, torch 2.11.0, torchvision 0.26.0. fp32 on the CPU, eager
attention; the sdpa path is run too and its differences are recorded. Images are drawn from
integers and stored as PNG, so that any decoder gives the same pixels.
"""

import argparse
import hashlib
import json
import os
import random
import tempfile

import numpy as np
import tokenizers
import torch
import torchvision
import transformers
from PIL import Image

import make_fixture_checkpoint as fixture

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "..", "configs", "demo-model")
SAMPLES = os.path.join(HERE, "..", "configs", "samples")
TOKENS = 64

# (width, height): minimum size, odd sizes, long strips, whole and ragged windows.
SIZES = (
    (1, 1), (2, 3), (14, 14), (28, 28), (27, 29), (42, 70), (37, 53), (70, 42), (56, 56),
    (100, 33), (33, 100), (112, 112), (113, 111), (140, 196), (196, 140), (150, 90), (90, 150),
    (224, 224), (223, 225), (168, 280), (300, 20), (20, 300), (5, 900), (900, 5), (127, 255),
    (255, 127), (199, 201), (240, 135), (320, 200), (61, 173), (336, 252), (252, 336),
    (448, 112), (112, 448), (181, 307), (307, 181), (400, 300), (350, 490), (480, 640),
    (641, 359),
)


def draw_image(index, width, height):
    """Soft ramps, waves of integers and blocks: every channel differs, and PNG packs it well."""
    rng = random.Random(1000 + index)
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    channels = []
    for _ in range(3):
        a, b, c, p = rng.randint(1, 9), rng.randint(1, 9), rng.randint(0, 255), rng.randint(9, 60)
        ramp = (a * x * 64 // max(1, width) + b * y * 64 // max(1, height) + c) % 256
        wave = ((x // p + y // (p + 3)) % 5) * 21
        channels.append((ramp + wave) % 256)
    pixels = np.stack(channels, -1).astype(np.uint8)
    for _ in range(4):
        x0, y0 = rng.randrange(width), rng.randrange(height)
        w, h = rng.randint(1, max(1, width // 3)), rng.randint(1, max(1, height // 3))
        pixels[y0:y0 + h, x0:x0 + w] = [rng.randint(0, 255) for _ in range(3)]
    return pixels


def image_name(index):
    width, height = SIZES[index]
    return f"images/{index:02d}_{width}x{height}.png"


def write_images(out):
    os.makedirs(os.path.join(out, "images"), exist_ok=True)
    for index, size in enumerate(SIZES):
        Image.fromarray(draw_image(index, *size)).save(
            os.path.join(out, image_name(index)), optimize=True)


def _user(*parts):
    content = [{"type": "image", "image": image_name(p)} if isinstance(p, int)
               else {"type": "text", "text": p} for p in parts]
    return {"role": "user", "content": content}


def _say(role, words):
    return {"role": role, "content": words}


PROMPTS = (
    [_say("user", "Hello.")],
    [_say("user", "What is the capital of a country that has no capital?")],
    [_say("system", "You answer in rhymes."), _say("user", "Tell me about the sea.")],
    [_say("system", ""), _say("user", "An empty system turn.")],
    [_say("user", "First question"), _say("assistant", "First answer."),
     _say("user", "And the second question?")],
    [_say("system", "Antworte kurz."), _say("user", "Wie heißt du? Größe, Übung, schön!"),
     _say("assistant", "Ich weiß es nicht."), _say("user", "Schade … warum nicht?")],
    [_say("user", "for (int i = 0; i < n; ++i) {\n    total += v[i];\n}\n\n\nWhat does it do?")],
    [_say("user", "def f(x):\n\treturn x ** 2\n\n\tprint(f(12345))   \n")],
    [_say("user", "🙂🎉🚀 👩‍💻 and 🇩🇪, ❤️ or 👍🏽?")],
    [_say("user", "日本語のテキスト、中文文本，한국어 문장, שלום עולם, مرحبا, नमस्ते")],
    [_say("user", "cafe\u0301 e\u0302 A\u030a \u1e9b\u0323 \ufb01 \u2126 versus café ê Å")],
    [_say("user", "1234567890 3.14 1,000,000 $5.99 50% it's we're I'LL They'D")],
    [_user(17, "Describe this image.")],
    [_user("Describe this image.", 17)],
    [_user(0, "How small is it?")],
    [_user(20, "A strip.")],
    [_user(22, "A very tall and thin strip.")],
    [_user(13, "What is left, and what is right?")],
    [_user(29, "Odd sizes.")],
    [_user(35, "Larger than one window, with ragged edges.")],
    [_user(30, 12, "Which of the two is larger?")],
    [_user("First:", 9, " second:", 10, " Which one is wider?")],
    [_user(5, 6, 7, "Three small ones.")],
    [_user(18, "then", 24, "then", 4, "and that is all 🙂")],
    [_say("system", "You look closely."), _user(28, "What do you see?"),
     _say("assistant", "Blocks and waves."), _say("user", "What else?")],
    [_user(15, "First picture."), _say("assistant", "Seen."), _user(16, "Second picture."),
     _say("assistant", "Seen too."), _user(1, "Compare all three.")],
    [_user(33)],
    [_user(36, "Größer — 今日は — code: `x += 1;`")],
    [_user(19, "\n\n  leading and trailing blanks  \n")],
    [_user(38, "The largest of them.")],
)


def load(directory, attention):
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=attention).eval()
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, pad_token_id=model.generation_config.pad_token_id)
    return model


def inputs_of(processor, messages, root):
    chat = [{"role": m["role"], "content": m["content"] if isinstance(m["content"], list)
             else [{"type": "text", "text": m["content"]}]} for m in messages]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    images = [Image.open(os.path.join(root, p["image"])).convert("RGB")
              for m in chat for p in m["content"] if p["type"] == "image"]
    return prompt, processor(text=[prompt], images=images or None, return_tensors="pt")


def generate(model, inputs, tokens, penalty=1.0, stop=None):
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False,
                             eos_token_id=stop, repetition_penalty=penalty,
                             output_scores=True, return_dict_in_generate=True)
    scores = torch.cat(out.scores)
    top = scores.topk(2, dim=-1).values
    margins = (top[:, 0] - top[:, 1]).tolist()
    return out.sequences[0, inputs["input_ids"].shape[1]:].tolist(), margins


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__,
            "torchvision": torchvision.__version__, "tokenizers": tokenizers.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability()}


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=None, separators=(",", ":"))
        file.write("\n")
    print(f"{path}: {os.path.getsize(path)} bytes", flush=True)


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def fixture_goldens(out, directory, seed):
    eager, sdpa = load(directory, "eager"), load(directory, "sdpa")
    processor = transformers.AutoProcessor.from_pretrained(directory)
    cases, forks = [], 0
    jobs = [(m, 1.0) for m in PROMPTS] + [(PROMPTS[i], 1.05) for i in (0, 4, 12, 21, 25, 29)]
    for number, (messages, penalty) in enumerate(jobs):
        prompt, inputs = inputs_of(processor, messages, out)
        ids, margins = generate(eager, inputs, TOKENS, penalty)
        other, _ = generate(sdpa, inputs, TOKENS, penalty)
        with torch.no_grad():
            first = eager(**inputs).logits[0, -1]
        grid = inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else []
        cases.append({
            "messages": messages, "repetition_penalty": penalty, "prompt": prompt,
            "input_ids": inputs["input_ids"][0].tolist(), "image_grid_thw": grid,
            "output_ids": ids, "min_margin": min(margins), "min_margin_at":
            margins.index(min(margins)), "sdpa_differs_at": first_difference(ids, other),
            "text": processor.tokenizer.decode(ids, skip_special_tokens=True,
                                               clean_up_tokenization_spaces=False),
            "first_logits": [round(v, 5) for v in first[:8].tolist()],
            "first_logits_max": round(first.max().item(), 5)})
        forks += cases[-1]["sdpa_differs_at"] is not None
        print(number, len(cases[-1]["input_ids"]), f"{min(margins):.4f}", len(set(ids)),
              cases[-1]["sdpa_differs_at"], flush=True)
    print(f"{forks} of {len(cases)} differ between eager and sdpa")
    write(os.path.join(out, "qwen2_5_vl_golden.json"), {
        "what": "greedy answers of the fixture checkpoint, exactly 64 tokens, end marks ignored",
        "fixture_seed": seed, "fixture_sha256": fixture.digest(directory),
        "dtype": "float32", "attention": "eager", "versions": versions(), "cases": cases})


def pixel_goldens(out, directory, seed):
    processor = transformers.AutoProcessor.from_pretrained(directory).image_processor
    cases = []
    for index, (width, height) in enumerate(SIZES):
        image = Image.open(os.path.join(out, image_name(index))).convert("RGB")
        try:
            made = processor(images=[image], return_tensors="pt")
        except ValueError as error:
            cases.append({"image": image_name(index), "error": str(error)})
            continue
        values = made["pixel_values"].numpy().astype("<f4")
        step = max(1, values.size // 8)
        cases.append({
            "image": image_name(index), "rgb_sha256": sha(np.asarray(image)),
            "grid_thw": made["image_grid_thw"][0].tolist(), "shape": list(values.shape),
            "sha256": sha(values), "first": [float(v) for v in values.ravel()[:16]],
            "every": step, "spread": [float(v) for v in values.ravel()[::step][:8]]})
    write(os.path.join(out, "qwen2_5_vl_pixels.json"), {
        "what": "SHA-256 of pixel_values as little-endian float32, in row order",
        "processor": f"{type(processor).__module__}.{type(processor).__name__}",
        "min_pixels": 3136, "max_pixels": 12845056, "versions": versions(), "cases": cases})


def random_text(rng):
    kinds = (
        lambda: "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 24))),
        lambda: "".join(rng.choice("abcdefghij ETAOIN'") for _ in range(rng.randint(1, 30))),
        lambda: rng.choice(fixture.CORPUS.split("\n"))[rng.randint(0, 20):][:rng.randint(1, 50)],
        lambda: " " * rng.randint(1, 9) + rng.choice(("", "x", "\n", "\t", "\r\n", "7")),
        lambda: "".join(rng.choice("\n\r\t \u00a0\u2003\u3000a.")
                        for _ in range(rng.randint(1, 12))),
        lambda: rng.choice(fixture.SPECIALS),
        lambda: rng.choice(fixture.SPECIALS)[:-1] + rng.choice("> |"),
        lambda: "".join(chr(rng.choice((rng.randint(0xA1, 0x24F), rng.randint(0x370, 0x5FF),
                                        rng.randint(0x900, 0xDFF), rng.randint(0x3040, 0x9FFF),
                                        rng.randint(0xAC00, 0xD7A3),
                                        rng.randint(0x1F300, 0x1FAFF))))
                        for _ in range(rng.randint(1, 10))),
        lambda: "".join(rng.choice("aeiouAncç") + chr(rng.randint(0x300, 0x345))
                        for _ in range(rng.randint(1, 6))),
        lambda: rng.choice(("'s", "'T", "'Re", "'VE", "'ll", "'D", "\u2019s", "it's", "'S's")),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 12))) + rng.choice(
            ("", "%", "½", "²", "٣")),
        lambda: rng.choice(("👩‍💻", "🇩🇪", "❤️", "👍🏽", "\u200d", "\ufeff", "\u0000", "\u007f",
                            "ﬁ", "Å")),
    )
    return "".join(rng.choice(kinds)() for _ in range(rng.randint(0, 5)))


def tokenizer_goldens(out, directory, seed):
    found = {"fixture": tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))}
    demo = os.path.join(DEMO, "tokenizer.json")
    if os.path.exists(demo):
        found["demo"] = tokenizers.Tokenizer.from_file(demo)
    for name, tokenizer in found.items():
        rng, cases = random.Random(77), [("", [])]
        for _ in range(2000):
            words = random_text(rng)
            ids = tokenizer.encode(words, add_special_tokens=False).ids
            cases.append((words, ids))
        write(os.path.join(out, f"tokenizer_{name}.json"), {
            "what": "[text, ids] pairs; no special tokens added around the text",
            "versions": versions(), "cases": cases})


def demo_goldens(out, directory, seed):
    del directory, seed
    model = load(DEMO, "eager")
    stop = transformers.GenerationConfig.from_pretrained(DEMO).eos_token_id
    processor = transformers.AutoProcessor.from_pretrained(DEMO)
    cases = []
    with open(os.path.join(SAMPLES, "samples.jsonl"), encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    for sample in samples:
        names = sample["image"] if isinstance(sample["image"], list) else [sample["image"]]
        messages = [{"role": "user", "content": [{"type": "image", "image": n} for n in names]
                     + [{"type": "text", "text": sample["question"]}]}]
        _, inputs = inputs_of(processor, messages, SAMPLES)
        ids, margins = generate(model, inputs, 32, 1.0, stop)
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        cases.append({"image": sample["image"], "question": sample["question"],
                      "answer": sample["answer"], "task": sample["task"],
                      "prompt_tokens": inputs["input_ids"].shape[1], "output_ids": ids,
                      "text": text, "min_margin": min(margins)})
    right = sum(c["text"] == c["answer"] for c in cases)
    print(f"{right} of {len(cases)} sample answers are right")
    write(os.path.join(out, "demo_model_golden.json"), {
        "what": "greedy answers of configs/demo-model on configs/samples, end mark included",
        "dtype": "float32", "attention": "eager", "versions": versions(), "cases": cases})


PARTS = {"fixture": fixture_goldens, "pixels": pixel_goldens, "tokenizer": tokenizer_goldens,
         "demo": demo_goldens}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, comma separated")
    parser.add_argument("--seed", type=int, default=1, help="of the fixture checkpoint")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    write_images(args.out)
    with tempfile.TemporaryDirectory() as directory:
        fixture.make(directory, args.seed)
        for part in args.only.split(","):
            PARTS[part](args.out, directory, args.seed)


if __name__ == "__main__":
    main()
