"""What the card can do, for the floors of scripts/bench/gpu.py: prints one JSON object.

    python scripts/bench/gpu_rates.py [--cpu]

Read bandwidth: 16-byte loads of 8 GiB that keep nothing (Triton; without it torch's own sum).
Products: bf16, 8192 x 8192 x 8192 on random numbers, the mean of ten. --cpu: both on the host by
numpy, fp32, small.
"""

import json
import sys
import time


def cpu_rates():
    import numpy as np
    data = np.ones(1 << 24, dtype=np.float32)
    a = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
    took = {}
    for name, work in (("read", data.sum), ("product", lambda: a @ a)):
        for _ in range(5):
            began = time.monotonic()
            work()
            took[name] = min(took.get(name, 1e9), time.monotonic() - began)
    return {"device": "CPU", "read_bytes_per_s": data.nbytes / took["read"],
            "read_by": "numpy sum", "flops_per_s": 2 * 512 ** 3 / took["product"]}


def timed(torch, work, repeats):
    """Seconds of each of `repeats` calls, as the GPU saw them."""
    work()
    work()
    torch.cuda.synchronize()
    took = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        took.append(begin.elapsed_time(end) / 1000)
    return took


def triton_read(torch, data):
    import triton
    import triton.language as tl

    @triton.jit
    def read(source, sink, words, BLOCK: tl.constexpr):
        total = tl.zeros([BLOCK], dtype=tl.int32)
        for at in range(tl.program_id(0) * BLOCK, words, tl.num_programs(0) * BLOCK):
            total ^= tl.load(source + at + tl.arange(0, BLOCK), eviction_policy="evict_first")
        if tl.sum(total) == 0x12345678:
            tl.store(sink, 1)

    sink = torch.zeros(1, dtype=torch.int32, device="cuda")
    count = torch.cuda.get_device_properties(0).multi_processor_count
    best = None
    for blocks, size, warps in ((4, 16384, 16), (8, 8192, 8), (2, 32768, 32)):
        took = min(timed(torch, lambda: read[(count * blocks,)](
            data, sink, data.numel(), BLOCK=size, num_warps=warps), 5))
        best = took if best is None else min(best, took)
    return best


def gpu_rates():
    import torch
    data = torch.randint(0, 1 << 30, (1 << 31,), dtype=torch.int32, device="cuda")  # 8 GiB
    size = data.numel() * data.element_size()
    reads = {"torch sum": min(timed(torch, lambda: data.view(torch.float32).sum(), 5))}
    try:
        reads["Triton kernel"] = triton_read(torch, data)
    except Exception as error:  # no compiler on this host, or one that Triton does not like
        print(f"rates: no Triton kernel: {error}", file=sys.stderr, flush=True)
    by = min(reads, key=reads.get)
    half = data.numel() // 2
    copied = min(timed(torch, lambda: data[:half].copy_(data[half:]), 5))
    del data
    a, b = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    products = timed(torch, lambda: torch.mm(a, b), 10)
    card = torch.cuda.get_device_properties(0)
    return {"device": card.name, "compute_capability": f"{card.major}.{card.minor}",
            "memory_bytes": card.total_memory, "torch": torch.__version__,
            "read_bytes_per_s": size / reads[by], "read_by": by,
            "copy_bytes_per_s": size / copied,
            "flops_per_s": 2 * 8192 ** 3 / (sum(products) / len(products))}


if __name__ == "__main__":
    print(json.dumps(cpu_rates() if "--cpu" in sys.argv[1:] else gpu_rates()))
