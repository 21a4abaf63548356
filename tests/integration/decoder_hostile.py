"""Images made to do harm, and jobs that no broker should send: each gets its error.

    decoder_hostile.py BINARY [SEED]
"""

import io
import os
import signal
import struct
import sys
import time
import warnings

import numpy as np
from PIL import Image, ImageOps

from decoder_harness import BAD_IMAGE, CHILD_FAULT, CHILD_KILLED, OK, PAGE, Decoder
from decoder_pixels import chunk, exif_bytes, picture, raw_png, rows_png, save, with_wrong_crc
from excused import excused
from patience import patient

warnings.simplefilter("ignore")
SIDE = 3500  # its decoding takes some 300 ms


def pillow_pixels(encoded):
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        return np.asarray(image.convert("RGB"))
    except Exception:  # whatever Pillow says: it does not read this file
        return None


def webp_files(rng):
    """One of each kind: lossy, lossless, and extended with alpha, EXIF and XMP."""
    image = picture(rng, 40, 30)
    alpha = image.copy()
    alpha.putalpha(picture(rng, 40, 30, "L"))
    return [save(image, "WEBP"), save(image, "WEBP", lossless=True),
            save(alpha, "WEBP", exif=exif_bytes(6), xmp=b'<x tiff:Orientation="3"/>'),
            save(alpha, "WEBP", lossless=True, exif=exif_bytes(5))]


def check_truncated(decoder, rng):
    """Cut at every 7th byte: refused, unless what is cut off holds no pixel."""
    files = [save(picture(rng, 60, 40), "JPEG"),
             save(picture(rng, 60, 40), "JPEG", progressive=True),
             save(picture(rng, 40, 30), "PNG"), raw_png(rng, 30, 20, 8, 6, interlace=1),
             *webp_files(rng)]
    count = 0
    for encoded in files:
        whole = pillow_pixels(encoded)
        height, width = whole.shape[:2]
        for end in range(1, len(encoded), 7):
            cut = encoded[:end]
            outcome, message, pixels = decoder.decode(cut, width, height)
            if outcome == OK:
                same = pixels == whole.tobytes()
                assert same and pillow_pixels(cut) is not None, f"{end} of {len(encoded)}"
            else:
                assert outcome == BAD_IMAGE and message, (end, outcome, message)
            count += 1
    return count


def check_cut_ends(decoder, rng):
    """PNG without its last bytes: read as long as Pillow reads it, to the same pixels."""
    read = 0
    for encoded in (save(picture(rng, 40, 30), "PNG"), raw_png(rng, 30, 20, 8, 6, interlace=1),
                    raw_png(rng, 33, 21, 2, 0, interlace=1), raw_png(rng, 1, 1, 8, 2)):
        height, width = pillow_pixels(encoded).shape[:2]
        for missing in range(1, 28):  # IEND, the checksums, the end of the compressed stream
            cut = encoded[:-missing]
            outcome, message, pixels = decoder.decode(cut, width, height)
            expected = pillow_pixels(cut)
            assert (outcome == OK) == (expected is not None), (missing, outcome, message)
            assert outcome != OK or pixels == expected.tobytes(), missing
            read += outcome == OK
    return read


def check_damaged(decoder, rng, rounds):
    """Random bytes changed: never a fault, and what both read is read alike (JPEG)."""
    files = [save(picture(rng, 60, 40), "JPEG"),
             save(picture(rng, 50, 33), "JPEG", progressive=True),
             save(picture(rng, 40, 30), "PNG"), raw_png(rng, 30, 20, 8, 6, interlace=1),
             *webp_files(rng)]
    for _ in range(rounds):
        encoded = bytearray(files[int(rng.integers(len(files)))])
        height, width = pillow_pixels(bytes(encoded)).shape[:2]
        for _ in range(int(rng.integers(1, 6))):
            encoded[int(rng.integers(len(encoded)))] = int(rng.integers(256))
        outcome, message, _ = decoder.decode(bytes(encoded), width, height)
        assert outcome in (OK, BAD_IMAGE), (outcome, message)
        assert outcome == OK or message
    for _ in range(rounds):
        head = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBPVP8L",
                b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\x1c"][int(rng.integers(5))]
        noise = head + rng.bytes(int(rng.integers(1, 3000)))
        outcome, message, _ = decoder.decode(noise, 8, 8)
        assert outcome == BAD_IMAGE and message, (outcome, message)
    return 2 * rounds


def png_header(width, height, depth=8, color=2):
    body = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body)


def check_lying(decoder, rng):
    jpeg = save(picture(rng, 60, 40), "JPEG")
    at = jpeg.find(b"\xff\xc0")
    taller = jpeg[:at + 5] + struct.pack(">HH", 400, 600) + jpeg[at + 9:]
    tail = chunk(b"IDAT", b"\x78\x9c\x03\0\0\0\0\1") + chunk(b"IEND", b"")
    cases = [
        ("sides of another image", jpeg, 61, 40),
        ("transposed sides", jpeg, 40, 60),
        ("zero width", png_header(0, 5) + tail, 5, 5),
        ("empty", b"\0", 5, 5),
        ("gif", b"GIF89a" + bytes(100), 5, 5),
        ("webp header alone", b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100), 5, 5),
        ("bomb: 50 MP of nothing", png_header(7000, 7000) + tail, 7000, 7000),
        ("bomb: 31-bit sides", png_header(0x7fffffff, 0x7fffffff) + tail, 7000, 7000),
        ("PNG of too few rows", rows_png([b"\0" + rng.bytes(90)] * 19, 30, 20), 30, 20),
        ("no palette", png_header(5, 5, 8, 3) + tail, 5, 5),
        ("depth 3", png_header(5, 5, 3, 0) + tail, 5, 5),
        ("12-bit", jpeg[:at + 4] + b"\x0c" + jpeg[at + 5:], 60, 40),
        ("lossless", jpeg[:at + 1] + b"\xc3" + jpeg[at + 2:], 60, 40),
        ("two frames", jpeg[:2] + jpeg[at:at + 19] + jpeg[2:], 60, 40),
    ]
    for name, encoded, width, height in cases:
        outcome, message, _ = decoder.decode(encoded, width, height)
        assert outcome == BAD_IMAGE and message, (name, outcome, message)
        print(f"  {name}: {message}")
    # Entropy data that ends in an orderly way, but early: filled up with gray, as Pillow does.
    outcome, message, pixels = decoder.decode(taller, 600, 400)
    assert outcome == OK and pixels == pillow_pixels(taller).tobytes(), message
    return len(cases) + 1


def animated(rng, kind, count):
    pictures = [picture(rng, 20, 10) for _ in range(count)]
    return save(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=50)


def check_named(decoder, rng):
    """What is refused for its kind says its kind."""
    image = picture(rng, 20, 10)
    cases = [(animated(rng, "GIF", 3), "GIF is not supported"), (save(image, "GIF"), "GIF is not"),
             (animated(rng, "WEBP", 2), "animated WebP: 2 frames are not supported"),
             (animated(rng, "WEBP", 7), "animated WebP: 7 frames are not supported"),
             (save(image, "BMP"), "BMP is not"), (save(image, "TIFF"), "TIFF is not"),
             (save(image, "AVIF"), "HEIF or AVIF is not"), (save(image, "PDF"), "PDF is not"),
             (save(image, "PPM"), "not a JPEG, PNG or WebP: starts with 50 36 0a 32")]
    for encoded, expected in cases:
        outcome, message, _ = decoder.decode(encoded, 20, 10)
        assert outcome == BAD_IMAGE and message.startswith(expected), (expected, message)
    return len(cases)


def check_lying_webp(decoder, rng):
    """Canvas, frame, chunk and file sizes that contradict each other; a frame of another kind."""
    lossy, lossless, extended, _ = webp_files(rng)

    def put(encoded, at, data):
        return encoded[:at] + data + encoded[at + len(data):]

    le = struct.Struct("<I").pack
    square = struct.pack("<HH", 7000, 7000)
    cases = [
        ("canvas wider than its frame", put(extended, 24, b"\x28"), 30, 41),
        ("canvas narrower than its frame", put(extended, 24, b"\x26"), 30, 39),
        ("canvas of 2^24 pixels a side", put(extended, 24, b"\xff" * 6), 30, 40),
        ("lossy frame of another size", put(lossy, 26, struct.pack("<HH", 400, 300)), 400, 300),
        ("lossless frame of another size", put(lossless, 21, le(399 | 299 << 14)), 400, 300),
        ("bomb: 49 MP of nothing, lossy", put(lossy, 26, square), 7000, 7000),
        ("bomb: 49 MP of nothing, lossless", put(lossless, 21, le(6999 | 6999 << 14)), 7000, 7000),
        ("file longer than it is", put(lossy, 4, le(len(lossy))), 40, 30),
        ("file shorter than it is", put(lossy, 4, le(60)), 40, 30),
        ("file of 4 GiB", put(lossy, 4, le(0xffffffff)), 40, 30),
        ("chunk of 4 GiB", put(lossy, 16, le(0xffffffff)), 40, 30),
        ("chunk of nothing", put(lossy, 16, le(0)), 40, 30),
        ("lossy data called lossless", put(lossy, 12, b"VP8L"), 40, 30),
        ("lossless data called lossy", put(lossless, 12, b"VP8 "), 40, 30),
        ("no frame at all", extended[:30].replace(extended[4:8], le(22), 1), 40, 30),
        ("animated without frames", put(extended, 20, b"\x02"), 40, 30),
    ]
    for name, encoded, width, height in cases:
        outcome, message, _ = decoder.decode(encoded, width, height)
        assert outcome == BAD_IMAGE and message, (name, outcome, message)
        print(f"  {name}: {message}")
    return len(cases)


def check_png_checksums(decoder, rng):
    """Wrong checksums in front of the pixels, and of the pixels: refused, here and by Pillow."""
    extra = chunk(b"tEXt", b"a\0b") + chunk(b"prVt", b"private") + chunk(b"tRNS", b"\0\x80")
    png = raw_png(rng, 30, 20, 8, 3, extra=extra, palette=rng.bytes(768))
    cases = [with_wrong_crc(png, kind) for kind in (b"IHDR", b"PLTE", b"tEXt", b"prVt", b"tRNS")]
    rows = [b"\0" + rng.bytes(90)] * 20
    cases += [rows_png(rows, 30, 20, lambda packed: packed[:-1] + bytes([packed[-1] ^ 1])),
              rows_png([b"\x09" + rows[0][1:]] * 20, 30, 20)]
    for at, encoded in enumerate(cases):
        outcome, message, _ = decoder.decode(encoded, 30, 20)
        assert outcome == BAD_IMAGE and message, (at, outcome, message)
        assert pillow_pixels(encoded) is None, at
    return len(cases)


def check_jobs(decoder, rng):
    jpeg = save(picture(rng, 60, 40), "JPEG")
    size, run = len(jpeg), 3 * 60 * 40
    os.pwrite(decoder.ring, jpeg, 0)
    ring, top = decoder.ring_bytes, 1 << 64
    bad = [(1, size, PAGE, run, 60, 40), (0, 0, PAGE, run, 60, 40),
           (0, size, PAGE + 9, run, 60, 40),
           (0, size, ring, run, 60, 40), (0, size, top - 4096, run, 60, 40),
           (0, size, PAGE, run + 3, 60, 40), (0, size, PAGE, 0, 0, 40), (0, size, 0, run, 60, 40),
           (0, top - 1, PAGE, run, 60, 40), (ring - 4096, 4097, PAGE, run, 60, 40),
           (0, size, PAGE, top - 1, 0xffffffff, 0xffffffff), (0, PAGE + 1, PAGE, run, 60, 40)]
    for job in bad:
        decoder.send_raw(*job)
        _, outcome, message = decoder.receive()
        assert outcome == BAD_IMAGE and "job is wrong" in message, (job, outcome, message)
    decoder.socket.send(b"nonsense")  # dropped, not answered
    return len(bad)


def wait_for(what, condition, timeout=10):
    deadline = time.monotonic() + patient(timeout)
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError(f"not seen in {timeout} s: {what}")


def slow_jpeg(rng):
    """Large enough that a signal finds its child at work."""
    return save(picture(rng, SIDE, SIDE), "JPEG", progressive=True, quality=95)


def check_signals(binary, rng, big):
    """Killed from outside: to be tried again; its own fault: counted; the server lives on."""
    decoder = Decoder(binary)
    expected = {signal.SIGKILL: CHILD_KILLED, signal.SIGTERM: CHILD_KILLED,
                signal.SIGSEGV: CHILD_FAULT, signal.SIGABRT: CHILD_FAULT}
    for number, outcome in expected.items():
        job = decoder.send(big, SIDE, SIDE, 0, 64 << 20)
        wait_for("a child", decoder.children)
        os.kill(decoder.children()[0], number)
        got, seen, message = decoder.receive()
        assert (got, seen) == (job, outcome), (number, seen, message)
    outcome, message, _ = decoder.decode(save(picture(rng, 9, 9), "JPEG"), 9, 9)
    assert outcome == OK, message
    # The server's own death takes its children along at once.
    decoder.send(big, SIDE, SIDE, 0, 64 << 20)
    wait_for("a child", decoder.children)
    started = time.monotonic()
    os.kill(decoder.pid, signal.SIGKILL)
    assert decoder.lifeline_closed(5), "a child outlived the server"
    print(f"  server killed: children gone after {1e3 * (time.monotonic() - started):.1f} ms")
    os.waitpid(decoder.pid, 0)
    decoder.discard()
    return len(expected)


def check_limits(binary, rng, big):
    """A child beyond its CPU or memory limit is an image's fault, and says so."""
    decoder = Decoder(binary, 512 << 20, "[decoder]\ncpu_seconds = 1\nmemory_bytes = \"80MB\"\n")
    outcome, message, _ = decoder.decode(big, SIDE, SIDE)
    if not excused("decoder_hostile.memory", binary):
        assert outcome in (BAD_IMAGE, CHILD_FAULT) and message, (outcome, message)
    print(f"  memory limit: {message}")
    outcome, message, _ = decoder.decode(save(picture(rng, 9, 9), "JPEG"), 9, 9)
    assert outcome == OK, message
    assert decoder.close() == 0
    return 2


def main():
    binary, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print("seed", seed)
    rng = np.random.default_rng(seed)
    decoder = Decoder(binary)
    count = check_truncated(decoder, rng)
    assert check_cut_ends(decoder, rng) > 4 * 12
    count += check_damaged(decoder, rng, 300)
    count += check_lying(decoder, rng)
    count += check_lying_webp(decoder, rng)
    count += check_named(decoder, rng)
    count += check_png_checksums(decoder, rng)
    count += check_jobs(decoder, rng)
    outcome, message, _ = decoder.decode(save(picture(rng, 9, 9), "JPEG"), 9, 9)
    assert outcome == OK, message
    assert decoder.is_alive()
    assert decoder.close() == 0
    big = slow_jpeg(rng)
    count += check_signals(binary, rng, big)
    count += check_limits(binary, rng, big)
    print(f"{count} hostile cases survived")


if __name__ == "__main__":
    main()
