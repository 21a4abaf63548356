"""The whole pool (facetd, facet-broker, facet-decoder, echo workers) against clients of all kinds.

    pool_test.py BIN_DIR [unittest arguments]
"""

import copy
import faulthandler
import io
import os
import random
import signal
import struct
import sys
import time
import unittest
import zlib

import msgpack
import zmq
from PIL import Image

import pool_oracle
from pool_client import Client, Request, generate_message
from pool_daemon import Daemon, count_fds, state_of, wait_until
from pool_images import big_noise_png, mixed_images

BIN_DIR = None
TEST_LIMIT_S = 120  # a test that hangs says where
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
            self.socket.setsockopt(zmq.SNDTIMEO, 200)
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

    def setUp(self):
        faulthandler.dump_traceback_later(TEST_LIMIT_S, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def pool(self, **options):
        daemon = self.enterContext(Daemon(BIN_DIR, **options))
        client = Client(daemon.socket_path)
        self.addCleanup(client.close)
        self.wait_ready(client, daemon.num_workers)
        return daemon, client

    def wait_ready(self, client, count):
        def ready():
            workers = client.status()["workers"]
            return sum(w["state"] == "ready" for w in workers) == count
        wait_until(ready, 20, f"{count} workers ready")

    def assert_answer(self, request):
        self.assertIsNotNone(request.done, request.refused)
        tokens, text, reason = pool_oracle.answer(request)
        self.assertEqual(request.done["finish_reason"], reason, request.done)
        self.assertEqual(request.tokens, tokens)
        self.assertEqual(request.text, text)

    def assert_rests(self, client, timeout_s=10):
        """Everything is back: slots, pages, work; the books balance."""
        status = {}

        def rests():
            status.update(client.status())
            self.assertEqual(status["conservation"], "ok")
            return status["idle"]
        wait_until(rests, timeout_s, f"the pool is idle: {status}")
        self.assertEqual(status["ring"]["ingest"]["used"], 0)
        self.assertEqual(status["ring"]["pixels"]["used"], 0)
        return status


class Answers(PoolTest):
    def test_mixed_images_give_the_computed_answers(self):
        _, client = self.pool(worker="echo.token_us = 200")
        rng = random.Random(SEED)
        images = mixed_images(SEED, 60)
        images.append(big_noise_png(SEED))
        requests = [Request(f"question {i}", rng.choices(images, k=rng.randint(0, 3)),
                            {"max_tokens": rng.randint(1, 60), "seed": rng.randrange(1 << 63),
                             "temperature": rng.choice([0, 0.7]), "min_tokens": 1,
                             "stop": rng.choice([[], ["\u00e9nd", "x"]])})
                    for i in range(100)]
        client.run(requests)
        for request in requests:
            self.assert_answer(request)
            self.assertEqual(request.done["attempts"], 1)
        self.assert_rests(client)

    def test_long_answer_of_one_token_messages_and_long_prompt(self):
        _, client = self.pool(workers=1, worker="echo.token_us = 0")
        request = Request("p" * 300_000, [], {"max_tokens": 16_384, "ignore_eos": True})
        client.run([request])
        self.assert_answer(request)
        self.assert_rests(client)

    def test_timings_usage_and_keepalive_are_there(self):
        _, client = self.pool(workers=1, worker="echo.token_us = 50000")
        request = Request("abcdefgh", [jpeg(56, 28)], {"max_tokens": 40, "ignore_eos": True})
        client.run([request])
        usage, timings = request.done["usage"], request.done["timings"]
        self.assertEqual(usage["completion_tokens"], 40)
        self.assertEqual(usage["image_tokens"], 2)
        self.assertEqual(usage["prompt_tokens"], 2 + 2)
        self.assertLessEqual(timings["dispatched_ms"], timings["first_token_ms"])
        self.assertLessEqual(timings["first_token_ms"], timings["total_ms"])
        self.assertGreater(timings["total_ms"], 1900)


class Identity(PoolTest):
    def test_streams_resume_at_any_index_during_and_after(self):
        daemon, client = self.pool(worker="echo.token_us = 3000")
        params = {"max_tokens": 200, "ignore_eos": True}
        request = client.submit(Request("resume", [jpeg()], params))
        client.poll_until(lambda: len(request.tokens) >= 20, 10)
        watchers = []
        for start in (0, 7, len(request.tokens)):
            watcher = Client(daemon.socket_path)
            self.addCleanup(watcher.close)
            copied = copy.copy(request)
            copied.tokens, copied.text, copied.done = request.tokens[:start], "", None
            watchers.append((watcher, watcher.attach(copied, start), start))
        client.poll_until(lambda: request.finished, 10)
        self.assert_answer(request)
        late = Client(daemon.socket_path)
        self.addCleanup(late.close)
        for start in (0, 1, 199, 200):
            copied = copy.copy(request)
            copied.tokens, copied.text, copied.done = request.tokens[:start], "", None
            late.attach(copied, start)
            late.poll_until(lambda c=copied: c.finished, 10)
            watchers.append((late, copied, start))
        for watcher, copied, start in watchers:
            watcher.poll_until(lambda c=copied: c.finished, 10)
            self.assertEqual(copied.tokens, request.tokens)
            self.assertTrue(request.text.endswith(copied.text))
            if start == 0:
                self.assertEqual(copied.text, request.text)
            self.assertEqual(copied.done["attempts"], 1)
        self.assert_rests(client)

    def test_another_request_under_a_known_id_is_refused_and_harms_nothing(self):
        daemon, client = self.pool(worker="echo.token_us = 3000")
        request = client.submit(Request("mine", [], {"max_tokens": 300, "ignore_eos": True}))
        client.poll_until(lambda: request.tokens, 10)
        thief = Client(daemon.socket_path)
        self.addCleanup(thief.close)
        other = thief.submit(Request("not mine", [], {"max_tokens": 3}, id=request.id))
        thief.poll_until(lambda: other.refused, 10)
        self.assertEqual(other.refused["code"], "invalid_argument")
        self.assertEqual(other.refused["retry_after_ms"], 0)
        client.poll_until(lambda: request.finished, 10)
        self.assert_answer(request)

    def test_a_client_that_left_finds_its_answer(self):
        daemon, client = self.pool(worker="echo.token_us = 3000")
        leaver = Client(daemon.socket_path)
        request = leaver.submit(Request("leave", [jpeg()], {"max_tokens": 400, "ignore_eos": True}))
        leaver.poll_until(lambda: len(request.tokens) > 3, 10)
        leaver.close()
        back = copy.copy(request)
        client.attach(back, len(back.tokens))
        client.poll_until(lambda: back.finished, 10)
        self.assert_answer(back)
        wait_until(lambda: client.status()["clients"]["connections"] == 1, 5, "connection is gone")
        self.assert_rests(client)

    def test_cancel_when_running_waiting_finished_and_unknown(self):
        _, client = self.pool(workers=1, worker="echo.token_us = 5000\nmax_lanes = 1\ncredits = 1")
        params = {"max_tokens": 5000, "ignore_eos": True}
        running = client.submit(Request("runs", [jpeg()], params))
        client.poll_until(lambda: running.tokens, 10)
        waiting = client.submit(Request("waits", [jpeg()], params))
        client.poll_until(lambda: waiting.accepted, 10)
        unknown = Request("unknown")
        client.requests[unknown.id] = unknown
        client.cancel(unknown)
        client.poll_until(lambda: unknown.finished, 10)
        self.assertEqual(unknown.refused["code"], "not_found")
        client.cancel(waiting)
        client.poll_until(lambda: waiting.finished, 10)
        client.cancel(running)
        client.poll_until(lambda: running.finished, 10)
        client.cancel(running)  # is over already: says so again or not, but changes nothing
        for request in (running, waiting):
            self.assertEqual(request.done["finish_reason"], "cancelled")
        self.assertEqual(waiting.tokens, [])
        after = client.run([Request("after", [], {"max_tokens": 3})])[0]
        self.assert_answer(after)
        self.assert_rests(client)


class Limits(PoolTest):
    def test_deadline_ends_running_and_waiting_requests(self):
        _, client = self.pool(workers=1, worker="echo.token_us = 5000\nmax_lanes = 1\ncredits = 1")
        params = {"max_tokens": 5000, "ignore_eos": True}
        requests = [Request(f"{i}", [jpeg()], params, deadline_ms=400) for i in range(3)]
        started = time.monotonic()
        client.run(requests)
        self.assertLess(time.monotonic() - started, 5)
        for request in requests:
            self.assertEqual(request.done["finish_reason"], "error")
            self.assertEqual(request.done["code"], "timeout")
        self.assert_answer(client.run([Request("after", [], {"max_tokens": 3})])[0])
        self.assert_rests(client)

    def test_full_queue_refuses_with_a_hint_and_all_get_through(self):
        _, client = self.pool(workers=1, worker="echo.token_us = 1000\nmax_lanes = 2\ncredits = 2",
                              broker="max_queued_requests = 4")
        requests = [Request(f"{i}", [jpeg()] if i % 2 else [],
                            {"max_tokens": 30, "ignore_eos": True}) for i in range(30)]
        client.run(requests, in_flight=30)
        for request in requests:
            self.assert_answer(request)
        self.assertGreater(sum(r.num_refusals for r in requests), 0)
        self.assertGreater(client.status()["counters"]["refused"]["exhausted"], 0)
        self.assert_rests(client)

    def test_full_ring_refuses_with_a_hint_and_all_get_through(self):
        _, client = self.pool(workers=2, worker="echo.token_us = 500",
                              ring="# small", broker="max_ingest_bytes_per_client = \"4MiB\"")
        image = big_noise_png(SEED)
        requests = [Request(f"{i}", [image], {"max_tokens": 20}) for i in range(12)]
        client.run(requests, in_flight=12)
        for request in requests:
            self.assert_answer(request)
        self.assertGreater(sum(r.num_refusals for r in requests), 0)
        self.assert_rests(client)

    def test_images_beyond_a_limit_are_refused_by_name(self):
        _, client = self.pool(workers=1, broker='max_image_bytes = "256KiB"\nmax_images = 3')
        good = jpeg()
        cases = [
            ([good, big_noise_png(SEED)], "too_large", "image 1"),
            ([good, good, png_header(20000, 5)], "too_large", "image 2"),
            ([png_header(16000, 16000)], "too_large", "image 0"),
            ([good, b"GIF89a" + bytes(100)], "unsupported", "image 1"),
            ([b""], "invalid_argument", "total"),
            ([png_header(0, 5)], "invalid_argument", "image 0"),
            ([good] * 4, None, "3"),
        ]
        for images, code, words in cases:
            request = client.submit(Request("look", images, {"max_tokens": 3}))
            client.poll_until(lambda r=request: r.finished, 10)
            self.assertIsNotNone(request.refused, words)
            self.assertIn(words, request.refused["message"])
            self.assertEqual(request.refused["retry_after_ms"], 0, request.refused)
            if code:
                self.assertEqual(request.refused["code"], code, request.refused)
        self.assert_answer(client.run([Request("after", [good], {"max_tokens": 3})])[0])
        self.assert_rests(client, 40)

    def test_bad_parameters_are_refused_by_name(self):
        _, client = self.pool(workers=1)
        for params in ({"max_tokens": 1 << 20}, {"temperature": -1}, {"top_q": 1}, {"top_p": 0},
                       {"stop": ["x"] * 17}, {"max_tokens": -1}, {"seed": "x"}):
            request = client.submit(Request("p", [], params))
            client.poll_until(lambda r=request: r.finished, 10)
            self.assertIsNotNone(request.refused, params)
            self.assertIn(next(iter(params)), request.refused["message"])
        missing = Request("p", [], {"max_tokens": 3})
        client.requests[missing.id] = missing
        message = generate_message(missing)
        message["images"] = 1
        message["messages"][0]["content"].append({"type": "image", "image": 0})
        client.send(message)  # its image never came
        client.poll_until(lambda: missing.finished, 10)
        self.assertIsNotNone(missing.refused)
        self.assertIn("image 0", missing.refused["message"])


class Damage(PoolTest):
    def test_corrupt_image_ends_its_request_by_name_and_neighbours_finish(self):
        _, client = self.pool(worker="echo.token_us = 1000")
        good = jpeg(300, 200)
        torn = good[:len(good) // 2]
        bad_png = bytearray(big_noise_png(SEED, 120))
        bad_png[len(bad_png) // 2] ^= 0xFF
        requests, bad = [], []
        for i in range(30):
            images = [good, jpeg(50, 50)]
            if i % 5 == 0:
                images[1] = torn if i % 10 == 0 else bytes(bad_png)
                bad.append(i)
            requests.append(Request(f"{i}", images, {"max_tokens": 20}))
        client.run(requests)
        for i, request in enumerate(requests):
            if i in bad:
                self.assertEqual(request.done["finish_reason"], "error", request.done)
                self.assertEqual(request.done["code"], "invalid_argument", request.done)
                self.assertIn("image 1", request.done["message"])
            else:
                self.assert_answer(request)
        self.assert_rests(client)

    def test_hostile_frames_disturb_nobody(self):
        daemon, client = self.pool(worker="echo.token_us = 3000")
        rng = random.Random(SEED)
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 200,
                                                             "ignore_eos": True}))
                    for i in range(20)]
        broker = daemon.broker()
        worker_socket = os.path.join(os.path.dirname(daemon.socket_path), "workers.sock")
        hostile, stranger = Hostile(daemon.socket_path), Hostile(worker_socket)
        valid = msgpack.packb(generate_message(Request("x", [], {"max_tokens": 2})))
        for turn in range(300):
            frames = [rng.randbytes(rng.randint(0, 3000)) for _ in range(rng.randint(1, 5))]
            torn = bytearray(valid)
            torn[rng.randrange(len(torn))] ^= 1 << rng.randrange(8)
            deep = b"\x81\xa1x" * 5000 + b"\xc0"
            huge = b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100
            put = msgpack.packb({"v": 1, "type": "put", "id": rng.randbytes(16), "image": 1 << 31,
                                 "total": 1 << 62, "offset": 1 << 61})
            for message in (frames, [bytes(torn)], [deep], [huge], [put, b"x" * 100],
                            [b""], [b"", b"", b""]):
                hostile.send(message)
                if turn % 10 == 0:
                    stranger.send(message)
            if turn % 100 == 0:
                hostile.send([b"y" * (6 << 20)])  # beyond a frame: the connection ends
            client.poll(0)
        client.poll_until(lambda: all(r.finished for r in requests), 30)
        for request in requests:
            self.assert_answer(request)
        status = client.status()
        self.assertGreater(status["counters"]["malformed_from_clients"], 300)
        self.assertEqual(daemon.broker(), broker)
        hostile.close()
        stranger.close()

    def test_a_client_that_never_reads_does_not_slow_others(self):
        daemon, client = self.pool(workers=1, worker="echo.token_us = 0")
        deaf = zmq.Context.instance().socket(zmq.DEALER)
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect("ipc://" + daemon.socket_path)
        lost = [Request(f"deaf {i}", [], {"max_tokens": 16000, "ignore_eos": True})
                for i in range(4)]
        for request in lost:
            deaf.send(msgpack.packb(generate_message(request)))
        requests = [Request(f"{i}", [], {"max_tokens": 50}) for i in range(50)]
        client.run(requests)
        for request in requests:
            self.assert_answer(request)
        wait_until(lambda: client.status()["requests"]["running"] == 0, 60, "the deaf one's finish")
        self.assertGreater(client.status()["counters"]["client_blocked"], 0)
        hearing = Client(daemon.socket_path)
        self.addCleanup(hearing.close)
        hearing.attach(lost[0], 0)
        hearing.poll_until(lambda: lost[0].finished, 20)
        self.assert_answer(lost[0])
        deaf.close()


class Deaths(PoolTest):
    def test_stopped_worker_is_replaced_and_its_requests_go_on(self):
        daemon, client = self.pool(
            workers=2, worker="echo.token_us = 5000",
            supervisor="step_deadline_ms = 1000\nidle_deadline_ms = 1500\nkill_grace_ms = 200")
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 300,
                                                             "ignore_eos": True}))
                    for i in range(8)]
        client.poll_until(lambda: all(r.tokens for r in requests), 10)
        stopped = daemon.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        client.poll_until(lambda: all(r.finished for r in requests), 30)
        for request in requests:
            self.assert_answer(request)
        self.assertGreater(sum(r.done["attempts"] > 1 for r in requests), 0)
        wait_until(lambda: state_of(stopped) == "", 10, "the stopped worker is gone")
        self.wait_ready(client, 2)
        self.assert_rests(client)

    def test_hanging_engine_is_seen_and_its_request_quarantined(self):
        daemon, client = self.pool(
            workers=2, worker="echo.token_us = 1000",
            supervisor="step_deadline_ms = 500\nidle_deadline_ms = 1500\nkill_grace_ms = 200")
        poison = Request("\x01crash:hang@3", [], {"max_tokens": 50, "ignore_eos": True})
        self.run_with_poison(daemon, client, poison)

    def test_poison_is_quarantined_and_the_others_finish(self):
        for kind in ("segv", "abort", "exit", "engine"):
            with self.subTest(kind=kind):
                daemon, client = self.pool(workers=2, worker="echo.token_us = 1000")
                poison = Request(f"\x01crash:{kind}@3", [jpeg()],
                                 {"max_tokens": 50, "ignore_eos": True})
                self.run_with_poison(daemon, client, poison)

    def run_with_poison(self, daemon, client, poison):
        others = [Request(f"{i}", [jpeg()], {"max_tokens": 100, "ignore_eos": True})
                  for i in range(30)]
        client.run(others[:10] + [poison] + others[10:], timeout_s=60)
        self.assertEqual(poison.done["finish_reason"], "error", poison.done)
        self.assertEqual(poison.done["code"], "quarantined", poison.done)
        self.assertEqual(len(poison.tokens), 3)
        for request in others:
            self.assert_answer(request)
        status = client.status()
        self.assertLessEqual(sum(w["own_fault_deaths"] for w in status["workers"]), 2)
        self.wait_ready(client, daemon.num_workers)
        self.assert_rests(client)

    def test_outside_kills_never_quarantine(self):
        _, client = self.pool(workers=2, worker="echo.token_us = 1000")
        request = Request("\x01crash:kill@5x4", [jpeg()], {"max_tokens": 30, "ignore_eos": True})
        client.run([request], timeout_s=60)
        self.assert_answer(request)
        self.assertEqual(request.done["attempts"], 5)

    def test_killed_broker_is_replaced_and_every_stream_goes_on(self):
        daemon, client = self.pool(workers=2, worker="echo.token_us = 10000")
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 500,
                                                             "ignore_eos": True}))
                    for i in range(20)]
        for life in (1, 2):
            count = [len(r.tokens) for r in requests]
            client.poll_until(lambda c=count: all(len(r.tokens) > n + 3
                                                  for r, n in zip(requests, c)), 20)
            self.assertEqual(client.status()["epoch"], life)
            os.kill(daemon.broker(), signal.SIGKILL)
        client.poll_until(lambda: all(r.finished for r in requests), 40)
        for request in requests:
            self.assert_answer(request)
            self.assertGreaterEqual(request.done["attempts"], 2)
        self.assert_rests(client)

    def test_one_sequence_fails_or_is_handed_back_alone(self):
        _, client = self.pool(worker="echo.token_us = 1000")
        fails = Request("\x01crash:fail@3", [jpeg()], {"max_tokens": 30, "ignore_eos": True})
        back = Request("\x01crash:preempt@7x3", [jpeg()], {"max_tokens": 30, "ignore_eos": True})
        others = [Request(f"{i}", [jpeg()], {"max_tokens": 30}) for i in range(10)]
        client.run([fails, back] + others)
        self.assertEqual(fails.done["finish_reason"], "error")
        self.assertEqual(len(fails.tokens), 3)
        self.assert_answer(back)
        self.assertEqual(back.done["attempts"], 4)
        for request in others:
            self.assert_answer(request)
        self.assertEqual(sum(w["deaths"] for w in client.status()["workers"]), 0)

    def test_drain_finishes_what_runs_and_leaves_nothing(self):
        daemon, client = self.pool(worker="echo.token_us = 5000")
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 200,
                                                             "ignore_eos": True}))
                    for i in range(10)]
        client.poll_until(lambda: all(r.tokens for r in requests), 10)
        daemon.process.send_signal(signal.SIGTERM)
        client.poll_until(lambda: all(r.finished for r in requests), 20)
        for request in requests:
            self.assert_answer(request)
        self.assertEqual(daemon.process.wait(10), 0)
        self.assertFalse(os.path.exists(daemon.socket_path))

    def test_descriptors_stay_flat_over_clients_and_work(self):
        daemon, client = self.pool(worker="echo.token_us = 0")
        broker = daemon.broker()

        def work():
            one = Client(daemon.socket_path)
            one.run([Request(f"{i}", [jpeg()], {"max_tokens": 3}) for i in range(5)])
            one.close()
        work()
        wait_until(lambda: client.status()["clients"]["connections"] == 1, 5, "one connection")
        before = count_fds(broker), count_fds(daemon.process.pid)
        for _ in range(20):
            work()
        wait_until(lambda: (count_fds(broker), count_fds(daemon.process.pid)) == before, 5,
                   "descriptors are back")


if __name__ == "__main__":
    BIN_DIR = sys.argv.pop(1)
    print(f"seed {SEED} (FACET_SEED)", flush=True)
    faulthandler.enable()
    unittest.main(verbosity=2)
