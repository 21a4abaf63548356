"""What others reached with the same work, measured elsewhere on the same kind of card (an H200).

Random weights, bf16, no prefix cache, Qwen2.5-VL-7B. Constants: they are quoted, not measured here.
"""

SOURCE = "measured elsewhere on the same card (one H200), random weights, bf16"

PEERS = {
    "vllm": {
        "version": "0.26.0, CUDA graphs and torch.compile, prefix cache off, offline",
        "source": SOURCE,
        "decode_tokens_per_s": {"1": 209, "16": 3160, "64": 11077},
        "decode_ms_per_step": {"1": 4.78, "16": 5.06, "64": 5.78},
        "prefill_tokens_per_s": 46400,  # 8 or 64 prompts of 2,048
        "first_token_ms_1024x1024_and_512": 110,
        "first_token_ms_1036x728_and_512": 94,
        "captions_per_s": {"128": 10.0, "256": 10.7},  # 1024x1024, 32 prompt, 100 answer tokens
        "start_to_first_token_s": 82.4,
    },
    "llama.cpp": {
        "version": "of 22 August 2026, CUDA, bf16, flash attention; text alone",
        "source": SOURCE,
        "decode_tokens_per_s": {"1": 192.9, "16": 2158, "64": 6400},
        "prefill_tokens_per_s": 31500,  # 23,700 alone, 31,500 at batch 64
    },
    "transformers": {
        "version": "5.17.0, sdpa, no compile",
        "source": SOURCE,
        "decode_tokens_per_s": {"1": 1000 / 30.7, "64": 933},
        "first_token_ms_1036x728_and_512": 140,
    },
}

TARGETS = {
    "decode_tokens_per_s_1": "93 % of the read bandwidth",
    "decode_tokens_per_s_64": 14000,
    "captions_per_s": 21,
}


def dig(figures, path):
    for key in path:
        if not isinstance(figures, dict) or key not in figures:
            return None
        figures = figures[key]
    return figures


# (name, path in the bench's results, path in PEERS, whether more is better)
COMPARED = [
    *[(f"decode_tokens_per_s_{n}", ("decode", n, "tokens_per_s"), ("decode_tokens_per_s", n), True)
      for n in ("1", "16", "64")],
    ("prefill_tokens_per_s", ("prefill", "64x2048", "tokens_per_s"), ("prefill_tokens_per_s",),
     True),
    ("first_token_ms_1024x1024_and_512", ("first_token", "1024x1024", "ms"),
     ("first_token_ms_1024x1024_and_512",), False),
    ("first_token_ms_1036x728_and_512", ("first_token", "1036x728", "ms"),
     ("first_token_ms_1036x728_and_512",), False),
    *[(f"captions_per_s_{n}", ("captions", n, "captions_per_s"), ("captions_per_s", n), True)
      for n in ("128", "256")],
    ("start_to_first_token_s", ("start", "first_token_s"), ("start_to_first_token_s",), False),
]


def compare(results):
    """{peer: {what: {"facet", "peer", "times": how many times better Facet is}}}"""
    table = {}
    for peer, figures in PEERS.items():
        for name, ours, theirs, more_is_better in COMPARED:
            mine, other = dig(results, ours), dig(figures, theirs)
            if mine is None or other is None:
                continue
            times = mine / other if more_is_better else other / mine
            table.setdefault(peer, {})[name] = {
                "facet": mine, "peer": round(other, 2), "times": round(times, 3)}
    return table
