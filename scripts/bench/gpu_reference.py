"""transformers on the same checkpoint, for scripts/bench/gpu.py; prints a JSON object a line.

    python scripts/bench/gpu_reference.py MODEL_DIR WORKLOAD.json

sdpa, no compile, batch 1 and greedy: a step of decoding, prefill, and the first token of an image
with text, its file decoded and preprocessed inside the measured time. The last line has all.
"""

import importlib.util
import io
import json
import sys
import time

import torch
import transformers
from PIL import Image


class Reference:
    def __init__(self, directory):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        began = time.monotonic()
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        straight = {"device_map": "cuda"} if self.device == "cuda" and \
            importlib.util.find_spec("accelerate") else {}
        self.model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, attn_implementation="sdpa", **straight)
        self.model = self.model.to(self.device).eval()
        self.model.generation_config = transformers.GenerationConfig(
            do_sample=False, pad_token_id=self.model.generation_config.pad_token_id)
        self.processor = transformers.AutoProcessor.from_pretrained(directory)
        self.load_s = time.monotonic() - began
        self.template = self.prepare("7")["input_ids"].shape[1] - 1

    def prepare(self, text, image_file=None):
        content, images = [{"type": "text", "text": text}], None
        if image_file:
            with open(image_file, "rb") as file:
                images = [Image.open(io.BytesIO(file.read())).convert("RGB")]
            content.insert(0, {"type": "image"})
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(text=[prompt], images=images, return_tensors="pt").to(self.device)

    def generate(self, inputs, tokens):
        with torch.inference_mode():
            self.model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens,
                                eos_token_id=None)
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, text, tokens, image_file=None, repeats=3):
        """(the best of `repeats` runs, tokens of the prompt); `text`: a digit a wanted token."""
        text, took = text[:max(1, len(text) - self.template)], []
        for _ in range(repeats + 1):
            began = time.monotonic()
            inputs = self.prepare(text, image_file)
            self.generate(inputs, tokens)
            took.append(time.monotonic() - began)
        return min(took[1:]), inputs["input_ids"].shape[1]


def main():
    directory, workload = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
    transformers.utils.logging.disable_progress_bar()
    reference = Reference(directory)
    result = {"transformers": transformers.__version__, "torch": torch.__version__,
              "device": reference.device, "load_s": round(reference.load_s, 2)}

    def tell(name, figures):
        result[name] = figures
        print(json.dumps({name: figures}), flush=True)

    text, tokens = workload["decode_text"], workload["decode_tokens"]
    first, prompt = reference.seconds(text, 1)
    whole, _ = reference.seconds(text, tokens, repeats=1)
    step = (whole - first) / (tokens - 1)
    tell("decode", {"1": {"ms_per_step": round(step * 1000, 3), "tokens_per_s": round(1 / step, 2),
                          "prompt_tokens": prompt}})
    seconds, prompt = reference.seconds(workload["prefill_text"], 1)
    tell("prefill", {f"1x{prompt}": {"tokens_per_s": round(prompt / seconds, 1),
                                     "ms": round(seconds * 1000, 2)}})
    images = {}
    for size, path in workload["images"].items():
        seconds, prompt = reference.seconds(workload["image_text"], 1, path)
        images[size] = {"ms": round(seconds * 1000, 2), "prompt_tokens": prompt}
    tell("first_token", images)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
