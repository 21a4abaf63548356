"""Small images of every kind for the targets that read images, by the writers of the pixel test."""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import decoder_pixels  # noqa: E402

KINDS = {
    "fuzz_jpeg": ("jpeg_cases", "adobe_cases", "orientation_cases"),
    "fuzz_png": ("png_cases", "apng_cases"),
    "fuzz_webp": ("webp_cases",),
    "fuzz_image_header": ("jpeg_cases", "orientation_cases", "png_cases", "apng_cases",
                          "webp_cases"),
}
decoder_pixels.SIZES = [(1, 1), (1, 9), (7, 1), (8, 8), (15, 17)]  # quickly made, quickly read
MAX_BYTES = 6000  # small seeds make small changes count
MAX_SEEDS = 120


def seeds(target, rng):
    """Encoded images for `target`, drawn anew each time; none for targets without images."""
    found = []
    for kind in KINDS.get(target, ()):
        cases = getattr(decoder_pixels, kind)(np.random.default_rng(rng.randrange(2**32)))
        found += [encoded for _, encoded in cases if len(encoded) <= MAX_BYTES]
    rng.shuffle(found)
    return found[:MAX_SEEDS]
