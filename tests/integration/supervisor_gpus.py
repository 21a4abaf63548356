#!/usr/bin/env python3
"""Which GPUs facetd finds and binds its workers to, with a driver that lists what a test says.

Usage: supervisor_gpus.py BIN_DIR FAKE_DRIVER   (tests/unit/gpu/fake_cuda_driver.c)

The echo worker stands in for facet-worker, an empty file for the GPU code: what is looked at is how
many workers start, what each one sees, and what a wrong wish is told.
"""

import os
import shutil
import sys
import tempfile
import unittest
from unittest import mock

from supervisor_harness import Daemon, wait_for

BIN, DRIVER = sys.argv[1:3]
HOST = ";".join(f"NVIDIA H{n}={n}=9.0=150000000000=140000000000" for n in (1, 2, 3))
CONFIG = """
[model]
path = "{folder}"
[worker]
{worker}
[broker]
runtime_dir = "{folder}/run"
[ring]
ingest_bytes = "8MiB"
pixel_bytes = "32MiB"
[ledger]
bytes = "8MiB"
max_records = 256
"""


def uuid(number):
    part = f"{number:02x}"
    return "GPU-" + "-".join(part * n for n in (4, 2, 2, 2, 6))


class SupervisorGpus(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="facetd-gpus-")
        self.addCleanup(shutil.rmtree, self.folder)
        bin_dir = os.path.join(self.folder, "bin")
        os.mkdir(bin_dir)
        for name in ("facetd", "facet-broker", "facet-decoder", "facet-worker-echo"):
            target = "facet-worker" if name == "facet-worker-echo" else name
            shutil.copy(os.path.join(BIN, name), os.path.join(bin_dir, target))
        self.gpu_code = os.path.join(bin_dir, "facet-cuda.so")
        with open(self.gpu_code, "wb"):
            pass
        self.bin_dir = bin_dir

    def start(self, worker="", host=HOST, visible=None, fault="", wait=True):
        with open(os.path.join(self.folder, "facet.toml"), "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=self.folder, worker=worker))
        env = {"FACET_CUDA_DRIVER": DRIVER, "FACET_FAKE_GPUS": host, "FACET_FAKE_FAULT": fault}
        with mock.patch.dict(os.environ, env):
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            if visible is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = visible
            return Daemon(self.bin_dir, folder=self.folder, wait=wait)

    def seen(self, daemon):
        """What each worker has as CUDA_VISIBLE_DEVICES, by its number; None: not set."""
        found = {}
        for pid, line in daemon.children().items():
            if "--worker " not in line:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = [entry.split(b"=", 1) for entry in file.read().split(b"\0") if entry]
            value = dict(variables).get(b"CUDA_VISIBLE_DEVICES")
            number = int(line.split("--worker ")[1].split()[0])
            found[number] = None if value is None else value.decode()
        return found

    def assert_workers(self, wanted, **how):
        daemon = self.start(**how)
        try:
            wanted = dict(enumerate(wanted))
            wait_for(f"workers {wanted}", lambda: self.seen(daemon) == wanted, 60)
            with open(os.path.join(self.folder, "run", "effective.toml"), encoding="utf-8") as file:
                effective = file.read()
        finally:
            code = daemon.stop(timeout=60)
        self.assertEqual(code, 0, daemon.log())
        return effective, daemon.log()

    def assert_refused(self, words, code=72, **how):
        daemon = self.start(wait=False, **how)
        self.assertFalse(daemon.wait_ready(60))
        self.assertEqual(daemon.wait(60), code, daemon.log())
        for word in words:
            self.assertIn(word, daemon.log())
        self.assertEqual(os.listdir(os.path.join(self.folder, "run")), [])

    def test_one_worker_for_each_visible_gpu(self):
        effective, log = self.assert_workers([uuid(1), uuid(2), uuid(3)])
        self.assertIn("count = 3", effective)
        self.assertIn(uuid(2), effective)
        self.assertIn("0 (NVIDIA H1, " + uuid(1), log)

    def test_the_variable_in_another_order(self):
        self.assert_workers([uuid(3), uuid(1)], visible=f"{uuid(3)[:7]},0,9,1")

    def test_names_are_of_the_visible_list(self):
        self.assert_workers([uuid(1), uuid(2)], visible="2,1,0",
                            worker=f'gpus = ["2", "{uuid(2)}"]')

    def test_no_gpu_is_one_worker_on_the_cpu(self):
        self.assert_workers([None], host="")
        self.assert_workers([""], visible="")
        os.remove(self.gpu_code)
        _, log = self.assert_workers([None])
        self.assertIn("no GPU code", log)

    def test_a_count_alone_binds_nobody(self):
        self.assert_workers([None, None], worker="count = 2")

    def test_a_worker_keeps_its_gpu_through_its_lives(self):
        daemon = self.start(worker='gpus = "2,0"')
        former = daemon.pid_of("--worker 0")
        os.kill(former, 9)
        daemon.wait_replaced("--worker 0", former, 60)
        wait_for("the same GPU", lambda: self.seen(daemon) == {0: uuid(3), 1: uuid(1)}, 60)
        self.assertEqual(daemon.stop(timeout=60), 0)

    def test_what_is_wrong_is_told_with_what_there_is(self):
        self.assert_refused(['worker.gpus: no GPU "3"', uuid(1), uuid(3)], worker='gpus = "0,3"')
        self.assert_refused(['no GPU "1"; visible are 0 (NVIDIA H3', "hides 2 more"], visible="2",
                            worker='gpus = "1"')
        self.assert_refused(["named before; workers share no GPU"],
                            worker=f'gpus = ["0", "{uuid(1)}"]')
        self.assert_refused(["worker.device_max_memory: 2 sizes for 3 workers"],
                            worker='device_max_memory = "15GB 15GB"')
        self.assert_refused(["cuInit: unknown error", "CUDA_VISIBLE_DEVICES="], code=1,
                            fault="error")
        self.assert_refused(["ended the process that asked it"], code=1, fault="crash")
        os.remove(self.gpu_code)
        self.assert_refused(["this build has no GPU code"], worker='gpus = "0"')


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
