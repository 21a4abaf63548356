#!/usr/bin/env python3
"""Runs one fuzz target for some seconds, on seeds that are made at that moment.

    run_fuzzer.py TARGET --seconds 20 --min-cov EDGES --max-len BYTES [--keep FOLDER] [--seed N]

Fails when the target found something (the input lies in FOLDER then; TARGET FILE repeats it), and
when it reached fewer edges of our code than --min-cov: a target that reaches nothing proves
nothing. $FACET_FUZZ_SEED, or --seed, repeats a run.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile

import image_seeds

MIN_RUNS = 500  # a slow machine still does these; a target that hangs on every input does not
UNIT_SECONDS = 25  # one input; far above what any takes, on a loaded machine too
MEMORY_MB = 1024
ALLOCATION_MB = 128  # one allocation: what a header claims must not be believed


def make_seeds(target, folder, rng):
    name = os.path.basename(target)
    subprocess.run([target], env={**os.environ, "FACET_FUZZ_SEEDS": folder}, check=True)
    for number, data in enumerate(image_seeds.seeds(name, rng)):
        with open(os.path.join(folder, f"image-{number}"), "wb") as file:
            file.write(data)
    return len(os.listdir(folder))


def options(args, seed, keep):
    return [f"-max_total_time={args.seconds}", f"-seed={seed}", f"-max_len={args.max_len}",
            f"-timeout={UNIT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}",
            f"-malloc_limit_mb={ALLOCATION_MB}", f"-artifact_prefix={keep}/",
            "-print_final_stats=1", "-use_value_profile=1", "-reduce_inputs=0"]


def numbers(pattern, text):
    return [int(number) for number in re.findall(pattern, text)]


def judge(args, code, log):
    """What is wrong with the run; nothing if it is good."""
    if code != 0:
        return f"the target ended with {code}: see above; TARGET FILE repeats it"
    cov = max(numbers(r"cov: (\d+)", log), default=0)
    runs = max(numbers(r"stat::number_of_executed_units: (\d+)", log), default=0)
    if cov < args.min_cov:
        return f"cov: {cov} edges were reached, at least {args.min_cov} are wanted"
    if runs < MIN_RUNS:
        return f"{runs} inputs were tried, at least {MIN_RUNS} are wanted"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--min-cov", type=int, default=1)
    parser.add_argument("--max-len", type=int, default=4096)
    parser.add_argument("--keep", default=".")
    parser.add_argument("--seed", type=int,
                        default=int(os.environ.get("FACET_FUZZ_SEED", "0")))
    args = parser.parse_args()
    seed = args.seed or random.SystemRandom().randrange(1, 2**31)
    keep = os.path.join(args.keep, os.path.basename(args.target))
    os.makedirs(keep, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="facet-fuzz-") as folder:
        count = make_seeds(args.target, folder, random.Random(seed))
        command = [args.target, *options(args, seed, keep), folder]
        print(f"seed {seed}, {count} seeds of our own: {' '.join(command)}", flush=True)
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             check=False)
    log = run.stdout.decode(errors="replace")
    lines = [line for line in log.splitlines() if not re.search(r"\t(NEW|REDUCE|pulse)", line)]
    print("\n".join(lines[-60:]))
    wrong = judge(args, run.returncode, log)
    by_seeds = max(numbers(r"INITED cov: (\d+)", log), default=0)
    reached = max(numbers(r"cov: (\d+)", log), default=0)
    print(f"cov: {reached} (the seeds alone: {by_seeds}), at least {args.min_cov}")
    if wrong:
        print("FAILED: " + wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
