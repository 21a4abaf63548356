"""Writes a small random checkpoint with every feature of the Qwen2.5-VL family.

    python scripts/make_fixture_checkpoint.py DIR [--shape plain] [--seed 1] [--old-spelling]
                                              [--nested-names]

Window and full vision blocks, biases everywhere the family has them, several KV heads, M-RoPE, a
byte-level BPE with merges, sharded bf16 weights. The plain shape has an untied head; the hard one
a tied head, groups of three heads, sizes that are multiples of nothing, windows of two by two
cells, and window blocks before, between and after the full ones. Needs numpy alone and gives the
same bytes everywhere: the random numbers are sums of integers, so no math library takes part.
tests/data holds what transformers answers.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import re

import numpy as np

from demo_model import hf_files

SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)
MERGES = 600


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes, and how large the random weights are: answers must neither repeat nor be a toss."""
    vocab: int  # 256 bytes, up to 600 merges, 14 added tokens, and rows that no token uses
    text: dict
    vision: dict
    tied: bool
    shards: int
    embed_std: float
    head_std: float
    query_gain: float
    branch_gain: float  # of what attention and MLP add to the residual stream


SHAPES = {
    "plain": Shape(
        vocab=928, tied=False, shards=3,
        embed_std=1.0, head_std=0.3, query_gain=1.3, branch_gain=1.5,
        text=dict(hidden=256, mlp=344, layers=4, heads=4, kv_heads=2, head=64, mrope=(8, 12, 12),
                  theta=1e6),
        vision=dict(hidden=96, mlp=148, depth=4, heads=4, full=(1, 3), patch=14, window=112)),
    "hard": Shape(
        vocab=931, tied=True, shards=5,
        embed_std=0.3, head_std=0.0, query_gain=2.0, branch_gain=2.0,
        text=dict(hidden=192, mlp=269, layers=5, heads=6, kv_heads=2, head=32, mrope=(3, 5, 8),
                  theta=1e4),
        vision=dict(hidden=60, mlp=111, depth=6, heads=5, full=(2, 4), patch=14, window=56)),
}

# What the merges are learned from: several scripts, code, digits, runs of blanks.
CORPUS = """
You are a helpful assistant. Describe this image. What is shown in the picture? How many are
there, and where are they? The answer is on the left, the other answer is on the right.
The river runs under the old bridge and the boats wait for the tide. It's raining, we're late,
they'll come when they've finished, I'd say; isn't that what you'd expect? I'm sure it doesn't.
Two pictures of the same street: in the first it is morning, in the second it is evening.
A compound eye has many facets; each of them works alone, and losing one does not blind the eye.
    for (int i = 0; i < count; ++i) { total += values[i] * weights[i]; }
    def area(width, height):\n        return width * height  # square metres
    if (x == nullptr || y != 0) { return -1; } else { std::vector<int> v(16); }
Numbers: 0 1 2 3 10 42 100 1024 3.14159 2026-11-23 12:30:45 1,000,000 $5.99 50% #7
Straße, Größe, Übung, für, schön. C'est déjà l'été à la forêt; où êtes-vous? El niño mañana, ¿qué?
Это проверка, привет мир, как дела сегодня. Γειά σου κόσμε. مرحبا بالعالم. שלום עולם. नमस्ते दुनिया
日本語のテキストです。今日は天気がいい。中文文本测试，图片里有什么？你好世界。한국어 문장입니다.
Emoji: 🙂 🙂 🎉 🚀 👍 ❤️ 👩‍💻 🇩🇪 end.
"""


def train_merges(count):
    """Byte-pair merges by falling frequency, ties by spelling: the same list everywhere."""
    alphabet = hf_files.byte_alphabet()
    pieces = re.findall(r"[ ]?[^\W\d_]+|\d|[ ]?[^\s\w]+|\s+", CORPUS)
    words = collections.Counter(
        tuple(alphabet[b] for b in piece.encode()) for piece in pieces)
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        fresh = collections.Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            fresh[tuple(out)] += n
        words = fresh
    return merges


class Bits:
    """Near-normal numbers from integers only: sums of four uniform 16-bit numbers."""

    def __init__(self, seed):
        self.state = np.random.RandomState(seed)  # its integer stream is frozen by numpy

    def normal(self, shape, std, mean=0.0):
        total = self.state.randint(0, 65536, size=(4,) + tuple(shape), dtype=np.int64).sum(0)
        centred = (total - 131070).astype(np.float32)  # standard deviation 37837.2
        return centred * np.float32(std / 37837.2) + np.float32(mean)


def bf16_bytes(values):
    """Round to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def weights(shape, seed):
    """Name -> float32 array, under the published (Hub) names."""
    bits, out, t, v = Bits(seed), {}, shape.text, shape.vision

    def linear(name, rows, cols, gain=1.0, bias=0.0):
        out[name + ".weight"] = bits.normal((rows, cols), gain / cols ** 0.5)
        if bias:
            out[name + ".bias"] = bits.normal((rows,), bias)

    def norm(name, n):
        out[name + ".weight"] = bits.normal((n,), 0.15, 1.0)

    h = v["hidden"]
    out["visual.patch_embed.proj.weight"] = bits.normal(
        (h, 3, 2, v["patch"], v["patch"]), 1.0 / 1176 ** 0.5)
    for i in range(v["depth"]):
        block = f"visual.blocks.{i}."
        norm(block + "norm1", h)
        norm(block + "norm2", h)
        linear(block + "attn.qkv", 3 * h, h, 1.4, 0.3)
        linear(block + "attn.proj", h, h, 0.8, 0.1)
        linear(block + "mlp.gate_proj", v["mlp"], h, 1.0, 0.2)
        linear(block + "mlp.up_proj", v["mlp"], h, 1.0, 0.2)
        linear(block + "mlp.down_proj", h, v["mlp"], 1.2, 0.1)
    norm("visual.merger.ln_q", h)
    linear("visual.merger.mlp.0", 4 * h, 4 * h, 1.4, 0.2)
    linear("visual.merger.mlp.2", t["hidden"], 4 * h, 1.6, 0.2)

    d = t["hidden"]
    out["model.embed_tokens.weight"] = bits.normal((shape.vocab, d), shape.embed_std)
    for i in range(t["layers"]):
        layer = f"model.layers.{i}."
        norm(layer + "input_layernorm", d)
        norm(layer + "post_attention_layernorm", d)
        linear(layer + "self_attn.q_proj", t["heads"] * t["head"], d, shape.query_gain, 0.4)
        linear(layer + "self_attn.k_proj", t["kv_heads"] * t["head"], d, shape.query_gain, 0.4)
        linear(layer + "self_attn.v_proj", t["kv_heads"] * t["head"], d, 1.0, 0.2)
        linear(layer + "self_attn.o_proj", d, t["heads"] * t["head"], shape.branch_gain)
        linear(layer + "mlp.gate_proj", t["mlp"], d)
        linear(layer + "mlp.up_proj", t["mlp"], d)
        linear(layer + "mlp.down_proj", d, t["mlp"], shape.branch_gain)
    norm("model.norm", d)
    if not shape.tied:
        out["lm_head.weight"] = bits.normal((shape.vocab, d), shape.head_std)
    return out


def nested_name(name):
    if name.startswith("visual."):
        return "model." + name
    if name.startswith("model."):
        return "model.language_model." + name[len("model."):]
    return name


def write_shard(path, tensors):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in tensors.items():
        blob = bf16_bytes(array)
        header[name] = {"dtype": "BF16", "shape": list(array.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head + b"".join(blobs))
    return at


def write_weights(directory, tensors, shards):
    names = list(tensors)
    size = sum(2 * a.size for a in tensors.values())
    files, used = [[]], 0
    for name in names:
        if used > size / shards * len(files) and len(files) < shards:
            files.append([])
        files[-1].append(name)
        used += 2 * tensors[name].size
    where, total = {}, 0
    for i, part in enumerate(files):
        name = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        total += write_shard(os.path.join(directory, name), {n: tensors[n] for n in part})
        where.update((n, name) for n in part)
    hf_files.write_json(directory, "model.safetensors.index.json",
                        {"metadata": {"total_size": total}, "weight_map": where})


def config_json(shape, ids, old_spelling):
    t, v = shape.text, shape.vision
    text_config = {
        "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"], "hidden_act": "silu", "hidden_size": t["hidden"],
        "initializer_range": 0.02, "intermediate_size": t["mlp"],
        "max_position_embeddings": 4096, "max_window_layers": t["layers"],
        "num_attention_heads": t["heads"], "num_hidden_layers": t["layers"],
        "num_key_value_heads": t["kv_heads"], "rms_norm_eps": 1e-6, "use_cache": True,
        "use_sliding_window": False, "vocab_size": shape.vocab,
    }
    vision_config = {
        "depth": v["depth"], "fullatt_block_indexes": list(v["full"]), "hidden_act": "silu",
        "hidden_size": v["hidden"], "in_chans": 3, "intermediate_size": v["mlp"],
        "num_heads": v["heads"], "out_hidden_size": t["hidden"], "patch_size": v["patch"],
        "spatial_merge_size": 2, "spatial_patch_size": v["patch"], "temporal_patch_size": 2,
        "tokens_per_second": 2, "window_size": v["window"],
    }
    top = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"], "tie_word_embeddings": shape.tied,
    }
    if old_spelling:
        text_config.update(rope_theta=t["theta"], sliding_window=4096, torch_dtype="bfloat16",
                           rope_scaling={"type": "mrope", "mrope_section": list(t["mrope"])})
        return {**top, **text_config, "transformers_version": "4.41.2",
                "vision_config": {**vision_config, "model_type": "qwen2_5_vl"}}
    text_config.update(
        model_type="qwen2_5_vl_text", dtype="bfloat16", sliding_window=None,
        layer_types=["full_attention"] * t["layers"],
        rope_parameters={"mrope_section": list(t["mrope"]), "rope_theta": t["theta"],
                         "rope_type": "default", "type": "mrope"})
    vision_config.update(
        model_type="qwen2_5_vl_vision", dtype="bfloat16", in_channels=3, initializer_range=0.02,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "axial"})
    return {**top, "dtype": "bfloat16", "transformers_version": "5.17.0",
            "text_config": text_config, "vision_config": vision_config}


def write_tokenizer(directory, rows, old_spelling):
    """Returns {added token: id}. Old files spell a merge "a b", newer ones ["a", "b"]."""
    merges = train_merges(MERGES)
    vocab = {char: i for i, char in enumerate(hf_files.byte_alphabet())}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    ids = {name: len(vocab) + i for i, name in enumerate(SPECIALS)}
    assert len(vocab) + len(ids) <= rows
    spelled = [f"{a} {b}" for a, b in merges] if old_spelling else [list(m) for m in merges]
    hf_files.write_json(directory, "tokenizer.json",
                        hf_files.tokenizer_json(vocab, spelled, ids))
    hf_files.write_json(directory, "tokenizer_config.json", hf_files.tokenizer_config(ids))
    hf_files.write_json(directory, "chat_template.json",
                        {"chat_template": hf_files.CHAT_TEMPLATE})
    return ids


def digest(directory):
    """One SHA-256 over the names and bytes of all files."""
    total = hashlib.sha256()
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            total.update(name.encode() + b"\0" + hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def make(directory, seed=1, old_spelling=False, nested_names=False, shape="plain"):
    os.makedirs(directory, exist_ok=True)
    sizes = SHAPES[shape]
    ids = write_tokenizer(directory, sizes.vocab, old_spelling)
    hf_files.write_json(directory, "config.json", config_json(sizes, ids, old_spelling))
    hf_files.write_json(directory, "preprocessor_config.json",
                        hf_files.preprocessor_config(3136, 12845056))
    hf_files.write_json(directory, "generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "do_sample": False,
        "repetition_penalty": 1.0})
    tensors = weights(sizes, seed)
    if nested_names:
        tensors = {nested_name(name): array for name, array in tensors.items()}
    write_weights(directory, tensors, sizes.shards)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="plain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--old-spelling", action="store_true",
                        help="flat config.json and string merges, as published checkpoints have")
    parser.add_argument("--nested-names", action="store_true",
                        help="tensor names model.language_model.* and model.visual.*")
    args = parser.parse_args()
    make(args.directory, args.seed, args.old_spelling, args.nested_names, args.shape)
    print(digest(args.directory))


if __name__ == "__main__":
    main()
