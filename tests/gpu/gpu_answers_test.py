"""The demo model on a GPU answers as it does on the CPU, through the whole pool, and nothing of the
GPU's memory is left behind.

    python tests/gpu/gpu_answers_test.py BIN_DIR
"""

import json
import os
import subprocess
import sys

from gpu_pool import ROOT, GpuMemory, Pool, wait_until

SAMPLES = os.path.join(ROOT, "configs", "samples", "samples.jsonl")


def answers(pool):
    """Token ids by image, of `facet batch` over the samples."""
    out = f"{pool.folder}/answers.jsonl"
    if subprocess.run([f"{pool.bin_dir}/facet", "batch", "--questions", SAMPLES, "-q", "-o", out],
                      env=pool.env, timeout=120, check=False).returncode:
        sys.exit("facet batch failed")
    with open(out, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["image"] if isinstance(row["image"], str) else tuple(row["image"]):
            row["token_ids"] for row in rows}


def main():
    bin_dir, memory = sys.argv[1], GpuMemory()
    baseline = memory.used()
    with Pool(bin_dir, dtype="fp32", on_gpu=False) as pool:
        wanted = answers(pool)
    print(f"CPU: {len(wanted)} answers", flush=True)
    for dtype in ("fp32", "bf16", "fp16"):
        with Pool(bin_dir, dtype=dtype) as pool:
            got = answers(pool)
        different = [name for name in wanted if got.get(name) != wanted[name]]
        print(f"GPU {dtype}: {len(got)} answers, {len(different)} differ: {different}", flush=True)
        if different or len(got) != len(wanted):
            sys.exit(1)
        wait_until(lambda: memory.used() <= baseline, 30, f"{baseline} bytes in use, as before")
    print("equal")


if __name__ == "__main__":
    main()
