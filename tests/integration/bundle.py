#!/usr/bin/env python3
"""scripts/bundle.sh: a bundle that was moved serves with an empty environment, and is small.

Usage: bundle.py SOURCE_DIR BUILD_DIR [unittest arguments]
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

SOURCE, BUILD = sys.argv[1:3]
MAX_BYTES = 40e6  # of the tarball
BARE = {"PATH": "/usr/bin:/bin"}
TORCH_LIB = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "lib",
                         f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages",
                         "torch", "lib")
CONFIG = """
[worker]
engine = "echo"
count = 1
[broker]
runtime_dir = "{folder}/run"
[ring]
ingest_bytes = "8MiB"
pixel_bytes = "32MiB"
[ledger]
bytes = "8MiB"
max_records = 256
[log]
file = "{folder}/facetd.log"
"""


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="facet-bundle-")
        done = subprocess.run([os.path.join(SOURCE, "scripts", "bundle.sh"), "--no-build",
                               "--build", BUILD, "--output", os.path.join(cls.folder, "made")],
                              check=True, text=True, stdout=subprocess.PIPE)
        print(done.stdout, flush=True)
        made = os.path.join(cls.folder, "made")
        cls.tarball = next(os.path.join(made, n) for n in os.listdir(made) if n.endswith(".gz"))
        # Elsewhere, under a name that a shell would take apart; the first place is gone.
        cls.root = os.path.join(cls.folder, "moved to", "a place")
        with tarfile.open(cls.tarball) as tar:
            tar.extractall(os.path.join(cls.folder, "unpacked"))
        os.makedirs(os.path.dirname(cls.root))
        unpacked = os.path.join(cls.folder, "unpacked")
        shutil.move(os.path.join(unpacked, os.listdir(unpacked)[0]), cls.root)
        cls.size = os.path.getsize(cls.tarball)
        shutil.rmtree(made)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def facet(self, *words, env=None, code=0):
        done = subprocess.run([os.path.join(self.root, "bin", "facet"), *words], text=True,
                              env={**BARE, **(env or {})}, capture_output=True, timeout=200,
                              stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def test_is_small_and_knows_no_place(self):
        self.assertLess(self.size, MAX_BYTES)
        for folder in ("bin", "libexec/facet", "etc"):
            for name in os.listdir(os.path.join(self.root, folder)):
                with open(os.path.join(self.root, folder, name), "rb") as file:
                    content = file.read()
                self.assertNotIn(BUILD.encode() + b"/bin", content, name)
                self.assertNotIn(TORCH_LIB.encode(), content, name)
        libraries = os.listdir(os.path.join(self.root, "lib"))
        self.assertIn("libzmq.so.5", libraries)
        self.assertEqual([n for n in libraries
                          if n.startswith(("libc.", "libtorch", "libcu", "libstdc"))], [])

    def test_serves_with_its_own_libraries(self):
        config = os.path.join(self.folder, "facet.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=self.folder))
        ready, inner = os.pipe()
        daemon = subprocess.Popen(
            [os.path.join(self.root, "bin", "facetd"), "--config", config, "--ready-fd",
             str(inner)], env=BARE, pass_fds=[inner], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL)
        try:
            os.close(inner)
            self.assertEqual(os.read(ready, 1), b"1")
            answer = json.loads(self.facet("run", "-p", "hello", "--config", config, "--json",
                                           "--max-tokens", "5"))
            self.assertEqual(len(answer["token_ids"]), 5)
            status = json.loads(self.facet("status", "--config", config, "--json"))
            for pid in (daemon.pid, status["pid"], status["workers"][0]["pid"]):
                with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
                    maps = file.read()
                self.assertIn(os.path.join(self.root, "lib", "libxxhash.so.0"), maps)
                self.assertNotIn(BUILD, maps)
        finally:
            os.close(ready)
            daemon.terminate()
            self.assertEqual(daemon.wait(60), 0)

    @unittest.skipUnless(os.path.exists(os.path.join(BUILD, "bin", "facet-worker")) and
                         os.path.exists(TORCH_LIB), "this build has no libtorch")
    def test_answers_with_the_demo_model(self):
        model = os.path.join(SOURCE, "configs", "demo-model")
        samples = os.path.join(SOURCE, "configs", "samples")
        with open(os.path.join(samples, "samples.jsonl"), encoding="utf-8") as file:
            sample = json.loads(file.readline())
        image = sample.get("image") or sample["images"][0]
        question = ["run", os.path.join(samples, image), "-p", sample["question"], "--model", model,
                    "--json"]
        began = time.monotonic()
        env = {"XDG_RUNTIME_DIR": self.folder, "CUDA_VISIBLE_DEVICES": ""}
        told = json.loads(self.facet(*question, env={**env, "FACET_TORCH_LIB": TORCH_LIB}))
        self.assertEqual(told["text"].strip(), sample["answer"])
        linked = subprocess.run([os.path.join(self.root, "setup-libtorch.sh"), sys.executable],
                                env=BARE, capture_output=True, text=True, check=False)
        self.assertEqual(linked.returncode, 0, linked.stderr)
        self.assertIn("facet-worker finds all of its libraries", linked.stdout)
        self.assertEqual(json.loads(self.facet(*question, env=env))["text"], told["text"])
        print(f"two private daemons with the demo model: {time.monotonic() - began:.1f} s")

    def test_setup_libtorch_names_what_is_wrong(self):
        for argument, words in (("/usr/bin/false", "has no torch"), ("/usr", "has no torch")):
            done = subprocess.run([os.path.join(self.root, "setup-libtorch.sh"), argument],
                                  env=BARE, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
