"""facet-decoder's pixels against Pillow's, over every kind of JPEG, PNG and WebP, many at once.

    decoder_pixels.py BINARY [SEED]
"""

import ctypes
import io
import os
import struct
import sys
import time
import warnings
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from decoder_harness import OK, Decoder, pages

warnings.simplefilter("ignore")
SIZES = [(1, 1), (1, 9), (7, 1), (8, 8), (15, 17), (64, 48), (101, 67), (333, 250)]


def picture(rng, width, height, mode="RGB"):
    """Gradients, shapes and some noise: what codecs find easy, and what they do not."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1),
                     (x * y) % 256], -1)
    noise = rng.integers(-30, 31, base.shape)
    image = Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        a, b = sorted(rng.integers(0, width + 1, 2)), sorted(rng.integers(0, height + 1, 2))
        draw.rectangle((a[0], b[0], a[1], b[1]), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image if mode == "RGB" else image.convert(mode)


def exif_bytes(orientation, big_endian=False, kind=3, before=0):
    """A TIFF stream with `before` other tags in front of the orientation."""
    e = ">" if big_endian else "<"
    entries = b"".join(struct.pack(e + "HHI4s", 200 + i, 3, 1, struct.pack(e + "H2x", 9))
                       for i in range(before))
    value = struct.pack(e + ("H2x" if kind == 3 else "I"), orientation)
    entries += struct.pack(e + "HHI4s", 274, kind, 1, value)
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(e + "I", 8)
    return head + struct.pack(e + "H", before + 1) + entries + struct.pack(e + "I", 0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_wrong_crc(png, kind, nth=0):
    """The checksum of the nth chunk of this kind is made wrong."""
    out, at = bytearray(png), 8
    while at < len(png):
        length = struct.unpack(">I", png[at:at + 4])[0]
        if png[at + 4:at + 8] == kind:
            if nth == 0:
                out[at + 8 + length] ^= 0x40
                return bytes(out)
            nth -= 1
        at += 12 + length
    raise AssertionError(f"no chunk {kind}")


def raw_png(rng, width, height, depth, color, interlace=0, extra=b"", palette=None, late=b""):
    """A PNG written by hand: depths, colour types and filters that Pillow does not write."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]

    def scan(w, h):
        row_bytes = (w * channels * depth + 7) // 8
        out = bytearray()
        for _ in range(h):
            out.append(int(rng.integers(0, 5)))
            row = rng.integers(0, 256, row_bytes, dtype=np.uint8)
            out += row.tobytes()
        return bytes(out)

    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                  (1, 0, 2, 2), (0, 1, 1, 2)]
        data = b""
        for x0, y0, dx, dy in passes:
            w, h = -(-(width - x0) // dx), -(-(height - y0) // dy)
            if w > 0 and h > 0:
                data += scan(w, h)
    else:
        data = scan(width, height)
    out = b"\x89PNG\r\n\x1a\n"
    out += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    if palette is not None:
        out += chunk(b"PLTE", palette)
    out += extra
    packed = zlib.compress(data)
    cut = len(packed) // 2
    return (out + chunk(b"IDAT", packed[:cut]) + chunk(b"IDAT", packed[cut:]) + late
            + chunk(b"IEND", b""))


def rows_png(rows, width, height, change=lambda packed: packed):
    """8-bit RGB from filtered rows; `change` may spoil the compressed stream."""
    return (b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", change(zlib.compress(b"".join(rows)))) + chunk(b"IEND", b""))


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_segment(jpeg, marker, body):
    return jpeg[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def jpeg_cases(rng):
    for width, height in SIZES:
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                name = f"jpeg {width}x{height} s{subsampling} {'prog' if progressive else 'base'}"
                yield name, save(picture(rng, width, height), "JPEG", subsampling=subsampling,
                                 progressive=progressive, quality=int(rng.integers(20, 100)))
        for progressive in (False, True):
            yield (f"jpeg gray {width}x{height} {progressive}",
                   save(picture(rng, width, height, "L"), "JPEG", progressive=progressive))
            yield (f"jpeg cmyk {width}x{height} {progressive}",
                   save(picture(rng, width, height, "CMYK"), "JPEG", progressive=progressive))
        yield (f"jpeg restart {width}x{height}",
               save(picture(rng, width, height), "JPEG", restart_marker_blocks=2))
        yield f"jpeg rgb {width}x{height}", save(picture(rng, width, height), "JPEG", keep_rgb=True)
        yield f"jpeg optimized {width}x{height}", save(picture(rng, width, height), "JPEG",
                                                       optimize=True, quality=5)


def turbo_cases(rng):
    """Chroma samplings that Pillow does not write: 4:4:0 and 4:1:1, beside the usual ones."""
    turbo = ctypes.CDLL("libturbojpeg.so.0")
    turbo.tjInitCompress.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(turbo.tjInitCompress())
    for width, height in SIZES:
        pixels = np.ascontiguousarray(picture(rng, width, height))
        for sampling in range(6):
            for flags in (0, 16384):  # TJFLAG_PROGRESSIVE
                out, size = ctypes.POINTER(ctypes.c_ubyte)(), ctypes.c_ulong(0)
                code = turbo.tjCompress2(handle, pixels.ctypes.data_as(ctypes.c_void_p), width, 0,
                                         height, 0, ctypes.byref(out), ctypes.byref(size),
                                         sampling, int(rng.integers(10, 100)), flags)
                assert code == 0
                yield f"turbo {width}x{height} {sampling} {flags}", bytes(out[:size.value])
                turbo.tjFree(out)


def adobe_cases(rng):
    """Four components with and without an Adobe segment: CMYK and YCCK."""
    plain = save(picture(rng, 77, 50, "CMYK"), "JPEG")
    at = plain.find(b"\xff\xee")
    length = struct.unpack(">H", plain[at + 2:at + 4])[0] if at > 0 else 0
    bare = plain[:at] + plain[at + 2 + length:] if at > 0 else plain
    yield "jpeg cmyk without adobe", bare
    for transform in (0, 1, 2):
        body = b"Adobe\0\x64\0\0\0\0" + bytes([transform])
        yield f"jpeg cmyk adobe {transform}", with_segment(bare, 0xEE, body)
        three = save(picture(rng, 61, 43), "JPEG")
        yield f"jpeg rgb adobe {transform}", with_segment(three, 0xEE, body)


def orientation_cases(rng):
    jpeg = save(picture(rng, 45, 30), "JPEG", quality=95)
    for value in range(0, 10):
        for kind in (3, 4):
            for big in (False, True):
                body = b"Exif\0\0" + exif_bytes(value, big, kind, before=int(rng.integers(0, 5)))
                yield f"exif {value} {kind} {big}", with_segment(jpeg, 0xE1, body)
    gray = save(picture(rng, 31, 20, "L"), "JPEG")
    cmyk = save(picture(rng, 31, 20, "CMYK"), "JPEG")
    for value in range(2, 9):
        for name, base in (("gray", gray), ("cmyk", cmyk)):
            yield f"exif {name} {value}", with_segment(base, 0xE1,
                                                       b"Exif\0\0" + exif_bytes(value))
        png = exif_bytes(value, big_endian=True)
        yield f"png exif {value}", raw_png(rng, 21, 13, 8, 2, extra=chunk(b"eXIf", png))
        yield f"png late exif {value}", raw_png(rng, 21, 13, 8, 6, late=chunk(b"eXIf", png))
        yield f"png interlaced exif {value}", raw_png(rng, 19, 13, 8, 2, 1, chunk(b"eXIf", png))
        xmp = f'<x tiff:Orientation="{value}"/>'.encode()
        yield f"xmp {value}", with_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
        itxt = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        yield f"png xmp {value}", raw_png(rng, 9, 5, 8, 2, extra=chunk(b"iTXt", itxt))
    both = with_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0"
                        b"<tiff:Orientation>3</tiff:Orientation>")
    yield "xmp element", both
    yield "exif beats xmp", with_segment(both, 0xE1, b"Exif\0\0" + exif_bytes(6))
    yield "exif without the tag", with_segment(both, 0xE1, b"Exif\0\0" + exif_bytes(6)[:8] + b"\0\0"
                                               + b"\0" * 4)
    yield "exif cut", with_segment(jpeg, 0xE1, b"Exif\0\0" + exif_bytes(6, before=3)[:30])
    yield "junk after the start", jpeg[:2] + b"\xff\xff\xff" + jpeg[2:]


def png_cases(rng):
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for color, options in depths.items():
        for depth in options:
            for interlace in (0, 1):
                for width, height in ((1, 1), (3, 2), (5, 9), (33, 21), (130, 70)):
                    palette = None
                    if color == 3:
                        palette = rng.integers(0, 256, 3 << depth, dtype=np.uint8).tobytes()
                    yield (f"png {color}/{depth} i{interlace} {width}x{height}",
                           raw_png(rng, width, height, depth, color, interlace, palette=palette))
    trns = {0: b"\0\x05", 2: b"\0\x05\0\x06\0\x07"}
    for color, body in trns.items():
        for depth in depths[color]:
            yield (f"png tRNS {color}/{depth}",
                   raw_png(rng, 23, 17, depth, color, extra=chunk(b"tRNS", body)))
    palette = rng.integers(0, 256, 768, dtype=np.uint8).tobytes()
    for body in (b"\0", b"\xff\0", bytes(range(200))):
        yield (f"png palette tRNS {len(body)}",
               raw_png(rng, 40, 30, 8, 3, extra=chunk(b"tRNS", body), palette=palette))
    yield "png short palette", raw_png(rng, 40, 30, 8, 3, palette=palette[:30])
    yield "png gamma", raw_png(rng, 40, 30, 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 45455)))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        for width, height in ((1, 1), (50, 31), (257, 99)):
            yield f"png by pillow {mode} {width}x{height}", save(
                picture(rng, width, height, mode), "PNG")
    late = chunk(b"tEXt", b"a\0b")
    for kind, nth in ((b"IDAT", 0), (b"IDAT", 1), (b"tEXt", 0), (b"IEND", 0)):
        png = raw_png(rng, 40, 30, 8, 6, interlace=nth, late=late)
        yield f"png wrong checksum in {kind} {nth}", with_wrong_crc(png, kind, nth)
    yield "png more pixels than rows", rows_png([b"\0" + rng.bytes(90)] * 50, 30, 20)
    wide = (np.arange(97 * 31, dtype=np.uint32) * 23 % 65536).astype(np.uint16).reshape(31, 97)
    yield "png 16-bit gray ramp", save(Image.fromarray(wide), "PNG")


def with_alpha(rng, image):
    alpha = rng.integers(0, 256, image.size[::-1], dtype=np.uint8)
    return Image.fromarray(np.dstack([np.asarray(image), alpha]), "RGBA")


def webp_cases(rng):
    """Lossy, lossless and near to it; alpha compressed and filtered in every way; metadata."""
    kinds = [{"quality": 80}, {"quality": 3, "method": 6}, {"quality": 100, "method": 0},
             {"lossless": True}, {"lossless": True, "exact": True, "method": 0},
             {"quality": 60, "alpha_quality": 20, "method": 5}, {"quality": 60, "exact": True}]
    for width, height in SIZES:
        for options in kinds:
            name = f"webp {width}x{height} {options}"
            yield name, save(picture(rng, width, height), "WEBP", **options)
            yield name + " alpha", save(with_alpha(rng, picture(rng, width, height)), "WEBP",
                                        **options)
        yield f"webp gray {width}x{height}", save(picture(rng, width, height, "L"), "WEBP")
    clear = Image.new("RGBA", (40, 30), (200, 100, 50, 0))
    yield "webp all transparent", save(clear, "WEBP", lossless=True, exact=True)
    yield "webp palette", save(picture(rng, 60, 50).quantize(13), "WEBP", lossless=True)
    yield "webp profile", save(picture(rng, 60, 50), "WEBP", icc_profile=bytes(3000))
    for value in range(0, 10):
        for options in ({"quality": 80}, {"lossless": True}):
            body = exif_bytes(value, big_endian=value % 2 == 1)
            xmp = f'<x tiff:Orientation="{value}"/>'.encode()
            image = picture(rng, 45, 30)
            yield f"webp exif {value} {options}", save(image, "WEBP", exif=body, **options)
            yield f"webp exif prefix {value} {options}", save(
                image, "WEBP", exif=b"Exif\0\0" + body, **options)
            yield f"webp xmp {value} {options}", save(image, "WEBP", xmp=xmp, **options)
            yield f"webp exif beats xmp {value}", save(
                with_alpha(rng, image), "WEBP", exif=exif_bytes(6), xmp=xmp, **options)
    quiet = bytearray(save(picture(rng, 45, 30), "WEBP", exif=exif_bytes(6)))
    quiet[20] &= ~0x08  # the chunk is there, the flag is not
    yield "webp exif without its flag", bytes(quiet)
    yield "webp with a tail", save(picture(rng, 45, 30), "WEBP") + b"tail" * 9


def apng_cases(rng):
    """The default image counts, with the metadata in front of the second picture."""
    pictures = [picture(rng, 40, 30) for _ in range(3)]
    for options in ({}, {"default_image": True}, {"disposal": 2, "blend": 1}):
        yield f"apng {options}", save(pictures[0], "PNG", save_all=True,
                                      append_images=pictures[1:], duration=40, **options)
    yield "apng palette", save(pictures[0].quantize(9), "PNG", save_all=True,
                               append_images=[pictures[1].quantize(9)])

    def control(sequence):
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, 21, 13, 0, 0, 1, 10, 0, 0))

    turned = chunk(b"eXIf", exif_bytes(6, big_endian=True))
    frame = chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(bytes(64 * 13)))
    for count in (0, 1, 2):
        head = chunk(b"acTL", struct.pack(">II", count, 0))
        for first in (b"", control(0)):
            second = control(1 if first else 0) if count == 2 or not first else b""
            tail = second + (frame if first and second else b"")
            for late in (tail + turned, turned + tail):
                name = f"apng {count} frames, {'own' if first else 'default'} image, late exif"
                yield name, raw_png(rng, 21, 13, 8, 2, extra=head + first, late=late)
    yield "png with a stray frame", raw_png(rng, 21, 13, 8, 2, late=control(0) + turned)


def expected(encoded):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    return np.asarray(image.convert("RGB"))


def main():
    binary, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print("seed", seed)
    rng = np.random.default_rng(seed)
    cases = [*jpeg_cases(rng), *turbo_cases(rng), *adobe_cases(rng), *orientation_cases(rng),
             *png_cases(rng), *apng_cases(rng), *webp_cases(rng)]
    cases.append(("jpeg large", save(picture(rng, 3000, 2000), "JPEG")))
    cases.append(("png large", save(picture(rng, 2000, 1500), "PNG", compress_level=1)))
    cases.append(("webp large", save(picture(rng, 2000, 1500), "WEBP", method=0)))
    decoder = Decoder(binary)
    wrong, in_flight, offset, started = [], {}, 0, time.monotonic()

    def finish_one():
        nonlocal wrong
        job, outcome, message = decoder.receive()
        name, golden, place = in_flight.pop(job)
        if outcome != OK:
            wrong.append(f"{name}: outcome {outcome}: {message}")
            return
        got = np.frombuffer(os.pread(decoder.ring, golden.size, place), np.uint8)
        bad = int((got.reshape(golden.shape) != golden).any(-1).sum())
        if bad:
            wrong.append(f"{name}: {bad} of {golden.shape[0] * golden.shape[1]} pixels differ")

    for name, encoded in cases:
        golden = expected(encoded)
        height, width = golden.shape[:2]
        need = pages(len(encoded)) + pages(golden.size)
        if len(in_flight) >= 12 or offset + need > decoder.ring_bytes:
            while in_flight:
                finish_one()
            offset = 0
        os.pwrite(decoder.ring, b"\xa5" * golden.size, offset + pages(len(encoded)))
        job = decoder.send(encoded, width, height, offset, offset + pages(len(encoded)))
        in_flight[job] = (name, golden, offset + pages(len(encoded)))
        offset += need
    while in_flight:
        finish_one()
    assert decoder.close() == 0
    print(f"{len(cases)} images, {len(wrong)} wrong, {time.monotonic() - started:.1f} s")
    for line in wrong[:40]:
        print("  " + line)
    assert len(cases) >= 500
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
