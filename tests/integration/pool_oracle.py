"""What the echo engine must answer, computed apart from Facet: worker/echo/README.md in Python."""

import ctypes
import io
import struct

from PIL import Image, ImageOps

VOCABULARY = 1 << 17
STOP_ONE_IN = 64
WIDE = ["\u00e9", "\u00df", "\u03bb", "\u0436", "\u6f22", "\u2603", "\U0001f431", "\U0001f600"]

_xxhash = ctypes.CDLL("libxxhash.so.0")
_xxhash.XXH3_64bits.restype = ctypes.c_uint64
_xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    return _xxhash.XXH3_64bits(data, len(data))


def number(value):
    return struct.pack("<Q", value)


def text(value):
    raw = value.encode()
    return number(len(raw)) + raw


def prompt_digest(request):
    """Of a pool_client.Request, whose parts are its images and then its prompt."""
    parts = [number(1) + number(i) + text("") for i in range(len(request.images))]
    parts.append(number(0) + number(0) + text(request.prompt))
    data = number(1) + text("user") + number(len(parts)) + b"".join(parts)
    params = request.params
    data += number(params.get("min_tokens", 0))
    for name, default in (("temperature", 0), ("top_p", 1), ("min_p", 0),
                          ("repetition_penalty", 0), ("presence_penalty", 0),
                          ("frequency_penalty", 0)):
        data += struct.pack("<d", params.get(name, default))
    data += number(params.get("top_k", 0)) + number(params.get("seed", 0))
    stops = params.get("stop", [])
    return xxh3(data + number(len(stops)) + b"".join(text(s) for s in stops))


def pixel_digest(images):
    data = number(len(images))
    for encoded in images:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
        data += number(image.width) + number(image.height) + image.tobytes()
    return xxh3(data)


def token_text(token):
    """(now, held): the held character comes with the next token or at the end."""
    now = " " + "".join(chr(ord("a") + ((token >> shift) & 15)) for shift in (0, 4, 8))
    wide = WIDE[(token >> 12) & 7]
    return (now, wide) if (token >> 15) & 3 == 0 else (now + wide, "")


def logprobs(tokens, count):
    """Pairs of token and logprob, 1 + count for each token."""
    pairs = []
    for token in tokens:
        pairs.append((token, -(token % 64) / 8))
        pairs += [((token + i) % VOCABULARY, -i / 8) for i in range(1, count + 1)]
    return pairs


def answer(request):
    """(tokens, text, finish_reason) of a request with an explicit max_tokens."""
    prompt, pixels = prompt_digest(request), pixel_digest(request.images)
    tokens, out, held = [], "", ""
    params = request.params
    while True:
        if len(tokens) >= params["max_tokens"]:
            return tokens, out + held, "length"
        state = number(prompt) + number(pixels) + number(len(tokens))
        value = xxh3(state + struct.pack(f"<{len(tokens)}i", *tokens))
        stop = (value >> 32) % STOP_ONE_IN == 0
        if stop and not params.get("ignore_eos") and len(tokens) >= params.get("min_tokens", 0):
            return tokens, out + held, "stop"
        tokens.append(value % VOCABULARY)
        now, next_held = token_text(tokens[-1])
        out, held = out + held + now, next_held
