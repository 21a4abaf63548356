#!/usr/bin/env python3
"""Compares Facet's tokenizer with the `tokenizers` package on random text: ids and decoded text.

compare_tokenizer.py TOOL [--count N] [--seed S]    TOOL: the built facet_tokenize_lines
Prints the differences and ends with their number; exit status 1 when there is one.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile

import text_samples


def run(tool, arguments, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return subprocess.run([tool, *arguments], input=text.encode(), stdout=subprocess.PIPE,
                          check=True).stdout.decode().split("\n")[:-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind, (tokenizer, added) in text_samples.save_all(folder).items():
            path = f"{folder}/{kind}.json"
            texts = [text_samples.random_text(rng, added) for _ in range(args.count)]
            want = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
            got = [[int(i) for i in line.split()] for line in run(args.tool, [path], texts)]
            pairs = [(t, w, g) for t, w, g in zip(texts, want, got, strict=True) if w != g]
            limit = tokenizer.get_vocab_size() + 3
            ids = [[rng.randrange(limit) for _ in range(rng.randrange(40))] for _ in texts]
            decoded = [json.loads(line) for line in run(args.tool, [path, "--decode"], ids)]
            for sequence, text in zip(ids, decoded, strict=True):
                if tokenizer.decode(sequence, skip_special_tokens=True) != text:
                    pairs.append((sequence, tokenizer.decode(sequence), text))
            for case, wanted, found in pairs[:5]:
                print(f"{kind}: {case!r}\n  want {wanted}\n  got  {found}")
            print(f"{kind}: {len(pairs)} differences in {len(texts)} texts, {len(ids)} decodings, "
                  f"seed {args.seed}")
            total += len(pairs)
    print(total)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
