"""Writes a random Qwen2.5-VL checkpoint of published size (7B), or a tiny one, for gpu.py.

    python scripts/bench/gpu_model.py DIR [--shape 7b|tiny]

bf16, the published tensor names and settings, the fixture's tokenizer: a prompt of digits has one
token a digit. Its answers mean nothing. Numbers come from the GPU where torch sees one (17 GB in
seconds), else from numpy. Needs numpy.
"""

import argparse
import concurrent.futures
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import make_fixture_checkpoint as fixture  # noqa: E402
from demo_model import hf_files  # noqa: E402

SHAPES = {
    "7b": fixture.Shape(
        vocab=152064, tied=False, shards=8, embed_std=1.0, head_std=0.1, query_gain=1.0,
        branch_gain=0.5,
        text=dict(hidden=3584, mlp=18944, layers=28, heads=28, kv_heads=4, head=128,
                  mrope=(16, 24, 24), theta=1e6),
        vision=dict(hidden=1280, mlp=3420, depth=32, heads=16, full=(7, 15, 23, 31), patch=14,
                    window=112)),
    "tiny": fixture.Shape(
        vocab=4096, tied=False, shards=2, embed_std=1.0, head_std=0.1, query_gain=1.0,
        branch_gain=0.5,
        text=dict(hidden=256, mlp=512, layers=4, heads=4, kv_heads=2, head=64, mrope=(8, 12, 12),
                  theta=1e6),
        vision=dict(hidden=128, mlp=256, depth=4, heads=4, full=(1, 3), patch=14, window=112)),
}
CONTEXT = 32768
WRITERS = 8


class _Specs:
    """Stands in for the fixture's generator: says what is wanted and makes nothing yet."""

    def __init__(self, seed):
        pass

    def normal(self, shape, std, mean=0.0):
        return tuple(shape), float(std), float(mean)


def tensor_specs(shape):
    """{published name: (shape, standard deviation, mean)}"""
    generator, fixture.Bits = fixture.Bits, _Specs
    try:
        return fixture.weights(shape, 0)
    finally:
        fixture.Bits = generator


def num_bytes(shape):
    return sum(2 * int(np.prod(spec[0])) for spec in tensor_specs(shape).values())


def _maker():
    """A function from a spec to bf16 bytes: by the GPU where there is one."""
    try:
        import torch
        if torch.cuda.is_available():
            torch.manual_seed(1)

            def make(spec):
                values = torch.empty(spec[0], dtype=torch.bfloat16, device="cuda")
                values.normal_(spec[2], spec[1])
                return memoryview(values.view(torch.int16).cpu().numpy()).cast("B")
            return make
    except ImportError:
        pass
    random = np.random.default_rng(1)

    def make_on_cpu(spec):
        values = random.standard_normal(spec[0], dtype=np.float32)
        return memoryview(fixture.bf16_bytes(values * np.float32(spec[1]) + np.float32(spec[2])))
    return make_on_cpu


def _write_at(path, data, at):
    fd = os.open(path, os.O_WRONLY)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], at + done)
    finally:
        os.close(fd)


def _header(specs):
    """(the file's first bytes, {name: offset in the file})"""
    header, at, offsets = {"__metadata__": {"format": "pt"}}, 0, {}
    for name, spec in specs.items():
        size = 2 * int(np.prod(spec[0]))
        header[name] = {"dtype": "BF16", "shape": list(spec[0]), "data_offsets": [at, at + size]}
        offsets[name] = at
        at += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    start = 8 + len(head)
    return len(head).to_bytes(8, "little") + head, {n: start + o for n, o in offsets.items()}


def _write_weights(directory, specs, shards):
    total = sum(2 * int(np.prod(spec[0])) for spec in specs.values())
    parts, used = [{}], 0
    for name, spec in specs.items():
        if used > total / shards * len(parts):
            parts.append({})
        parts[-1][name] = spec
        used += 2 * int(np.prod(spec[0]))
    make, where, pending = _maker(), {}, []
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as writers:
        for i, part in enumerate(parts):
            file_name = f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
            path = os.path.join(directory, file_name)
            head, offsets = _header(part)
            with open(path, "wb") as file:
                file.write(head)
            for name, spec in part.items():
                where[name] = file_name
                pending.append(writers.submit(_write_at, path, make(spec), offsets[name]))
                if len(pending) > 2 * WRITERS:  # no more in memory than the writers can take
                    pending.pop(0).result()
        for future in pending:
            future.result()
    hf_files.write_json(directory, "model.safetensors.index.json",
                        {"metadata": {"total_size": total}, "weight_map": where})


def make(directory, name):
    shape = SHAPES[name]
    os.makedirs(directory, exist_ok=True)
    ids = fixture.write_tokenizer(directory, shape.vocab, old_spelling=True)
    config = fixture.config_json(shape, ids, old_spelling=True)
    config["max_position_embeddings"] = CONTEXT
    hf_files.write_json(directory, "config.json", config)
    hf_files.write_json(directory, "preprocessor_config.json",
                        hf_files.preprocessor_config(3136, 12845056))
    hf_files.write_json(directory, "generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "do_sample": False,
        "repetition_penalty": 1.0})
    _write_weights(directory, tensor_specs(shape), shape.shards)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    args = parser.parse_args()
    make(args.directory, args.shape)
    print(num_bytes(SHAPES[args.shape]))


if __name__ == "__main__":
    main()
