"""What the work of scripts/bench/gpu.py costs at least: bytes over bandwidth, operations over rate.

Nothing is counted but matrix products, attention, and the weights and KV that decoding reads.
`rates`: {"read_bytes_per_s", "flops_per_s"} of the card, measured in the same run.
"""

import math

PATCH_VALUES = 3 * 2 * 14 * 14


class Floors:
    def __init__(self, shape, rates, bytes_per_value):
        self.text, self.vision, self.vocab = shape.text, shape.vision, shape.vocab
        self.rates, self.bytes_per_value = rates, bytes_per_value

    def _layer_weights(self):
        t = self.text
        heads = (2 * t["heads"] + 2 * t["kv_heads"]) * t["head"]  # q, o and k, v
        return t["hidden"] * (heads + 3 * t["mlp"])

    def _head_weights(self):
        return self.text["hidden"] * self.vocab

    def kv_bytes(self, tokens):
        t = self.text
        return 2 * t["layers"] * t["kv_heads"] * t["head"] * self.bytes_per_value * tokens

    def weight_bytes(self):
        """Read by each step of decoding."""
        layers = self.text["layers"] * self._layer_weights()
        return self.bytes_per_value * (layers + self._head_weights())

    def step_s(self, lanes, context):
        """One step of `lanes` sequences that hold `context` tokens each."""
        read = (self.weight_bytes() + self.kv_bytes(lanes * context)) \
            / self.rates["read_bytes_per_s"]
        flops = 2 * lanes * self.weight_bytes() / self.bytes_per_value
        return max(read, flops / self.rates["flops_per_s"])

    def prefill_s(self, lengths):
        """Prompts of these lengths up to their first tokens."""
        t = self.text
        flops = 0
        for n in lengths:
            products = 2 * n * t["layers"] * self._layer_weights()
            attention = 2 * n * n * t["layers"] * t["heads"] * t["head"]  # the causal half
            flops += products + attention + 2 * self._head_weights()
        return flops / self.rates["flops_per_s"]

    def vision_s(self, width, height):
        """The encoder on one image of this size, already a multiple of 28."""
        v = self.vision
        rows, columns = height // v["patch"], width // v["patch"]
        patches, hidden = rows * columns, v["hidden"]
        linear = 2 * patches * (4 * hidden * hidden + 3 * hidden * v["mlp"])
        window = v["window"] // v["patch"]
        seen = 0  # sum over patches of how many patches each attends to in a window block
        for row in range(math.ceil(rows / window)):
            for column in range(math.ceil(columns / window)):
                size = min(window, rows - row * window) * min(window, columns - column * window)
                seen += size * size
        full = len(v["full"])
        attention = 4 * hidden * (full * patches * patches + (v["depth"] - full) * seen)
        merged = 2 * (patches // 4) * 4 * hidden * (4 * hidden + self.text["hidden"])
        patch_embed = 2 * patches * PATCH_VALUES * hidden
        flops = patch_embed + v["depth"] * linear + attention + merged
        return flops / self.rates["flops_per_s"]

    def caption_s(self, width, height, prompt, answer, lanes):
        """GPU seconds of one caption among `lanes` others."""
        step = self.step_s(lanes, prompt + answer / 2)
        return self.vision_s(width, height) + self.prefill_s([prompt]) + answer * step / lanes


def resized(width, height, factor=28):
    """Sides after the processor's resize, for images within its limits."""
    return tuple(max(factor, round(side / factor) * factor) for side in (width, height))


def image_tokens(width, height):
    w, h = resized(width, height)
    return (w // 28) * (h // 28)
