#!/usr/bin/env python3
"""From image files to patch values: facet-decoder and worker/image against transformers.

    compare_processor.py BUILD_DIR [--count 200] [--seed N]     with transformers: every value
    compare_processor.py BUILD_DIR --goldens FILE               without: checksums of the same files
    compare_processor.py --write-goldens OUT_DIR                writes that file: processor.json

BUILD_DIR holds bin/facet-decoder and tests/facet_image_patches. Files are JPEG, PNG and WebP of
random sizes, modes and orientations; the reference is what a user of transformers does: Pillow,
EXIF transposed, RGB, Qwen2VLImageProcessor. Ends with the number of differing values.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "integration"))

from decoder_harness import OK, Decoder  # noqa: E402
from demo_model import hf_files  # noqa: E402

GOLDEN_SEED, GOLDEN_COUNT = 20262, 200
# (min_pixels, max_pixels): the published ones, and two that enlarge and shrink more often.
LIMITS = ((3136, 12845056), (200704, 1003520), (784, 28 * 28 * 40))


def random_side(rng):
    kind = rng.integers(5)
    if kind == 0:
        return int(rng.integers(1, 30))
    if kind == 1:
        return int(rng.integers(1, 24)) * 28
    return int(rng.integers(1, 700))


def random_picture(rng):
    width, height = random_side(rng), random_side(rng)
    width, height = max(width, height // 199 + 1), max(height, width // 199 + 1)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1),
                     (x * int(rng.integers(1, 9)) + y * 3) % 256], -1)
    if rng.integers(2):
        base = base + rng.integers(-60, 61, base.shape)
    return Image.fromarray(np.clip(base, 0, 255).astype(np.uint8), "RGB")


def random_file(rng):
    """(kind, encoded bytes)"""
    image = random_picture(rng)
    kind = ("JPEG", "JPEG", "PNG", "PNG", "WEBP")[rng.integers(5)]
    mode = {"JPEG": ("RGB", "RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "P", "LA", "1"),
            "WEBP": ("RGB", "RGBA")}[kind]
    mode = mode[rng.integers(len(mode))]
    options = {}
    if kind == "JPEG":
        options = {"quality": int(rng.integers(20, 100)), "progressive": bool(rng.integers(2)),
                   "subsampling": int(rng.integers(3))}
    elif kind == "WEBP":
        options = {"lossless": bool(rng.integers(2)), "quality": int(rng.integers(20, 100))}
    if rng.integers(3) == 0:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        options["exif"] = exif.tobytes()
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **options)
    return f"{kind} {mode} {image.width}x{image.height}", out.getvalue()


def opened(encoded):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")


class Patches:
    """worker/image with a preprocessor_config.json of these limits."""

    def __init__(self, tool, limits):
        self.folder = tempfile.TemporaryDirectory()
        hf_files.write_json(self.folder.name, "preprocessor_config.json",
                            hf_files.preprocessor_config(*limits))
        self.tool = subprocess.Popen([tool, self.folder.name], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)

    def of(self, rgb, width, height):
        """((grid_h, grid_w), values) or what the tool refuses."""
        self.tool.stdin.write(b"%d %d\n" % (height, width) + rgb + b"\n")
        self.tool.stdin.flush()
        line = self.tool.stdout.readline().decode()
        if line.startswith("error"):
            return line.strip(), None
        grid_h, grid_w, count = map(int, line.split())
        return (grid_h, grid_w), np.frombuffer(self.tool.stdout.read(4 * count), "<f4")

    def close(self):
        self.tool.stdin.close()
        self.tool.wait()
        self.folder.cleanup()


class Facet:
    """Files through a real facet-decoder and worker/image."""

    def __init__(self, build):
        self.decoder = Decoder(os.path.join(build, "bin", "facet-decoder"))
        self.patches = [Patches(os.path.join(build, "tests", "facet_image_patches"), limits)
                        for limits in LIMITS]

    def of(self, encoded, limits):
        width, height = opened(encoded).size  # the broker reads them from the header
        outcome, message, rgb = self.decoder.decode(encoded, width, height)
        if outcome != OK:
            return f"decoder: {message}", None
        return self.patches[limits].of(rgb, width, height)

    def close(self):
        for patches in self.patches:
            patches.close()
        self.decoder.close()


class Transformers:
    def __init__(self):
        from transformers import Qwen2VLImageProcessor
        self.processors = [Qwen2VLImageProcessor(min_pixels=low, max_pixels=high)
                           for low, high in LIMITS]

    def of(self, encoded, limits):
        made = self.processors[limits](images=[opened(encoded)], return_tensors="pt")
        grid = made["image_grid_thw"][0].tolist()
        assert grid[0] == 1
        return tuple(grid[1:]), made["pixel_values"].numpy().ravel()


def files(seed, count):
    rng = np.random.default_rng(seed)
    for number in range(count):
        name, encoded = random_file(rng)
        yield f"{number}: {name}", encoded, number % len(LIMITS)


def sha(data):
    return hashlib.sha256(bytes(data)).hexdigest()[:32]


def write_goldens(out):
    reference, cases = Transformers(), []
    for name, encoded, limits in files(GOLDEN_SEED, GOLDEN_COUNT):
        grid, values = reference.of(encoded, limits)
        cases.append([name, sha(encoded), list(grid), sha(np.ascontiguousarray(values))])
    path = os.path.join(out, "processor.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"what": "name, SHA-256 of the file, patches (height, width) and SHA-256 of the "
                           "little-endian float32 values, 32 digits each", "seed": GOLDEN_SEED,
                   "limits": LIMITS, "cases": cases}, file, indent=0)
        file.write("\n")
    print(f"{path}: {os.path.getsize(path)} bytes")


def compare_goldens(build, path):
    with open(path, encoding="utf-8") as file:
        root = json.load(file)
    facet, wrong = Facet(build), 0
    for (name, encoded, limits), case in zip(files(root["seed"], len(root["cases"])),
                                             root["cases"], strict=True):
        assert sha(encoded) == case[1], f"{name}: this Pillow or numpy makes another file"
        grid, values = facet.of(encoded, limits)
        if values is None or list(grid) != case[2] or sha(values) != case[3]:
            wrong += 1
            print(f"{name}: {grid}, not {case[2]}, or other values")
    facet.close()
    print(f"{len(root['cases'])} files, {wrong} wrong")
    return wrong


def compare(build, seed, count):
    facet, reference, wrong, values = Facet(build), Transformers(), 0, 0
    for name, encoded, limits in files(seed, count):
        grid, found = facet.of(encoded, limits)
        wanted_grid, wanted = reference.of(encoded, limits)
        values += wanted.size
        if found is None or grid != wanted_grid:
            print(f"{name}: {grid}, not {wanted_grid}")
            wrong += wanted.size
            continue
        different = int((found.view("<u4") != wanted.view("<u4")).sum())
        if different:
            print(f"{name}: {different} of {wanted.size} values differ")
        wrong += different
    facet.close()
    print(f"seed {seed}: {count} files, {values} values; differing values:")
    print(wrong)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--goldens", help="the file that --write-goldens wrote")
    parser.add_argument("--write-goldens", metavar="OUT_DIR")
    args = parser.parse_args()
    if args.write_goldens:
        return write_goldens(args.write_goldens)
    if not args.build:
        parser.error("BUILD_DIR is missing")
    if args.goldens:
        return compare_goldens(args.build, args.goldens)
    return compare(args.build, args.seed, args.count)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
