"""The demo model on a GPU answers as it does on the CPU, through the whole pool, and a worker that
is killed leaves none of the GPU's memory behind.

    python tests/gpu/gpu_answers_test.py BIN_DIR
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "configs", "demo-model")
SAMPLES = os.path.join(ROOT, "configs", "samples", "samples.jsonl")
KILLS = 20

CONFIG = """
[model]
path = "{model}"
dtype = "{dtype}"
[worker]
count = 1
{gpus}
[broker]
runtime_dir = "{folder}/run"
[log]
file = "{folder}/facet.log"
"""


class Pool:
    def __init__(self, bin_dir, dtype, on_gpu):
        self.bin_dir = bin_dir
        self.folder = tempfile.mkdtemp(prefix="facet-gpu-")
        with open(f"{self.folder}/facet.toml", "w", encoding="utf-8") as file:
            file.write(CONFIG.format(model=MODEL, dtype=dtype, folder=self.folder,
                                     gpus='gpus = "0"' if on_gpu else ""))
        self.env = dict(os.environ, FACET_SOCKET=f"{self.folder}/run/facet.sock")
        if not on_gpu:
            self.env["CUDA_VISIBLE_DEVICES"] = ""

    def __enter__(self):
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [f"{self.bin_dir}/facetd", "--config", f"{self.folder}/facet.toml",
             "--ready-fd", str(write_end)], pass_fds=[write_end], env=self.env)
        os.close(write_end)
        if not os.read(read_end, 1):
            sys.exit(open(f"{self.folder}/facet.log", encoding="utf-8").read())
        os.close(read_end)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        shutil.rmtree(self.folder)

    def worker(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        for pid in open(path, encoding="ascii").read().split():
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if os.path.basename(file.read().split(b"\0")[0]) == b"facet-worker":
                    return int(pid)
        return None

    def batch(self, name):
        """A running `facet batch` over the samples and the file of its answers."""
        out = f"{self.folder}/{name}.jsonl"
        return out, subprocess.Popen(
            [f"{self.bin_dir}/facet", "batch", "--questions", SAMPLES, "-q", "-o", out],
            env=self.env)

    def answers(self, name, kill=False):
        out, batch = self.batch(name)
        if kill:
            worker = self.worker()
            if worker is None:
                sys.exit(f"{name}: there is no worker to kill")
            os.kill(worker, signal.SIGKILL)
        if batch.wait(120) != 0:
            sys.exit(f"{name}: facet batch failed")
        rows = [json.loads(line) for line in open(out, encoding="utf-8")]
        return {row["image"] if isinstance(row["image"], str) else tuple(row["image"]):
                row["token_ids"] for row in rows}


def used_mib():
    out = subprocess.check_output(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"])
    return int(out.split()[0])


def wait_for_memory(baseline):
    deadline = time.monotonic() + 30
    while used_mib() > baseline:
        if time.monotonic() > deadline:
            sys.exit(f"GPU memory: {used_mib()} MiB used, {baseline} before")
        time.sleep(0.1)


def main():
    bin_dir = sys.argv[1]
    baseline = used_mib()
    with Pool(bin_dir, "fp32", on_gpu=False) as pool:
        wanted = pool.answers("cpu")
    print(f"CPU: {len(wanted)} answers")
    for dtype in ("fp32", "bf16"):
        with Pool(bin_dir, dtype, on_gpu=True) as pool:
            got = pool.answers("gpu")
            different = [name for name in wanted if got.get(name) != wanted[name]]
            print(f"GPU {dtype}: {len(got)} answers, {len(different)} differ: {different}")
            if different or len(got) != len(wanted):
                sys.exit(1)
            held = used_mib()
            for number in range(KILLS if dtype == "bf16" else 0):
                got = pool.answers(f"killed-{number}", kill=True)
                if got != wanted:
                    sys.exit(f"kill {number}: answers changed")
            if dtype == "bf16":
                print(f"{KILLS} kills of the worker, answers unchanged; "
                      f"{held} MiB used before, {used_mib()} after")
                if abs(used_mib() - held) > 2:  # a page of the driver's own
                    sys.exit("GPU memory was lost")
        wait_for_memory(baseline)
    print("equal")


if __name__ == "__main__":
    main()
