#!/usr/bin/env python3
"""Compares Facet's tokenizer with the `tokenizers` package on random text: ids and decoded text.

compare_tokenizer.py TOOL [--count N] [--seed S] [--flagged F]
TOOL: the built facet_tokenize_lines. F: so many more pairs of tokenizers, with added tokens of
random flags. Prints the differences and ends with their number; exit status 1 when there is one.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile

import text_samples
from tokenizers import Tokenizer


def run(tool, arguments, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return subprocess.run([tool, *arguments], input=text.encode(), stdout=subprocess.PIPE,
                          check=True).stdout.decode().split("\n")[:-1]


def encode(tokenizer, texts):
    """Ids of each text; None where the reference panics: where added tokens that take blanks meet
    others made of blanks, its parts can overlap."""
    try:
        return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    except BaseException as panic:  # a panic is no Exception
        if type(panic).__name__ != "PanicException":
            raise
    if len(texts) == 1:
        return [None]
    middle = len(texts) // 2
    return encode(tokenizer, texts[:middle]) + encode(tokenizer, texts[middle:])


def hidden(tokenizer, added):
    """The same tokenizer with its added tokens respelled, so that their usual spelling is text."""
    data = json.loads(tokenizer.to_str())
    names = {}
    for index, token in enumerate(data["added_tokens"]):
        names[token["content"]] = token["content"] = f"\ue100{index}\ue101"
    data["post_processor"] = None
    return Tokenizer.from_str(json.dumps(data)), names


def compare_segments(tool, path, tokenizer, added, rng, count):
    """Texts of alternating segments: template with added tokens, message text without."""
    secret, names = hidden(tokenizer, added)
    cases, texts = [], []
    for _ in range(count):
        segments, text = [], ""
        for _ in range(rng.randrange(1, 6)):
            token = rng.choice(added)
            tail = rng.choice(["", "user\n", "\n", " ", "e", "\u0301"])
            message = text_samples.random_text(rng, added, 6)
            segments += [[token + tail, True], [message, False]]
            text += names[token] + tail + message
        cases.append(segments)
        texts.append(text)
    got = [[int(i) for i in line.split()] for line in run(tool, [path], cases)]
    want = [e.ids for e in secret.encode_batch(texts, add_special_tokens=False)]
    return [(c, w, g) for c, w, g in zip(cases, want, got, strict=True) if w != g]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flagged", type=int, default=4)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        kinds = text_samples.save_all(folder)
        for number in range(args.flagged):
            kinds.update(text_samples.save_flagged(folder, args.seed * 1000 + number))
        for kind, (tokenizer, added) in kinds.items():
            path = f"{folder}/{kind}.json"
            texts = [text_samples.random_text(rng, added) for _ in range(args.count)]
            want = encode(tokenizer, texts)
            got = [[int(i) for i in line.split()] for line in run(args.tool, [path], texts)]
            pairs = [(t, w, g) for t, w, g in zip(texts, want, got, strict=True)
                     if w is not None and w != g]
            limit = tokenizer.get_vocab_size() + 3
            ids = [[rng.randrange(limit) for _ in range(rng.randrange(40))] for _ in texts]
            decoded = [json.loads(line) for line in run(args.tool, [path, "--decode"], ids)]
            for sequence, text in zip(ids, decoded, strict=True):
                if tokenizer.decode(sequence, skip_special_tokens=True) != text:
                    pairs.append((sequence, tokenizer.decode(sequence), text))
            if kind in ("qwen2", "llama3"):  # others' flags look at the characters beside a token
                pairs += compare_segments(args.tool, path, tokenizer, added, rng, args.count // 4)
            for case, wanted, found in pairs[:5]:
                print(f"{kind}: {case!r}\n  want {wanted}\n  got  {found}")
            print(f"{kind}: {len(pairs)} differences in {len(texts)} texts, {len(ids)} decodings, "
                  f"seed {args.seed}; the reference panics at {want.count(None)}")
            total += len(pairs)
    print(total)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
