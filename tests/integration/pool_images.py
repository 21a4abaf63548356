"""Mixed images of odd sizes, drawn from a seed: JPEG and PNG, the modes that occur in the wild."""

import io
import os
import random

from PIL import Image, ImageFile

# Pillow sizes the buffer of a progressive JPEG by the picture's area; noise can need more.
ImageFile.MAXBLOCK = 1 << 22


def draw(rng, width, height, mode="RGB"):
    """Blocks and noise: compresses badly enough that a lost byte cannot go unseen."""
    small = Image.frombytes("RGB", (max(1, width // 8), max(1, height // 8)),
                            rng.randbytes(3 * max(1, width // 8) * max(1, height // 8)))
    image = small.resize((width, height), Image.NEAREST)
    noise = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    return Image.blend(image, noise.convert("RGB"), 0.2).convert(mode)


def encode(image, rng):
    out = io.BytesIO()
    if rng.random() < 0.5:
        exif = Image.Exif()
        if rng.random() < 0.3:
            exif[274] = rng.randint(1, 8)  # orientation
        image.convert("L" if image.mode in ("L", "1") else "RGB").save(
            out, "JPEG", quality=rng.randint(60, 95), progressive=rng.random() < 0.3,
            subsampling=rng.choice([0, 1, 2]), exif=exif)
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def mixed_images(seed, count, max_side=400):
    rng = random.Random(seed)
    images = []
    for _ in range(count):
        mode = rng.choice(["RGB", "RGB", "RGB", "L", "RGBA", "P"])
        width, height = rng.randint(1, max_side), rng.randint(1, max_side)
        images.append(encode(draw(rng, width, height, mode), rng))
    return images


def big_noise_png(seed, side=700):
    """Over one chunk when encoded."""
    rng = random.Random(seed)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side)).save(out, "PNG")
    return out.getvalue()


def write_folder(folder, images):
    """Files named so that their order is that of the list; returns their paths."""
    paths = []
    for index, image in enumerate(images):
        suffix = "png" if image.startswith(b"\x89PNG") else "jpg"
        paths.append(os.path.join(folder, f"{index:04d}.{suffix}"))
        with open(paths[-1], "wb") as file:
            file.write(image)
    return paths
