#!/usr/bin/env python3
"""Prints image | question | answer | right? for a batch of known questions, and what was killed.

Usage: demo_table.py QUESTIONS.jsonl ANSWERS.jsonl KILLED.json MILLISECONDS
Part of scripts/demo.sh. Exits 1 when an answer is missing or fewer than nine in ten are right.
"""
import json
import sys


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def main():
    questions, answers = read_lines(sys.argv[1]), read_lines(sys.argv[2])
    with open(sys.argv[3], encoding="utf-8") as file:
        killed = json.load(file)
    given = {row["index"]: row for row in answers}
    rows, right, again, images = [], 0, 0, 0
    for index, asked in enumerate(questions):
        row = given.get(index)
        text = row["text"].strip() if row and not row.get("error") else "(none)"
        again += bool(row) and row.get("attempts", 1) > 1
        right += text == asked["answer"]
        names = [asked["image"]] if isinstance(asked["image"], str) else asked["image"]
        images += len(names)
        verdict = "yes" if text == asked["answer"] else f"no ({asked['answer']})"
        rows.append((" + ".join(names), asked["question"], text, verdict))
    heads = ("image", "question", "answer", "right?")
    widths = [max(len(row[column]) for row in rows + [heads]) for column in range(4)]
    for row in [heads, tuple("-" * width for width in widths)] + rows:
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    seconds = int(sys.argv[4]) / 1000
    print(f"\n{right} of {len(rows)} right, {len(given)} of {len(rows)} answered; "
          f"{images} images in {seconds:.1f} s, {images / seconds:.1f} images/s.")
    print(f"Worker {killed['worker']} (pid {killed['pid']}) was killed with SIGKILL after "
          f"{killed['answers']} answers, while it held {killed['outstanding']} requests; "
          f"{again} requests went on at a second attempt, none was lost.")
    return 0 if len(given) == len(rows) and right >= 0.9 * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
