"""Runs `facet` for the tests of the command line."""

import json
import os
import resource
import subprocess
import sys
import time

from patience import patient


class Facet:
    def __init__(self, bin_dir, runtime_dir):
        self.path = os.path.join(bin_dir, "facet")
        # Nothing of this host's own daemon, folders or models.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("FACET_")}
        self.env["XDG_RUNTIME_DIR"] = runtime_dir

    def start(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.Popen([self.path, *words], stdin=stdin, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.env, start_new_session=True)

    def run(self, *words, text="", timeout_s=120, stdout=subprocess.PIPE, max_file_bytes=None):
        """`max_file_bytes`: no file that it writes can become larger, as on a full disk."""
        limit = (max_file_bytes, resource.RLIM_INFINITY)
        preexec = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        done = subprocess.run([self.path, *words], input=text.encode(), stdout=stdout,
                              stderr=subprocess.PIPE, env=self.env, timeout=patient(timeout_s),
                              check=False, preexec_fn=preexec if max_file_bytes else None)
        done.out, done.err = (done.stdout or b"").decode(), done.stderr.decode()
        return done


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(part) for part in what))


def expect_exit(done, code):
    expect(done.returncode == code, f"exit code {done.returncode}, not {code}\n", done.args,
           "\n", done.stderr.decode())


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def answers_of(path):
    """What must be the same in every run, by image; a doubled line is an error."""
    found = {}
    for row in rows_of(path):
        name = json.dumps([row["image"], row["question"]])
        expect(name not in found, name, "has two lines")
        found[name] = (row["index"], row["text"], row["token_ids"], row["finish_reason"],
                       row.get("error"))
    return found


def run_cases(cases):
    for case in cases:
        start = time.monotonic()
        print(f"{case.__name__} ...", end=" ", flush=True)
        case()
        print(f"ok, {time.monotonic() - start:.1f} s", flush=True)
    sys.exit(0)
