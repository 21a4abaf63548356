"""Draws configs/samples: pictures no training run has seen, with questions and answers.

usage: python -m demo_model.make_samples DIR   (from scripts/)
"""

import json
import os
import sys

from PIL import Image

from . import draw

PER_TASK = {"attribute": 9, "place": 5, "count": 5, "number": 7, "word": 7, "bars": 4, "same": 4}


def write(image, directory, stem, lossless):
    name = stem + (".png" if lossless else ".jpg")
    path = os.path.join(directory, name)
    if lossless:
        image.save(path, optimize=True)
    else:
        image.save(path, quality=90)
    return name


def main(directory):
    os.makedirs(directory, exist_ok=True)
    lines = []
    for task, wanted in PER_TASK.items():
        seen = set()
        index = 0
        while len(seen) < wanted and index < 1000:
            sample = draw.draw_sample(task, "samples", 0, index)
            index += 1
            # Different answers first, so that a handful of pictures shows the range.
            if sample.answer in seen and task not in ("bars", "same"):
                continue
            if task in ("bars", "same") and \
                    sum(line["answer"] == sample.answer and line["task"] == task
                        for line in lines) >= wanted // 2:
                continue
            seen.add(sample.answer if task not in ("bars", "same") else index)
            stem = f"{task}-{len(seen)}"
            marks = [""] if len(sample.images) == 1 else ["-a", "-b"]
            names = [write(Image.fromarray(pixels), directory, stem + mark, len(seen) % 3 == 0)
                     for pixels, mark in zip(sample.images, marks)]
            lines.append({"image": names if len(names) > 1 else names[0],
                          "question": sample.question, "answer": sample.answer, "task": task})
        assert len(seen) == wanted, f"{task}: only {len(seen)} different answers"
    with open(os.path.join(directory, "samples.jsonl"), "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
