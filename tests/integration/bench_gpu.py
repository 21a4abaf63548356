#!/usr/bin/env python3
"""scripts/bench.sh gpu, on a tiny model and the CPU: each part has its figures, the last line all.

Usage: bench_gpu.py SOURCE_DIR BUILD_DIR [unittest arguments]
"""

import json
import os
import subprocess
import sys
import unittest

from patience import patient

SOURCE, BUILD = sys.argv[1:3]
PARTS = ("start", "decode", "prefill", "vision", "first_token", "captions")


def bench(*arguments, reference=sys.executable):
    env = dict(os.environ, FACET_BUILD=BUILD, FACET_REFERENCE_PYTHON=reference)
    done = subprocess.run(
        [os.path.join(SOURCE, "scripts", "bench.sh"), "gpu", *arguments], text=True,
        stdout=subprocess.PIPE, env=env, timeout=patient(580), check=False)
    print(done.stdout, flush=True)
    return done.returncode, done.stdout.splitlines()


class GpuBench(unittest.TestCase):
    def test_every_part(self):
        code, lines = bench("--tiny", "--only", ",".join(PARTS))
        result = json.loads(lines[-1])
        self.assertEqual((code, result["failed"], result["skipped"]), (0, {}, []))
        told = {line.split()[1]: json.loads(line.split(" ", 2)[2])
                for line in lines if line.startswith("part ")}
        self.assertEqual(told, {name: result[name] for name in ("card", *PARTS)})
        for lanes in ("1", "3"):
            figures = result["decode"][lanes]
            self.assertEqual((figures["prompt_tokens"], figures["answer_tokens"]), (96, 128))
            self.assertAlmostEqual(figures["ms_per_step"] * figures["tokens_per_s"],
                                   1000 * int(lanes), delta=10 * int(lanes))
            self.assertGreater(figures["floor_ms"], 0)
        self.assertEqual(result["prefill"]["2x128"]["prompt_tokens"], 128)
        self.assertEqual(result["vision"]["image_tokens"], 5 * 4)
        self.assertEqual(result["first_token"]["112x112"]["prompt_tokens"], 64 + 16)
        for in_flight in ("2", "4"):
            figures = result["captions"][in_flight]
            self.assertEqual((figures["images"], figures["prompt_tokens"]), (6, 32 + 16))
            self.assertGreater(figures["captions_per_s"], 0)
        self.assertGreater(result["start"]["first_token_s"], 0)
        self.assertEqual(result["facet"]["conservation"], "ok")
        self.assertIn("measured elsewhere", result["peers"]["vllm"]["source"])

    def test_limits_and_mistakes(self):
        code, lines = bench("--tiny", "--limit-s", "0", "--only", "decode,captions")
        result = json.loads(lines[-1])
        self.assertEqual((code, result["skipped"]), (0, ["decode", "captions"]))
        self.assertNotIn("decode", result)
        self.assertEqual(bench("--tiny", "--only", "decode,nothing")[0], 2)

    def test_without_a_gpu(self):
        code, lines = bench("--only", "start", reference="/bin/false")
        self.assertEqual(code, 1)
        self.assertEqual(len(lines), 1)  # nothing was made, nothing started


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
