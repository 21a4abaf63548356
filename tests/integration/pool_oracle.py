"""What the echo engine must answer, computed apart from Facet: worker/echo/README.md in Python."""

import ctypes
import functools
import io
import struct

from PIL import Image, ImageOps

VOCABULARY = 1 << 17
STOP_ONE_IN = 64
DRIFT = "\x01drift "  # in a prompt: the answer differs from attempt to attempt
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


@functools.lru_cache(maxsize=1024)
def decoded(encoded):
    """Width, height and pixels of an image."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    return number(image.width) + number(image.height) + image.tobytes()


def drifted_digest(prompt, attempt):
    """Of a prompt with the drift mark, in that attempt; they count from 1."""
    return xxh3(number(prompt) + number(attempt))


def pixel_digest(images):
    return xxh3(number(len(images)) + b"".join(decoded(encoded) for encoded in images))


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


def step(request, prompt, pixels, tokens):
    """The token after `tokens`, or how the answer ends there."""
    params = request.params
    if len(tokens) >= params["max_tokens"]:
        return "length"
    state = number(prompt) + number(pixels) + number(len(tokens))
    value = xxh3(state + struct.pack(f"<{len(tokens)}i", *tokens))
    stop = (value >> 32) % STOP_ONE_IN == 0
    if stop and not params.get("ignore_eos") and len(tokens) >= params.get("min_tokens", 0):
        return "stop"
    return value % VOCABULARY


def text_of(tokens):
    out, held = "", ""
    for token in tokens:
        now, next_held = token_text(token)
        out, held = out + held + now, next_held
    return out + held


def answer(request):
    """(tokens, text, finish_reason) of a request with an explicit max_tokens."""
    prompt, pixels = prompt_digest(request), pixel_digest(request.images)
    tokens = []
    while True:
        after = step(request, prompt, pixels, tokens)
        if isinstance(after, str):
            return tokens, text_of(tokens), after
        tokens.append(after)


def why_not_by_attempts(request):
    """Of an answered request with the drift mark, whose attempts answer differently: tokens come
    from one attempt after the other, never from a former one again, and the last attempt of all
    ends the answer. Returns what contradicts that, or ""."""
    prompt, pixels = prompt_digest(request), pixel_digest(request.images)
    last = request.done["attempts"]
    prompts = [drifted_digest(prompt, attempt) for attempt in range(1, last + 1)]
    attempt = 1
    for index, token in enumerate(request.tokens):
        while step(request, prompts[attempt - 1], pixels, request.tokens[:index]) != token:
            attempt += 1
            if attempt > last:
                return f"token {index} is of no attempt from the one before it up to {last}"
    end = step(request, prompts[last - 1], pixels, request.tokens)
    if end != request.done["finish_reason"]:
        return f"attempt {last} would have gone on with {end}"
    if request.text != text_of(request.tokens) + f"#{last}":
        return f"the text ends with {request.text[-4:]!r} and not with attempt {last}"
    return ""
