"""The whole pool (facetd, facet-broker, facet-decoder, echo workers) against clients of all kinds.

    pool_test.py BIN_DIR [unittest arguments]
"""

import copy
import os
import random
import time

import msgpack

from pool_case import SEED, Hostile, PoolTest, jpeg, png_header, run_tests
from pool_client import Client, Request, generate_message
from pool_daemon import wait_until
from pool_images import big_noise_png, mixed_images


class Answers(PoolTest):
    def test_mixed_images_give_the_computed_answers(self):
        _, client = self.pool(worker="echo.token_us = 200")
        rng = random.Random(SEED)
        images = mixed_images(SEED, 60)
        images.append(big_noise_png(SEED))
        requests = [Request(f"question {i}", rng.choices(images, k=rng.randint(0, 3)),
                            {"max_tokens": rng.randint(1, 60), "seed": rng.randrange(1 << 63),
                             "temperature": rng.choice([0, 0.7]), "min_tokens": 1,
                             "stop": rng.choice([[], ["\u00e9nd", "x"]]),
                             **rng.choice([{}, {"logprobs": rng.randint(0, 20)}])})
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
        params = {"max_tokens": 200, "ignore_eos": True, "logprobs": 3}
        request = client.submit(Request("resume", [jpeg()], params))
        client.poll_until(lambda: len(request.tokens) >= 20, 10)
        watchers = []
        for start in (0, 7, len(request.tokens)):
            watcher = Client(daemon.socket_path)
            self.addCleanup(watcher.close)
            copied = copy.copy(request)
            copied.tokens, copied.text, copied.done = request.tokens[:start], "", None
            copied.logprobs = request.logprobs[:4 * start]
            watchers.append((watcher, watcher.attach(copied, start), start))
        client.poll_until(lambda: request.finished, 10)
        self.assert_answer(request)
        late = Client(daemon.socket_path)
        self.addCleanup(late.close)
        for start in (0, 1, 199, 200):
            copied = copy.copy(request)
            copied.tokens, copied.text, copied.done = request.tokens[:start], "", None
            copied.logprobs = request.logprobs[:4 * start]
            late.attach(copied, start)
            late.poll_until(lambda c=copied: c.finished, 10)
            watchers.append((late, copied, start))
        for watcher, copied, start in watchers:
            watcher.poll_until(lambda c=copied: c.finished, 10)
            self.assertEqual(copied.tokens, request.tokens)
            self.assertEqual(copied.logprobs, request.logprobs)
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
                              broker="max_ingest_bytes_per_client = \"4MiB\"")
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
                       {"stop": ["x"] * 17}, {"max_tokens": -1}, {"seed": "x"}, {"logprobs": 21}):
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
        client.poll_until(lambda: missing.refused is not None, 10)
        self.assertIn("image 0", missing.refused["message"])
        self.assertEqual(missing.refused["code"], "closed")  # as after a restart: the first minute


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

        def enough_arrived():  # what waits in its queue is lost whenever it connects anew
            hostile.send([b"\xc1"])
            return client.status()["counters"]["malformed_from_clients"] > 300
        wait_until(enough_arrived, 60, "malformed messages")
        self.assertEqual(daemon.broker(), broker)
        hostile.close()
        stranger.close()


if __name__ == "__main__":
    run_tests()
