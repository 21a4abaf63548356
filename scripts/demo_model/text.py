"""Prompts as token ids: what the chat template and the tokenizer of the demo model give.

The demo tokenizer is byte-level with no merges, and the id of a byte is its value, so that
encoding is `list(text.encode())`. export.py writes the tokenizer files for the same rule and
check_export compares the two.
"""

SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)
ID = {name: 256 + i for i, name in enumerate(SPECIALS)}
IM_START, IM_END, ENDOFTEXT = ID["<|im_start|>"], ID["<|im_end|>"], ID["<|endoftext|>"]
VISION_START, VISION_END = ID["<|vision_start|>"], ID["<|vision_end|>"]
IMAGE_PAD = ID["<|image_pad|>"]
SYSTEM = "You are a helpful assistant."
CELLS = 8  # merged cells on each side of a 224x224 picture

ANSWER_MAX = 14  # "bottom right" and the end mark, rounded up
LENGTHS = {1: 176, 2: 240}  # padded sequence length by number of pictures


def encode(text):
    return list(text.encode())


def prompt_ids(question, images, text_first=False):
    """Ids of the whole prompt up to and including the assistant's header."""
    vision = ([VISION_START] + [IMAGE_PAD] * (CELLS * CELLS) + [VISION_END]) * images
    body = encode(question) + vision if text_first else vision + encode(question)
    return ([IM_START] + encode("system\n" + SYSTEM) + [IM_END] + encode("\n")
            + [IM_START] + encode("user\n") + body + [IM_END] + encode("\n")
            + [IM_START] + encode("assistant\n"))


def layout(ids):
    """(positions [3][n], cells [n]) of ids; cell = index of the picture token, or -1."""
    rows, cells, next_position, seen, i = ([], [], []), [], 0, 0, 0
    while i < len(ids):
        if ids[i] != IMAGE_PAD:
            for row in rows:
                row.append(next_position)
            cells.append(-1)
            next_position += 1
            i += 1
            continue
        for r in range(CELLS):
            for c in range(CELLS):
                rows[0].append(next_position)
                rows[1].append(next_position + r)
                rows[2].append(next_position + c)
                cells.append(seen)
                seen += 1
        next_position += CELLS
        i += CELLS * CELLS
    return rows, cells
