"""What the benches of GPUs share: parts under a time limit, the model's place, the programs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import gpu_model

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(BENCH, "..", "..")


def add_arguments(parser, parts):
    parser.add_argument("--only", default="", help="parts, with commas between them")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", default="")
    parser.add_argument("--limit-s", type=float, default=470.0)
    parser.set_defaults(parts=parts)


def check_arguments(parser, args):
    unknown = set(filter(None, args.only.split(","))) - set(args.parts)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(args.parts)}")


def place_for(size):
    """Memory where it has room for the model and the rings, else a disk."""
    for folder, room in (("/dev/shm", size + (4 << 30)), (tempfile.gettempdir(), size + (1 << 30))):
        if os.path.isdir(folder) and shutil.disk_usage(folder).free > room:
            return folder
    sys.exit(f"neither /dev/shm nor {tempfile.gettempdir()} has {size / 1e9:.1f} GB free; "
             "--model names another folder")


class PartRunner:
    def __init__(self, name, args, model):
        self.name, self.args = name, args
        self.began = time.monotonic()
        self.wanted = args.only.split(",") if args.only else list(args.parts)
        self.results = {"bench": name, "model": model, "skipped": [], "failed": {}}
        self.bin_dir = os.path.join(
            os.environ.get("FACET_BUILD", os.path.join(ROOT, "build", "release")), "bin")
        cache = os.environ.get("FACET_CACHE", os.path.expanduser("~/.cache/facet"))
        candidates = [os.environ.get("FACET_REFERENCE_PYTHON"),
                      os.path.join(cache, "ref", "bin", "python"), sys.executable]
        self.reference_python = next(p for p in candidates if p and os.path.exists(p))
        self.folder = tempfile.mkdtemp(prefix="facet-bench-")
        self.remove = [self.folder]

    def say(self, text):
        print(f"{self.name}: {time.monotonic() - self.began:6.1f} s: {text}", flush=True)

    def is_late(self):
        return time.monotonic() - self.began > self.args.limit_s

    def tell(self, name, figures):
        self.results[name] = figures
        print(f"part {name} {json.dumps(figures)}", flush=True)

    def part(self, name, work):
        """Runs one part; its failure is noted and ends no other."""
        if name not in self.wanted:
            return
        if self.is_late():
            self.results["skipped"].append(name)
            return
        self.say(name)
        begin = time.monotonic()
        try:
            figures = work()
        except Exception as error:  # whatever it is, the other parts' figures are wanted
            self.results["failed"][name] = f"{type(error).__name__}: {error}"
            self.say(f"{name} failed: {self.results['failed'][name]}")
            return
        figures["part_took_s"] = round(time.monotonic() - begin, 1)
        self.tell(name, figures)

    def make_model(self, shape):
        size = gpu_model.num_bytes(gpu_model.SHAPES[shape])
        model = self.args.model or os.path.join(place_for(size),
                                                os.path.basename(self.folder) + "-model")
        if os.path.exists(os.path.join(model, "model.safetensors.index.json")):
            self.say(f"model: {model}, as it is")
            return model
        self.say(f"making the model: {size / 1e9:.1f} GB in {model}")
        if not self.args.model:
            self.remove.append(model)
        maker = sys.executable if self.args.tiny else self.reference_python
        subprocess.run([maker, os.path.join(BENCH, "gpu_model.py"), model, "--shape", shape],
                       stdout=subprocess.DEVNULL, check=True)
        return model

    def clean_up(self):
        for folder in self.remove:
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self):
        self.results["took_s"] = round(time.monotonic() - self.began, 1)
        print(json.dumps(self.results), flush=True)
        return 1 if self.results["failed"] else 0
