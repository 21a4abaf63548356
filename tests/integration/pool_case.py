"""What the pool tests share: a daemon for each test, which ends idle and whole."""

import faulthandler
import io
import os
import random
import struct
import subprocess
import sys
import time
import unittest
import zlib

import zmq
from PIL import Image

import pool_oracle
from patience import patient, patient_ms
from pool_client import Client
from pool_daemon import Daemon, wait_idle, wait_ready

TEST_LIMIT_S = patient(120)  # a test that hangs says where
SEED = int(os.environ.get("FACET_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def jpeg(width=64, height=48):
    out = io.BytesIO()
    noise = Image.frombytes("RGB", (width, height), random.randbytes(3 * width * height))
    noise.save(out, "JPEG", quality=90)
    return out.getvalue()


class Hostile:
    """Sends anything, reads nothing, and connects anew when it is not listened to any more."""

    def __init__(self, path):
        self.path = path
        self.socket = None

    def send(self, frames):
        if self.socket is None:
            self.socket = zmq.Context.instance().socket(zmq.DEALER)
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.setsockopt(zmq.SNDTIMEO, patient_ms(200))
            self.socket.connect("ipc://" + self.path)
        try:
            self.socket.send_multipart(frames)
        except zmq.Again:
            self.close()

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class PoolTest(unittest.TestCase):
    """One daemon for each test: each leaves a pool that is idle and whole."""

    bin_dir = None

    def setUp(self):
        started = time.monotonic()
        self.addCleanup(lambda: print(f"({time.monotonic() - started:.1f} s)", end=" ", flush=True))
        faulthandler.dump_traceback_later(TEST_LIMIT_S, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def pool(self, watches=False, **options):
        daemon = self.enterContext(Daemon(self.bin_dir, **options))
        client = Client(daemon.socket_path, watches)
        self.addCleanup(client.close)
        self.wait_ready(client, daemon.num_workers)
        return daemon, client

    def wait_ready(self, client, count):
        wait_ready(client, count, 20)

    def start_facet(self, *arguments, **options):
        """The command line; where `options` do not say otherwise, what it says comes as text."""
        process = subprocess.Popen(
            [os.path.join(self.bin_dir, "facet"), *arguments],
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
               "stderr": subprocess.STDOUT, "text": True, **options})
        self.addCleanup(self.end_facet, process)
        return process

    @staticmethod
    def end_facet(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def facet(self, daemon, *arguments, **options):
        return self.start_facet(*arguments, "--config", daemon.config, **options)

    @staticmethod
    def outcome(process):
        """Exit code and all that it says, once it has ended."""
        output, _ = process.communicate(timeout=patient(60))
        return process.returncode, output

    def assert_answer(self, request):
        self.assertIsNotNone(request.done, request.refused)
        tokens, text, reason = pool_oracle.answer(request)
        self.assertEqual(request.done["finish_reason"], reason, request.done)
        self.assertEqual(request.tokens, tokens)
        self.assertEqual(request.text, text)
        if "logprobs" in request.params:
            self.assertEqual(request.logprobs,
                             pool_oracle.logprobs(tokens, request.params["logprobs"]))

    def assert_rests(self, client, timeout_s=10):
        """Everything is back: slots, pages, work; the books balance."""
        status = wait_idle(client, timeout_s)
        self.assertEqual(status["ring"]["ingest"]["used"], 0)
        self.assertEqual(status["ring"]["pixels"]["used"], 0)
        return status


def run_tests():
    """Of the calling script: BIN_DIR, then unittest's own arguments."""
    PoolTest.bin_dir = sys.argv.pop(1)
    print(f"seed {SEED} (FACET_SEED)", flush=True)
    faulthandler.enable()
    unittest.main(verbosity=2)
