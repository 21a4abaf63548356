"""The measurements of scripts/bench/gpu.py: each asks a running daemon and returns its figures."""

import concurrent.futures
import io
import random
import statistics

import numpy as np
from gpu_floors import image_tokens, resized
from load_client import Ask, BenchError
from PIL import Image

COLOURS = 16  # random ones a side, blown up: the large shapes of a photograph
TRIES = 10  # runs of decoding until enough have a time in which all lanes decode


def digits(count, seed):
    """A text of `count` tokens that shares no beginning with another seed's."""
    source = random.Random(seed)
    return "".join(source.choice("0123456789") for _ in range(count))


def jpeg(width, height, seed):
    """Shapes, texture and noise: of a photograph's size as a file, no two alike."""
    source = np.random.default_rng(seed)
    colours = source.integers(0, 256, (COLOURS, COLOURS, 3), dtype=np.uint8)
    smooth = Image.fromarray(colours).resize((width, height), Image.BICUBIC)
    grain = source.integers(0, 24, (height // 2 + 1, width // 2 + 1), dtype=np.uint8)
    grain = np.repeat(np.repeat(grain, 2, 0), 2, 1)[:height, :width, None]
    pixels = np.clip(np.asarray(smooth, dtype=np.int16) + grain - 12, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=88)
    return out.getvalue()


def make_images(count, width, height):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda seed: jpeg(width, height, seed), range(count)))


def share(floor, value):
    return round(floor / value, 4) if value else None


def idle_gaps(client):
    """What each worker says of the GPU's idle time between steps; absent: it does not say."""
    return [worker["idle_gap_us"] for worker in client.status()["workers"]
            if "idle_gap_us" in worker]


class Parts:
    """`scale`: the sizes of the work (gpu.FULL, gpu.TINY); `floors`: gpu_floors.Floors."""

    def __init__(self, client, floors, scale):
        self.client, self.floors, self.scale = client, floors, scale
        self.seed = 0
        ask = self._ask(8, 1)
        client.run([ask])
        self.template = ask.prompt_tokens() - 8  # tokens around the user's text
        ask = self._ask(8, 1, [jpeg(56, 56, 0)])
        client.run([ask])
        usage = ask.done["usage"]
        self.image_template = usage["prompt_tokens"] - usage["image_tokens"] - 8

    def _ask(self, num_digits, max_tokens, images=()):
        self.seed += 1
        return Ask(digits(max(1, num_digits), self.seed), max_tokens, images)

    def text(self, prompt_tokens, max_tokens):
        return self._ask(prompt_tokens - self.template, max_tokens)

    def about(self, image, prompt_tokens, max_tokens):
        """`prompt_tokens` besides the image's own."""
        return self._ask(prompt_tokens - self.image_template, max_tokens, [image])

    def decode(self):
        """ms a step while all lanes decode, and nothing else runs."""
        prompt, answer = self.scale.decode_prompt, self.scale.decode_answer
        figures = {}
        self.client.run([self.text(prompt, 8) for _ in range(2)])
        for lanes in self.scale.decode_lanes:
            runs = []
            for _ in range(TRIES):
                asks = self.client.run([self.text(prompt, answer) for _ in range(lanes)])
                runs += self._steps(asks)
                if len(runs) == (3 if lanes < 16 else 2):
                    break
            if not runs:
                raise BenchError(f"{lanes} lanes never decoded all at the same time")
            best = min(runs, key=lambda run: run["ms_per_step"])
            context = statistics.mean(a.prompt_tokens() for a in asks) + answer / 2
            floor = self.floors.step_s(lanes, context) * 1000
            figures[str(lanes)] = {
                **best, "runs_ms_per_step": [run["ms_per_step"] for run in runs],
                "prompt_tokens": asks[0].prompt_tokens(), "answer_tokens": answer,
                "floor_ms": round(floor, 3), "fraction": share(floor, best["ms_per_step"]),
                "idle_gap_us": idle_gaps(self.client)}
        return figures

    @staticmethod
    def _steps(asks):
        """[figures], or [] where there was no time in which all of them decoded."""
        begin, end = max(a.first for a in asks), min(a.times[-1] for a in asks)
        gaps, tokens = [], 0
        for ask in asks:
            inside = [t for t in ask.times if begin <= t <= end]
            gaps += [b - a for a, b in zip(inside, inside[1:])]
            tokens += len(inside) - 1
        if not gaps or end <= begin:
            return []
        per_s = tokens / (end - begin)
        return [{"ms_per_step": round(1000 * len(asks) / per_s, 3),
                 "ms_per_step_median": round(statistics.median(gaps) * 1000, 3),
                 "ms_per_step_p99": round(sorted(gaps)[int(0.99 * (len(gaps) - 1))] * 1000, 3),
                 "tokens_per_s": round(per_s, 1)}]

    def prefill(self):
        """Prompts' tokens a second up to their first answer tokens."""
        figures = {}
        for count, length in self.scale.prefill:
            took = []
            for _ in range(3 if count * length < 20000 else 1):
                asks = self.client.run([self.text(length, 1) for _ in range(count)])
                took.append(max(a.first for a in asks) - min(a.sent for a in asks))
            lengths = [a.prompt_tokens() for a in asks]
            seconds, floor = min(took), self.floors.prefill_s(lengths)
            figures[f"{count}x{length}"] = {
                "tokens_per_s": round(sum(lengths) / seconds, 1), "ms": round(seconds * 1000, 2),
                "prompt_tokens": lengths[0], "floor_ms": round(floor * 1000, 2),
                "fraction": share(floor, seconds)}
        return figures

    def _worker_ms(self, asks):
        """From dispatch to the first token: what the worker took, decoding of files not counted."""
        spans = [a.done["timings"]["first_token_ms"] - a.done["timings"]["dispatched_ms"]
                 for a in asks]
        return statistics.median(spans)

    def vision(self):
        """The encoder, preprocessing included: an image's prompt against as many text tokens."""
        width, height = self.scale.vision_size
        images = make_images(2 * self.scale.vision_count, width, height)
        asks = [self.about(image, 64, 1) for image in images]
        alone = asks[:self.scale.vision_count]
        for ask in alone:
            self.client.run([ask])
        length = alone[0].prompt_tokens()
        texts = [self.text(length, 1) for _ in range(2 * self.scale.vision_count)]
        for ask in texts[:self.scale.vision_count]:
            self.client.run([ask])
        many, many_texts = asks[len(alone):], texts[len(alone):]
        self.client.run(many)
        self.client.run(many_texts)

        def span(group):
            return max(a.first for a in group) - min(a.sent for a in group)
        ms = self._worker_ms(alone) - self._worker_ms(texts[:len(alone)])
        in_stream = (span(many) - span(many_texts)) / len(many) * 1000
        floor = self.floors.vision_s(*resized(width, height)) * 1000
        decoding = statistics.median(a.done["timings"]["dispatched_ms"] for a in alone)
        return {"size": f"{width}x{height}", "image_tokens": alone[0].done["usage"]["image_tokens"],
                "ms_per_image": round(ms, 3), "ms_per_image_in_a_stream": round(in_stream, 3),
                "decode_of_the_file_ms": round(decoding, 3), "floor_ms": round(floor, 3),
                "fraction": share(floor, ms), "fraction_in_a_stream": share(floor, in_stream)}

    def first_token(self):
        """One image and `first_token_text` tokens of text, to a client that is alone."""
        figures = {}
        for width, height in self.scale.first_token_sizes:
            images = make_images(self.scale.first_token_count + 1, width, height)
            asks = [self.about(image, self.scale.first_token_text, 1) for image in images]
            for ask in asks:
                self.client.run([ask])
            asks = asks[1:]
            seconds = statistics.median(a.first_token_s() for a in asks)
            floor = self.floors.vision_s(*resized(width, height)) \
                + self.floors.prefill_s([asks[0].prompt_tokens()])
            figures[f"{width}x{height}"] = {
                "ms": round(seconds * 1000, 2), "prompt_tokens": asks[0].prompt_tokens(),
                "runs_ms": [round(a.first_token_s() * 1000, 2) for a in asks],
                "worker_ms": round(self._worker_ms(asks), 2),
                "floor_ms": round(floor * 1000, 2), "fraction": share(floor, seconds)}
        return figures

    def captions(self, cpu_seconds):
        """Answers of so many tokens about images that come without end, files decoded included."""
        width, height = self.scale.caption_size
        images = make_images(self.scale.caption_count, width, height)
        answer, figures = self.scale.caption_answer, {}
        warm = [self.about(image, 32, 4) for image in images[:8]]
        self.client.run(warm)
        for in_flight in self.scale.caption_in_flight:
            before = cpu_seconds()
            asks = self.client.run([self.about(image, 32, answer) for image in images], in_flight)
            after = cpu_seconds()
            seconds = max(a.ended for a in asks) - min(a.sent for a in asks)
            prompt = asks[0].prompt_tokens()
            floor = self.floors.caption_s(*resized(width, height), prompt, answer,
                                          min(in_flight, self.scale.max_lanes))
            figures[str(in_flight)] = {
                "captions_per_s": round(len(asks) / seconds, 3), "seconds": round(seconds, 2),
                "images": len(asks), "size": f"{width}x{height}",
                "file_bytes": sum(map(len, images)) // len(images), "prompt_tokens": prompt,
                "image_tokens": image_tokens(width, height), "answer_tokens": answer,
                "latency_s": round(statistics.median(a.ended - a.sent for a in asks), 3),
                "floor_captions_per_s": round(1 / floor, 2),
                "fraction": share(floor, seconds / len(asks)),
                "cpu_seconds": {name: round(after[name] - before.get(name, 0), 2)
                                for name in sorted(after)},
                "idle_gap_us": idle_gaps(self.client)}
        return figures
