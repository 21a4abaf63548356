"""Writes a random mid-size Qwen2.5-VL checkpoint (163 M parameters, bf16) for a bench.

    python scripts/bench/cpu_checkpoint.py DIR

Between the demo model, where what stands between the matrix products counts, and the published
ones: here the weights no longer fit the cores' own caches. Its answers mean nothing.
Needs numpy.
"""

import argparse
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import make_fixture_checkpoint as fixture  # noqa: E402

SHAPE = fixture.Shape(
    vocab=32000, tied=False, shards=3, embed_std=1.0, head_std=0.3, query_gain=1.3,
    branch_gain=1.5,
    text=dict(hidden=768, mlp=2304, layers=10, heads=12, kv_heads=4, head=64, mrope=(8, 12, 12),
              theta=1e6),
    vision=dict(hidden=512, mlp=1408, depth=12, heads=8, full=(2, 5, 8, 11), patch=14,
                window=112))


class Normal:
    """Stands in for the fixture's generator, which is exact everywhere but slow."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def normal(self, shape, std, mean=0.0):
        values = self.random.standard_normal(tuple(shape), dtype=np.float32)
        return values * np.float32(std) + np.float32(mean)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    args = parser.parse_args()
    fixture.SHAPES["mid"] = SHAPE
    fixture.Bits = Normal
    fixture.make(args.directory, seed=1, shape="mid")


if __name__ == "__main__":
    main()
