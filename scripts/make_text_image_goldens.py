#!/usr/bin/env python3
"""Writes the goldens of the text and image unit tests to the folders text and image of OUT.

    python scripts/make_text_image_goldens.py [OUT]      OUT: tests/data

Called by make_fixtures.py, which checks the versions.
"""
import json
import pathlib
import random
import sys
import zlib

import numpy as np
import torch
from tokenizers import Regex, normalizers, pre_tokenizers
from torchvision.transforms.v2 import functional
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

import text_samples

DATA = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                    pathlib.Path(__file__).resolve().parent.parent / "tests" / "data")
ALL = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, indent=0, separators=(",", ":")) + "\n")


def count_and_crc(pattern):
    """How many characters match, and a checksum over them in order."""
    kept = pre_tokenizers.Split(Regex(f"[^{pattern}]+"), "removed").pre_tokenize_str(ALL)
    matched = "".join(text for text, _ in kept)
    return [len(matched), zlib.crc32(matched.encode())]


def text_goldens():
    rng = random.Random(5)
    cases = {}
    for kind, (tokenizer, added) in text_samples.save_all(DATA / "text").items():
        texts = ["", " ", "\n", "user\nHello", "  two  blanks  ", "12345 678", "don't DON'T",
                 "e\u0301 \u212b <|im_start|>x<|im_end|>", "a\u180eb", "\u01c5 \u0149"]
        texts += [text_samples.random_text(rng, added, 10) for _ in range(60)]
        ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        noise = [[rng.randrange(tokenizer.get_vocab_size() + 2) for _ in range(12)]
                 for _ in range(20)]
        decoded = [[i, tokenizer.decode(i, skip_special_tokens=True)] for i in noise]
        cases[kind] = {"encode": list(map(list, zip(texts, ids))), "decode": decoded}
    classes = {p: count_and_crc(p) for p in (r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{S}",
                                             r"\p{Lu}", r"\p{Ll}", r"\p{Lo}", r"\s", r"\d")}
    nfc = normalizers.NFC()
    # Every character alone and between marks of other classes, as one checksum per plane part.
    blocks = []
    for start in range(0, len(ALL), 0x4000):
        text = "".join(f"{c}a\u0323{c}\u0301\u0334\n" for c in ALL[start:start + 0x4000])
        blocks.append(zlib.crc32(nfc.normalize_str(text).encode()))
    dump(DATA / "text" / "goldens.json", {"kinds": cases, "classes": classes, "nfc_blocks": blocks})


def picture(height, width, seed):
    """Pixels by a formula that the tests repeat."""
    y, x, c = np.mgrid[:height, :width, :3].astype(np.uint32)
    value = (x * (7 + seed) + y * (13 + 3 * seed) + c * 85) ^ ((x * y) >> 3)
    return (value & 255).astype(np.uint8)


def image_goldens():
    rng = random.Random(6)
    sizes = []
    for _ in range(300):
        height, width = (int(2 ** rng.uniform(0, 13)) for _ in range(2))
        low, high = rng.choice([(3136, 12845056), (3136, 1003520), (200704, 1003520), (784, 50176)])
        try:
            result = list(smart_resize(height, width, 28, low, high))
        except ValueError:
            result = None
        sizes.append([height, width, low, high, result])
    resizes = []
    for seed in range(40):
        height, width = (rng.choice([1, 3, 17, 64, 150, 233]) for _ in range(2))
        to_height, to_width = (28 * rng.randrange(1, 9) for _ in range(2))
        tensor = torch.stack([torch.from_numpy(picture(height, width, seed)).permute(2, 0, 1)])
        try:
            out = functional.resize(tensor, [to_height, to_width], antialias=True,
                                    interpolation=functional.InterpolationMode.BICUBIC)
        except RuntimeError:
            continue  # torch 2.11 fails on some 1-pixel images
        crc = zlib.crc32(np.ascontiguousarray(out[0].permute(1, 2, 0).numpy()).tobytes())
        resizes.append([height, width, to_height, to_width, seed, crc])
    patches = []
    for seed, (height, width) in enumerate([(56, 84), (40, 31), (224, 224), (100, 333), (9, 500)]):
        for settings in ({}, {"min_pixels": 784, "max_pixels": 28 * 28 * 12},
                         {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.125]}):
            settings = {"min_pixels": 3136, "max_pixels": 12845056, **settings}
            processor = Qwen2VLImageProcessor(**settings)
            out = processor(images=[picture(height, width, seed)], return_tensors="pt")
            values = out["pixel_values"].numpy()
            patches.append([height, width, seed, settings, out["image_grid_thw"][0].tolist(),
                            list(values.shape), zlib.crc32(values.tobytes())])
    dump(DATA / "image" / "goldens.json",
         {"smart_resize": sizes, "resize": resizes, "patches": patches})


if __name__ == "__main__":
    for folder in ("text", "image"):
        (DATA / folder).mkdir(parents=True, exist_ok=True)
    text_goldens()
    image_goldens()
