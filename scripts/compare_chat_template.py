#!/usr/bin/env python3
"""Compares Facet's rendering of conversations with transformers running the chat template.

compare_chat_template.py TOOL [--template FILE] [--count 3000] [--seed N]
TOOL: the built facet_render_chat. FILE: a chat_template.json, a tokenizer_config.json or the jinja
text itself, of a Qwen2.5-VL directory; the default is the template of the random checkpoints, which
renders the same. Ends with the number of conversations that differ.
"""

import argparse
import json
import random
import subprocess
import sys

import text_samples
from demo_model import hf_files
from transformers.utils.chat_template_utils import render_jinja_template

MARKUP = ["<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>",
          "{{ x }}", "{% if %}", "{# no #}", "\\n", "\"", "'", "&lt;"]


def random_content(rng, with_images):
    kind = rng.randrange(4)
    if kind == 0:
        return text_samples.random_text(rng, MARKUP, 8)
    parts = []
    for _ in range(rng.randrange(0 if kind == 1 else 1, 6)):
        if with_images and rng.random() < 0.4:
            parts.append({"type": "image"})
        else:
            parts.append({"type": "text", "text": text_samples.random_text(rng, MARKUP, 6)})
    return parts


def random_conversation(rng):
    """System turns first, later or not at all, history, images anywhere, empty turns."""
    messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": random_content(rng, False)})
    for _ in range(rng.randrange(0 if messages else 1, 7)):
        role = rng.choice(("user", "user", "assistant", "system"))
        messages.append({"role": role, "content": random_content(rng, role == "user")})
    return messages


def read_template(path):
    if path is None:
        return hf_files.CHAT_TEMPLATE
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return json.loads(text)["chat_template"] if path.endswith(".json") else text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool")
    parser.add_argument("--template")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, template, wrong = random.Random(args.seed), read_template(args.template), 0
    conversations = [random_conversation(rng) for _ in range(args.count)]
    lines = "".join(json.dumps(c) + "\n" for c in conversations).encode()
    for flags, opens in ((["--no-generation-prompt"], False), ([], True)):
        done = subprocess.run([args.tool, *flags], input=lines, stdout=subprocess.PIPE, check=True)
        found = done.stdout.decode().split("\n")[:-1]
        wanted, _ = render_jinja_template(conversations=conversations, chat_template=template,
                                          add_generation_prompt=opens)
        for conversation, got, want in zip(conversations, found, wanted, strict=True):
            if got.startswith("error") or json.loads(got) != want:
                wrong += 1
                if wrong <= 5:
                    print(f"{conversation!r}\n  want {want!r}\n  got  {got}")
    print(f"seed {args.seed}: {2 * args.count} renderings; different:")
    print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
