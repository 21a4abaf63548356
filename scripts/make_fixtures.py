#!/usr/bin/env python3
"""Makes everything in tests/data anew: random checkpoints, and what the references answer to them.

    ~/.cache/facet/ref/bin/python scripts/make_fixtures.py [OUT_DIR] [--only PART,...] [--list]

Only with the pinned versions of scripts/setup.sh --reference: others may answer otherwise. OUT_DIR
is tests/data unless given. Checkpoints are made where they are needed and not kept: their bytes
follow from the seed (make_fixture_checkpoint.py needs numpy alone), and each golden file names
their SHA-256. About fifteen minutes on two cores.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PINNED = {"transformers": "5.17.0", "torch": "2.11.0", "torchvision": "0.26.0",
          "tokenizers": "0.23.3", "numpy": "2.4.6", "pillow": "13.0.0"}

# part -> script and arguments; OUT stands for the folder.
PARTS = {
    "fixture": ["make_goldens.py", "OUT", "--only", "fixture"],
    "pixels": ["make_goldens.py", "OUT", "--only", "pixels"],
    "tokenizer": ["make_goldens.py", "OUT", "--only", "tokenizer"],
    "demo": ["make_goldens.py", "OUT", "--only", "demo"],
    "text_image": ["make_text_image_goldens.py", "OUT"],
    "parity_hard": ["make_parity_goldens.py", "OUT", "--shape", "hard", "--count", "84"],
    "parity_plain": ["make_parity_goldens.py", "OUT", "--shape", "plain", "--count", "24",
                     "--seed", "8"],
    "processor": ["compare_processor.py", "--write-goldens", "OUT"],
}


def check_versions():
    wrong = []
    for name, wanted in PINNED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != wanted:
            wrong.append(f"{name} is {found}, {wanted} is needed")
    if wrong:
        sys.exit("make_fixtures: " + "; ".join(wrong))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default=os.path.join(HERE, "..", "tests", "data"))
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, comma separated")
    parser.add_argument("--list", action="store_true", help="print the parts and end")
    args = parser.parse_args()
    if args.list:
        print("\n".join(PARTS))
        return
    unknown = [part for part in args.only.split(",") if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    check_versions()
    for part in args.only.split(","):
        script, *arguments = [args.out if word == "OUT" else word for word in PARTS[part]]
        print(f"== {part}", flush=True)
        subprocess.run([sys.executable, os.path.join(HERE, script), *arguments], check=True)


if __name__ == "__main__":
    main()
