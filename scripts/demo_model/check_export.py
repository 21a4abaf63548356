"""Does transformers, given the exported directory, compute what the training model computes?

usage: python -m demo_model.check_export DIR   (from scripts/)
"""

import sys

import numpy as np
import torch
from PIL import Image

from . import draw, export, loader, text
from .model import DemoModel


def main(directory):
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    ours = DemoModel().eval()
    export.load_into(ours, directory)
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(directory)
    worst = 0.0
    for index, task in enumerate(draw.TASKS):
        for text_first in (False, True):
            sample = draw.draw_sample(task, "check", 0, index)
            images = [Image.fromarray(i) for i in sample.images]
            content = [{"type": "image"}] * len(images)
            words = [{"type": "text", "text": sample.question}]
            parts = words + content if text_first else content + words
            prompt = processor.apply_chat_template([{"role": "user", "content": parts}],
                                                   add_generation_prompt=True)
            inputs = processor(text=[prompt], images=images, return_tensors="pt")
            ids = text.prompt_ids(sample.question, len(images), text_first)
            assert inputs["input_ids"][0].tolist() == ids, (prompt, ids)
            n = len(images)
            batch, _ = loader.views(bytearray(loader.slot_bytes()), 0, n, 1)
            loader.put(batch, 0, sample, text_first)
            tensors = {k: torch.from_numpy(np.array(v)) for k, v in batch.items()}
            tensors.pop("labels")
            with torch.no_grad():
                mine = ours(**tensors)[0, 0]
                ref = theirs(**inputs).logits[0, -1]
            worst = max(worst, (mine - ref).abs().max().item())
            scale = ref.abs().max().item()
    print(f"largest logit difference {worst:.2e} (logits up to {scale:.2f})")
    assert worst < 2e-4, "the training model and transformers disagree"


if __name__ == "__main__":
    main(sys.argv[1])
