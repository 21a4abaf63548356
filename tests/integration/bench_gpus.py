#!/usr/bin/env python3
"""scripts/bench.sh gpus, with two workers on the CPU and a tiny model: what it says of each part.

Usage: bench_gpus.py SOURCE_DIR BUILD_DIR [unittest arguments]
Speeds and gaps are not judged here: two workers share what cores there are with other tests.
"""

import json
import os
import subprocess
import sys
import unittest

from patience import patient

SOURCE, BUILD = sys.argv[1:3]


def bench(*arguments):
    done = subprocess.run(
        [os.path.join(SOURCE, "scripts", "bench.sh"), "gpus", *arguments], text=True,
        stdout=subprocess.PIPE, env=dict(os.environ, FACET_BUILD=BUILD), check=False,
        timeout=patient(580))
    print(done.stdout, flush=True)
    return done.returncode, done.stdout.splitlines()


class GpusBench(unittest.TestCase):
    def test_every_part(self):
        code, lines = bench("--tiny", "--count", "2", "--only", "scaling,uneven,deaths")
        result = json.loads(lines[-1])
        self.assertEqual((code, result["failed"], result["skipped"]), (0, {}, []))
        self.check_scaling(result["scaling"])
        uneven = result["uneven"]
        self.assertGreater(uneven["budget_bytes"][0], uneven["budget_bytes"][1])
        self.assertGreater(uneven["kv_tokens"][0], uneven["kv_tokens"][1])
        self.assertAlmostEqual(uneven["share_of_the_slower"],
                               uneven["tokens"][1] / sum(uneven["tokens"]), places=3)
        deaths = result["deaths"]
        self.assertEqual(deaths["conservation"], "ok")
        self.assertGreaterEqual(deaths["deaths"][0], 3)  # the rehearsal's is one
        self.assertEqual(deaths["deaths"][1], 0)
        self.assertEqual(deaths["left_out"], {"illegal_access": "needs a GPU"})
        for name in ("SIGKILL", "SIGSEGV"):
            self.assertEqual(deaths[name]["times"], 1)
            self.assertGreater(deaths[name]["moved"], 0)
            self.assertIn("gap_joined_ms", deaths[name])

    def check_scaling(self, scaling):
        self.assertEqual(len(scaling["all"]["finished"]), 2)
        self.assertGreater(scaling["all"]["ring"]["pixels"]["high_mark"], 0)
        for kind, key in (("tokens", "tokens_per_s"), ("captions", "answers_per_s")):
            one, every = scaling["one"][kind], scaling["all"][kind]
            self.assertEqual(every["answers"], 2 * one["answers"])
            self.assertAlmostEqual(every["mean_answer"], one["mean_answer"], places=1)
            self.assertAlmostEqual(scaling[kind + "_ratio_of_whole_runs"], every[key] / one[key],
                                   places=1)
            self.assertLessEqual({"facet-broker", "facet-decoder", "load_generator"},
                                 set(every["cpu_seconds"]))
        steady = scaling["all"]["tokens"]["steady"]
        if steady is None:  # so fast or so busy that no two samples came in time
            return
        self.assertEqual(len(steady["tokens"]), 2)
        self.assertAlmostEqual(steady["tokens_per_s"], sum(steady["tokens"]) / steady["seconds"],
                               delta=steady["tokens_per_s"] * 0.05)

    def test_wrong_use(self):
        self.assertEqual(bench("--tiny", "--count", "1")[0], 2)
        self.assertEqual(bench("--only", "scale")[0], 2)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
