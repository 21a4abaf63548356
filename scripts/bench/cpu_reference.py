"""transformers on the CPU, for scripts/bench/cpu.py: tokens/s and images/s at each batch size.

    python scripts/bench/cpu_reference.py MODEL_DIR WORKLOAD.json

fp32, sdpa, as many torch threads as cores. Runs the workload that the file names (texts with the
tokens to make of each; images with a question) and prints one JSON object as its last line.
Images are decoded and preprocessed inside the measured time, as Facet does both. Needs torch and
transformers.
"""

import io
import json
import os
import sys
import time

import torch
import transformers
from PIL import Image


def load(directory):
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    # Only what is asked: greedy, and every answer as long as asked.
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, pad_token_id=model.generation_config.pad_token_id)
    processor = transformers.AutoProcessor.from_pretrained(directory)
    processor.tokenizer.padding_side = "left"
    return model, processor


def answer(model, processor, batch, tokens):
    """`batch`: [(image path or None, question)]. Returns how many tokens were made."""
    prompts, images = [], []
    for path, question in batch:
        content = [{"type": "text", "text": question}]
        if path:
            with open(path, "rb") as file:
                images.append(Image.open(io.BytesIO(file.read())).convert("RGB"))
            content.insert(0, {"type": "image"})
        prompts.append(processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True))
    inputs = processor(text=prompts, images=images or None, return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens,
                             eos_token_id=None)
    return out[:, inputs["input_ids"].shape[1]:].numel()


def measure(model, processor, items, tokens, batch):
    """Seconds for all items in batches of this size, and the tokens made."""
    began, made = time.monotonic(), 0
    for at in range(0, len(items), batch):
        made += answer(model, processor, items[at:at + batch], tokens)
    return time.monotonic() - began, made


def main():
    directory, workload = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
    transformers.utils.logging.disable_progress_bar()
    model, processor = load(directory)
    result = {"transformers": transformers.__version__, "torch": torch.__version__,
              "threads": torch.get_num_threads(), "tokens_per_s": {}, "images_per_s": {}}
    for name, items, tokens, sizes in (
            ("tokens_per_s", [(None, text) for text in workload["texts"]],
             workload["text_tokens"], workload["text_batches"]),
            ("images_per_s", [(path, workload["question"]) for path in workload["images"]],
             workload["image_tokens"], workload["image_batches"])):
        answer(model, processor, items[:1], 2)  # warm: caches of the allocator and of oneDNN
        for batch in sizes:
            few = items[:batch]  # a small batch needs no more to show its speed
            while len(few) < min(len(items), 4 * batch, 32):
                few = items[:len(few) + batch]
            seconds, made = measure(model, processor, few, tokens, batch)
            speed = (made if name == "tokens_per_s" else len(few)) / seconds
            result[name][str(batch)] = round(speed, 2)
            print(f"transformers: {name} at batch {batch}: {speed:.1f}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
