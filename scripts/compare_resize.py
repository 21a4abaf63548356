#!/usr/bin/env python3
"""Compares Facet's bicubic resize with torchvision's on random uint8 images of random sizes.

compare_resize.py TOOL [--count N] [--seed S] [--max-side M]    TOOL: the built facet_resize_rgb
Prints the cases that differ and ends with the number of differing values; exit 1 when above 0.
"""
import argparse
import subprocess
import sys

import numpy as np
import torch
from torchvision.transforms.v2 import functional


def random_side(rng, max_side):
    kind = rng.integers(6)
    if kind == 0:
        return 1
    if kind == 1:
        return int(rng.integers(1, 12))
    if kind < 4:
        return int(rng.integers(1, max_side + 1))
    return int(rng.integers(1, max_side // 28 + 2) * 28)


def random_image(rng, height, width):
    kind = rng.integers(4)
    if kind == 0:  # steps from black to white: overshoots both ways
        return rng.choice(np.array([0, 255], np.uint8), (height, width, 3))
    if kind == 1:
        return np.full((height, width, 3), rng.integers(256), np.uint8)
    if kind == 2:
        y, x = np.mgrid[:height, :width]
        return ((np.stack([x, y, x + y], -1) * rng.integers(1, 9)) % 256).astype(np.uint8)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-side", type=int, default=400)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    tool = subprocess.Popen([args.tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    total = num_values = 0
    for _ in range(args.count):
        height, width, to_height, to_width = (random_side(rng, args.max_side) for _ in range(4))
        # torch 2.11 mixes channels up where an output is 1 pixel wide; a model's never is.
        to_width = max(to_width, 2)
        if rng.integers(8) == 0:
            to_height = height
        if rng.integers(8) == 0:
            to_width = max(width, 2)
        image = random_image(rng, height, width)
        # A stacked batch, channels first, as the image processor hands it over.
        tensor = torch.stack([torch.from_numpy(image).permute(2, 0, 1)])
        try:
            want = functional.resize(tensor, [to_height, to_width], antialias=True,
                                     interpolation=functional.InterpolationMode.BICUBIC)
        except RuntimeError:  # an internal assertion of torch 2.11 for some 1-pixel sides
            print(f"{height}x{width} -> {to_height}x{to_width}: torch fails")
            continue
        tool.stdin.write(b"%d %d %d %d\n" % (height, width, to_height, to_width) + image.tobytes())
        tool.stdin.write(b"\n")
        tool.stdin.flush()
        size = to_height * to_width * 3
        got = np.frombuffer(tool.stdout.read(size), np.uint8).reshape(to_height, to_width, 3)
        num_different = int((want[0].permute(1, 2, 0).numpy() != got).sum())
        if num_different:
            print(f"{height}x{width} -> {to_height}x{to_width}: {num_different} of {size} differ")
        total += num_different
        num_values += size
    tool.stdin.close()
    tool.wait()
    print(f"{args.count} images, {num_values} values, torch {torch.__version__}, "
          f"{torch.backends.cpu.get_cpu_capability()}")
    print(total)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
