"""How many fresh pictures does the demo model get right?

    python scripts/eval_demo_model.py --seed 1 --count 1000
    python scripts/eval_demo_model.py --seed 1 --count 1000 --backend transformers
    python scripts/eval_demo_model.py --seed 1 --count 1000 --compare

Draws pictures and questions that no training run has seen (another seed space), asks Facet over
its own protocol with many requests in flight, and compares the answers letter by letter. With
--socket it asks a running daemon, otherwise it starts a private one. Progress goes to stderr;
the last line of stdout is one JSON object. --backend transformers asks transformers instead,
in fp32 on the CPU; --compare asks both and counts the answers whose token ids differ.
Needs numpy, pillow, pyzmq, msgpack; for transformers also torch.
"""

import argparse
import functools
import io
import json
import os
import sys
import time

from PIL import Image

from demo_model import draw

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MAX_TOKENS = 16


def draw_all(seed, count):
    """Tasks in turn, so that each has its share of any count."""
    return [draw.draw_sample(draw.TASKS[i % len(draw.TASKS)], "eval", seed, i)
            for i in range(count)]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Progress:
    def __init__(self, name, total):
        self.name, self.total, self.done, self.told = name, total, 0, time.monotonic()

    def step(self):
        self.done += 1
        now = time.monotonic()
        if now - self.told > 2 or self.done == self.total:
            print(f"{self.name}: {self.done} of {self.total}", file=sys.stderr, flush=True)
            self.told = now


def ask_facet(samples, args):
    """[(token ids, text)] and the seconds it took."""
    from demo_model.facet_client import Pool, PrivateDaemon

    if not args.socket:
        with PrivateDaemon(args.bin, args.model, args.workers, args.dtype) as daemon:
            return _ask_socket(samples, daemon.socket_path, args, Pool)
    return _ask_socket(samples, args.socket, args, Pool)


def _ask_socket(samples, socket_path, args, pool_type):
    encoded = [([png(image) for image in s.images], s.question) for s in samples]
    progress = Progress("facet", len(samples))
    answers = [None] * len(samples)
    pool = pool_type(socket_path, in_flight=args.in_flight, max_tokens=MAX_TOKENS)
    began = time.monotonic()
    for number, ids, text, _ in pool.run(encoded):
        answers[number] = (ids, text)
        progress.step()
    seconds = time.monotonic() - began
    pool.close()
    return answers, seconds


def ask_transformers(samples, args):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="eager").eval()
    processor = transformers.AutoProcessor.from_pretrained(args.model)
    progress = Progress("transformers", len(samples))
    answers = [None] * len(samples)
    began = time.monotonic()
    for group in groups_of_equal_shape(samples):
        prompts, images = [], []
        for sample in (samples[i] for i in group):
            content = [{"type": "image"}] * len(sample.images)
            content = content + [{"type": "text", "text": sample.question}]
            prompts.append(processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True))
            images += [Image.fromarray(i) for i in sample.images]
        inputs = processor(text=prompts, images=images, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        for i, row in zip(group, out[:, inputs["input_ids"].shape[1]:].tolist()):
            ids = without_end(row, args.model)
            answers[i] = (ids, processor.tokenizer.decode(ids, skip_special_tokens=True))
            progress.step()
    return answers, time.monotonic() - began


def groups_of_equal_shape(samples, most=16):
    """Indices of samples whose prompts are equally long, so that a batch needs no padding."""
    groups = {}
    for i, sample in enumerate(samples):
        groups.setdefault((len(sample.images), len(sample.question)), []).append(i)
    return [group[at:at + most] for group in groups.values() for at in range(0, len(group), most)]


def score(samples, answers):
    right, total = {}, {}
    for sample, (_, text) in zip(samples, answers):
        total[sample.task] = total.get(sample.task, 0) + 1
        right[sample.task] = right.get(sample.task, 0) + (text == sample.answer)
    tasks = {task: round(100 * right[task] / total[task], 2) for task in total}
    return round(100 * sum(right.values()) / max(1, len(samples)), 2), tasks


@functools.cache
def end_ids(model):
    with open(os.path.join(model, "generation_config.json"), encoding="utf-8") as file:
        ends = json.load(file)["eos_token_id"]
    return frozenset(ends if isinstance(ends, list) else [ends])


def without_end(ids, model):
    """The ids before the end mark, which may be reported or not and is padded in a batch."""
    ends = end_ids(model)
    return ids[:next((i for i, each in enumerate(ids) if each in ends), len(ids))]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default=os.path.join(ROOT, "configs", "demo-model"))
    parser.add_argument("--socket", default=os.environ.get("FACET_SOCKET", ""),
                        help="of a running daemon (also FACET_SOCKET); else a private one")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build", "release", "bin"))
    parser.add_argument("--workers", type=int, default=1, help="of the private daemon")
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16", "fp16"), default="fp32",
                        help="of the private daemon; transformers always computes in fp32")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--backend", choices=("facet", "transformers"), default="facet")
    parser.add_argument("--threads", type=int, default=1,
                        help="of transformers; more rarely helps a model this small")
    parser.add_argument("--compare", action="store_true", help="ask Facet and transformers")
    parser.add_argument("--wrong", action="store_true", help="print wrong answers to stderr")
    parser.add_argument("--floor", type=float, help="exit 1 if overall is below, in percent")
    args = parser.parse_args()

    began = time.monotonic()
    samples = draw_all(args.seed, args.count)
    images = sum(len(s.images) for s in samples)
    print(f"drew {images} pictures in {time.monotonic() - began:.1f} s", file=sys.stderr)
    ask = ask_facet if args.backend == "facet" else ask_transformers
    answers, seconds = ask(samples, args)
    overall, tasks = score(samples, answers)
    result = {"overall": overall, "tasks": tasks, "count": args.count, "seed": args.seed,
              "images": images, "seconds": round(seconds, 2),
              "images_per_s": round(images / max(seconds, 1e-9), 2), "backend": args.backend}
    if args.compare and args.backend == "facet":
        reference, _ = ask_transformers(samples, args)
        differing = [i for i, (a, b) in enumerate(zip(answers, reference))
                     if without_end(a[0], args.model) != without_end(b[0], args.model)]
        for i in differing:
            print(f"differs: {samples[i].task} {i}: {answers[i]} against {reference[i]}",
                  file=sys.stderr)
        result["differing"] = len(differing)
        result["reference_overall"] = score(samples, reference)[0]
    if args.wrong:
        for i, (sample, (_, text)) in enumerate(zip(samples, answers)):
            if text != sample.answer:
                print(f"wrong: {sample.task} {i}: {sample.question!r} is {sample.answer!r}, "
                      f"said {text!r}", file=sys.stderr)
    print(json.dumps(result), flush=True)
    if args.floor is not None and overall < args.floor:
        sys.exit(1)


if __name__ == "__main__":
    main()
