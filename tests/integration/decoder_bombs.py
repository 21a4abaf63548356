"""Small files that unpack to the largest images there may be: bounded time, bounded memory.

    decoder_bombs.py BINARY
"""

import struct
import sys
import time
import zlib

import numpy as np
from PIL import Image

from decoder_harness import BAD_IMAGE, CHILD_FAULT, CHILD_KILLED, OK, Decoder
from decoder_pixels import chunk, save
from excused import excused
from patience import patient

WIDTH, HEIGHT = 16384, 3051  # the longest side, and 49.99 of the 50 million pixels
CPU_SECONDS, MEMORY_MB = int(patient(10)), 1024  # by default 10 s and 1 GiB
SHORT_CPU_SECONDS = 2  # for what never ends in time


def zeros(count):
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    out = b"".join(packer.compress(block[:min(len(block), count - at)])
                   for at in range(0, count, len(block)))
    return out + packer.flush()


def flat_png(depth, color, interlace=0, extra=b"", late=b""):
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[color]
    row = (WIDTH * channels * depth + 7) // 8 + 1
    # Interlaced: seven passes, each row with its filter byte.
    count = row * HEIGHT if not interlace else row * HEIGHT + 4 * HEIGHT
    return (b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color, 0, 0, interlace))
            + extra + chunk(b"IDAT", zeros(count)) + late + chunk(b"IEND", b""))


def many_scans(jpeg, count):
    """A progressive JPEG whose last scan comes again and again."""
    last = jpeg.rfind(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + jpeg[-2:]


def cases():
    """Name, file, width, height, whether it must be read; else it may run out of time."""
    sides, gigabyte = (WIDTH, HEIGHT), zeros(1 << 30)
    text, profile = chunk(b"zTXt", b"k\0\0" + gigabyte), chunk(b"iCCP", b"p\0\0" + gigabyte)
    yield "PNG of zeros", flat_png(8, 2), *sides, True
    yield "PNG of zeros, 16-bit RGBA, interlaced", flat_png(16, 6, 1), *sides, False
    yield "PNG of zeros, 1-bit", flat_png(1, 0), *sides, True
    yield "PNG with 2 GiB of text and profile", flat_png(1, 0, extra=profile + text), *sides, True
    many = chunk(b"tEXt", b"a\0") * 60000
    yield "PNG with 60000 empty chunks in front", flat_png(1, 0, extra=many), *sides, True
    flat = Image.new("L", sides)
    yield "JPEG of one gray", save(flat, "JPEG", quality=1), *sides, True
    progressive = save(flat, "JPEG", quality=1, progressive=True)
    app1 = progressive[:2] + b"\xff\xe1" + turned() + progressive[2:]
    yield "JPEG, progressive, turned", app1, HEIGHT, WIDTH, True
    yield "JPEG of 400 scans", many_scans(progressive, 400), *sides, False
    small = save(Image.new("L", (500, 400)), "JPEG", progressive=True)
    yield "small JPEG of 9000 scans", many_scans(small, 9000), 500, 400, False
    sides = (WIDTH - 1, HEIGHT)  # as large as Pillow writes it
    flat = Image.new("RGB", sides)
    yield "WebP, lossy", save(flat, "WEBP", method=0, quality=1), *sides, True
    yield "WebP, lossless", save(flat, "WEBP", method=0, lossless=True, quality=0), *sides, True


def turned():
    body = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, 6, 0, 0)
    return struct.pack(">H", len(body) + 2) + body


def peak_mb(pid):
    """The peak address space of a process in MB; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return max(int(line.split()[1]) for line in file if line.startswith("VmPeak")) / 1024
    except (OSError, ValueError):
        return 0


def run(decoder, encoded, width, height, wall_seconds):
    """Seconds, peak MB, outcome, message."""
    offset = -(-len(encoded) // 65536) * 65536
    started, peak = time.monotonic(), 0
    job = decoder.send(encoded, width, height, 0, offset)
    while True:
        for pid in decoder.children():
            peak = max(peak, peak_mb(pid))
        try:
            got, outcome, message = decoder.receive(0.01)
        except TimeoutError:
            assert time.monotonic() - started < wall_seconds + patient(20), "no answer"
            continue
        assert got == job
        return time.monotonic() - started, peak, outcome, message


def main():
    binary = sys.argv[1]
    any_memory = excused("decoder_bombs.memory", binary)
    generous = Decoder(binary, 512 << 20, f"[decoder]\ncpu_seconds = {CPU_SECONDS}\n")
    short = Decoder(binary, 512 << 20, f"[decoder]\ncpu_seconds = {SHORT_CPU_SECONDS}\n")
    count = 0
    for name, encoded, width, height, must_read in cases():
        limit = 4 * (CPU_SECONDS if must_read else SHORT_CPU_SECONDS)  # the server's wall clock
        seconds, peak, outcome, message = run(generous if must_read else short, encoded, width,
                                              height, limit)
        print(f"  {name}: {len(encoded)} bytes, {seconds:.2f} s, {peak:.0f} MB, "
              f"outcome {outcome} {message}", flush=True)
        assert seconds < limit + patient(5), name
        assert any_memory or peak <= MEMORY_MB, (name, peak)
        is_starved = outcome == CHILD_KILLED and "longer than" in message  # by a busy host
        assert outcome in (OK, BAD_IMAGE, CHILD_FAULT) or is_starved, name
        assert outcome == OK or message, name
        assert outcome == OK or not must_read or is_starved, (name, message)
        count += 1
    small = save(Image.fromarray(np.zeros((4, 5, 3), np.uint8)), "PNG")
    for decoder in (generous, short):
        outcome, message, _ = decoder.decode(small, 5, 4)
        assert outcome == OK, message
        assert decoder.close() == 0
    print(f"{count} bombs survived")


if __name__ == "__main__":
    main()
